"""Signals that ask a task to end: it finishes the batch in hand, and what it did is on disk.

A batch system sends SIGTERM before it kills (preemption, `scancel`), and SIGUSR1 some time before
the time limit, as `vsp plan` asks of it. Ctrl-C is the same; a second one ends at once.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)


class Stopped(BaseException):
    """The process was asked to end. No library that catches its own errors may catch this."""

    def __init__(self, number: int) -> None:
        self.number = number
        super().__init__(f"stopped by {signal.Signals(number).name}")


class Stop:
    """Holds a signal back until the work in hand is through."""

    def __init__(self) -> None:
        self._free = False
        self._asked: int | None = None

    @contextmanager
    def free(self) -> Iterator[None]:
        """A block, between two pieces of work, that raises `Stopped` at once or was asked to."""
        self._free = True
        try:
            if self._asked is not None:
                raise Stopped(self._asked)
            yield
        finally:
            self._free = False

    def handle(self, number: int, _: FrameType | None) -> None:
        if number == signal.SIGINT and self._asked is not None:
            raise KeyboardInterrupt
        self._asked = number
        if self._free:
            self._free = False  # raised once
            raise Stopped(number)


@contextmanager
def stoppable() -> Iterator[Stop]:
    """Signals end the block in order; afterwards they mean what they meant before."""
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop  # Python gives signals to the main thread alone
        return
    before = {number: signal.signal(number, stop.handle) for number in _SIGNALS}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
