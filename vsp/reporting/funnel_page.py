"""The tables of `vsp import`: rows read, rows dropped at each step, and rows kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from vsp.datasets.importers.funnel import INCOMPLETE, UNMAPPED, others
from vsp.datasets.metadata import SPLITS
from vsp.datasets.prompts import label_words
from vsp.utils.text import format_count

_WIDTH = 80
_NAME_WIDTH = 20  # of the first column

AddRow = Callable[..., None]


def funnel_page(funnel: Mapping[str, Any]) -> RenderableType:
    """The tables of `Funnel.as_json`, 80 columns wide. Labels without rows are left out."""
    parts: list[RenderableType] = []
    with_rows = {label for part in funnel["parts"].values() for label in _usable(part)}
    labels = [label for label in funnel["labels"] if label in with_rows]
    for name, part in funnel["parts"].items():
        size = f"{format_count(part['rows'], 'row')} in {format_count(part['images'], 'image')}"
        title = Text(f"{name or 'all'}: {size}", style="bold")
        parts += [title, _step_table(part, labels), Text()]
    parts += _split_tables(funnel, labels)
    if funnel["other_relations"]:
        parts.append(Text(others(funnel["other_relations"])))
    return Group(*parts)


def _step_table(part: Mapping[str, Any], labels: Sequence[str]) -> Table:
    """Rows read, rows dropped at each step, rows kept, and the flags of the rows kept."""
    usable = _usable(part)
    table, fits = _label_table(labels, part["rows"])
    add = _row_adder(table, labels if fits else ())
    add("rows in", part["rows"], {})
    for step in part["dropped"]:
        if _is_unusable(step) and (step["rows"] or step["why"] == UNMAPPED):
            add(f"− {_step_name(step['why'])}", -step["rows"], {})
    add("to be asked about", sum(usable.values()), usable, style="bold")
    for step in _filters(part):
        lost = {label: -n for label, n in step["labels"].items()}
        add(f"− {_step_name(step['why'])}", -step["rows"], lost)
    add("rows out", part["out"]["rows"], part["out"]["labels"], style="bold")
    for flag, counts in part["flags"].items():
        add(f"  {_step_name(flag)}", counts["rows"], counts["labels"], style="dim")
    return table


def _is_unusable(step: Mapping[str, Any]) -> bool:
    """Whether the rows dropped at this step could not be asked about."""
    return step["why"] in (UNMAPPED, INCOMPLETE)


def _filters(part: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The steps that drop rows which could be asked about."""
    return [step for step in part["dropped"] if not _is_unusable(step)]


def _usable(part: Mapping[str, Any]) -> Counter[str]:
    """Rows that could be asked about, by label."""
    return sum((Counter(step["labels"]) for step in (part["out"], *_filters(part))), Counter[str]())


def _split_tables(funnel: Mapping[str, Any], labels: Sequence[str]) -> list[RenderableType]:
    """Rows kept by label and split, unless the step tables show these counts already."""
    splits = {name: funnel["splits"][name] for name in SPLITS if name in funnel["splits"]}
    n_rows = max((part["rows"] for part in funnel["parts"].values()), default=0)
    fits = _label_table(labels, n_rows)[1]
    if fits and (list(splits) == [""] or splits.keys() <= funnel["parts"].keys()):
        return []
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column("rows out", overflow="fold")
    for split in splits:
        table.add_column(split or "all", justify="right")
    for label in labels:
        cells = [f"{counts.get(label, 0):,}" for counts in splits.values()]
        table.add_row(label_words(label), *cells)
    table.add_row("all", *(f"{sum(c.values()):,}" for c in splits.values()), style="bold")
    return [table, Text()]


def _label_table(labels: Sequence[str], n_rows: int) -> tuple[Table, bool]:
    """An empty table with a column for each label, and whether these columns fit."""
    cell = max(len(f"−{n_rows:,}"), 5)
    widths = [max(cell - 1, *map(len, label_words(label).split())) for label in labels]
    fits = _NAME_WIDTH + cell + sum(width + 1 for width in widths) <= _WIDTH
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("", min_width=_NAME_WIDTH, no_wrap=True)
    for label, width in zip(labels if fits else (), widths, strict=False):
        table.add_column(label_words(label), justify="right", vertical="bottom", min_width=width)
    table.add_column("all", justify="right", vertical="bottom", min_width=cell)
    return table, fits


def _row_adder(table: Table, labels: Sequence[str]) -> AddRow:
    """A function that adds a row: name, count per label, total."""

    def add(name: str, total: int, counts: Mapping[str, int], style: str = "") -> None:
        cells = [_format_change(counts.get(label, 0)) for label in labels]
        table.add_row(name, *cells, _format_change(total), style=style)

    return add


def _format_change(n: int) -> str:
    return f"{n:,}".replace("-", "−") if n else "·"


def _step_name(step: str) -> str:
    return step.replace("-", " ")
