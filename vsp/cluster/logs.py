"""`vsp logs`: the last lines of the logs of failed tasks, or of one shard."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from vsp.cluster.contract import States, TaskState
from vsp.cluster.stages import EXTRACT, ORDER, log_name
from vsp.cluster.status import RunStatus
from vsp.cluster.task_words import task_words
from vsp.errors import RunError
from vsp.utils.reading import open_regular, unreadable
from vsp.utils.text import shorten

_READ = 1 << 18  # bytes from the end of a log that are read
_LINE = 2000  # characters of a line that are shown


@dataclass(frozen=True, slots=True)
class LogTail:
    """The last lines of a log."""

    title: str  # the task, and why it failed
    path: Path
    lines: tuple[str, ...]


def failed_logs(status: RunStatus, states: States, folder: Path, n_lines: int) -> list[LogTail]:
    """The logs of every stopped shard and every failed task of a later stage."""
    logs = [
        (f"shard {shard.shard} stopped: {shard.why}", log_name(EXTRACT, shard.job))
        for shard in status.shards
        if shard.state == "stopped" and shard.job is not None
    ]
    logs += [
        (f"{task.stage}: {task_words(task)}", log_name(task.stage, task.job))
        for task in _failed_later(states)
        if not _never_started(task, folder)
    ]
    return [_read_tail(title, folder, name, n_lines) for title, name in logs]


def not_started(states: States, folder: Path) -> str:
    """The later stages whose tasks ended before they started, so that they have no log; or empty."""
    why: dict[str, list[str]] = {}
    for task in _failed_later(states):
        if _never_started(task, folder):
            why.setdefault(task_words(task), []).append(task.stage)
    shown = [f"{', '.join(dict.fromkeys(stages))} ({words})" for words, stages in why.items()]
    return f"did not start, so there is no log: {'; '.join(shown)}" if shown else ""


def _failed_later(states: States) -> list[TaskState]:
    """The failed tasks of the stages after the extraction."""
    tasks = [task for stage in ORDER[1:] for task in states.latest(stage).values()]
    return [task for task in tasks if task.phase == "failed"]


def _never_started(task: TaskState, folder: Path) -> bool:
    """Whether a task was cancelled before it wrote a log."""
    return task.cancelled and not os.path.lexists(_log_path(folder, log_name(task.stage, task.job)))


def shard_log(status: RunStatus, folder: Path, shard: int, n_lines: int) -> LogTail:
    """The log of the last task of a shard. Raises RunError if no batch job ran for it."""
    known = status.shards[shard]
    if known.job is None:
        raise RunError(
            f"shard {shard}: no batch job is known; `vsp extract` in a terminal writes no log file"
        )
    title = f"shard {shard}, {known.state}" + (f": {known.why}" if known.why else "")
    return _read_tail(title, folder, log_name(EXTRACT, known.job), n_lines)


def _read_tail(title: str, folder: Path, name: str, n_lines: int) -> LogTail:
    path = _log_path(folder, name)
    try:
        with open_regular(path) as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _READ))
            text = file.read(_READ).decode(errors="replace")
    except FileNotFoundError:
        return LogTail(title, path, ("(no such file: the task did not start)",))
    except OSError as error:
        return LogTail(title, path, (f"({unreadable(error)})",))
    # A progress bar rewrites its line; keep the last version.
    lines = [line.rstrip("\r").rpartition("\r")[2] for line in text.rstrip("\n").split("\n")]
    return LogTail(title, path, tuple(shorten(line, _LINE) for line in lines[-n_lines:]))


def _log_path(folder: Path, name: str) -> Path:
    # The number of a job comes from a journal, which may be a stranger's.
    return folder / re.sub(r"[^\w.-]", "_", name)
