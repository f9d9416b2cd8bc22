"""`vsp status`: what became of each shard, from the journals and from the batch system.

The journals alone tell which rows are done; a batch system, where one answers, adds what a task
that was killed could not say any more.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from shlex import quote
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from vsp.cluster.contract import States, TaskState
from vsp.storage.journal import FINISHED, Ledger, Life, Worst, worst
from vsp.storage.run import Run, Shard
from vsp.utils.text import format_age, format_clock, format_ranges

_SHOWN = 24  # shards in a table that does not show all
_REASONS = 10  # failed rows that are listed
_WORDS = 150  # characters of what a batch system answers
_AT_WORK = {"RUNNING": "running", "COMPLETING": "ending"}
_ENDED_WELL = ("COMPLETED",)


@dataclass(frozen=True, slots=True)
class ShardStatus:
    """One shard: its rows, its task, and how to go on."""

    shard: int
    start: int
    stop: int
    n_done: int
    n_failed: int
    n_missing: int
    state: str  # finished, running, running?, ending, queued, stopped, not started
    why: str = ""  # it waits, or stopped
    rows_per_second: float | None = None  # of the last life that had rows to settle
    seconds_left: float | None = None  # where it is running
    last_write: float | None = None  # seconds since 1970
    node: str = ""
    job: str | None = None


@dataclass(frozen=True, slots=True)
class Status:
    """A run at one moment."""

    run: str
    n_planned: int
    shards: tuple[ShardStatus, ...]
    failed: Mapping[int, str]  # row → reason
    batching: Worst | None
    notes: tuple[str, ...]
    now: float

    def count(self, field: str) -> int:
        return sum(getattr(shard, field) for shard in self.shards)

    @property
    def rows_per_second(self) -> float | None:
        """Of all tasks at work together."""
        rates = [s.rows_per_second or 0.0 for s in self.shards if s.seconds_left is not None]
        return sum(rates) or None

    def open(self, *states: str) -> list[int]:
        """Numbers of the shards in one of these states."""
        return [shard.shard for shard in self.shards if shard.state in states]


def status(run: Run, ledgers: Sequence[Ledger], states: States) -> Status:
    """Join what the journals and the batch system say."""
    tasks = states.latest("extract")
    shards = tuple(
        _shard(shard, ledger, tasks.get(shard.index))
        for shard, ledger in zip(run.shards, ledgers, strict=True)
    )
    return Status(
        run=run.name,
        n_planned=run.plan.n_samples,
        shards=shards,
        failed={row: why for ledger in ledgers for row, why in sorted(ledger.failed.items())},
        batching=worst(ledgers),
        notes=tuple(_notes(ledgers, states)),
        now=time.time(),
    )


def last_life(ledger: Ledger) -> Life | None:
    """The last life of a shard's task that had rows to settle."""
    return next((life for life in reversed(ledger.lives) if life.planned), None)


def _shard(shard: Shard, ledger: Ledger, task: TaskState | None) -> ShardStatus:
    life = last_life(ledger)
    state, why = _state(ledger, life, task)
    rate = life.rows_per_second if life else None
    at_work = state in ("running", "running?")
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
        seconds_left=ledger.n_missing / rate if at_work and rate else None,
        last_write=life.last if life else None,
        node=(task.node if task and task.active else "") or (life.node if life else ""),
        job=(task.job if task else None) or (life.job if life else None),
    )


def _state(ledger: Ledger, life: Life | None, task: TaskState | None) -> tuple[str, str]:
    """Where a shard stands, and why if there is something to say."""
    if life is not None and life.running:
        return "running", ""
    if task is not None and task.active:
        state = _AT_WORK.get(task.state, "queued")
        return state, "" if state == "running" else _of_task(task)
    if ledger.n_missing == 0:
        return "finished", ""
    if life is not None and life.running is None:
        return "running?", "its host does not show whether it is alive"
    if life is not None:
        return "stopped", _why(life, task)
    if task is not None and task.state not in _ENDED_WELL:
        return "stopped", f"{_of_task(task)} before it wrote anything"
    return "not started", ""


def _why(life: Life, task: TaskState | None) -> str:
    """Why a task stopped: its own word, and the batch system's."""
    word = life.ended if life.ended != FINISHED else None
    if task is not None and task.state not in _ENDED_WELL:
        same = task.job == life.job
        theirs = _of_task(task) + ("" if same else f" (job {task.job}) before it wrote anything")
        return f"{word}; {theirs}" if word else theirs
    if word is not None:
        return word
    return "rows were lost since" if life.ended else "killed, before it could say why"


def _of_task(task: TaskState) -> str:
    parts = [task.state]
    if task.reason and task.reason != "None":
        parts.append(f"({task.reason})")
    if task.exit_code not in (None, "0:0"):
        parts.append(f"exit code {task.exit_code}")
    if task.restarts:
        parts.append(f"restarted {task.restarts}×")
    return " ".join(parts)


def _notes(ledgers: Sequence[Ledger], states: States) -> list[str]:
    notes = [damage for ledger in ledgers for damage in ledger.damage]
    twice = sum(len(ledger.earlier) for ledger in ledgers)
    if twice:
        notes.append(f"{twice} rows were computed again with other last bits")
    lives = [life for ledger in ledgers for life in ledger.lives]
    others = Counter(f"{name} {one}" for life in lives for name, one in life.packages.items())
    if others:
        listed = ", ".join(f"{what} in {n} tasks" for what, n in sorted(others.items()))
        notes.append(f"other versions than the plan's: {listed}")
    if states.problem:
        notes.append(_shortened(states.problem))
    return notes


