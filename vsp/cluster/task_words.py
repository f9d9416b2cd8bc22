"""The end of a task in plain words, from its exit code, its journal and the batch system."""

from __future__ import annotations

import re
import signal
from contextlib import suppress

from vsp.cluster.contract import TaskState
from vsp.utils.text import format_count

_BATCH = "ended its batch"
# The last entry of a journal after a signal → why, in words.
_STOPPED = {
    "stopped by SIGUSR1": "time limit near",
    "stopped by SIGTERM": "told to stop",
    "stopped by SIGINT": "interrupted (Ctrl-C)",
    "stopped by SIGHUP": "its terminal closed",
}
_TOLD_BY_OTHERS = "stopped by SIGTERM"  # only the batch system knows why
_NEAR_LIMIT = "stopped by SIGUSR1"
_EXIT_CODES = {
    1: "ended with an error (exit code 1)",
    126: "a program of its script cannot be run (exit code 126)",
    127: "a program of its script was not found (exit code 127)",
}
_SIGNALS = {
    "SIGKILL": "killed (SIGKILL), as happens when memory is full",
    "SIGTERM": "told to stop (SIGTERM)",
    "SIGUSR1": "time limit near (SIGUSR1)",
    "SIGBUS": "killed (SIGBUS), as happens when a disk is full",
}


def task_words(task: TaskState) -> str:
    """Why a task waits or how it failed; empty if there is nothing to say."""
    said = task.words
    if task.phase == "failed":
        said = said or exit_words(task.exit_code) or f"failed ({task.state})"
        said += f" by user {task.by}" if task.by else ""
    if task.phase in ("failed", "queued") and task.restarts:
        often = format_count(task.restarts, "time")
        said = ", ".join(filter(None, (f"requeued {often}", said)))
    return said


def exit_words(exit_code: str | None) -> str:
    """An exit code "CODE:SIGNAL" in words; empty if it is not known."""
    parts = re.fullmatch(r"(\d{1,5}):(\d{1,3})", exit_code or "", re.ASCII)
    if parts is None:
        return ""
    code, number = int(parts[1]), int(parts[2])
    # A shell gives 128 and the number of the signal.
    for one in (number, code - 128):
        with suppress(ValueError):
            name = signal.Signals(one).name
            return _SIGNALS.get(name, f"killed ({name})")
    return _EXIT_CODES.get(code, f"exit code {code}") if code else ""


def ending_words(ended: str) -> str:
    """The last entry of a journal in words: a signal, or an error as it is."""
    why = _STOPPED.get(ended)
    return ended if why is None else f"{why}: {_BATCH}"


def stopped_words(ended: str | None, task: TaskState | None) -> str:
    """Why a task stopped. `ended` is the last entry of its journal; None: it was killed.

    `task` is the same task in the batch system, if that knows how it failed.
    """
    if ended == _NEAR_LIMIT:
        return f"{ending_words(ended)}, continues with `vsp resume`"
    if task is None:
        return ending_words(ended) if ended else "killed without a reason in its journal"
    if ended == _TOLD_BY_OTHERS:
        return f"{task_words(task)}: {_BATCH}" if task.words else ending_words(ended)
    if ended:  # an error; its exit code says less
        return f"{ended}; {task_words(task)}" if task.words else ending_words(ended)
    return task_words(task)
