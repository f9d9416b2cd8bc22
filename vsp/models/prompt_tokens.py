"""What families ask a checkpoint's tokenizer: special tokens, and tokens of names and options."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

from vsp.errors import InputError, ModelError
from vsp.models.contract import TokenizedPrompt
from vsp.models.library_errors import library_errors, short

_BRACKETS = re.compile(r"<[^<>\s]+>|\[[^\[\]\s]+\]")


class RecordingTokenizer:
    """A tokenizer that keeps its last input text, in which image tokens are already expanded."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self.text = ""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)

    def __call__(self, text: Any = None, **arguments: Any) -> Any:
        self.text = text[-1]
        return self._tokenizer(text, **arguments)


def processing_errors() -> AbstractContextManager[None]:
    """Turn errors of a checkpoint's tokenizer or image processor at work into a ModelError."""
    return library_errors(
        lambda error: ModelError(f"its tokenizer or image processor fails ({short(error)})")
    )


def reserved_tokens(tokenizer: Any) -> list[str]:
    """Texts that a tokenizer reads as special tokens: declared ones, and added ones in brackets."""
    added = tokenizer.added_tokens_decoder.values()
    return [t.content for t in added if t.special or _BRACKETS.fullmatch(t.content)]


def match_any(texts: Sequence[str]) -> re.Pattern[str]:
    """A pattern that matches any of the texts, the longest first."""
    return re.compile("|".join(map(re.escape, sorted(texts, key=len, reverse=True))) or r"(?!)")


def option_tokens(
    row: TokenizedPrompt,
    options: Sequence[str],
    wholes: Sequence[tuple[int, ...]],
    limits: tuple[int, int],
    reserved: Callable[[str], str | None],
) -> tuple[tuple[int, ...], ...]:
    """The tokens of each option; `wholes` are the tokens of image, prompt and option together.

    `limits` are the numbers of tokens of the vocabulary and of the context. Raises InputError for
    an option that cannot stand behind the prompt.
    """
    n_ahead = len(row.tokens)
    for option, whole in zip(options, wholes, strict=True):
        special, own = reserved(option), whole[n_ahead:]
        if special:
            problem = f"holds {special!r}, which the model reads as a token of its own; reword it"
        elif whole[:n_ahead] != row.tokens:
            problem = "changes the tokens of its prompt; use another `vsp plan --answer-start` or --no-answers"
        elif not own:
            problem = "has no token; use another `vsp plan --answer-start` or --no-answers"
        elif max(own) >= limits[0]:
            problem = (
                f"has a token of number {max(own)}, beyond the model's {limits[0]} embeddings; "
                "reword it or use --no-answers"
            )
        elif len(whole) > limits[1]:
            problem = f"makes {len(whole)} tokens with its prompt, over the context of {limits[1]}"
        else:
            continue
        raise InputError(f"answer option {option!r} {problem}")
    return tuple(whole[n_ahead:] for whole in wholes)


def span_tokens(
    tokenizer: Any, text: str, start: int, stop: int, **settings: Any
) -> tuple[int, ...]:
    """Indices of the tokens of `text[start:stop]` among those of `text`.

    The first token may begin ahead of the span, with spaces or punctuation. Raises InputError if a
    token also has letters or digits ahead of it, or any character behind it.
    """
    if not tokenizer.is_fast:
        raise InputError(
            f"its {type(tokenizer).__name__} does not say which tokens a name has; use positions "
            "without names"
        )
    with processing_errors():
        offsets = tokenizer(text, return_offsets_mapping=True, **settings)["offset_mapping"]
    inside = [i for i, (first, last) in enumerate(offsets) if max(first, start) < min(last, stop)]
    places = range(inside[0], inside[-1] + 1) if inside else range(0)
    covered = {at for i in places for at in range(*offsets[i])}
    name = text[start:stop]
    if any(at not in covered and not text[at].isspace() for at in range(start, stop)):
        raise InputError(f"no tokens stand for {name!r}")
    ahead, behind = text[min(covered) : start], text[stop : max(covered) + 1]
    if behind or any(letter.isalnum() for letter in ahead):
        raise InputError(
            f"the tokens of {name!r} also hold text around it: {ahead + name + behind!r}"
        )
    return tuple(places)
