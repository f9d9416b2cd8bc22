"""Collect the problems of rows, of annotations or of a dataset, so that one error reports them all."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from vsp.errors import DatasetError
from vsp.utils.text import format_count

_LISTED = 20  # problems in the error; the others are counted

Made = TypeVar("Made")


class RowProblems:
    """The problems found so far; only the first ones are kept in memory."""

    def __init__(self) -> None:
        self._first: list[str] = []
        self._n = 0

    def __bool__(self) -> bool:
        return self._n > 0

    def add(self, error: DatasetError) -> None:
        self._n += 1
        if self._n <= _LISTED:
            self._first.append(str(error))

    def caught(self, make: Callable[..., Made], *arguments: object) -> Made | None:
        """What `make` returns; None if it raises a DatasetError, which is added."""
        try:
            return make(*arguments)
        except DatasetError as error:
            self.add(error)
            return None

    def all_caught(
        self, make: Callable[..., Made], calls: Iterable[Sequence[object]]
    ) -> list[Made]:
        """What `make` returns for the arguments of each call that raises no DatasetError."""
        made = (self.caught(make, *arguments) for arguments in calls)
        return [one for one in made if one is not None]

    def error(self) -> DatasetError:
        if self._n == 1:
            return DatasetError(self._first[0])
        more = self._n - len(self._first)
        return DatasetError(
            f"{format_count(self._n, 'row')} cannot be used; correct them and run the same command again",
            [*self._first, *([f"… and {more:,} more"] if more else [])],
        )


@contextmanager
def row_problems() -> Iterator[RowProblems]:
    """Give a collection to the block; when it ends, raise one DatasetError with all problems.

    A DatasetError that ends the block early, such as a damaged file, is the last of them.
    """
    problems = RowProblems()
    try:
        yield problems
    except DatasetError as error:
        problems.add(error)
    if problems:
        raise problems.error()


@contextmanager
def at_row(path: Path, place: str) -> Iterator[None]:
    """Put file and place before the message of a DatasetError."""
    try:
        yield
    except DatasetError as error:
        raise DatasetError(f"{path}: {place} {error}") from None
