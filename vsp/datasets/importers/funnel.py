"""Where the rows of a dataset went: into an import, out at each filter, out at its end."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from vsp.datasets.metadata import SPLITS
from vsp.datasets.prompts import label_words
from vsp.errors import DatasetError
from vsp.utils.text import format_count

FUNNEL = "funnel.json"  # in the dataset's folder
UNMAPPED, INCOMPLETE, BALANCE = "other-relation", "incomplete", "balance"

_WIDTH = 80
_SHOWN = 10  # relations that are in no table, in print; the file has all of them
_KINDS = 100_000  # of relations that are told apart, at most
_REST = "(others)"


class Funnel:
    """Counts of rows, of each part of the source by itself. What goes in comes out or is dropped."""

    def __init__(self, labels: Sequence[str], steps: Sequence[str]) -> None:
        """`steps` are those at which rows may be dropped, in their order."""
        self._labels = dict.fromkeys(labels)
        self._steps = tuple(steps)
        self._images: Counter[str] = Counter()
        self._in: Counter[str] = Counter()
        self._dropped: Counter[tuple[str, str, str]] = Counter()  # part, step, label
        self._out: Counter[tuple[str, str, str]] = Counter()  # part, split, label
        self._flags: Counter[tuple[str, str, str]] = Counter()  # part, flag, label
        self._unmapped: Counter[str] = Counter()

    def image(self, part: str, n_rows: int) -> None:
        self._images[part] += 1
        self._in[part] += n_rows

    def drop(self, part: str, step: str, label: str = "") -> None:
        if label:
            self._labels.setdefault(label)
        self._dropped[part, step, label] += 1

    def unmapped(self, part: str, said: str) -> None:
        self.drop(part, UNMAPPED)
        known = said in self._unmapped or len(self._unmapped) < _KINDS
        self._unmapped[said if known else _REST] += 1

    def keep(self, part: str, split: str, label: str, flags: Iterable[str]) -> None:
        self._labels.setdefault(label)
        self._out[part, split, label] += 1
        for flag in flags:
            self._flags[part, flag, label] += 1

    def as_json(self) -> dict[str, Any]:
        """Raises AssertionError if a row went in and neither came out nor was dropped."""
        parts = {part: self._part(part) for part in self._images}
        splits: dict[str, dict[str, int]] = defaultdict(dict)
        for (_, split, label), n in self._out.items():
            splits[split][label] = splits[split].get(label, 0) + n
        return {
            "labels": [label for label in self._labels if label],
            "parts": parts,
            "splits": {split: self._ordered(counts) for split, counts in splits.items()},
            "other_relations": dict(self._unmapped.most_common()),
        }

    def _part(self, part: str) -> dict[str, Any]:
        dropped = [
            {"why": step, **self._counts(self._dropped, part, step)}
            for step in dict.fromkeys((*self._steps, *self._steps_of(part)))
        ]
        out = self._of(self._out, part)
        n_out = sum(out.values())
        n_dropped = sum(one["rows"] for one in dropped)
        assert self._in[part] == n_dropped + n_out, (part, self._in[part], n_dropped, n_out)
        return {
            "images": self._images[part],
            "rows": self._in[part],
            "dropped": dropped,
            "out": {"rows": n_out, "labels": self._ordered(out)},
            "flags": {
                flag: self._counts(self._flags, part, flag)
                for flag in dict.fromkeys(flag for of, flag, _ in sorted(self._flags) if of == part)
            },
        }

    def _steps_of(self, part: str) -> list[str]:
        return [step for of, step, _ in self._dropped if of == part]

    def _counts(
        self, counter: Counter[tuple[str, str, str]], part: str, key: str
    ) -> dict[str, Any]:
        of_label = {label: counter[part, key, label] for label in ("", *self._labels)}
        return {"rows": sum(of_label.values()), "labels": self._ordered(of_label)}

    def _of(self, counter: Counter[tuple[str, str, str]], part: str) -> Counter[str]:
        found: Counter[str] = Counter()
        for (of, _, label), n in counter.items():
            if of == part:
                found[label] += n
        return found

    def _ordered(self, counts: Mapping[str, int]) -> dict[str, int]:
        return {label: counts[label] for label in self._labels if counts.get(label)}


def read_funnel(folder: Path) -> dict[str, Any]:
    """Raises DatasetError if it is not there or not as it was written."""
    try:
        value: dict[str, Any] = json.loads((folder / FUNNEL).read_bytes())
        return {key: value[key] for key in ("labels", "parts", "splits", "other_relations")}
    except (OSError, ValueError, RecursionError, TypeError, KeyError):
        raise DatasetError(
            f"{folder / FUNNEL}: is lost or damaged; remove {folder} and import it again"
        ) from None


def page(funnel: Mapping[str, Any]) -> RenderableType:
    """The tables of `Funnel.as_json`, 80 columns wide; of labels those that any row has."""
    parts: list[RenderableType] = []
    there = {label for part in funnel["parts"].values() for label in _asked(part)}
    funnel = {**funnel, "labels": [label for label in funnel["labels"] if label in there]}
    for name, part in funnel["parts"].items():
        title = f"{name or 'all'}: {_rows_in(part)}"
        parts += [Text(title, style="bold"), _steps(part, funnel["labels"]), Text()]
    parts += _splits(funnel)
    if funnel["other_relations"]:
        parts.append(Text(others(funnel["other_relations"])))
    return Group(*parts)


def _rows_in(part: Mapping[str, Any]) -> str:
    return f"{format_count(part['rows'], 'row')} in {format_count(part['images'], 'image')}"


def _steps(part: Mapping[str, Any], labels: Sequence[str]) -> Table:
    """What goes in, what is dropped at each step, what is left, and its flags."""
    unasked = [one for one in part["dropped"] if one["why"] in (UNMAPPED, INCOMPLETE)]
    filters = _filters(part)
    asked = _asked(part)
    table, fit = _table(labels, part["rows"])
    row = _rows(table, labels if fit else ())
    row("rows in", part["rows"], {})
    for one in unasked:
        if one["rows"] or one["why"] == UNMAPPED:
            row(f"− {_spoken(one['why'])}", -one["rows"], {})
    row("to be asked about", sum(asked.values()), asked, style="bold")
    for one in filters:
        row(f"− {_spoken(one['why'])}", -one["rows"], {k: -n for k, n in one["labels"].items()})
    row("rows out", part["out"]["rows"], part["out"]["labels"], style="bold")
    for flag, counts in part["flags"].items():
        row(f"  {_spoken(flag)}", counts["rows"], counts["labels"], style="dim")
    return table


def _filters(part: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """What was dropped of rows that could be asked about."""
    return [one for one in part["dropped"] if one["why"] not in (UNMAPPED, INCOMPLETE)]


def _asked(part: Mapping[str, Any]) -> Counter[str]:
    """Rows that could be asked about, by label."""
    return sum((Counter(one["labels"]) for one in (part["out"], *_filters(part))), Counter[str]())


def _splits(funnel: Mapping[str, Any]) -> list[RenderableType]:
    """Rows out, where splits are not the parts of the source, or classes had no room above."""
    labels, found = funnel["labels"], funnel["splits"]
    splits = {name: found[name] for name in SPLITS if name in found}
    n_rows = max((part["rows"] for part in funnel["parts"].values()), default=0)
    fit = _table(labels, n_rows)[1]
    if fit and (list(splits) == [""] or splits.keys() <= funnel["parts"].keys()):
        return []
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column("rows out", overflow="fold")
    for split in splits:
        table.add_column(split or "all", justify="right")
    for label in labels:
        table.add_row(
            label_words(label), *(f"{counts.get(label, 0):,}" for counts in splits.values())
        )
    table.add_row("all", *(f"{sum(c.values()):,}" for c in splits.values()), style="bold")
    return [table, Text()]


def _table(labels: Sequence[str], n_rows: int) -> tuple[Table, bool]:
    """A table with a column for each label, if they fit beside each other."""
    cell = max(len(f"−{n_rows:,}"), 5)
    first = 20
    widths = [max(cell - 1, *map(len, label_words(label).split())) for label in labels]
    fit = first + cell + sum(width + 1 for width in widths) <= _WIDTH
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("", min_width=first, no_wrap=True)
    for label, width in zip(labels if fit else (), widths, strict=False):
        table.add_column(label_words(label), justify="right", vertical="bottom", min_width=width)
    table.add_column("all", justify="right", vertical="bottom", min_width=cell)
    return table, fit


def _rows(table: Table, labels: Sequence[str]) -> Any:
    def row(name: str, total: int, counts: Mapping[str, int], style: str = "") -> None:
        cells = [_figure(counts.get(label, 0)) for label in labels]
        table.add_row(name, *cells, _figure(total), style=style)

    return row


def _figure(n: int) -> str:
    return f"{n:,}".replace("-", "−") if n else "·"


def _spoken(step: str) -> str:
    return step.replace("-", " ")


def others(counts: Mapping[str, int]) -> str:
    """The commonest relations that are in no table."""
    first = [f"{said or '(none)'} {n:,}" for said, n in list(counts.items())[:_SHOWN]]
    more = len(counts) - len(first)
    rest = f", and {more:,} more in funnel.json" if more > 0 else ""
    return f"other relations: {', '.join(first)}{rest}"
