"""The answer options of a run: their texts, how they join the prompt, and their tokens.

A run stores the log-likelihood of each option given image and prompt. The options of a row are its
own, or the dataset's labels in the words that prompts list.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from vsp.choices import Start
from vsp.datasets.prompts import label_words
from vsp.errors import ConfigError, InputError
from vsp.models.contract import Picture, Processor, TokenizedPrompt
from vsp.storage.manifest import Sample
from vsp.storage.plan import MAX_OPTIONS, Answers, Option

NO_ANSWERS = "answers are not stored"  # begins the note of a plan that says why
_CACHED_TEXTS = 1 << 16  # lists of options
MAX_DEFAULT = 16  # options up to which a run stores answers by default
# A template that ends in a line break or in a special token begins the answer on a line of its own.
_OWN_LINE = re.compile(r"(\s|>|\])\Z")


@dataclass(frozen=True, slots=True)
class OptionTexts:
    """The texts of the options of each row, as they join the prompt."""

    start: Start
    common: tuple[str, ...]  # the labels; used for rows without options of their own

    @classmethod
    def of(cls, start: Start, labels: Sequence[str], behind: str) -> OptionTexts:
        """`behind` is the template's text behind the prompt; it decides if `start` is "auto"."""
        if start == "auto":
            start = "none-capital" if _OWN_LINE.search(behind) else "space"
        words = tuple(map(label_words, labels))
        return cls(start, tuple(cls._joined(start, text) for text in words))

    def of_row(self, own: tuple[str, ...]) -> tuple[str, ...]:
        """The options of a row, each with what joins it to the prompt; `own` are the row's own."""
        return tuple(self._joined(self.start, text) for text in own) if own else self.common

    @staticmethod
    def _joined(start: Start, text: str) -> str:
        if start.endswith("-capital"):
            text = text[:1].upper() + text[1:]
        return f" {text}" if start.startswith("space") else text


class OptionTokens:
    """Finds the tokens of the options of each row. Equal results are one object, to save memory."""

    def __init__(self, processor: Processor, texts: OptionTexts, required: bool = True) -> None:
        """Unless they are `required`, a run stores no answers if those of any row cannot be read."""
        self.required = required
        self._processor, self._texts = processor, texts
        self._known: dict[tuple[tuple[int, ...], ...], tuple[tuple[int, ...], ...]] = {}

    def of_row(
        self, picture: Picture, row: TokenizedPrompt, prompt: str, own: tuple[str, ...]
    ) -> tuple[tuple[int, ...], ...]:
        """The tokens of the row's own options, or of the common ones.

        Raises InputError if they cannot be read behind the row's prompt.
        """
        texts = self._texts.of_row(own)
        tokens = self._processor.option_tokens(picture, row, prompt, texts)
        if len(set(tokens)) < len(tokens):
            raise InputError(
                f"two of the options {', '.join(map(repr, texts))} have the same tokens; use "
                "another `vsp plan --answer-start` or --no-answers"
            )
        return self._known.setdefault(tokens, tokens)

    def answers(self, samples: list[Sample], lens: bool) -> Answers:
        """What the plan says about the options, once all rows have tokens.

        If all rows have the same options, they go into the plan, and are removed from the samples
        in place.
        """
        n_options = max(len(sample.option_tokens) for sample in samples)
        first = samples[0]
        texts, tokens = self._texts.of_row(first.options), first.option_tokens
        if not all(one.option_tokens is tokens and one.options == first.options for one in samples):
            joined = lru_cache(_CACHED_TEXTS)(self._texts.of_row)  # equal texts are one object
            for i, one in enumerate(samples):
                samples[i] = replace(one, options=joined(one.options))
            return Answers(start=self._texts.start, n_options=n_options, lens=lens)
        for i, one in enumerate(samples):
            samples[i] = replace(one, options=(), option_tokens=())
        options = tuple(
            Option(text=text, tokens=own) for text, own in zip(texts, tokens, strict=True)
        )
        return Answers(start=self._texts.start, n_options=n_options, options=options, lens=lens)


def too_many_options(samples: Sequence[Sample], labels: Sequence[str], asked: bool) -> str:
    """A note if a row has more options than a run stores answers for by default, else empty.

    Raises ConfigError if answers were asked for and a row has more than a run can store.
    """
    most = max((len(sample.options) or len(labels) for sample in samples), default=0)
    if asked and most > MAX_OPTIONS:
        raise ConfigError(
            f"answers: a row has {most} options; a run stores at most {MAX_OPTIONS}, use --no-answers"
        )
    if asked or most <= MAX_DEFAULT:
        return ""
    return (
        f"{NO_ANSWERS}: rows have up to {most} options; `vsp plan --answers` stores those of more than "
        f"{MAX_DEFAULT}"
    )
