"""The tables of `vsp import`: rows read, rows dropped at each step, and rows kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.table import Table

from vsp.datasets.importers.funnel import (
    INCOMPLETE,
    UNMAPPED,
    UNUSABLE,
    format_other_relations,
)
from vsp.datasets.metadata import SPLITS
from vsp.datasets.prompts import label_words
from vsp.utils.terminal import text_line
from vsp.utils.text import format_count

_NAME_WIDTH = 20  # of the first column

AddRow = Callable[..., None]


def funnel_page(funnel: Mapping[str, Any]) -> RenderableType:
    """The page of `vsp import`, for 80 columns: the tables of `Funnel.as_json`."""
    return _FunnelPage(funnel)


@dataclass(frozen=True, slots=True)
class _FunnelPage:
    """Tables with a column for each label if the terminal is wide enough."""

    funnel: Mapping[str, Any]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        funnel, width = self.funnel, options.max_width
        with_rows = {label for part in funnel["parts"].values() for label in _usable(part)}
        labels = [label for label in funnel["labels"] if label in with_rows]
        for name, part in funnel["parts"].items():
            size = f"{format_count(part['rows'], 'row')} in {format_count(part['images'], 'image')}"
            yield text_line(f"{name or 'all'}: {size}", style="bold")
            yield _step_table(part, labels, width)
            yield text_line()
        yield from _split_tables(funnel, labels, width)
        if funnel["other_relations"]:
            yield text_line(format_other_relations(funnel["other_relations"]))


def _step_table(part: Mapping[str, Any], labels: Sequence[str], width: int) -> Table:
    """Rows read, rows dropped at each step, rows kept, and the flags of the rows kept."""
    usable = _usable(part)
    table, fits = _label_table(labels, part["rows"], width)
    add = _row_adder(table, labels if fits else ())
    add("rows in", part["rows"], {})
    for step in part["dropped"]:
        if _is_unusable(step) and (step["rows"] or step["why"] == UNMAPPED):
            add(f"− {_step_name(step['why'])}", -step["rows"], {})
    add("usable rows", sum(usable.values()), usable, style="bold")
    for step in _filters(part):
        lost = {label: -n for label, n in step["labels"].items()}
        add(f"− {_step_name(step['why'])}", -step["rows"], lost)
    add("rows out", part["out"]["rows"], part["out"]["labels"], style="bold")
    for flag, counts in part["flags"].items():
        add(f"  {_step_name(flag)}", counts["rows"], counts["labels"], style="dim")
    return table


def _is_unusable(step: Mapping[str, Any]) -> bool:
    """Whether the rows dropped at this step cannot become samples."""
    return step["why"] in (UNMAPPED, INCOMPLETE, *UNUSABLE)


def _filters(part: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The steps that drop usable rows."""
    return [step for step in part["dropped"] if not _is_unusable(step)]


def _usable(part: Mapping[str, Any]) -> Counter[str]:
    """Rows with a label, two names or a prompt, counted by label."""
    return sum((Counter(step["labels"]) for step in (part["out"], *_filters(part))), Counter[str]())


def _split_tables(
    funnel: Mapping[str, Any], labels: Sequence[str], width: int
) -> list[RenderableType]:
    """Rows kept by label and split, unless the step tables show these counts already."""
    splits = {name: funnel["splits"][name] for name in SPLITS if name in funnel["splits"]}
    n_rows = max((part["rows"] for part in funnel["parts"].values()), default=0)
    fits = _label_table(labels, n_rows, width)[1]
    if fits and (list(splits) == [""] or splits.keys() <= funnel["parts"].keys()):
        return []
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column("rows out", overflow="fold")
    for split in splits:
        table.add_column(split or "all", justify="right", no_wrap=True)
    for label in labels:
        cells = [f"{counts.get(label, 0):,}" for counts in splits.values()]
        table.add_row(text_line(label_words(label)), *cells)
    table.add_row("all", *(f"{sum(c.values()):,}" for c in splits.values()), style="bold")
    return [table, text_line()]


def _label_table(labels: Sequence[str], n_rows: int, width: int) -> tuple[Table, bool]:
    """An empty table with a column for each label if these fit into `width`, and whether they do."""
    cell = max(len(f"−{n_rows:,}"), 5)
    names = [text_line(label_words(label)) for label in labels]
    widths = [max(cell - 1, *map(len, name.plain.split())) for name in names]
    fits = _NAME_WIDTH + cell + sum(one + 1 for one in widths) <= width
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("", min_width=_NAME_WIDTH, no_wrap=True)
    for name, least in zip(names if fits else (), widths, strict=False):
        table.add_column(name, justify="right", vertical="bottom", min_width=least)
    table.add_column("all", justify="right", vertical="bottom", min_width=cell)
    return table, fits


def _row_adder(table: Table, labels: Sequence[str]) -> AddRow:
    """A function that adds a row: name, count per label, total."""

    def add(name: str, total: int, counts: Mapping[str, int], style: str = "") -> None:
        cells = [_format_change(counts.get(label, 0)) for label in labels]
        table.add_row(text_line(name), *cells, _format_change(total), style=style)

    return add


def _format_change(n: int) -> str:
    return f"{n:,}".replace("-", "−") if n else "·"


def _step_name(step: str) -> str:
    return step.replace("-", " ")
