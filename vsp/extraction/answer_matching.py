"""Finds the option that a free text names.

Texts are compared word by word. Case, spaces, underscores and punctuation around words do not count.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

How = Literal["exact", "prefix", "contained", "none"]
AMBIGUOUS = "ambiguous"  # several options fit
NO_OPTION = "no option"
_PARTS_WORDS = str.maketrans("_–—", "   ")
_KEPT = "%#&@"  # of the punctuation: "50%" is not "50"
# Unicode categories: punctuation, control and format characters, halves of a pair.
_STRIPPED = ("P", "Cc", "Cf", "Cs")
_FOLDED_QUOTES = str.maketrans("’ʼ", "''")


@dataclass(frozen=True, slots=True)
class Match:
    """The option of a text. `option` is None if `how` is "none"; `reason` says why."""

    option: str | None
    how: How
    reason: str = ""


def match_option(text: str, options: Sequence[str]) -> Match:
    """The one of `options` that a text names.

    "exact": the text is the option. "prefix": it begins with the option. "contained": the option is
    somewhere in it. An option that is part of a longer one in the text does not count. Of several
    options, the one with which the text begins counts; otherwise the text is ambiguous.
    """
    said = words(text)
    wanted = {option: words(option) for option in options}
    found = {option: own for option, own in wanted.items() if own and _contains(said, own)}
    longest = [
        option
        for option, own in found.items()
        if not any(len(other) > len(own) and _contains(other, own) for other in found.values())
    ]
    first = [option for option in longest if said[: len(found[option])] == found[option]]
    chosen = first or longest
    if len(chosen) != 1:
        return Match(None, "none", AMBIGUOUS if chosen else NO_OPTION)
    (option,) = chosen
    if found[option] == said:
        return Match(option, "exact")
    return Match(option, "prefix" if first else "contained")


def words(text: str) -> tuple[str, ...]:
    """The words of a text in lower case, without punctuation around them."""
    plain = unicodedata.normalize("NFKC", text).casefold()
    plain = plain.translate(_FOLDED_QUOTES).translate(_PARTS_WORDS)
    return tuple(filter(None, map(_strip, plain.split())))


def _strip(word: str) -> str:
    start, stop = 0, len(word)
    while start < stop and _is_stripped(word[start]) and not _is_minus(word, start):
        start += 1
    while start < stop and _is_stripped(word[stop - 1]):
        stop -= 1
    return word[start:stop]


def _is_stripped(letter: str) -> bool:
    return letter not in _KEPT and unicodedata.category(letter).startswith(_STRIPPED)


def _is_minus(word: str, at: int) -> bool:
    """Whether a character is the minus of a number."""
    return word[at] == "-" and word[at + 1 : at + 2].isdecimal()


def _contains(said: tuple[str, ...], own: tuple[str, ...]) -> bool:
    n = len(own)
    return any(said[i : i + n] == own for i in range(len(said) - n + 1))
