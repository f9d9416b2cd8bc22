"""Keeps known notes of libraries out of the logs; `--verbose` shows them.

A note is in this table if it says nothing about results. Any other message of a library, and every error,
is printed as the library prints it.
"""

from __future__ import annotations

import logging
import warnings
from dataclasses import dataclass

from vsp.utils.quiet import is_verbose


@dataclass(frozen=True, slots=True)
class Note:
    """A message of a library that begins so."""

    logger: str
    begins: str
    why: str  # it is left out


NOTES = (
    Note(
        "bitsandbytes.backends.cpu.ops",
        "Failed to load CPU gemm_4bit_forward",
        "an optional package with a faster kernel is not installed; the states are the same",
    ),
)
# An 8-bit layer on a CPU says this in every batch; it is printed once.
_REPEATED = "bitsandbytes.autograd._functions"
# A device map may name single tensors, such as LLaVA-NeXT's `image_newline`.
_DEVICE_MAP = "The following device_map keys do not match any submodules"


class _LeftOut(logging.Filter):
    """Leaves out the notes of NOTES that are no errors."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno >= logging.ERROR or is_verbose():
            return True
        said = record.getMessage()
        return not any(
            record.name == note.logger and said.startswith(note.begins) for note in NOTES
        )


class _Once(logging.Filter):
    """Passes each message once."""

    def __init__(self) -> None:
        super().__init__()
        self._seen: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        message = record.getMessage()
        new = message not in self._seen
        self._seen.add(message)
        return new


_left_out, _once = _LeftOut(), _Once()


def leave_out_notes() -> None:
    """Leave out known notes from now on; before the libraries are imported. Harmless if repeated."""
    for name in {note.logger for note in NOTES}:
        logging.getLogger(name).addFilter(_left_out)
    logging.getLogger(_REPEATED).addFilter(_once)
    if not is_verbose():
        warnings.filterwarnings("ignore", _DEVICE_MAP)
