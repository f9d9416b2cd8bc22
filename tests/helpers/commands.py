"""Run a vsp command in this process, with the output and the exit code of a process of its own."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import FileIO, TextIOWrapper
from pathlib import Path
from subprocess import CompletedProcess
from tempfile import TemporaryFile
from typing import BinaryIO

from helpers.terminals import open_terminal
from joblib.externals.loky import reusable_executor

from vsp.cli.main import console


def run_here(
    arguments: tuple[object, ...], folder: Path, program: Callable[[], int | None] = console
) -> CompletedProcess[str]:
    """Run `vsp`, or another program, with these arguments in a folder.

    A new process would import the same libraries again. Any error that is not an exit code is
    raised, so that the test fails. Tests that need limits, signals or a new interpreter start one.
    """
    words = list(map(str, arguments))
    _end_workers()
    with TemporaryFile() as out, TemporaryFile() as err:
        with _as_a_process(["vsp", *words], folder, out, err):
            try:
                code = program()
            except SystemExit as stop:
                code = stop.code
        return CompletedProcess(words, int(code or 0), _text(out), _text(err))


def _end_workers() -> None:
    """End joblib's idle workers: they stay in the folder where an earlier test started them."""
    if reusable_executor._executor is not None:
        reusable_executor.get_reusable_executor().shutdown(kill_workers=True)


def _text(file: BinaryIO) -> str:
    file.seek(0)
    return file.read().decode()


@contextmanager
def _as_a_process(argv: list[str], folder: Path, out: BinaryIO, err: BinaryIO) -> Iterator[None]:
    """Arguments, folder, environment, log handlers and output of a process, then the earlier ones."""
    logger = logging.getLogger("vsp")
    streams = ("stdout", "stderr", "__stdout__", "__stderr__", "argv", "path")
    before = {name: getattr(sys, name) for name in streams}
    environment, level, handlers = dict(os.environ), logger.level, list(logger.handlers)
    place, interrupt = Path.cwd(), signal.getsignal(signal.SIGINT)
    os.chdir(folder)
    sys.argv, sys.path = argv, list(sys.path)
    with _redirected(1, out), _redirected(2, err):
        sys.stdout = TextIOWrapper(FileIO(1, "w", closefd=False), "utf-8")
        sys.stderr = TextIOWrapper(FileIO(2, "w", closefd=False), "utf-8", line_buffering=True)
        try:
            yield
        finally:
            for stream in (sys.stdout, sys.stderr):
                stream.close()
            for name, value in before.items():
                setattr(sys, name, value)
            logger.setLevel(level)
            logger.handlers[:] = handlers
            os.environ.clear()
            os.environ.update(environment)
            os.chdir(place)
            signal.signal(signal.SIGINT, interrupt)


@contextmanager
def _redirected(number: int, file: BinaryIO) -> Iterator[None]:
    """Let what is written to a stream's number go to a file, also what child processes write."""
    kept = os.dup(number)
    os.dup2(file.fileno(), number)
    try:
        yield
    finally:
        os.dup2(kept, number)
        os.close(kept)


def run_here_in_terminal(
    arguments: tuple[object, ...], folder: Path, columns: int
) -> tuple[int, str]:
    """The exit code, and stdout and stderr as they reach a terminal of this width."""
    master, slave = open_terminal(columns)
    shown: list[bytes] = []

    def read() -> None:
        with suppress(OSError):  # the other end was closed
            while block := os.read(master, 4096):
                shown.append(block)

    reader = threading.Thread(target=read)
    reader.start()
    words = list(map(str, arguments))
    _end_workers()
    try:
        with (
            open(slave, "wb", buffering=0, closefd=False) as end,
            _as_a_process(["vsp", *words], folder, end, end),
        ):
            os.environ |= {"COLUMNS": str(columns), "TERM": "xterm"}
            try:
                code = console()
            except SystemExit as stop:
                code = stop.code
    finally:
        _end_workers()  # they hold the terminal open
        os.close(slave)
        reader.join(10)
        os.close(master)
    return int(code or 0), b"".join(shown).decode()
