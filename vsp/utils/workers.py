"""Worker processes of joblib. They escape their output and end with the main process."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

from joblib import Parallel
from joblib.externals.loky.backend import resource_tracker

from vsp.utils.signals import follow_parent
from vsp.utils.streams import escape_output


@contextmanager
def worker_pool(n_jobs: int, return_as: str = "list") -> Iterator[Parallel]:
    """`joblib.Parallel` of `n_jobs` processes (1: this process). Returns results as `return_as` says.

    An error or a signal that leaves the block ends the processes at once, also within a job.
    """
    if n_jobs > 1:
        _start_tracker()
    with Parallel(
        n_jobs=n_jobs, return_as=return_as, initializer=_start, initargs=(os.getpid(),)
    ) as parallel:
        yield parallel


def _start_tracker() -> None:
    """Start joblib's process that removes semaphores, such that a signal to all does not end it.

    It ignores SIGINT and SIGTERM, and inherits that the others are blocked. Another one would be
    started in its place, and print tracebacks about semaphores that it does not know.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGHUP, signal.SIGUSR1))
    try:
        resource_tracker.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start(parent: int) -> None:
    follow_parent(parent)
    escape_output()
