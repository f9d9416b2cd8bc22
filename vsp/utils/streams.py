"""Replaces stdout and stderr by streams that escape what is written to them."""

from __future__ import annotations

import os
import sys
from io import TextIOWrapper
from typing import TextIO

from vsp.escaping import escaped


class EscapingStream(TextIOWrapper):
    """A text stream that escapes all that is written (`vsp.escaping.escaped`)."""

    def write(self, text: str) -> int:
        super().write(escaped(text))
        return len(text)

    def write_raw(self, text: str) -> None:
        """Write text that holds commands for the terminal; its other text must be escaped already."""
        super().write(text)


def escape_output() -> None:
    """Escape all that this process prints: also messages of argparse, warnings and tracebacks.

    An encoding without a character shows a question mark for it. Harmless if called twice.
    """
    # Python 3.13 and later would colour tracebacks and help texts; the colours would be escaped.
    os.environ["PYTHON_COLORS"] = "0"
    sys.stdout, sys.stderr = _escaping(sys.stdout), _escaping(sys.stderr)
    # Python itself writes to these when it exits.
    sys.__stdout__, sys.__stderr__ = sys.stdout, sys.stderr  # type: ignore[misc, assignment]


def pass_on(written: bytes) -> None:
    """Write to stderr, escaped, what a library wrote to the stream's number and not to `sys.stderr`."""
    sys.stderr.write(escaped(written.decode(errors="replace")))
    sys.stderr.flush()


def _escaping(stream: TextIO) -> TextIO:
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
