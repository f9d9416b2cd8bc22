"""The layers of a run as a table for a paper, and all their figures as CSV."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from vsp.choices import LAST, position_words
from vsp.reporting.escaping import csv_text_line
from vsp.reporting.names import dataset_name, model_name, plan_of
from vsp.reporting.table_files import Column, Estimate, PaperTable, Row
from vsp.reporting.untrained import read_untrained
from vsp.storage.layer_score import LayerScore
from vsp.storage.results import Results

# Baselines that have a row of their own, or the same figure as another row.
_SHOWN_ELSEWHERE = ("majority", "mean", "embedding output")
_CSV = (
    "layer", "selected", "statistic", "score", "low", "high", "chance", "accuracy",
    "balanced_accuracy", "macro_f1", "rmse", "ece", "brier", "p", "p_corrected", "p_within",
    "p_within_corrected", "strength", "capacity", "code_bits", "code_error", "compression",
    "n_train", "n_test",
)  # fmt: skip


def layer_paper_table(results: Results, title: str | None = None) -> PaperTable:
    """A row for each layer, then chance, the baselines, and the figure to cite.

    The selected layer is bold. `title` replaces the beginning of the caption.
    """
    summary, scores = results.read()
    untrained = read_untrained(results, summary)
    further = _further_columns(scores, untrained.score if untrained else {})
    layers = [
        Row(
            (
                str(score.layer),
                Estimate(score.score, score.low, score.high),
                *(cell(score) for _, cell in further),
            ),
            bold=(0, 1) if score.layer == summary["best_layer"] else (),
        )
        for score in scores
    ]
    baselines = [_baseline("chance", {"score": summary["chance"], "low": None, "high": None})]
    baselines += [
        _baseline(name, figures)
        for name, figures in summary["baselines"].items()
        if figures is not None and name not in _SHOWN_ELSEWHERE
    ]
    if untrained and untrained.peak:
        baselines.append(_baseline("untrained model", untrained.peak))
    peak = summary["peak"]
    cited = Row(("selected layer", Estimate(peak["estimate"], peak["low"], peak["high"])))
    return PaperTable(
        caption=_caption(summary, scores, title),
        label=results.name,
        columns=(Column("layer"), Column(summary["statistic"], 3), *(column for column, _ in further)),
        parts=(tuple(layers), tuple(baselines), (cited,)) if len(scores) > 1 else
        (tuple(layers), tuple(baselines)),
    )  # fmt: skip


def _further_columns(
    scores: Sequence[LayerScore], untrained: Mapping[int, float]
) -> list[tuple[Column, Callable[[LayerScore], Estimate]]]:
    """Columns of which at least one layer has a figure."""
    columns: list[tuple[Column, Callable[[LayerScore], Estimate]]] = [
        (Column("RMSE", 3), lambda score: Estimate(score.rmse)),
        (Column("untrained", 3), lambda score: Estimate(untrained.get(score.layer))),
        (Column("logit lens", 3), _lens),
        (Column("selectivity", 3, signed=True), _selectivity),
        (Column("corrected p", 3), lambda score: Estimate(score.p_corrected)),
    ]
    return [one for one in columns if any(one[1](score).value is not None for score in scores)]


def _selectivity(score: LayerScore) -> Estimate:
    """Selectivity against the first control task."""
    figures = next(iter(score.controls.values()), {}).get("selectivity")
    return Estimate(figures["difference"] if figures else None)


def _lens(score: LayerScore) -> Estimate:
    return Estimate(score.lens["score"] if score.lens else None)


def _baseline(name: str, figures: Mapping[str, Any]) -> Row:
    return Row((name, Estimate(figures["score"], figures["low"], figures["high"])))


def _caption(summary: Mapping[str, Any], scores: Sequence[LayerScore], title: str | None) -> str:
    plan, statistic = plan_of(summary), summary["statistic"]
    if title is None:
        at = "" if summary["position"] == LAST else f", {position_words(summary['position'])}"
        title = (
            f"{statistic[:1].upper()}{statistic[1:]} of {summary['probe']['probe']} probes by layer: "
            f"{model_name(plan.model)} on {dataset_name(plan)}, prompt {plan.prompt}{at}"
        )
    words = [title] if title else []
    words.append(f"Brackets: {summary['confidence']:.0%} intervals")
    if len(scores) > 1:
        words += [
            "Bold: the layer that inner folds of all rows select",
            "Selected layer: the figure to cite, of layers selected on training rows and scored on "
            "test rows",
        ]
    return f"{'. '.join(words)}."


def layer_csv(results: Results) -> Iterator[bytes]:
    """A line for each layer with its figures, and the recall of each class."""
    summary, scores = results.read()
    classes = list(scores[0].recall or {})
    controls = list(scores[0].controls)
    yield csv_text_line(
        *_CSV,
        *(f"selectivity of {name}" for name in controls),
        *(f"recall of {name}" for name in classes),
    )
    for score in scores:
        values: dict[str, Any] = {**asdict(score), "statistic": summary["statistic"]}
        values["selected"] = int(score.layer == summary["best_layer"])
        selectivity = [(score.controls[name]["selectivity"] or {}).get("difference")
                       for name in controls]  # fmt: skip
        recall = [(score.recall or {}).get(name) for name in classes]
        yield csv_text_line(*(values[name] for name in _CSV), *selectivity, *recall)
