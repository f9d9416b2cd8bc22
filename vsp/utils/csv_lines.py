"""Lines of CSV files, safe to open in a spreadsheet."""

from __future__ import annotations

import csv
import re
from io import StringIO

_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?([eE][+-]?\d+)?", re.ASCII)


def csv_line(*cells: object) -> bytes:
    """One line of a CSV file, in UTF-8.

    A spreadsheet runs text that begins as a formula does. An apostrophe before it makes it text.
    Numbers stay numbers, also those that are written as text.
    """
    line = StringIO(newline="")
    csv.writer(line).writerow([_inert(cell) for cell in cells])
    return line.getvalue().encode(errors="backslashreplace")


def _inert(cell: object) -> object:
    text = str(cell)
    is_number = isinstance(cell, int | float) or _NUMBER.fullmatch(text)
    return f"'{text}" if text.startswith(_FORMULA_STARTS) and not is_number else text
