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


def run_in_terminal(
    command: Sequence[str],
    columns: int,
    cwd: Path | None = None,
    env: Mapping[str, str] = os.environ,
) -> tuple[int, str]:
    """The exit code, and stdout and stderr as they reach a terminal of this width."""
    master, slave = pty.openpty()
    mode = termios.tcgetattr(slave)
    mode[1] &= ~termios.OPOST  # a newline stays a newline
    termios.tcsetattr(slave, termios.TCSANOW, mode)
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
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
