"""The table of `vsp report` with a row for each layer, and the notes below it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement

from vsp.reporting.columns import Column, FittingTable, figure_cells
from vsp.reporting.erasure_facts import random_erasure_figures
from vsp.reporting.formatting import controlled_type, format_figure, format_interval
from vsp.reporting.untrained import Untrained
from vsp.storage.layer_score import LayerScore
from vsp.utils.terminal import text_line

_BAR, _WIDE_BAR = 22, 60  # maximum width of the bar of a score of 1
_WIDE = 100  # columns of a terminal on which the bar is wider
_SHORT = {"balanced accuracy": "bal. acc.", "D² of log loss": "D²"}  # in the head of a column
_SELECTED = " ←"  # after the bar of the selected layer


def layer_table(
    summary: Mapping[str, Any], scores: Sequence[LayerScore], untrained: Untrained | None
) -> FittingTable:
    """One row per layer; columns without any figure, or without space, are left out."""
    score_head = _SHORT.get(summary["statistic"], summary["statistic"])
    columns = [
        _column("layer", [str(one.layer) for one in scores]),
        _column(score_head, [format_figure(one.score) for one in scores]),
        _column(
            f"{summary['confidence']:.0%}", [format_interval(asdict(one)) for one in scores], 1
        ),
        *_further_columns(scores, untrained),
    ]
    selected = [one.layer == summary["best_layer"] for one in scores]
    bars = [_ScoreBar(one, chosen) for one, chosen in zip(scores, selected, strict=True)]
    return FittingTable(
        [*columns, Column("", bars, is_bar=True)],
        ["bold green" if chosen else "" for chosen in selected],
    )


def _column(head: str, figures: Sequence[str], rank: int = 0) -> Column:
    return Column(head, figure_cells(figures), rank)


def _further_columns(scores: Sequence[LayerScore], untrained: Untrained | None) -> list[Column]:
    """The columns that a run may lack; the first to be left out have the highest rank."""
    columns = []
    if any(score.rmse is not None for score in scores):
        of_layers = ["–" if one.rmse is None else f"{one.rmse:#.3g}" for one in scores]
        columns.append(_column("RMSE", of_layers, 7))
    if untrained and untrained.score:
        of_layers = [format_figure(untrained.score.get(one.layer)) for one in scores]
        columns.append(_column("untr.", of_layers, 5))
    if after_random := random_erasure_figures(scores):
        columns.append(_column("rand.", after_random, 1))
    if any(score.lens for score in scores):
        of_layers = [format_figure(one.lens["score"] if one.lens else None) for one in scores]
        columns.append(_column("lens", of_layers, 6))
    if scores[0].controls:
        columns.append(_column("select", [_selectivity(one) for one in scores], 4))
    if any(score.p_corrected is not None for score in scores):
        columns.append(_column("p corr", [format_figure(one.p_corrected) for one in scores], 2))
    if any(score.p_within_corrected is not None for score in scores):
        of_layers = [format_figure(one.p_within_corrected) for one in scores]
        columns.append(_column("p word", of_layers, 3))
    return columns


@dataclass(frozen=True, slots=True)
class _ScoreBar:
    """A bar of a score from 0 to 1: interval in light blocks, chance as a line.

    It takes the width that the other columns leave, up to `_BAR`, or `_WIDE_BAR` on a wide terminal.
    """

    score: LayerScore
    selected: bool

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        most = _WIDE_BAR if options.max_width > _WIDE else _BAR
        return Measurement(len(_SELECTED), min(most + len(_SELECTED), options.max_width))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width = min(_WIDE_BAR, options.max_width - len(_SELECTED))
        yield text_line(self._bar(width) + (_SELECTED if self.selected else ""))

    def _bar(self, width: int) -> str:
        score = self.score
        low, high = (
            round(width * (score.score if one is None else one)) for one in (score.low, score.high)
        )
        cells = ["█" if i < low else "▒" if i < high else "·" for i in range(width)]
        if score.chance >= 0 and width > 0:
            cells[min(round(width * score.chance), width - 1)] = "│"
        return "".join(cells)


def layer_notes(summary: Mapping[str, Any], scores: Sequence[LayerScore]) -> list[str]:
    notes = [
        f"▒ {summary['confidence']:.0%} interval about other {_what_is_new(summary)}: "
        f"{summary['resamples']} bootstrap resamples of {summary['n_groups']} "
        f"{'name pairs' if holds_out_names(summary) else 'groups'}.",
        f"│ chance, {summary['chance']:.3f}: the score of always predicting {_chance(summary)}.",
    ]
    if summary["statistic"] == "balanced accuracy" and _asked_metric(summary) == "auto":
        notes.append(
            "balanced accuracy, because a label has less than half of the share of equally common "
            "labels; `vsp probe --metric` chooses another score."
        )
    if scores[0].controls:
        name = next(iter(scores[0].controls))
        notes.append(
            "select: selectivity, the normalised score minus that of control tasks, which give "
            f"each {controlled_type(name)} a random label; normalised: (score − chance) / (1 − chance)."
        )
    if summary["n_permutations"]:
        notes.append(
            f"p corr: p value from {summary['n_permutations']} refits with permuted labels, "
            "corrected for the number of layers (maximum statistic)."
        )
    if any(score.p_within_corrected is not None for score in scores):
        notes.append(
            "p word: the same with labels permuted among rows with the same prompt. A model that "
            "reads only the words does not get a small p."
        )
    return [*notes, *_selected_note(summary, scores)]


def _selected_note(summary: Mapping[str, Any], scores: Sequence[LayerScore]) -> list[str]:
    """What the arrow marks, and why its score may differ from the figure to cite."""
    layer = summary["best_layer"]
    note = f"← Layer selected on training data: {layer}."
    (score,) = (one.score for one in scores if one.layer == layer)
    peak = summary["peak"]
    if len(peak["layers"]) == 1 or format_figure(score) == format_figure(peak["estimate"]):
        return [note]
    return [
        f"{note} {format_figure(score)} is its score in all splits; {format_figure(peak['estimate'])}, "
        "the figure to cite, takes in each split the layer that the training rows of the split select."
    ]


def _chance(summary: Mapping[str, Any]) -> str:
    """What chance predicts for every row."""
    if summary["probe"]["target"] == "number":
        return "the mean of the training rows"
    if summary["statistic"] == "D² of log loss":
        return "the label frequencies of the training rows"
    return "the most frequent training label"


def _asked_metric(summary: Mapping[str, Any]) -> Any:
    return summary.get("settings", {}).get("metric")


def _what_is_new(summary: Mapping[str, Any]) -> str:
    """What an interval of a layer is about: folds fit several probes, a split of a dataset one."""
    if sum(summary["peak"]["layers"].values()) > 1:
        return "rows, for training and test"
    return "test rows, for these fitted probes"


def _selectivity(score: LayerScore) -> str:
    """Selectivity against the first control task."""
    first = next(iter(score.controls.values()), {}).get("selectivity")
    return format_figure(first["difference"] if first else None)


def holds_out_names(summary: Mapping[str, Any]) -> bool:
    """Whether folds hold out name pairs or names, not images."""
    return bool(summary["split_by"] != "image")
