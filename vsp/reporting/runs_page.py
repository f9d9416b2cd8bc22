"""`vsp runs`: all runs of a project folder as a table for the terminal and as JSON."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import PurePath
from typing import Any

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.measure import Measurement
from rich.table import Table

from vsp.choices import DEFAULT_PROBE, LAST
from vsp.cluster.run_jobs import Activity
from vsp.config import ModelConfig
from vsp.reporting.formatting import format_figure, format_interval
from vsp.storage.effects import Effects
from vsp.storage.plan import Plan
from vsp.storage.run_list import FoundPeak, ListedRun
from vsp.utils.terminal import folded_text, text_line
from vsp.utils.text import format_bytes

# Columns that a narrow terminal omits, in this order; those in which all runs are alike first.
_OPTIONAL = (
    "positions", "chance", "prompt", "size", "model", "probes", "dataset", "planned", "jobs",
)  # fmt: skip
_NAME_WIDTH = 24  # of a run's name at least; a longer one is folded


@dataclass(frozen=True, slots=True)
class RunRow:
    """A run, and what works on it."""

    listed: ListedRun
    activity: Activity


def runs_json(rows: Sequence[RunRow]) -> list[dict[str, Any]]:
    """The runs as `vsp runs --json` prints them."""
    return [_row_json(row) for row in rows]


def _row_json(row: RunRow) -> dict[str, Any]:
    listed, plan = row.listed, row.listed.plan
    return {
        "run": listed.name,
        "planned": plan and plan.created,
        "model": plan and plan.model.model_dump(mode="json"),
        "dataset": plan and plan.dataset,
        "prompt": plan and plan.prompt,
        "positions": plan and ([] if plan.effects else list(plan.stored_positions)),
        "effects": plan and plan.effects and _effects_json(plan.effects),
        "rows": plan and plan.n_samples,
        "done": listed.n_done if listed.run else None,
        "failed": listed.n_failed if listed.run else None,
        "probes": [_peak_json(peak) for peak in listed.peaks],
        "scratch_bytes": listed.scratch and listed.scratch.n_bytes,
        "results_bytes": listed.results and listed.results.n_bytes,
        "jobs": [
            {"job": task.job, "stage": task.stage, "shard": task.shard, "state": task.phase}
            for task in row.activity.tasks
        ],
        "running_here": list(row.activity.here),
        "problems": list(listed.problems),
    }


def _effects_json(effects: Effects) -> dict[str, Any]:
    return {"kind": effects.kind, "run": effects.run, "variant": effects.variant or None}


def _peak_json(peak: FoundPeak) -> dict[str, Any]:
    names = ("position", "probe", "statistic", "layer", "estimate", "low", "high", "chance")
    return {**{name: getattr(peak, name) for name in names}, "folder": str(peak.folder)}


def runs_page(rows: Sequence[RunRow], notes: Sequence[str]) -> RenderableType:
    """The page of `vsp runs`: a line for each run, then what cannot be read, and notes."""
    problems = [problem for row in rows for problem in row.listed.problems]
    parts: list[RenderableType] = [_RunTable(rows)] if rows else []
    return Group(*parts, *map(folded_text, [*problems, *(f"note: {note}" for note in notes)]))


def peaks_page(rows: Sequence[RunRow], probe: str = "") -> RenderableType:
    """The results of a sweep: a line for each run, with the settings in which they differ.

    `probe` is the probe or its setting, if the rows have only its peaks.
    """
    plans = [row.listed.plan for row in rows if row.listed.plan is not None]
    alike = [name for name, words in _OF_PLAN.items() if len({words(plan) for plan in plans}) < 2]
    problems = [problem for row in rows for problem in row.listed.problems]
    unprobed = [row.listed.name for row in rows if not row.listed.peaks]
    named = "" if probe in ("", DEFAULT_PROBE) else f" with {probe}"
    missing = [f"not probed yet{named}: {', '.join(unprobed)}"] if unprobed else []
    title = [text_line(f"probe {probe}")] if named else []
    table = _RunTable(rows, (*alike, "planned", "probes", "size", "jobs"))
    return Group(*title, table, *map(folded_text, [*problems, *missing]))


@dataclass(frozen=True, slots=True)
class _RunTable:
    """One line for each run; a narrow terminal omits the columns in `_OPTIONAL`, in that order."""

    rows: Sequence[RunRow]
    left_out: Collection[str] = ()  # columns that are not wanted

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        unlimited = options.update_width(10_000)
        columns = {
            name: column
            for name, column in run_columns(self.rows).items()
            if name not in self.left_out
        }
        longest = max(len(row.listed.name) for row in self.rows)
        optional = self._optional(columns)
        n_hidden, room = 0, 0
        for n_hidden in range(len(optional) + 1):
            others = self._table(columns, ("run", *optional[:n_hidden]), None)
            taken = Measurement.get(console, unlimited, others).maximum
            room = options.max_width - taken - 2
            if room >= min(longest, _NAME_WIDTH):
                break
        hidden = [one for one in optional[:n_hidden] if one in columns]
        yield self._table(columns, hidden, max(min(room, longest), 4))
        if hidden:
            yield folded_text(f"no room for {', '.join(hidden)}; `vsp runs --json` shows all")

    def _optional(self, columns: Mapping[str, Callable[[RunRow], str]]) -> list[str]:
        """The columns that may be omitted, those in which all runs are alike first."""

        def differs(name: str) -> bool:
            return name in columns and len(set(map(columns[name], self.rows))) > 1

        return sorted(_OPTIONAL, key=differs)

    def _table(
        self,
        columns: Mapping[str, Callable[[RunRow], str]],
        hidden: Collection[str],
        name_width: int | None,
    ) -> Table:
        table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
        shown = {name: column for name, column in columns.items() if name not in hidden}
        for name in shown:
            if name == "run":
                table.add_column(name, overflow="fold", width=name_width)
            else:
                is_number = name in ("done", "probes", "chance", "layer", "size")
                table.add_column(name, no_wrap=True, justify="right" if is_number else "left")
        for row in self.rows:
            style = "red" if row.listed.problems else ""
            table.add_row(*(text_line(column(row)) for column in shown.values()), style=style)
        return table


def run_columns(rows: Sequence[RunRow]) -> dict[str, Callable[[RunRow], str]]:
    """The columns that have a value for at least one run, by title."""
    statistics = [row.listed.peaks[0].statistic for row in rows if row.listed.peaks]
    several = len(set(statistics)) > 1
    columns: dict[str, Callable[[RunRow], str]] = {
        "run": lambda row: row.listed.name,
        "planned": lambda row: _day(row.listed),
        **{name: _of_plan(words) for name, words in _OF_PLAN.items()},
        "done": lambda row: done_words(row.listed),
        "probes": lambda row: str(len(row.listed.peaks) or ""),
        f"peak {statistics[0]}" if statistics and not several else "peak": lambda row: peak_words(
            row.listed.peaks, several
        ),
        "chance": lambda row: _chance(row.listed.peaks),
        "layer": lambda row: _layer(row.listed.peaks),
        "size": lambda row: format_bytes(row.listed.n_bytes),
        "jobs": lambda row: row.activity.short_words(),
    }
    return {name: column for name, column in columns.items() if any(map(column, rows))}


def _day(listed: ListedRun) -> str:
    """The local day of the plan."""
    if listed.plan is None:
        return ""
    return datetime.fromisoformat(listed.plan.created).astimezone().strftime("%Y-%m-%d")


def model_words(model: ModelConfig) -> str:
    """A model in a few words: the name of its checkpoint, and what changes its numbers."""
    name = PurePath(model.checkpoint).name if model.checkpoint else model.family
    parts = [name or model.family]
    parts += [PurePath(model.adapter).name] if model.adapter else []
    parts += [model.quantized_as] if model.quantized_as != "none" else []
    parts += ["untrained"] if model.weights == "random" else []
    return " ".join(parts)


def done_words(listed: ListedRun) -> str:
    """The share of rows with states, and the failed ones: "100%", "98%, 3 failed"."""
    if listed.run is None:
        return "unreadable" if listed.scratch is not None else "no states"
    share = listed.n_done / listed.run.plan.n_samples
    words = f"{int(100 * share)}%"  # 100% only if all are done
    return f"{words}, {listed.n_failed:,} failed" if listed.n_failed else words


def peak_words(peaks: Sequence[FoundPeak], with_statistic: bool = True) -> str:
    """The first peak with its interval: "accuracy 0.625 [0.560, 0.690]"."""
    if not peaks:
        return ""
    peak = peaks[0]
    figures = {"low": peak.low, "high": peak.high}
    words = f"{format_figure(peak.estimate)} {format_interval(figures)}"
    words = f"{peak.statistic} {words}" if with_statistic else words
    return words if peak.position == LAST else f"{words} at {peak.position}"


def _layer(peaks: Sequence[FoundPeak]) -> str:
    return "" if not peaks or peaks[0].layer is None else str(peaks[0].layer)


def _chance(peaks: Sequence[FoundPeak]) -> str:
    return "" if not peaks else format_figure(peaks[0].chance)


def _positions(plan: Plan) -> str:
    """The positions besides the last token; the run that a run of effects belongs to."""
    if plan.effects is not None:
        return f"{plan.effects.kind} of {plan.effects.run}"
    return ",".join(one for one in plan.stored_positions if one != LAST)


_OF_PLAN: Mapping[str, Callable[[Plan], str]] = {
    "model": lambda plan: model_words(plan.model),
    "dataset": lambda plan: PurePath(plan.dataset).name,
    "prompt": lambda plan: plan.prompt,
    "positions": _positions,
}


def _of_plan(words: Callable[[Plan], str]) -> Callable[[RunRow], str]:
    return lambda row: "" if row.listed.plan is None else words(row.listed.plan)
