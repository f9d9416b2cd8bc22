"""Lines that commands print. A newline in a name is escaped, so that it begins no line of its own."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from shutil import get_terminal_size
from typing import Any

from vsp.escaping import one_line
from vsp.utils.quiet import is_quiet


def print_line(line: str = "") -> None:
    """Print and flush: a stage that runs in a child process prints to the same place.

    On a terminal, the line is wrapped between words; for a file or a pipe it stays one line.
    """
    print(_fitted(one_line(line), terminal_width()), flush=True)


def _fitted(line: str, width: int | None) -> str:
    if width is None or len(line) <= width // 2:
        return line
    from vsp.utils.wrapping import wrapped_lines  # tasks, which print to files, do not open it

    return "\n".join(wrapped_lines(line, width))


def print_whole(line: str) -> None:
    """Print a line that is to be copied, such as one of a script; it is not wrapped."""
    print(one_line(line), flush=True)


def terminal_width() -> int | None:
    """Columns of the terminal that stdout is; None for a file or a pipe."""
    return get_terminal_size().columns if sys.stdout.isatty() else None


def print_text(text: str) -> None:
    """Print the lines of a file, in which a newline begins a line and a tab is a tab."""
    print(text, flush=True)


def print_aside(line: str) -> None:
    """Print on stderr: a message that is no result. It is wrapped as by `print_line`."""
    width = get_terminal_size().columns if sys.stderr is not None and sys.stderr.isatty() else None
    print(_fitted(one_line(line), width), file=sys.stderr, flush=True)


def print_notes(notes: Sequence[str]) -> None:
    """Print notes about how a command works; --quiet leaves them out."""
    if not is_quiet():
        print_cautions(notes)


def print_cautions(notes: Sequence[str]) -> None:
    """Print notes about rows and results, which --quiet does not leave out."""
    for note in notes:
        print_aside(f"note: {note}")


def print_cause(error: BaseException) -> None:
    """Print where an error came from, with the errors of libraries behind it."""
    from traceback import format_exception

    print("".join(format_exception(error)), end="", file=sys.stderr, flush=True)


def print_json(value: Any) -> None:
    # json.dumps leaves DEL, which a stream would escape in a way that JSON does not have.
    print(json.dumps(value).replace("\x7f", r"\u007f"))
