"""Runs a command in a pseudo-terminal and returns what it shows."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import struct
import subprocess
import termios
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import RenderableType

from vsp.utils.terminal import Page


def open_terminal(columns: int) -> tuple[int, int]:
    """Both ends of a terminal of this width: the one that a person sees, and that of the program."""
    master, slave = pty.openpty()
    mode = termios.tcgetattr(slave)
    mode[1] &= ~termios.OPOST  # a newline stays a newline
    termios.tcsetattr(slave, termios.TCSANOW, mode)
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    return master, slave


def printed(renderable: RenderableType, width: int) -> str:
    """The text of a page at this width."""
    stream = io.StringIO()
    Page(stream, width=width).print(renderable)
    return stream.getvalue()


def run_in_terminal(
    command: Sequence[str],
    columns: int,
    cwd: Path | None = None,
    env: Mapping[str, str] = os.environ,
) -> tuple[int, str]:
    """The exit code, and stdout and stderr as they reach a terminal of this width."""
    master, slave = open_terminal(columns)
    env = {**env, "COLUMNS": str(columns), "TERM": "xterm"}
    process = subprocess.Popen(command, stdout=slave, stderr=slave, cwd=cwd, env=env)
    os.close(slave)
    shown = io.BytesIO()
    try:
        while block := os.read(master, 4096):
            shown.write(block)
    except OSError:  # the other end was closed
        pass
    os.close(master)
    return process.wait(), shown.getvalue().decode()
