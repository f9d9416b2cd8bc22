"""Replaces stdout and stderr by streams that escape what is written to them."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from typing import TextIO

from vsp.errors import DiskError
from vsp.escaping import escaped


class EscapingStream(TextIOWrapper):
    """A text stream that escapes all that is written (`vsp.escaping.escaped`).

    If it cannot be written, that is one error, and the rest of the output is lost: BrokenPipeError
    if the reader of a pipe has ended, DiskError for any other reason. Messages on a stderr that
    cannot be written are lost without an error.
    """

    def write(self, text: str) -> int:
        with self._one_error():
            super().write(escaped(text))
        return len(text)

    def write_raw(self, text: str) -> None:
        """Write text that holds commands for the terminal; its other text must be escaped already."""
        with self._one_error():
            super().write(text)

    def flush(self) -> None:
        with self._one_error():
            super().flush()

    @contextmanager
    def _one_error(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            _open_null(self.fileno())  # also for what is buffered: Python writes it at exit
            if isinstance(error, BrokenPipeError):
                raise
            if self.name != "<stderr>":
                reason = os.strerror(error.errno or errno.EIO).lower()
                raise DiskError(
                    f"stdout: {reason}; the rest of the output is lost, write it elsewhere"
                ) from None


def escape_output() -> None:
    """Escape all that this process prints: also messages of argparse, warnings and tracebacks.

    An encoding without a character shows a question mark for it. Output to a stream that was closed
    before Python began is lost. Harmless if called twice.
    """
    # Python 3.13 and later would colour tracebacks and help texts; the colours would be escaped.
    os.environ["PYTHON_COLORS"] = "0"
    sys.stdout, sys.stderr = _escaping(sys.stdout, 1), _escaping(sys.stderr, 2)
    # Python itself writes to these when it exits.
    sys.__stdout__, sys.__stderr__ = sys.stdout, sys.stderr  # type: ignore[misc, assignment]


def pass_on(written: bytes) -> None:
    """Write to stderr, escaped, what a library wrote to the stream's number and not to `sys.stderr`."""
    sys.stderr.write(escaped(written.decode(errors="replace")))
    sys.stderr.flush()


def _escaping(stream: TextIO | None, number: int) -> TextIO:
    if stream is None:
        _open_null(number)  # or the next file that is opened gets the number, and library output
        return EscapingStream(open(number, "wb"), "utf-8", errors="replace")
    if isinstance(stream, EscapingStream) or not isinstance(stream, TextIOWrapper):
        return stream
    encoding, line_buffering = stream.encoding, stream.line_buffering
    write_through = stream.write_through
    return EscapingStream(
        stream.detach(),
        encoding,
        errors="replace",
        line_buffering=line_buffering,
        write_through=write_through,
    )


def _open_null(number: int) -> None:
    """Let a number of a stream be that of a file to which nothing is written."""
    null = os.open(os.devnull, os.O_WRONLY)
    if null != number:
        os.dup2(null, number)
        os.close(null)
    os.set_inheritable(number, True)