def _shortened(text: str) -> str:
    return text if len(text) <= _WORDS else text[:_WORDS].rstrip() + " …"


def commands(run: Run, found: Status, slurm: bool, given: str | None = None) -> list[str]:
    """What takes up again whatever is unfinished; `given` is the name or path it was found by."""
    name = quote(given or run.name)
    lines = []
    stopped = found.open("stopped", "not started")
    if stopped:
        shards = f"shards {format_ranges(stopped)}" if len(stopped) > 1 else f"shard {stopped[0]}"
        how = f"vsp resume --run {name}" if slurm else f"vsp extract --run {name}"
        lines.append(f"{how}    takes up {shards}")
    if found.count("n_failed"):
        how = "resume" if slurm else "extract"
        lines.append(f"vsp {how} --run {name} --retry-failed    takes the failed rows again")
    return lines


def as_json(found: Status) -> dict[str, Any]:
    """All of it, for machines."""
    return {
        "run": found.run,
        "planned": found.n_planned,
        "done": found.count("n_done"),
        "failed": found.count("n_failed"),
        "missing": found.count("n_missing"),
        "rows_per_second": found.rows_per_second,
        "shards": [asdict(shard) for shard in found.shards],
        "reasons": {str(row): why for row, why in found.failed.items()},
        "batching": None if found.batching is None else asdict(found.batching),
        "notes": list(found.notes),
    }


def page(found: Status, everything: bool, how: Sequence[str]) -> RenderableType:
    """The status for people, 80 columns wide."""
    shown = _to_show(found, everything)
    parts: list[RenderableType] = [Text(_headline(found)), _table(found, shown)]
    left_out = len(found.shards) - len(shown)
    if left_out:
        finished = len(found.open("finished")) - sum(s.state == "finished" for s in shown)
        text = f"not shown: {finished} finished shards"
        if left_out > finished:
            text += f" and {left_out - finished} others"
        parts.append(Text(f"{text}; --all shows them"))
    parts += [Text(text, overflow="fold") for text in _remarks(found)]
    if how:
        parts += [Text(), *(Text(text, style="bold", overflow="fold") for text in how)]
    return Group(*parts)


def _to_show(found: Status, everything: bool) -> list[ShardStatus]:
    """All shards where they are few; else those that are not finished, the stopped ones first."""
    if everything or len(found.shards) <= _SHOWN:
        return list(found.shards)
    order = ("stopped", "ending", "running", "running?", "queued", "not started")
    rest = [shard for shard in found.shards if shard.state != "finished"]
    first = sorted(rest, key=lambda shard: (order.index(shard.state), shard.shard))[:_SHOWN]
    return sorted(first, key=lambda shard: shard.shard)


def _headline(found: Status) -> str:
    text = f"run {found.run}: {found.count('n_done') / found.n_planned:.0%} done"
    rate, missing = found.rows_per_second, found.count("n_missing")
    if rate and missing:
        text += f", {rate:,.1f} rows/s together, about {format_clock(missing / rate)} left"
    return text


def _table(found: Status, shown: Sequence[ShardStatus]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for name in ("shard", "rows", "done", "failed", "missing", "rows/s", "left", "written"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("node", no_wrap=True, max_width=10, overflow="ellipsis")
    table.add_column("state", no_wrap=True)
    for shard in shown:
        table.add_row(
            str(shard.shard),
            str(shard.stop - shard.start),
            *(str(n) for n in (shard.n_done, shard.n_failed, shard.n_missing)),
            f"{shard.rows_per_second:,.1f}" if shard.rows_per_second else "",
            format_clock(shard.seconds_left) if shard.seconds_left is not None else "",
            format_age(found.now - shard.last_write) if shard.last_write else "",
            shard.node,
            shard.state,
            style="bold red" if shard.state == "stopped" else "",
        )
    table.add_section()
    counts = (str(found.count(name)) for name in ("n_done", "n_failed", "n_missing"))
    table.add_row("all", str(found.n_planned), *counts, style="bold")
    return table


def _remarks(found: Status) -> list[str]:
    """Why shards wait or stopped, why rows failed, and what else there is to say."""
    whys: dict[str, list[int]] = {}
    for shard in found.shards:
        if shard.why:
            whys.setdefault(f"{shard.state}: {shard.why}", []).append(shard.shard)
    remarks = [
        f"shard{'s' if len(shards) > 1 else ''} {format_ranges(shards)} {why}"
        for why, shards in whys.items()
    ]
    remarks = _some(remarks, "such shards")
    remarks += _some([f"row {row} failed: {why}" for row, why in found.failed.items()], "more")
    if found.batching is not None:
        remarks.append(f"batching: {far(found.batching)}")
    return remarks + [f"note: {note}" for note in found.notes]


def _some(lines: Sequence[str], what: str) -> list[str]:
    left_out = len(lines) - _REASONS
    if left_out <= 0:
        return list(lines)
    return [*lines[:_REASONS], f"… and {left_out} {what}; `vsp status --json` has all"]


def far(batching: Worst) -> str:
    """How much a row's states depend on its batch."""
    layer = max(range(len(batching.relative)), key=batching.relative.__getitem__)
    return (
        f"{batching.n_rows} rows alone differ by up to {max(batching.absolute):.1e}, "
        f"{batching.relative[layer]:.1e} of layer {layer}'s largest"
    )
