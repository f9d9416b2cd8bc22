"""Read the lines of a text file, and the records of JSON lines. Errors name the line."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from typing import IO, Any, TextIO

from vsp.datasets.row_problems import RowProblems
from vsp.errors import ConfigError, DatasetError
from vsp.utils.reading import open_regular, unreadable

_BLOCK = 1 << 20  # bytes
_PEEK = 1 << 16  # characters
LONGEST_LINE = 1 << 24  # characters of a line; a longer line is probably not text
_MARK = "\ufeff"  # byte order mark, which some programs write before the first line


@contextmanager
def text_lines(path: Path, encoding: str = "") -> Iterator[Iterator[str]]:
    """Open a file and give its lines, with line ends and without a byte order mark.

    Without an `encoding`, the file is UTF-16 if it starts with UTF-16's byte order mark, else UTF-8.
    Raises DatasetError if the file cannot be decoded or is not text, ConfigError if the encoding is
    unknown.
    """
    with _open(path, encoding) as text:
        yield _lines(path, text)


def beginning(path: Path, encoding: str = "") -> str:
    """The first characters without leading spaces; bytes that cannot be decoded are replaced."""
    with _open(path, encoding, "replace") as text:
        return text.read(_PEEK).removeprefix(_MARK).lstrip()


def json_records(
    path: Path, lines: Iterator[str], problems: RowProblems
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield line number (from 1) and record; blank lines are skipped.

    Lines that hold no record are skipped and added to `problems`.
    """
    for number, line in enumerate(lines, 1):
        if line.strip():
            record = problems.caught(_json_record, path, number, line, last=False)
            if record is not None:
                yield number, record


def _json_record(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except json.JSONDecodeError as error:
        what = f"{error.msg}: column {error.colno}"
        raise DatasetError(f"{path}: line {number} is not JSON: {what}") from None
    except RecursionError:
        raise DatasetError(f"{path}: line {number} is not JSON: Nested too deeply") from None
    except ValueError:
        raise DatasetError(f"{path}: line {number} has a number with thousands of digits") from None
    if not isinstance(record, dict):
        raise DatasetError(
            f"{path}: line {number} is a {type(record).__name__}, not a mapping; write one "
            "{...} per line"
        )
    return record


def _lines(path: Path, text: TextIO) -> Iterator[str]:
    number = 0
    try:
        while line := text.readline(LONGEST_LINE):
            number += 1
            if "\0" in line:
                raise DatasetError(
                    f"{path}: line {number} contains a NUL byte, so the file is not text; save it "
                    "as UTF-8 text"
                )
            if len(line) == LONGEST_LINE:
                raise DatasetError(
                    f"{path}: line {number} has more than {LONGEST_LINE - 1} characters; write each "
                    "row on its own line"
                )
            yield line.removeprefix(_MARK) if number == 1 else line
    except UnicodeDecodeError:
        raise _bad_byte(path, text.encoding) from None


def _open(path: Path, encoding: str, errors: str = "strict") -> TextIO:
    try:
        file = open_regular(path)
    except OSError as error:
        raise DatasetError(f"{path}: {unreadable(error)}; give a readable file") from None
    try:
        return TextIOWrapper(file, encoding or _encoding(file), errors=errors, newline="")
    except LookupError:
        file.close()
        raise ConfigError(
            f"encoding {encoding!r} is not known; use utf-8, utf-16, latin-1 or cp1252"
        ) from None


def _encoding(file: IO[bytes]) -> str:
    marked = file.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
    file.seek(0)
    return "utf-16" if marked else "utf-8"


def _bad_byte(path: Path, encoding: str) -> DatasetError:
    """The error with the line and byte of the first byte that cannot be decoded."""
    decoder = codecs.getincrementaldecoder(encoding)()
    place, line = 0, 1  # byte and line at which the block starts
    with open_regular(path) as file:
        while True:
            block = file.read(_BLOCK)
            n_held = len(decoder.getstate()[0])
            try:
                decoder.decode(block, final=not block)
            except UnicodeDecodeError as error:
                start = error.start - n_held
                line += block.count(b"\n", 0, max(start, 0))
                return DatasetError(
                    f"{path}: line {line}: byte {place + start} is not {encoding} "
                    f"({error.reason}); save the file as UTF-8, or give its encoding, for "
                    "example --option encoding=latin-1"
                )
            if not block:
                return DatasetError(f"{path}: changed while it was read; run the command again")
            place += len(block)
            line += block.count(b"\n")
