"""The table of `vsp report` with a row for each layer, and the notes below it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.table import Table

from vsp.reporting.formatting import controlled_type, format_figure, format_interval
from vsp.reporting.untrained import Untrained
from vsp.storage.layer_score import LayerScore
from vsp.utils.terminal import text_line

_BAR = 22  # maximum width of the bar of a score of 1
_SHORT = {"balanced accuracy": "bal. acc.", "D² of log loss": "D²"}  # in the head of a column
_SELECTED = " ←"  # after the bar of the selected layer


def layer_table(
    summary: Mapping[str, Any], scores: Sequence[LayerScore], untrained: Untrained | None
) -> Table:
    """One row per layer; columns without any figure are left out."""
    columns: dict[str, Callable[[LayerScore], str]] = {
        "layer": lambda score: str(score.layer),
        _SHORT.get(summary["statistic"], summary["statistic"]): lambda score: format_figure(
            score.score
        ),
        f"{summary['confidence']:.0%}": lambda score: format_interval(asdict(score)),
    }
    if any(score.rmse is not None for score in scores):
        columns["RMSE"] = lambda score: "–" if score.rmse is None else f"{score.rmse:#.3g}"
    if untrained and untrained.score:
        columns["untr."] = lambda score: format_figure(untrained.score.get(score.layer))
    if any(score.lens for score in scores):
        columns["lens"] = lambda score: format_figure(score.lens["score"] if score.lens else None)
    if scores[0].controls:
        columns["select"] = _selectivity
    if any(score.p_corrected is not None for score in scores):
        columns["p corr"] = lambda score: format_figure(score.p_corrected)
    if any(score.p_within_corrected is not None for score in scores):
        columns["p word"] = lambda score: format_figure(score.p_within_corrected)
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 1, 0, 0))
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("")
    for score in scores:
        selected = score.layer == summary["best_layer"]
        cells = [text_line(figure(score)) for figure in columns.values()]
        table.add_row(*cells, _ScoreBar(score, selected), style="bold green" if selected else "")
    return table


@dataclass(frozen=True, slots=True)
class _ScoreBar:
    """A bar of a score from 0 to 1: interval in light blocks, chance as a line.

    It takes the width that the other columns leave, up to `_BAR`.
    """

    score: LayerScore
    selected: bool

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(len(_SELECTED), min(_BAR + len(_SELECTED), options.max_width))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width = min(_BAR, options.max_width - len(_SELECTED))
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
    return [*notes, "← the best layer on inner folds of all rows."]


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
