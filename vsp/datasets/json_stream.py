"""A file that holds a JSON list, or a mapping → its values, one after the other: of a million
records only the one in hand is in memory.
"""

from __future__ import annotations

import json
import re
from codecs import getincrementaldecoder
from collections.abc import Callable, Generator
from pathlib import Path
from typing import IO, Any

from vsp.errors import DatasetError

_BLOCK = 1 << 20  # bytes read at a time
# So near the end of what was read a value may look wrong only because it is cut off there.
_CUT = 32
_EXPONENT = len("e+")  # of a number, which is whole without it
_LIST = "write [{...}, ...]"
_MAPPING = "write {...} with a key for each record"
_SPACE = re.compile(r"[ \t\n\r]+")
_decode = json.JSONDecoder().raw_decode


def read_records(path: Path, block: int = _BLOCK) -> Generator[Any, None, None]:
    """The values of the list in a JSON file, in their order, as `json.loads` gives them.

    Raises DatasetError, with the place, where the file is not JSON, and if it holds no list or an
    empty one.
    """
    with path.open("rb") as file:
        text = _Text(path, file, block)
        yield from _entries(text, "[]", text.value, f"{path}: holds no list of records; {_LIST}")


def read_members(path: Path, block: int = _BLOCK) -> Generator[tuple[str, Any], None, None]:
    """The keys and values of the mapping in a JSON file, in their order; also keys that come again.

    Raises DatasetError, with the place, where the file is not JSON, and if it holds no mapping or
    an empty one.
    """
    with path.open("rb") as file:
        text = _Text(path, file, block)
        yield from _entries(text, "{}", text.member, f"{path}: holds no mapping; {_MAPPING}")


def _entries(
    text: _Text, marks: str, take: Callable[[], Any], otherwise: str
) -> Generator[Any, None, None]:
    """What `take` takes between two marks, until the end; `otherwise` says what a file without
    any lacks."""
    if text.next() != marks[0]:
        text.value()
        text.expect("", "Extra data")
        raise DatasetError(otherwise)
    text.skip()
    empty = text.next() == marks[1]
    while not empty:
        yield take()
        if text.next() != ",":
            break
        text.skip()
    text.expect(marks[1], "Expecting ',' delimiter")
    text.expect("", "Extra data")
    if empty:
        raise DatasetError(otherwise)


def first_mark(path: Path) -> str:
    """The first character of a JSON file that is no space: "[" of a list, "{" of a mapping."""
    with path.open("rb") as file:
        return _Text(path, file, _CUT).next()


class _Text:
    """The text of a file; what was taken from it is forgotten."""

    def __init__(self, path: Path, file: IO[bytes], block: int) -> None:
        self._path, self._file = path, file
        self._least = self._block = block
        first = file.read(4)
        self._n_bytes = len(first)
        self._decoder = getincrementaldecoder(json.detect_encoding(first))("surrogatepass")
        self._held = self._decoded(first)
        self._at = 0  # what of it was taken
        self._ended = False
        self._taken = 0  # characters in front of what is held
        self._line, self._column = 1, 1  # where it begins

    def next(self) -> str:
        """The next character that is no space; "" at the end."""
        while True:
            mark = self._held[self._at : self._at + 1]
            space = _SPACE.match(self._held, self._at) if mark <= " " else None
            if space is not None:
                self._at = space.end()
            elif mark or self._ended:
                return mark
            else:
                self._read_on()

    def skip(self) -> None:
        """Take the character that `next` gave."""
        self._at += 1

    def expect(self, mark: str, otherwise: str) -> None:
        """Take `mark`; "" is the end of the file. `otherwise` says what is wrong without it."""
        if self.next() != mark:
            raise self._malformed(otherwise, self._at)
        self._at += len(mark)

    def value(self) -> Any:
        """Take a whole value."""
        self.next()
        while True:
            try:
                value, stop = _decode(self._held, self._at)
            except json.JSONDecodeError as error:
                if self._ended or not self._may_be_cut(error):
                    raise self._malformed(error.msg, error.pos) from None
            except RecursionError:
                raise self._malformed("Nested too deeply", self._at) from None
            except ValueError as error:  # a number of thousands of digits
                raise self._malformed(str(error), self._at) from None
            else:
                if stop < len(self._held) - _EXPONENT or self._ended:  # a number may go on
                    self._at = stop
                    return value
            self._read_on()

    def member(self) -> tuple[str, Any]:
        """Take a key and its value."""
        if self.next() != '"':
            self.expect('"', "Expecting property name enclosed in double quotes")
        key = self.value()
        self.expect(":", "Expecting ':' delimiter")
        return key, self.value()

    def _may_be_cut(self, error: json.JSONDecodeError) -> bool:
        return error.msg.startswith("Unterminated") or error.pos > len(self._held) - _CUT

    def _read_on(self) -> None:
        """Hold one block more; a longer one where the last was not enough for a value."""
        self._block = self._least if self._at else 2 * self._block
        self._line, self._column = self._place(self._at)
        self._taken += self._at
        data = self._file.read(self._block)
        self._n_bytes += len(data)
        self._held = self._held[self._at :] + self._decoded(data)
        self._at, self._ended = 0, not data

    def _decoded(self, data: bytes) -> str:
        left_over = len(self._decoder.getstate()[0])
        try:
            return self._decoder.decode(data, final=not data)
        except UnicodeDecodeError as error:
            place = self._n_bytes - len(data) - left_over + error.start
            raise DatasetError(
                f"{self._path}: is not JSON: byte {place} is not {error.encoding} ({error.reason})"
            ) from None

    def _place(self, position: int) -> tuple[int, int]:
        """Line and column in the file of a position in what is held, from 1."""
        newlines = self._held.count("\n", 0, position)
        if not newlines:
            return self._line, self._column + position
        return self._line + newlines, position - self._held.rindex("\n", 0, position)

    def _malformed(self, what: str, position: int) -> DatasetError:
        line, column = self._place(position)
        return DatasetError(
            f"{self._path}: is not JSON: {what}: line {line} column {column} "
            f"(char {self._taken + position})"
        )
