"""`vsp logs`: the end of the log of what failed."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from vsp.cluster.contract import States
from vsp.cluster.jobs import EXTRACT, ORDER, log_name
from vsp.cluster.status import Status
from vsp.errors import RunError

_TAIL = 1 << 18  # bytes that hold the last lines


@dataclass(frozen=True, slots=True)
class Tail:
    """The last lines of a log."""

    what: str  # failed
    path: Path
    lines: tuple[str, ...]


def tails(
    found: Status, states: States, folder: Path, shard: int | None, n_lines: int
) -> list[Tail]:
    """Of one shard's task, or of every task that stopped and every later stage that failed.

    Raises RunError where a log that was asked for is not there.
    """
    if shard is not None:
        one = found.shards[shard]
        what = f"shard {shard}, {one.state}" + (f": {one.why}" if one.why else "")
        if one.job is None:
            raise RunError(
                f"shard {shard}: no batch job of it is known; what `vsp extract` says by hand "
                "goes to the terminal alone"
            )
        return [_tail(what, folder / log_name(EXTRACT, one.job), n_lines)]
    wanted = [
        (f"shard {one.shard} stopped: {one.why}", log_name(EXTRACT, one.job))
        for one in found.shards
        if one.state == "stopped" and one.job is not None
    ]
    for stage in ORDER[1:]:
        wanted += [
            (f"{stage} {task.state} {task.reason}".strip(), log_name(stage, task.job))
            for task in states.latest(stage).values()
            if not task.active and task.state != "COMPLETED"
        ]
    return [_tail(what, folder / name, n_lines) for what, name in wanted]


def _tail(what: str, path: Path, n_lines: int) -> Tail:
    try:
        with path.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL))
            text = file.read().decode(errors="replace")
    except FileNotFoundError:
        return Tail(what, path, ("(there is no such file: the task never began)",))
    # A progress bar writes its line over and over; the last one counts.
    lines = [line.rpartition("\r")[2] for line in text.rstrip("\n").split("\n")]
    return Tail(what, path, tuple(lines[-n_lines:]))
