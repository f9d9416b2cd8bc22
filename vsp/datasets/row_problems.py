"""Collect the problems of rows, of annotations or of a dataset, so that one error reports them all."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from vsp.errors import DatasetError
from vsp.utils.text import MAX_LISTED, first_lines, format_count

Made = TypeVar("Made")


class RowProblems:
    """The problems found so far; only the first ones are kept in memory."""

    def __init__(self) -> None:
        self._first: list[str] = []
        self._n = self._n_rows = 0
        self._alike = True  # whether all problems are the same but for their numbers

    def __bool__(self) -> bool:
        return self._n > 0

    def add(self, error: DatasetError) -> None:
        """Add the problem of a row, and count the row."""
        text = str(error)
        self._n_rows += 1
        self._n += 1
        if self._n <= MAX_LISTED:
            self._first.append(text)
        self._alike = self._alike and _numberless(text) == _numberless(self._first[0])

    def caught(
        self, make: Callable[..., Made], *arguments: object, last: bool = True
    ) -> Made | None:
        """What `make` returns for a row; None if it raises a DatasetError, which is added.

        A row that is good is counted by its `last` step only.
        """
        try:
            made = make(*arguments)
        except DatasetError as error:
            self.add(error)
            return None
        self._n_rows += last
        return made

    def all_caught(
        self, make: Callable[..., Made], calls: Iterable[Sequence[object]]
    ) -> list[Made]:
        """What `make` returns for the arguments of each call that raises no DatasetError."""
        made = (self.caught(make, *arguments) for arguments in calls)
        return [one for one in made if one is not None]

    def error(self) -> DatasetError:
        """One error: all rows have one problem, such as a wrong option, or a list of problems."""
        if self._n == 1:
            return DatasetError(self._first[0])
        if self._alike and self._n == self._n_rows:
            return DatasetError(f"{self._first[0]} (all {self._n:,} rows have this problem)")
        return DatasetError(
            f"{format_count(self._n, 'row')} cannot be used; correct them and run the same command again",
            first_lines(self._first, self._n),
        )


def _numberless(text: str) -> str:
    return re.sub(r"\d+", "", text)


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
