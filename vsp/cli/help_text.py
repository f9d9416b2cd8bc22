"""Help texts that fit the terminal: sentences are wrapped, and long commands continue after a "\\"."""

from __future__ import annotations

import argparse
import re
import textwrap

_COMMAND = re.compile(r"(\s+)((?:vsp|sbatch|hf|--[a-z-]+) .*)")
_LEAST = 20  # characters beside a command for the words that explain it


class HelpFormatter(argparse.HelpFormatter):
    """Keeps the lines of descriptions and examples, and wraps those that are too long."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return "\n".join(
            f"{indent}{part}" for line in text.splitlines() for part in fitted(line, width)
        )


def fitted(line: str, width: int) -> list[str]:
    """A line of help in lines of at most `width` characters, if its words are not longer."""
    if len(line) <= width:
        return [line]
    command = _COMMAND.fullmatch(line)
    if command is None:
        return _wrapped(line, width)
    call, gap, words = re.fullmatch(r"(.*?)(?:(\s{3,})(\S.*))?", command[2]).groups()  # type: ignore[union-attr]
    column = len(command[1] + call + (gap or ""))
    if words is None:
        return _command_lines(command[1], call, width)
    if width - column >= _LEAST:
        return _wrapped(line, width, column)
    return [f"{command[1]}{call}", *_wrapped(f"{command[1]}    {words}", width)]


def _wrapped(line: str, width: int, column: int | None = None) -> list[str]:
    indent = len(line) - len(line.lstrip()) if column is None else column
    return textwrap.wrap(
        line,
        width,
        subsequent_indent=" " * indent,
        drop_whitespace=True,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _command_lines(indent: str, call: str, width: int) -> list[str]:
    """A command that a shell reads as one, because each line but the last ends in a backslash."""
    lines = _wrapped(indent + call.removesuffix(" \\"), width - 2, len(indent) + 2)
    last = " \\" if call.endswith(" \\") else ""
    return [*(f"{line} \\" for line in lines[:-1]), lines[-1] + last]
