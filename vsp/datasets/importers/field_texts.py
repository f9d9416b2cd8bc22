"""Texts in the fields of rows: plain ones, and lists that are written as text."""

from __future__ import annotations

import ast
import json
import re
from reprlib import repr as shortened
from typing import Any

from vsp.errors import DatasetError
from vsp.utils.text import is_encodable

LONGEST_TEXT = 1 << 17  # characters of a field that is not a picture
# An entry of a list as JSON and Python write it.
_ENTRY = re.compile(
    r"""\s*("[^"\\]*(?:\\.[^"\\]*)*"|'[^'\\]*(?:\\.[^'\\]*)*'|-?[0-9][0-9.eE+-]{0,40})\s*(,|\])""",
    re.DOTALL,
)


def plain_text(key: str, value: Any) -> str:
    """A text without outer spaces; "" for null. A whole number becomes its text.

    Raises DatasetError if it is neither, is too long, or cannot be encoded.
    """
    if value is None:
        return ""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        raise DatasetError(f"has {key} {shortened(value)}; write text")
    if len(value) > LONGEST_TEXT:
        raise DatasetError(
            f"has a {key} of {len(value):,} characters, at most {LONGEST_TEXT:,} can be read; look "
            "for a quotation mark that is not closed"
        )
    if not is_encodable(value):
        raise DatasetError(f"has {key} {value!a}, which cannot be encoded; write other text")
    return value.strip()


def text_list(text: str, most: int) -> list[str] | None:
    """The first `most` entries of a list that is written as JSON or Python write it.

    None if the text is no such list. Numbers are given as they are written.
    """
    text = text.strip()
    if not text.startswith("["):
        return None
    entries: list[str] = []
    at = 1
    while len(entries) < most:
        entry = _ENTRY.match(text, at)
        value = None if entry is None else _entry(entry[1])
        if entry is None or value is None:
            return None
        entries.append(value)
        at = entry.end()
        if entry[2] == "]":
            return entries if at == len(text) else None
    return entries


def _entry(written: str) -> str | None:
    """The text of an entry; None if it has unknown escapes."""
    if written[0] not in "\"'":
        return written
    try:
        return str(json.loads(written) if written[0] == '"' else ast.literal_eval(written))
    except (ValueError, SyntaxError):
        return None
