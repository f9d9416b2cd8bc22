"""The page, the table and the JSON of `vsp evaluate`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.table import Table

from vsp.choices import LAST
from vsp.reporting.columns import Column, FittingTable, figure_cells
from vsp.reporting.escaping import csv_text_line
from vsp.reporting.formatting import format_figure
from vsp.reporting.names import display_names
from vsp.utils.terminal import fact_table, folded_text, text_line, text_lines
from vsp.utils.text import format_count, format_ranges

if TYPE_CHECKING:
    from vsp.evaluation.judged_rows import LayerFigures
    from vsp.evaluation.transfer import Transfer

_LISTED = 10  # labels that a line names
_FIRST_COLUMN, _CELL = 20, 17  # characters of a matrix's columns
_COLUMNS = (
    "trained", "position", "target", "target_position", "layer", "selected", "statistic", "score",
    "low", "high", "chance", "accuracy", "own", "difference", "difference_low", "difference_high",
    "paired", "n_rows", "n_groups",
)  # fmt: skip


def with_names(transfers: Sequence[Transfer]) -> list[Transfer]:
    """The same with names instead of the paths that a user typed, for figures and tables."""
    trained = display_names([one.trained for one in transfers])
    targets = display_names([one.target for one in transfers])
    return [
        replace(one, trained=trained[one.trained], target=targets[one.target]) for one in transfers
    ]


def transfer_page(transfers: Sequence[Transfer], layer: int | None = None) -> RenderableType:
    """The matrix of several runs or targets, what each pair is, and the layers of a single pair.

    `layer`: the one in the matrix; None: the one that each run selects. All layers of several pairs
    are in `transfer_csv` and `transfer_json`.
    """
    parts: list[RenderableType] = []
    if len(transfers) > 1:
        parts += [_transfer_matrix(transfers, layer), text_line()]
        parts += [folded_text(_matrix_note(transfers, layer)), text_line()]
        parts += [_pair_table(transfers, layer), text_line()]
        parts += [folded_text(note) for note in _pair_notes(transfers)]
    else:
        parts += [fact_table(_facts(transfers[0])), text_line()]
        parts += [_layer_table(transfers[0]), text_line()]
    interval = (
        f"{transfers[0].confidence:.0%} intervals are about other rows of the target, for these fitted "
        "probes: bootstrap resamples of groups."
    )
    own = " own: the score on the run's own test rows; diff.: the score minus it."
    more = " --csv FILE and --json give all layers." if len(transfers) > 1 else ""
    parts.append(folded_text(interval + own + more))
    return Group(*parts)


def _transfer_matrix(transfers: Sequence[Transfer], layer: int | None) -> RenderableType:
    """Trained runs by targets; each cell has a score and below it the interval.

    Where the terminal is too narrow for all targets, they are in several tables below each other.
    """
    targets = list(dict.fromkeys(map(target_name, transfers)))
    return _Matrix(transfers, targets, layer)


@dataclass(frozen=True, slots=True)
class _Matrix:
    """A table of scores, of as many targets side by side as there is room for."""

    transfers: Sequence[Transfer]
    targets: Sequence[str]
    layer: int | None

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        n = max(1, (options.max_width - _FIRST_COLUMN) // _CELL)
        for start in range(0, len(self.targets), n):
            yield self._table(self.targets[start : start + n])

    def _table(self, targets: Sequence[str]) -> Table:
        table = Table(box=None, pad_edge=False, header_style="bold")
        table.add_column("trained on ↓, on →", overflow="fold", max_width=_FIRST_COLUMN)
        for target in targets:
            heading = folded_text(target)
            table.add_column(heading, justify="right", overflow="fold", min_width=_CELL - 1)
        for trained in dict.fromkeys(map(trained_name, self.transfers)):
            row = [folded_text(trained)]
            for target in targets:
                row.append(text_lines(self._cell(trained, target)))
            table.add_row(*row)
        return table

    def _cell(self, trained: str, target: str) -> Sequence[str]:
        for one in self.transfers:
            figures = shown_layer(one, self.layer)
            if (trained_name(one), target_name(one)) == (trained, target) and figures is not None:
                return f"{figures.score:.3f}", f"[{figures.low:.3f}, {figures.high:.3f}]"
        return ("–",)


def target_name(one: Transfer) -> str:
    return _with_position(one.target, one.target_position)


def trained_name(one: Transfer) -> str:
    return _with_position(one.trained, one.position)


def shown_layer(one: Transfer, layer: int | None) -> LayerFigures | None:
    """The figures of a layer, by default of the selected one; None if it was not judged."""
    wanted = one.selected if layer is None else layer
    return next((figures for figures in one.layers if figures.layer == wanted), None)


def transfer_json(transfers: Sequence[Transfer]) -> list[dict[str, Any]]:
    """All figures of all pairs."""
    return [asdict(one) for one in transfers]


def transfer_csv(transfers: Sequence[Transfer]) -> Iterator[bytes]:
    """A line for each layer of each pair, and the recall of each class."""
    classes = list(
        dict.fromkeys(name for one in transfers for fig in one.layers for name in fig.recall or {})
    )
    yield csv_text_line(*_COLUMNS, *(f"recall of {name}" for name in classes))
    for one in transfers:
        for figures in one.layers:
            values: dict[str, Any] = {**asdict(one), **asdict(figures)}
            values["selected"] = int(one.selected == figures.layer)
            values["paired"] = int(one.paired)
            recall: Mapping[str, Any] = figures.recall or {}
            of_classes = [(recall.get(name) or {}).get("score") for name in classes]
            cells = [*(values[name] for name in _COLUMNS), *of_classes]
            yield csv_text_line(*cells)


def _with_position(name: str, position: str) -> str:
    return name if position == LAST else f"{name} at {position}"


def _matrix_note(transfers: Sequence[Transfer], layer: int | None) -> str:
    which = (
        "the layer that the training rows of each run select" if layer is None else f"layer {layer}"
    )
    by_target = {target_name(one): one.chance for one in transfers}
    chances = ", ".join(f"{name} {chance:.3f}" for name, chance in by_target.items())
    statistics = ", ".join(dict.fromkeys(one.statistic for one in transfers))
    return f"{statistics} at {which}. Chance: {chances}."


def _pair_table(transfers: Sequence[Transfer], layer: int | None) -> FittingTable:
    """For each cell of the matrix: its layer, its rows, and the difference to the own score."""
    cells = [_pair_cells(one, layer) for one in transfers]
    names = (
        ("trained on", [trained_name(one) for one in transfers]),
        ("on", [target_name(one) for one in transfers]),
    )
    interval = f"{transfers[0].confidence:.0%}"
    heads = {"layer": 2, "rows": 3, "left out": 4, "diff.": 0, interval: 1}
    columns = [
        *(Column(head, list(map(folded_text, texts)), folds_to=12) for head, texts in names),
        *(
            _column(head, [row[i] for row in cells], rank)
            for i, (head, rank) in enumerate(heads.items())
        ),
    ]
    return FittingTable(columns, [""] * len(transfers), gap=2)


def _pair_cells(one: Transfer, layer: int | None) -> list[str]:
    """Layer, rows, rows left out, difference and its interval."""
    figures = shown_layer(one, layer)
    n_left_out = one.n_seen + one.n_missing + sum(one.without_class.values())
    cells = [str(one.selected if layer is None else layer), f"{one.n_rows:,}", f"{n_left_out:,}"]
    if figures is None or figures.difference is None:
        return [*cells, "–", "–"]
    mark = "" if one.paired else "*"
    return [*cells, f"{_difference(figures)}{mark}", _difference_interval(figures)]


def _pair_notes(transfers: Sequence[Transfer]) -> list[str]:
    """Notes about single pairs, and about the marks in the table."""
    notes = []
    if not all(one.paired for one in transfers):
        notes.append("* between other rows; without a star, between the same rows.")
    pairs_of: dict[str, list[str]] = {}
    for one in transfers:
        facts = _facts(one)
        lines = [*_rows(one)[1:], *_labels(one)]
        if "layers" in facts:
            lines.append(f"layers {facts['layers']}")
        for line in lines:
            pairs_of.setdefault(line, []).append(f"{trained_name(one)} on {target_name(one)}")
    for line, pairs in pairs_of.items():
        where = "all pairs" if len(pairs) == len(transfers) else ", ".join(pairs)
        notes.append(f"{where}: {line}")
    return [*notes, ""] if notes else []


def _facts(one: Transfer) -> dict[str, str | list[str]]:
    facts: dict[str, str | list[str]] = {
        "trained": trained_name(one),
        "on": target_name(one),
        "probe": one.probe,
        "rows": _rows(one),
    }
    labels = _labels(one)
    if labels:
        facts["labels"] = labels
    if one.without_layer:
        facts["layers"] = f"not in the target: {format_ranges(one.without_layer)}"
    facts["chance"] = f"{one.chance:.3f}, the target's most frequent label"
    if one.layers[0].recall is None:
        facts["chance"] = f"{one.chance:.3f}, the target's mean"
    selected = shown_layer(one, None)
    if selected is not None:
        facts["selected"] = (
            f"Layer {one.selected}, selected on the run's training rows: {_cited(one, selected)}."
        )
    return facts


def _cited(one: Transfer, figures: LayerFigures) -> str:
    said = f"{one.statistic} {figures.score:.3f} [{figures.low:.3f}, {figures.high:.3f}]"
    if figures.difference is None:
        return said
    rows = "the same rows" if one.paired else "its own test rows"
    return (
        f"{said}, {figures.difference:+.3f} [{figures.difference_low:+.3f}, "
        f"{figures.difference_high:+.3f}] from {figures.own:.3f} on {rows}"
    )


def _rows(one: Transfer) -> list[str]:
    lines = [f"{format_count(one.n_rows, 'row')} in {format_count(one.n_groups, 'group')}"]
    if one.n_by_folds:
        lines.append(
            f"{one.n_by_folds:,} of them judged by the probe of the fold that held them out"
        )
    if one.n_pictures_fitted:
        lines.append(
            f"of {one.n_pictures_fitted:,} rows the picture is on training rows too, because the run's "
            "split was drawn by row: the score is too high"
        )
    if one.n_seen:
        lines.append(
            f"left out: {one.n_seen:,} that the probes were fitted or chosen on, or their pictures"
        )
    if one.n_missing:
        lines.append(f"left out: {one.n_missing:,} without states")
    return [*lines, *one.notes]


def _labels(one: Transfer) -> list[str]:
    lines = []
    if one.renamed:
        pairs = [f"{label!r} is {name!r}" for label, name in one.renamed.items()]
        lines.append(_listed(pairs))
    if one.without_class:
        n = sum(one.without_class.values())
        names = [f"{label!r} ({rows:,})" for label, rows in one.without_class.items()]
        lines.append(
            f"left out: {format_count(n, 'row')} of labels without a class: {_listed(names)}"
        )
    if one.without_rows:
        names = [repr(name) for name in one.without_rows]
        lines.append(f"classes without a row, to predict them is an error: {_listed(names)}")
    return lines


def _listed(texts: Sequence[str]) -> str:
    more = f", and {len(texts) - _LISTED} more" if len(texts) > _LISTED else ""
    return ", ".join(texts[:_LISTED]) + more


def _layer_table(one: Transfer) -> FittingTable:
    interval = f"{one.confidence:.0%}"
    columns = [
        _column("layer", [str(figures.layer) for figures in one.layers]),
        _column(one.statistic, [format_figure(figures.score) for figures in one.layers]),
        _column(interval, [f"[{fig.low:.3f}, {fig.high:.3f}]" for fig in one.layers], 2),
        _column("own", [format_figure(figures.own) for figures in one.layers], 3),
        _column("diff.", [_difference(figures) for figures in one.layers]),
        _column(f"{interval} of diff.", [_difference_interval(fig) for fig in one.layers], 1),
    ]
    chosen = [figures.layer == one.selected for figures in one.layers]
    return FittingTable(columns, ["bold green" if one else "" for one in chosen], gap=2)


def _column(head: str, figures: Sequence[str], rank: int = 0) -> Column:
    return Column(head, figure_cells(figures), rank)


def _difference(figures: LayerFigures) -> str:
    return "–" if figures.difference is None else f"{figures.difference:+.3f}"


def _difference_interval(figures: LayerFigures) -> str:
    low, high = figures.difference_low, figures.difference_high
    return "–" if low is None or high is None else f"[{low:+.3f}, {high:+.3f}]"
