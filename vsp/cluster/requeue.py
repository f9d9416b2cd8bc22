"""Tasks near their time limit go back into the queue, so that a chain needs no person to go on.

A requeued task keeps its job number, so later stages still wait for it. Its folder counts how often:
`requeues/STAGE-JOB` in the run's folder has one line for each time.
"""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from vsp.cluster.jobs import current_scheduler
from vsp.errors import SchedulerError
from vsp.storage.run import Run
from vsp.utils.files import disk_errors
from vsp.utils.signals import Stopped
from vsp.utils.text import format_count

_NEAR_LIMIT = signal.SIGUSR1


def with_requeues(
    work: Callable[[], None], run: Run, stage: str, limit: int, say: Callable[[str], None]
) -> None:
    """Do the work of a task. If it is told that its time ends, it goes back into the queue.

    At most `limit` times. `work` raises Stopped in either case, which ends the task, and continues
    where it stopped when it is called again. Without a queue it is called again at once.
    """
    if not limit:
        work()
        return
    with _told_between_pieces():
        while True:
            try:
                work()
                return
            except Stopped as stopped:
                if stopped.number != _NEAR_LIMIT or not _runs_again(run, stage, limit, say):
                    raise


def n_requeues(run: Run, stage: str, job: str | None) -> int:
    """How often this task put itself back into the queue."""
    with suppress(OSError):
        return _counter(run, stage, job).stat().st_size // len(_line(0))
    return 0


def _runs_again(run: Run, stage: str, limit: int, say: Callable[[str], None]) -> bool:
    """Put this task back into the queue; True if there is none, and the work starts again here."""
    # A batch system ends a requeued task with SIGTERM, which must not interrupt this.
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        return _requeue(run, stage, limit, say)
    finally:
        signal.signal(signal.SIGTERM, before)


def _requeue(run: Run, stage: str, limit: int, say: Callable[[str], None]) -> bool:
    scheduler, task = current_scheduler()
    n_before = n_requeues(run, stage, task.job)
    goes_on = f"`vsp resume --run {run.name}` continues"
    if n_before >= limit:
        often = format_count(n_before, "time")
        say(f"time limit near: was requeued {often} already, the limit of the profile; {goes_on}")
        return False
    _count(_counter(run, stage, task.job))  # first: a task that cannot count would never end
    try:
        queued = scheduler.requeue(task.job or "")
    except SchedulerError as error:
        say(f"time limit near: cannot be requeued ({error}); {goes_on}")
        return False
    which = f"requeue {n_before + 1} of at most {limit}"
    say(f"time limit near: {'back in the queue' if queued else 'starts again'}, {which}")
    return not queued


def _counter(run: Run, stage: str, job: str | None) -> Path:
    # The number of a job comes from the environment or from a journal.
    name = re.sub(r"[^\w.-]", "_", job or f"process-{os.getpid()}")
    return run.folder / "requeues" / f"{stage}-{name}"


def _count(path: Path) -> None:
    with disk_errors(path):
        path.parent.mkdir(exist_ok=True)
        handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            os.write(handle, _line(time.time()))
            os.fsync(handle)
        finally:
            os.close(handle)


def _line(now: float) -> bytes:
    return b"%020.3f\n" % now


@contextmanager
def _told_between_pieces() -> Iterator[None]:
    """Raise Stopped also if the signal comes before or after the pieces of work that handle it."""

    def stop(number: int, _: FrameType | None) -> None:
        raise Stopped(number)

    before = signal.signal(_NEAR_LIMIT, stop)
    try:
        yield
    finally:
        signal.signal(_NEAR_LIMIT, before)
