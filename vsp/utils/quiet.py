"""How much a command says, by its options --quiet and --verbose.

--quiet leaves out progress and notes. Results, errors and all that a reader of the results must know are
always printed. --verbose adds the notes of libraries and the causes of errors.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Saying:
    """What a command says besides its results and errors."""

    progress: bool = True  # and notes
    libraries: bool = False  # and the causes of errors


_now = Saying()


@contextmanager
def saying(quiet: bool, verbose: bool) -> Iterator[None]:
    """Say less or more in this block."""
    global _now
    before, _now = _now, Saying(progress=not quiet, libraries=verbose)
    try:
        yield
    finally:
        _now = before


def is_quiet() -> bool:
    """Whether progress and notes are left out."""
    return not _now.progress


def is_verbose() -> bool:
    """Whether notes of libraries and causes of errors are printed."""
    return _now.libraries
