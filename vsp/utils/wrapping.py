"""Break a sentence into lines that fit a terminal; a command in backticks stays whole, to be copied."""

from __future__ import annotations

import re
import unicodedata

_WORD = re.compile(r"[^\s`]*(?:`[^`]*`[^\s`]*)+|\S+")
_CALL = re.compile(
    r"\s*(\w+ {2,})?(vsp [a-z-]+|sbatch|hf|python|bash)( |$)"
)  # a command after its name
_BEGINS = re.compile(r"\s*(# )?")  # spaces, and the sign of a comment in a script
_MESSAGES = ("note:", "vsp:")  # begin messages of vsp; in a name of others, they begin no line
_STEP = 2  # columns that the later lines of an indented line begin further right


def wrapped_lines(line: str, width: int | None) -> list[str]:
    """The line in lines of at most `width` columns; None: as it is.

    A word, a path or a command in backticks that is wider has a line of its own and is not broken.
    A line that is a command stays whole. Each line of a comment of a script begins with "# ".
    """
    if width is None or text_width(line) <= width or _CALL.match(line):
        return [line]
    begins = _BEGINS.match(line)[0]  # type: ignore[index]
    later = begins if not begins or "#" in begins else begins + " " * _STEP
    lines, end, is_first = [begins], len(begins), True
    for word in _WORD.finditer(line, len(begins)):
        joined = lines[-1] + line[end : word.start()] + word[0]
        if is_first or text_width(joined) <= width or word[0] in _MESSAGES:
            lines[-1] = joined
        else:
            lines.append(later + word[0])
        end, is_first = word.end(), False
    return lines


def text_width(text: str) -> int:
    """Columns of the text on a terminal: two for a wide letter, none for a mark on a letter."""
    if text.isascii():
        return len(text)
    return sum(_columns(letter) for letter in text)


def _columns(letter: str) -> int:
    if unicodedata.combining(letter):
        return 0
    return 2 if unicodedata.east_asian_width(letter) in "WF" else 1
