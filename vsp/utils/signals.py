"""Signals that ask a task to stop: it finishes the current batch, so that no work is lost.

A batch system sends SIGTERM before it kills a task (preemption, `scancel`), and SIGUSR1 some time
before the time limit, as the batch script requests. A terminal that closes sends SIGHUP, which
`nohup` ignores. Ctrl-C does the same; a second one stops at once.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT, signal.SIGHUP)
_GRACE = 2.0  # seconds a worker lives on after a signal to end
_PARENT_CHECK = 0.5  # seconds between two checks that the parent lives


class Stopped(BaseException):
    """The process was asked to stop. A BaseException, so that no `except Exception` catches it."""

    def __init__(self, number: int) -> None:
        self.number = number
        super().__init__(f"stopped by {signal.Signals(number).name}")


class Stop:
    """Delays a signal until the current piece of work is finished."""

    def __init__(self) -> None:
        self._free = False
        self._received: int | None = None

    @contextmanager
    def free(self) -> Iterator[None]:
        """A block between two pieces of work: a signal in it, or before it, raises `Stopped`."""
        self._free = True
        try:
            if self._received is not None:
                raise Stopped(self._received)
            yield
        finally:
            self._free = False

    def hold(self) -> None:
        """Let a signal wait for the next block of `free`, even if this is inside such a block."""
        self._free = False

    def handle(self, number: int, _: FrameType | None) -> None:
        if number == signal.SIGINT and self._received is not None:
            raise KeyboardInterrupt
        self._received = number
        if self._free:
            self._free = False  # raise only once
            raise Stopped(number)


@contextmanager
def stoppable() -> Iterator[Stop]:
    """Handle signals with a `Stop` in this block; restore the earlier handlers afterwards."""
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop  # Python delivers signals to the main thread only
        return
    before = {number: signal.signal(number, stop.handle) for number in _heeded(_SIGNALS)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def follow_parent(parent: int) -> None:
    """Leave signals to the process `parent`, and exit when it ends for any reason.

    A worker process calls this first. A batch system may send a signal to all processes: the
    worker then lives a little longer than the parent needs to stop.
    """
    threading.Thread(target=_exit_with, args=(parent,), daemon=True).start()
    for number in (signal.SIGINT, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    for number in _heeded((signal.SIGTERM, signal.SIGHUP)):
        signal.signal(number, _exit_later)


def _heeded(numbers: Sequence[signal.Signals]) -> list[signal.Signals]:
    """The signals without a SIGHUP that `nohup` ignores."""
    ignored = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    return [number for number in numbers if not (ignored and number == signal.SIGHUP)]


def _exit_later(*_: object) -> None:
    threading.Timer(_GRACE, os._exit, (1,)).start()


def _exit_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_PARENT_CHECK)
    os._exit(1)
