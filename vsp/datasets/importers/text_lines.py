"""A text file → its lines, and JSON lines → their records; what is wrong is said with its line."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from vsp.errors import ConfigError, DatasetError

_BLOCK = 1 << 20  # bytes
_PEEK = 1 << 16  # characters
_LONGEST = 1 << 24  # characters of a line; a longer one has lost its ends
_MARK = "\ufeff"  # in front of the first line, in files of some programmes


@contextmanager
def text_lines(path: Path, encoding: str = "") -> Iterator[Iterator[str]]:
    """While the file is open, its lines with their ends; a byte order mark is dropped.

    Without an `encoding` the file is UTF-8, or UTF-16 where its first bytes say so. Raises
    DatasetError for a byte that is not in the encoding and for what no text holds, ConfigError if
    there is no such encoding.
    """
    with _opened(path, encoding) as text:
        yield _lines(path, text)


def beginning(path: Path, encoding: str = "") -> str:
    """The first characters, from the first that is no space on; bad bytes are no matter yet."""
    with _opened(path, encoding, "replace") as text:
        return text.read(_PEEK).removeprefix(_MARK).lstrip()


def json_records(path: Path, lines: Iterator[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Each line's record with its number, from 1; blank lines are passed over. Raises DatasetError."""
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            what = f"{error.msg}: column {error.colno}"
            raise DatasetError(f"{path}: line {number} is not JSON: {what}") from None
        except RecursionError:
            raise DatasetError(f"{path}: line {number} is not JSON: Nested too deeply") from None
        except ValueError as error:  # a number of thousands of digits
            raise DatasetError(f"{path}: line {number} is not JSON: {error}") from None
        if not isinstance(record, dict):
            raise DatasetError(
                f"{path}: line {number} is a {type(record).__name__}, not a mapping; write one "
                "{...} a line"
            )
        yield number, record


def _lines(path: Path, text: TextIO) -> Iterator[str]:
    number = 0
    try:
        while line := text.readline(_LONGEST):
            number += 1
            if "\0" in line:
                raise DatasetError(
                    f"{path}: line {number} holds a NUL byte, which no text does; save the file "
                    "as UTF-8 text"
                )
            if len(line) == _LONGEST:
                raise DatasetError(
                    f"{path}: line {number} has more than {_LONGEST - 1} characters; write each "
                    "row on a line of its own"
                )
            yield line.removeprefix(_MARK) if number == 1 else line
    except UnicodeDecodeError:
        raise _bad_byte(path, text.encoding) from None


def _opened(path: Path, encoding: str, errors: str = "strict") -> TextIO:
    try:
        return path.open(encoding=encoding or _encoding(path), errors=errors, newline="")
    except OSError as error:
        raise DatasetError(f"{path}: {str(error.strerror).lower()}; name a file to read") from None
    except LookupError:
        raise ConfigError(
            f"encoding {encoding!r} is not known; use utf-8, utf-16, latin-1 or cp1252"
        ) from None


def _encoding(path: Path) -> str:
    with path.open("rb") as file:
        marked = file.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
    return "utf-16" if marked else "utf-8"


def _bad_byte(path: Path, encoding: str) -> DatasetError:
    """Where the file ceases to be in its encoding; the reader above knows only its buffer."""
    decoder = codecs.getincrementaldecoder(encoding)()
    place, line = 0, 1  # of the block
    with path.open("rb") as file:
        while True:
            block = file.read(_BLOCK)
            held = len(decoder.getstate()[0])
            try:
                decoder.decode(block, final=not block)
            except UnicodeDecodeError as error:
                start = error.start - held
                line += block.count(b"\n", 0, max(start, 0))
                return DatasetError(
                    f"{path}: line {line}: byte {place + start} is not {encoding} "
                    f"({error.reason}); save the file as UTF-8, or give the encoding it has, for "
                    "instance encoding=latin-1"
                )
            if not block:
                return DatasetError(f"{path}: was changed while it was read; run the command again")
            place += len(block)
            line += block.count(b"\n")
