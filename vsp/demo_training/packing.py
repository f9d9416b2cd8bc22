"""Packs several questions behind one image, so that a step computes the image once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from vsp.datasets import prompts
from vsp.datasets.relations import ON_AXIS
from vsp.datasets.synthetic.shapes import COLORS, Shape
from vsp.demo_checkpoint import conversation
from vsp.demo_training.scenes import Question

NO_TARGET = -100  # what cross entropy ignores
_FORMS = {"spatial": prompts.SPATIAL, "color": prompts.COLOR}
_FIELDS = {"spatial": ("subject", "reference"), "color": ("shape",)}
_LABELS = {"spatial": tuple(ON_AXIS), "color": tuple(COLORS)}


@dataclass(frozen=True, slots=True)
class Encoded:
    """Tokens of a question behind the image, of its answer, and of the end."""

    tokens: tuple[int, ...]
    n_prompt: int  # tokens before the answer
    words: tuple[tuple[int, ...], ...]  # of each name: the last token of each of its words


class Encoder:
    """Encodes questions as the processor of the finished model does."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self._tokenizer = tokenizer
        before = conversation("", "").partition("\n")[0]
        self.before_image: list[int] = tokenizer(before)["input_ids"]
        self._cached = lru_cache(1 << 15)(self._encode)

    def encode(self, question: Question, style: str) -> Encoded:
        return self._cached(question.task, question.names, question.label, style)

    def _encode(self, task: str, names: tuple[str, ...], label: str, style: str) -> Encoded:
        fields = dict(zip(_FIELDS[task], names, strict=True))
        asked = prompts.render(_FORMS[task][style], fields, _LABELS[task])
        text = "\n" + conversation(asked, label).partition("\n")[2]
        encoding = self._tokenizer(text, add_special_tokens=False)
        answer = len(text) - len(prompts.label_words(label)) - 1  # its first token has the space
        return Encoded(
            (*encoding["input_ids"], self._tokenizer.eos_token_id),
            encoding.char_to_token(answer),
            tuple(tuple(map(encoding.char_to_token, _word_ends(text, name))) for name in names),
        )


def _word_ends(text: str, name: str) -> list[int]:
    """Index of the last character of each word of the name, where the name is first in the text."""
    start = text.index(name)
    return [start + i for i, c in enumerate(f"{name} ", start=-1) if c == " "]


@dataclass(frozen=True, slots=True)
class Pack:
    """Questions in one row per image. All tensors are [image, position] behind the image."""

    tokens: Tensor
    branch: Tensor  # number of the question, from 1; -1 for padding
    position: Tensor  # of each token within its own question
    target: Tensor  # the token itself if it belongs to an answer, else NO_TARGET
    # Image, position of the word, and shape, of each word that names a shape.
    words: Sequence[tuple[int, int, Shape]]
    colors: Sequence[tuple[int, int, Shape]]  # the same for the last word of a colour question


def pack(
    rows: Sequence[Sequence[Question]], style: str, encoder: Encoder, *, every_word: bool
) -> Pack:
    """Put the questions of each image behind it; `words` has every word of a name, or the last."""
    encoded = [[encoder.encode(question, style) for question in row] for row in rows]
    length = max(sum(len(one.tokens) for one in row) for row in encoded)
    tokens, position = torch.zeros(2, len(rows), length, dtype=torch.long)
    branch, target = torch.full_like(tokens, -1), torch.full_like(tokens, NO_TARGET)
    words, colors = [], []
    for i, row in enumerate(rows):
        start = 0
        for number, (question, one) in enumerate(zip(row, encoded[i], strict=True), start=1):
            stop = start + len(one.tokens)
            tokens[i, start:stop] = torch.tensor(one.tokens)
            branch[i, start:stop] = number
            position[i, start:stop] = torch.arange(len(one.tokens))
            target[i, start + one.n_prompt : stop] = tokens[i, start + one.n_prompt : stop]
            for shape, ends in zip(question.shapes, one.words, strict=False):
                words += [(i, start + end, shape) for end in ends[0 if every_word else -1 :]]
                if question.task == "color":
                    colors.append((i, start + ends[-1], shape))
            start = stop
    return Pack(tokens, branch, position, target, words, colors)


def packed_mask(branch: Tensor) -> Tensor:
    """Branch of each position [image, n] → additive mask [image, 1, n, n].

    A position attends to earlier ones of its own branch and of branch 0, which all share.
    """
    n = branch.shape[1]
    seen = (branch[:, :, None] == branch[:, None, :]) | (branch[:, None, :] == 0)
    seen &= torch.ones(n, n, dtype=torch.bool).tril()
    lowest = torch.finfo(torch.bfloat16).min
    return torch.zeros(seen.shape).masked_fill(~seen, lowest).to(torch.bfloat16)[:, None]
