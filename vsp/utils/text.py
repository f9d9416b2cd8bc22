"""Numbers and lists as people read them in notes, errors, tables and log lines; a check of text."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Iterable
from itertools import islice

MAX_LISTED = 20  # problems in an error; the others are counted
_UNITS = ("bytes", "kB", "MB", "GB", "TB", "PB", "EB")


def format_count(n: int, noun: str) -> str:
    """ "1 row", "2,000 rows"."""
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def format_bytes(n_bytes: float) -> str:
    """Three digits and a unit: "999 bytes", "926 kB"."""
    for unit in _UNITS:
        if n_bytes < 999.5 or unit == _UNITS[-1]:  # 999.5 is rounded to 1000
            break
        n_bytes /= 1000
    return f"{n_bytes:.3g} {unit}"


def first_lines(lines: Iterable[str], n: int) -> list[str]:
    """The first of `n` lines, and a line with the number of the others if there are any."""
    first = list(islice(lines, MAX_LISTED))
    more = n - len(first)
    return [*first, f"… and {more:,} more"] if more > 0 else first


def is_encodable(text: str) -> bool:
    """False if the text holds half of a surrogate pair, which JSON allows and UTF-8 does not."""
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            return False
    return True


def composed(text: str) -> str:
    """The text with accents and letters composed (NFC): macOS writes names decomposed (NFD)."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def shorten(text: str, most: int = 500) -> str:
    """The text, or the first `most` characters of a longer one and "…"."""
    return text if len(text) <= most else f"{text[:most].rstrip()} …"


def format_ranges(numbers: Collection[int]) -> str:
    """Integers in short form: "3,7-9"."""
    ranges: list[list[int]] = []
    for number in sorted(numbers):
        if ranges and ranges[-1][1] == number - 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    return ",".join(f"{a}" if a == b else f"{a}-{b}" for a, b in ranges)


def format_clock(seconds: float) -> str:
    """Minutes and seconds, or hours, minutes and seconds: "1:05", "2:03:04"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def format_age(seconds: float) -> str:
    """Elapsed time as at most three digits and a unit: "95s", "12m", "3h", "5d"."""
    seconds = max(seconds, 0)
    for unit, size in (("s", 1), ("m", 60), ("h", 3600)):
        if seconds < 100 * size:
            return f"{seconds / size:.0f}{unit}"
    return f"{seconds / 86400:.0f}d"
