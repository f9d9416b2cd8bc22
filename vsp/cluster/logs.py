"""`vsp logs`: the last lines of the logs of failed tasks, or of one shard."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from vsp.cluster.contract import States
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
    for stage in ORDER[1:]:
        logs += [
            (f"{stage}: {task_words(task)}", log_name(stage, task.job))
            for task in states.latest(stage).values()
            if task.phase == "failed"
        ]
    return [_read_tail(title, folder, name, n_lines) for title, name in logs]


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
    # The number of a job comes from a journal, which may be a stranger's.
    path = folder / re.sub(r"[^\w.-]", "_", name)
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
