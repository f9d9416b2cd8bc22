"""Read the values of a JSON list or mapping one by one, so that a large file needs little memory."""

from __future__ import annotations

import json
import re
from codecs import getincrementaldecoder
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from vsp.errors import DatasetError
from vsp.utils.garbage import garbage_collection_paused
from vsp.utils.reading import open_regular, unreadable

_BLOCK = 1 << 20  # bytes of one read
# An error within this many characters of the end of the text may be due to the missing rest.
_CUT = 32
_LONGEST = 1 << 24  # characters; a longer value would take gigabytes of memory
_EXPONENT = len("e+")  # may follow the digits of a number that are read so far
_LIST = "write [{...}, ...]"
_MAPPING = "write {...} with a key for each record"
_SPACE = re.compile(r"[ \t\n\r]+")
_decode = json.JSONDecoder().raw_decode


def read_records(path: Path, block: int = _BLOCK) -> Generator[Any, None, None]:
    """Yield the values of the list in a JSON file, as `json.loads` gives them.

    Raises DatasetError, with line and column, if the file is not JSON, and if it contains no list
    or an empty list.
    """
    with _opened(path) as file:
        text = _Text(path, file, block)
        yield from _entries(text, "[]", text.value, f"{path}: holds no list of records; {_LIST}")


def read_members(path: Path, block: int = _BLOCK) -> Generator[tuple[str, Any], None, None]:
    """Yield the keys and values of the mapping in a JSON file, repeated keys included.

    Raises DatasetError, with line and column, if the file is not JSON, and if it contains no
    mapping or an empty mapping.
    """
    with _opened(path) as file:
        text = _Text(path, file, block)
        yield from _entries(text, "{}", text.member, f"{path}: holds no mapping; {_MAPPING}")


def _entries(
    text: _Text, brackets: str, take: Callable[[], Any], if_none: str
) -> Generator[Any, None, None]:
    """Yield what `take` gives for each entry between two brackets.

    Raises DatasetError with the message `if_none` for another value or no entry.
    """
    if text.next() != brackets[0]:
        text.value()
        text.expect("", "Extra data")
        raise DatasetError(if_none)
    text.skip()
    empty = text.next() == brackets[1]
    while not empty:
        yield take()
        if text.next() != ",":
            break
        text.skip()
    text.expect(brackets[1], "Expecting ',' delimiter")
    text.expect("", "Extra data")
    if empty:
        raise DatasetError(if_none)


def first_character(path: Path) -> str:
    """The first character of a JSON file after spaces: "[" for a list, "{" for a mapping."""
    with _opened(path) as file:
        return _Text(path, file, _CUT).next()


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    try:
        file = open_regular(path)
    except OSError as error:
        raise DatasetError(f"{path}: {unreadable(error)}; give a readable file") from None
    with file:
        yield file


class _Text:
    """The text of a file, read block by block; text that was taken is dropped from memory."""

    def __init__(self, path: Path, file: IO[bytes], block: int) -> None:
        self._path, self._file = path, file
        self._min_block = self._block = block
        first = file.read(4)
        self._n_bytes = len(first)
        self._decoder = getincrementaldecoder(json.detect_encoding(first))("surrogatepass")
        self._held = self._decoded(first)
        self._at = 0  # position in `_held` of the next character to take
        self._ended = False
        self._n_dropped = 0  # characters of the file before `_held`
        self._line, self._column = 1, 1  # of the first character of `_held`

    def next(self) -> str:
        """Skip spaces, and give the next character without taking it; "" at the end."""
        while True:
            character = self._held[self._at : self._at + 1]
            space = _SPACE.match(self._held, self._at) if character <= " " else None
            if space is not None:
                self._at = space.end()
            elif character or self._ended:
                return character
            else:
                self._read_more()

    def skip(self) -> None:
        """Take one character."""
        self._at += 1

    def expect(self, character: str, message: str) -> None:
        """Take `character` ("" is the end of the file), or raise DatasetError with `message`."""
        if self.next() != character:
            raise self._malformed(message, self._at)
        self._at += len(character)

    def value(self) -> Any:
        """Take a value."""
        self.next()
        while True:
            try:
                value, stop = self._next_value()
            except json.JSONDecodeError as error:
                if self._ended or not self._may_be_cut(error):
                    raise self._malformed(error.msg, error.pos) from None
            except RecursionError:
                raise self._malformed("Nested too deeply", self._at) from None
            except ValueError:
                raise self._malformed("A number with thousands of digits", self._at) from None
            else:
                if stop < len(self._held) - _EXPONENT or self._ended:  # a number may continue
                    self._at = stop
                    return value
            self._read_more()

    def _next_value(self) -> tuple[Any, int]:
        if self._block == self._min_block:
            return _decode(self._held, self._at)
        with garbage_collection_paused():  # takes longer than a small value
            return _decode(self._held, self._at)

    def member(self) -> tuple[str, Any]:
        """Take a key and its value."""
        if self.next() != '"':
            self.expect('"', "Expecting property name enclosed in double quotes")
        key = self.value()
        self.expect(":", "Expecting ':' delimiter")
        return key, self.value()

    def _may_be_cut(self, error: json.JSONDecodeError) -> bool:
        return error.msg.startswith("Unterminated") or error.pos > len(self._held) - _CUT

    def _read_more(self) -> None:
        """Read one block more, of twice the size if the last block did not complete a value."""
        self._block = self._min_block if self._at else 2 * self._block
        self._line, self._column = self._place(self._at)
        self._n_dropped += self._at
        if self._block > _LONGEST:
            raise self._malformed(f"A value of more than {_LONGEST:,} characters", self._at)
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
        """Line and column in the file, from 1, of a position in `_held`."""
        newlines = self._held.count("\n", 0, position)
        if not newlines:
            return self._line, self._column + position
        return self._line + newlines, position - self._held.rindex("\n", 0, position)

    def _malformed(self, message: str, position: int) -> DatasetError:
        line, column = self._place(position)
        return DatasetError(
            f"{self._path}: is not JSON: {message}: line {line} column {column} "
            f"(char {self._n_dropped + position})"
        )
