"""The state of each shard of a run, from its journals and from the batch system.

Only the journals decide which rows are done. A batch system, if one answers, adds why a task was
killed or waits.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vsp.cluster.contract import States, TaskState
from vsp.cluster.stages import EXTRACT
from vsp.cluster.task_words import ending_words, stopped_words, task_words
from vsp.storage.journal import FINISHED
from vsp.storage.ledger import BatchEffect, Ledger, Life, largest_batch_effect
from vsp.storage.run import Run, Shard
from vsp.utils.text import shorten

ACTIVE = ("running", "running?", "ending", "queued")  # states of shards that go on by themselves
_PROBLEM_LENGTH = 150  # characters of a batch system's error message


@dataclass(frozen=True, slots=True)
class ShardStatus:
    """One shard: its rows and its task."""

    shard: int
    start: int
    stop: int
    n_done: int
    n_failed: int
    n_missing: int
    state: str  # finished, running, running?, ending, queued, stopped, not started
    why: str = ""  # reason for waiting or stopping
    rows_per_second: float | None = None  # of the last task that had rows to do
    seconds_left: float | None = None  # if it is running
    last_write: float | None = None  # seconds since 1970
    node: str = ""
    job: str | None = None


@dataclass(frozen=True, slots=True)
class RunStatus:
    """The state of a run at one moment."""

    run: str
    n_planned: int
    shards: tuple[ShardStatus, ...]
    failed: Mapping[int, str]  # row → reason
    batching: BatchEffect | None
    notes: tuple[str, ...]
    now: float

    def count(self, field: str) -> int:
        return sum(getattr(shard, field) for shard in self.shards)

    @property
    def rows_per_second(self) -> float | None:
        """Sum over the running tasks; None if no task runs."""
        rates = [s.rows_per_second or 0.0 for s in self.shards if s.seconds_left is not None]
        return sum(rates) or None

    def shards_in(self, *states: str) -> list[int]:
        """Numbers of the shards in any of these states."""
        return [shard.shard for shard in self.shards if shard.state in states]


def run_status(run: Run, ledgers: Sequence[Ledger], states: States, damage: str = "") -> RunStatus:
    """Combine the journals of a run and the states of its tasks.

    `damage` is a further note, about a file of the run that cannot be read.
    """
    tasks = states.latest(EXTRACT)
    shards = tuple(
        _shard(shard, ledger, tasks.get(shard.index))
        for shard, ledger in zip(run.shards, ledgers, strict=True)
    )
    return RunStatus(
        run=run.name,
        n_planned=run.plan.n_samples,
        shards=shards,
        failed={row: why for ledger in ledgers for row, why in sorted(ledger.failed.items())},
        batching=largest_batch_effect(ledgers),
        notes=(*_together(run), *_notes(ledgers, states), *([damage] if damage else ())),
        now=time.time(),
    )


def _together(run: Run) -> list[str]:
    """With which runs this one is extracted."""
    others = [one.name for one in run.plan.together if one.id != run.plan.id]
    return [f"one extraction computes this run and {', '.join(others)}"] if others else []


def last_life(ledger: Ledger) -> Life | None:
    """The last task of a shard that had rows to do, as its journal shows it."""
    return next((life for life in reversed(ledger.lives) if life.planned), None)


def _shard(shard: Shard, ledger: Ledger, task: TaskState | None) -> ShardStatus:
    life = last_life(ledger)
    state, why = _state(ledger, life, task)
    rate = life.rows_per_second if life else None
    is_running = state in ("running", "running?")
    return ShardStatus(
        shard=shard.index,
        start=shard.start,
        stop=shard.stop,
        n_done=ledger.n_done,
        n_failed=ledger.n_failed,
        n_missing=ledger.n_missing,
        state=state,
        why=why,
        rows_per_second=rate,
        seconds_left=ledger.n_missing / rate if is_running and rate else None,
        last_write=life.last if life else None,
        node=(task.node if task and task.active else "") or (life.node if life else ""),
        job=(task.job if task else None) or (life.job if life else None),
    )


def _state(ledger: Ledger, life: Life | None, task: TaskState | None) -> tuple[str, str]:
    """The state of a shard, and the reason if there is one."""
    if life is not None and life.running:
        return "running", ""
    if task is not None and task.active:
        before = life.ended if life is not None and life.job == task.job else None
        stopped = ending_words(before) if before and task.phase == "queued" else ""
        return task.phase, "; ".join(filter(None, (stopped, task_words(task))))
    if ledger.n_missing == 0:
        return "finished", ""
    if life is not None and life.running is None:
        return "running?", "vsp cannot tell from this machine whether it is alive"
    if life is not None:
        return "stopped", _why(life, task)
    if task is not None and task.phase == "failed":
        return "stopped", f"{task_words(task)}, before it wrote anything"
    return "not started", ""


def _why(life: Life, task: TaskState | None) -> str:
    """Why a task stopped, from its journal and from the batch system."""
    ended = life.ended if life.ended != FINISHED else None
    failed = task if task is not None and task.phase == "failed" else None
    if failed is None or _is_older(failed, life):
        return stopped_words(ended, None) if ended == life.ended else "rows were lost since"
    if failed.job == life.job:
        return stopped_words(ended, failed)
    later = f"{task_words(failed)} (job {failed.job}), before it wrote anything"
    return f"{stopped_words(ended, None)}; then {later}" if ended else later


def _is_older(task: TaskState, life: Life) -> bool:
    """Whether the task failed before this start of the shard, which belongs to another task."""
    return task.job != life.job and task.since is not None and task.since < life.started


def _notes(ledgers: Sequence[Ledger], states: States) -> list[str]:
    notes = [damage for ledger in ledgers for damage in ledger.damage]
    twice = sum(len(ledger.earlier) for ledger in ledgers)
    if twice:
        notes.append(f"{twice} rows were computed again and differ in the last bits")
    lives = [life for ledger in ledgers for life in ledger.lives]
    versions = Counter(f"{name} {one}" for life in lives for name, one in life.packages.items())
    if versions:
        listed = ", ".join(f"{version} in {n} tasks" for version, n in sorted(versions.items()))
        notes.append(f"package versions other than the plan's: {listed}")
    if states.problem:
        notes.append(shorten(states.problem, _PROBLEM_LENGTH))
    return notes
