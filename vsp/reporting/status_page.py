"""`vsp status`: the state of a run as a page for the terminal and as JSON."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.measure import Measurement
from rich.table import Table

from vsp.cluster.probe_choice import named_settings
from vsp.cluster.run_stages import StageStatus
from vsp.cluster.status import RunStatus, ShardStatus
from vsp.reporting.formatting import format_batch_effect
from vsp.utils.terminal import folded_text, text_line
from vsp.utils.text import format_age, format_clock, format_ranges

_MOST_SHARDS = 24  # in the table, unless all are asked for
_MOST_REASONS = 10
_MOST_JOBS = 2  # of a stage; the others are counted
_OPTIONAL = ("node", "written", "rows/s", "left")  # columns that a narrow terminal omits first
# Shards that need attention come first.
_ORDER = ("stopped", "ending", "running", "running?", "queued", "not started")


def status_json(
    status: RunStatus, stages: Sequence[StageStatus] = (), commands: Sequence[str] = ()
) -> dict[str, Any]:
    """The state of a run as `vsp status --json` prints it."""
    return {
        "run": status.run,
        "planned": status.n_planned,
        "done": status.count("n_done"),
        "failed": status.count("n_failed"),
        "missing": status.count("n_missing"),
        "rows_per_second": status.rows_per_second,
        "stages": [asdict(stage) for stage in stages],
        "shards": [asdict(shard) for shard in status.shards],
        "reasons": {str(row): why for row, why in status.failed.items()},
        "batching": None if status.batching is None else asdict(status.batching),
        "notes": list(status.notes),
        "next": list(commands),
    }


def status_page(
    status: RunStatus,
    all_shards: bool,
    commands: Sequence[str],
    stages: Sequence[StageStatus] = (),
    clock: str = "",
) -> RenderableType:
    """The page of `vsp status`, for 80 columns: the state of a run and the commands that take it on.

    `clock` is a line about when the page was made.
    """
    shown = list(status.shards) if all_shards else _select_shards(status)
    parts: list[RenderableType] = [text_line(clock)] if clock else []
    parts += [text_line(_headline(status)), _ShardTable(status, shown)]
    n_hidden = len(status.shards) - len(shown)
    if n_hidden:
        n_finished = len(status.shards_in("finished"))
        n_finished -= sum(shard.state == "finished" for shard in shown)
        text = f"not shown: {n_finished} finished shards"
        if n_hidden > n_finished:
            text += f" and {n_hidden - n_finished} others"
        parts.append(text_line(f"{text}; --all shows them"))
    if stages:
        parts += [text_line(), _stage_table(stages, status.now)]
    remarks = _remarks(status)
    if remarks:
        parts += [text_line(), *(folded_text(remark) for remark in remarks)]
    if commands:
        parts.append(text_line())
        words = ["next:", *["or:  "] * (len(commands) - 1)]
        for word, command in zip(words, commands, strict=True):
            parts.append(folded_text(f"{word} {command}", style="bold"))
    return Group(*parts)


def _stage_table(stages: Sequence[StageStatus], now: float) -> Table:
    """One row per stage; a long reason is wrapped."""
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for name in ("stage", "job", "state", "since"):
        table.add_column(name, no_wrap=True)
    table.add_column("", overflow="fold")
    for stage in stages:
        since = "" if stage.since is None else f"{format_age(now - stage.since)} ago"
        why = "; ".join(filter(None, (named_settings(stage.settings), stage.why)))
        cells = (stage.stage, _jobs(stage.jobs), stage.state, since, why)
        bad = stage.state in ("failed", "stopped", "cancelled")
        table.add_row(*map(text_line, cells), style="bold red" if bad else "")
    return table


def _jobs(jobs: Sequence[str]) -> str:
    more = f" +{len(jobs) - _MOST_JOBS}" if len(jobs) > _MOST_JOBS else ""
    return ",".join(jobs[:_MOST_JOBS]) + more


def _select_shards(status: RunStatus) -> list[ShardStatus]:
    """All shards if they are few, otherwise unfinished shards, stopped ones first."""
    if len(status.shards) <= _MOST_SHARDS:
        return list(status.shards)
    unfinished = [shard for shard in status.shards if shard.state != "finished"]
    unfinished.sort(key=lambda shard: (_ORDER.index(shard.state), shard.shard))
    return sorted(unfinished[:_MOST_SHARDS], key=lambda shard: shard.shard)


def _headline(status: RunStatus) -> str:
    text = f"run {status.run}: {status.count('n_done') / status.n_planned:.0%} done"
    rate, n_missing = status.rows_per_second, status.count("n_missing")
    if rate and n_missing:
        text += f", {rate:,.1f} rows/s together, about {format_clock(n_missing / rate)} left"
    return text


@dataclass(frozen=True, slots=True)
class _ShardTable:
    """One row per shard; a narrow terminal omits the columns in `_OPTIONAL`, in that order."""

    status: RunStatus
    shown: Sequence[ShardStatus]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        unlimited = options.update_width(1000)
        for n_hidden in range(len(_OPTIONAL) + 1):
            hidden = _OPTIONAL[:n_hidden]
            table = self._table(hidden)
            if Measurement.get(console, unlimited, table).maximum <= options.max_width:
                break
        yield table
        if hidden:
            yield folded_text(f"no room for {', '.join(hidden)}; `vsp status --json` shows all")

    def _table(self, hidden: Collection[str]) -> Table:
        columns: dict[str, Callable[[ShardStatus], str]] = {
            "shard": lambda shard: str(shard.shard),
            "rows": lambda shard: str(shard.stop - shard.start),
            "done": lambda shard: str(shard.n_done),
            "failed": lambda shard: str(shard.n_failed),
            "missing": lambda shard: str(shard.n_missing),
            "rows/s": lambda shard: (
                f"{shard.rows_per_second:,.1f}" if shard.rows_per_second else ""
            ),
            "left": lambda shard: (
                "" if shard.seconds_left is None else format_clock(shard.seconds_left)
            ),
            "written": lambda shard: (
                format_age(self.status.now - shard.last_write) if shard.last_write else ""
            ),
        }
        columns = {name: column for name, column in columns.items() if name not in hidden}
        table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
        for name in columns:
            table.add_column(name, justify="right", no_wrap=True)
        if "node" not in hidden:
            table.add_column("node", no_wrap=True, max_width=10, overflow="ellipsis")
            columns["node"] = lambda shard: shard.node
        table.add_column("state", no_wrap=True)
        columns["state"] = lambda shard: shard.state
        for shard in self.shown:
            cells = [text_line(column(shard)) for column in columns.values()]
            table.add_row(*cells, style="bold red" if shard.state == "stopped" else "")
        table.add_section()
        counts = (str(self.status.count(name)) for name in ("n_done", "n_failed", "n_missing"))
        table.add_row("all", str(self.status.n_planned), *counts, style="bold")
        return table


def _remarks(status: RunStatus) -> list[str]:
    """Why shards wait or stopped, why rows failed, the batch effect, and notes."""
    shards_by_reason: dict[str, list[int]] = {}
    for shard in status.shards:
        if shard.why:
            shards_by_reason.setdefault(f"{shard.state}: {shard.why}", []).append(shard.shard)
    remarks = [
        f"shard{'s' if len(shards) > 1 else ''} {format_ranges(shards)} {reason}"
        for reason, shards in shards_by_reason.items()
    ]
    remarks = _first_lines(remarks, "reasons")
    rows = [f"row {row} failed: {why}" for row, why in status.failed.items()]
    remarks += _first_lines(rows, "failed rows")
    if status.batching is not None:
        remarks.append(f"batch effect: {format_batch_effect(status.batching)}")
    return remarks + [f"note: {note}" for note in status.notes]


def _first_lines(lines: Sequence[str], noun: str) -> list[str]:
    n_hidden = len(lines) - _MOST_REASONS
    if n_hidden <= 0:
        return list(lines)
    return [
        *lines[:_MOST_REASONS],
        f"… and {n_hidden} more {noun}; `vsp status --json` shows all",
    ]
