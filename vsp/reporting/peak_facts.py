"""The part of `vsp report` about the peak, and about the layer whose probe is saved."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.table import Table

from vsp.reporting.formatting import (
    format_difference,
    format_figure,
    format_interval,
    format_layers,
)
from vsp.storage.layer_score import LayerScore
from vsp.utils.terminal import fact_table, folded_text, text_line
from vsp.utils.text import format_count

_BESIDE_CONFUSION = 48  # width of class names, recall with interval and precision
_CLASSES = 20  # maximum number of rows in the table of classes


def peak_page(summary: Mapping[str, Any], best: LayerScore, n_layers: int) -> list[RenderableType]:
    """Facts and classes of the peak, then facts of the layer `best` of `n_layers` probed ones."""
    peak = summary["peak"]
    parts: list[RenderableType] = [
        text_line(
            "The figure to cite: layers selected on training rows, scored on test rows",
            style="bold",
        ),
        _peak_facts(summary),
    ]
    if peak["recall"]:
        parts += [text_line(), _ClassTable(peak)]
    return [*parts, text_line(), text_line(f"Layer selected on training data: {best.layer}", style="bold"), _layer_facts(summary, best, n_layers)]  # fmt: skip


def peak_fact(summary: Mapping[str, Any]) -> str:
    """The layer selected in most splits, its score on test rows, and the optimistic maximum."""
    peak = summary["peak"]
    n_splits = sum(peak["layers"].values())
    by_times: dict[int, list[int]] = {}
    for layer, n in peak["layers"].items():
        by_times.setdefault(n, []).append(int(layer))
    most, *fewer = sorted(by_times, reverse=True)
    where = f" in {most} of {n_splits} splits" if n_splits > 1 else ""
    where += " each" if len(by_times[most]) > 1 else ""
    also = [f"{format_layers(by_times[n])} in {n}" for n in fewer[:2]]
    also += ["others less often"] * bool(fewer[2:])
    where += f" ({', '.join(also)})" if also else ""
    return (
        f"Layer selected on training rows: {format_layers(by_times[most])}{where}, test "
        f"{summary['statistic']} {format_figure(peak['estimate'])} {format_interval(peak)}. "
        f"Highest of any layer: {format_figure(peak['naive'])} (optimistic)."
    )


def has_class_weights(card: Mapping[str, Any]) -> bool:
    """Whether the probe of this card gives every label the same weight."""
    return bool(card.get("parameters", {}).get("class_weight") == "balanced")


def _peak_facts(summary: Mapping[str, Any]) -> Table:
    """Figures of the peak by name; undefined figures are left out."""
    peak = summary["peak"]
    facts = {
        "score": f"{summary['statistic']} {format_figure(peak['estimate'])} {format_interval(peak)}",
        "with refits": peak["over_training"]
        and f"{format_interval(peak['over_training'])}, also about other training rows",
        "over chance": peak["over_chance"] and format_difference(peak["over_chance"]),
        "over words": peak["over_words"] and format_difference(peak["over_words"]),
        "over layer 0": peak["over_embedding"] and format_difference(peak["over_embedding"]),
        **_pair_facts(peak),
        "error": peak["rmse"] is not None and f"RMSE {peak['rmse']:.4g}",
        "classes": peak["macro_f1"] is not None and _classes_fact(peak),
        "calibration": _calibration_fact(summary),
        **{f"control, {name}": _control_facts(summary, name) for name in summary["controls"]},
    }
    return fact_table({name: fact for name, fact in facts.items() if fact})


def _pair_facts(peak: Mapping[str, Any]) -> dict[str, str]:
    """Accuracy on rows whose name pair or prompt is, or is not, in the training rows."""
    pairs = peak["pairs"] or {}
    return {
        f"{side} {pairs['kind']}s": f"{pairs[side]['n']} rows, {_accuracies_fact(pairs[side])}"
        for side in ("seen", "unseen")
        if side in pairs
    }


def _accuracies_fact(side: Mapping[str, Any]) -> str:
    figures = {"accuracy": side["peak"], "words alone": side.get("words")}
    return ", ".join(
        f"{name} {format_figure(one['score'])} {format_interval(one)}"
        for name, one in figures.items()
        if one
    )


def _classes_fact(peak: Mapping[str, Any]) -> str:
    return (
        f"accuracy {format_figure(peak['accuracy'])}, balanced accuracy "
        f"{format_figure(peak['balanced_accuracy'])}, macro F1 {format_figure(peak['macro_f1'])}"
    )


def _control_facts(summary: Mapping[str, Any], name: str) -> list[str]:
    """Selectivity against a control, the two normalised scores, and what is not drawn."""
    drawn, figures = summary["controls"][name], summary["peak"]["controls"].get(name)
    if figures is None:
        return ["not defined" if drawn["tasks"] else f"not drawn: {drawn['note']}"]
    tasks = f"{format_count(drawn['tasks'], 'task')} of {format_count(drawn['types'], 'type')}"
    score, control = figures["score"], figures["control"]
    return [
        f"selectivity {format_difference(figures['selectivity'])} ({tasks})",
        f"normalised score {format_figure(score['difference'])} {format_interval(score)}, of the "
        f"control {format_figure(control['difference'])} {format_interval(control)}",
        *([drawn["note"]] if drawn["note"] else []),
    ]


def _calibration_fact(summary: Mapping[str, Any]) -> str:
    """ECE beside that of calibrated probabilities, and the Brier score."""
    peak = summary["peak"]
    if peak["brier"] is None:
        weighted = has_class_weights(summary["probe"])
        return "not measured: class weights change probabilities" if weighted else ""
    return (
        f"ECE {format_figure(peak['ece'])}; calibrated probabilities would give "
        f"{format_figure(peak['ece_null'])} (95 %: up to {format_figure(peak['ece_null_high'])}). "
        f"Brier {format_figure(peak['brier'])}"
    )


def _layer_facts(summary: Mapping[str, Any], best: LayerScore, n_layers: int) -> Table:
    """Figures of a layer that is the same in all splits; undefined figures are left out."""
    facts = {
        "code length": best.code_bits is not None and _code_length_fact(best, n_layers),
        "learning curve": _curve_fact(best.curve),
        "capacity": best.capacity is not None
        and f"training accuracy {format_figure(best.capacity)} on random labels of the rows; chance "
        f"{format_figure(summary['capacity_chance'])}",
        summary["probe"]["parameter"]: best.strength is not None and _strength_fact(best),
    }
    return fact_table({name: fact for name, fact in facts.items() if fact})


def _curve_fact(curve: Sequence[Sequence[float | None]]) -> str:
    """The score after each number of training rows."""
    figures = [f"{format_figure(score)} with {rows or 0:,.0f}" for rows, score, _ in curve]
    figures[:1] = [f"{first} training rows" for first in figures[:1]]
    return ", ".join(figures)


def _code_length_fact(best: LayerScore, n_layers: int) -> str:
    """Online code length with its standard error, and how it compares with the uniform code."""
    bits, error = best.code_bits or 0.0, best.code_error
    digits = 0 if bits >= 100 or (error or 0.0) >= 1 else 1
    words = f"{bits:,.{digits}f}" + ("" if error is None else f" ± {error:,.{digits}f}")
    words += " bits (online code, mean and standard error over orders of the rows)"
    if best.compression:
        words += f", {_times_shorter(best.compression)} than the uniform code"
    if best.control_compression:
        words += f"; control task: {_times_shorter(best.control_compression)}"
    if n_layers > 1:
        words += f". The choice among {n_layers} layers adds {math.log2(n_layers):.1f} bits"
    return words


def _times_shorter(compression: float) -> str:
    if compression >= 1:
        return f"{compression:.2f} times shorter"
    return f"{1 / compression:.2f} times longer"


def similar_layers_fact(scores: Sequence[LayerScore], best: LayerScore) -> str:
    """Layers whose paired difference to the selected layer has an interval that reaches 0."""
    others = {s.layer: s.below_best for s in scores if s is not best and s.below_best}
    near = [
        layer
        for layer, difference in others.items()
        if difference["high"] is not None and difference["high"] >= 0
    ]
    if not others:
        return ""
    if not near:
        return "All other layers score clearly lower on the same rows."
    if len(near) > 1:
        layers = format_layers(near)
        return f"Not clearly different from layers {layers}."
    return f"Not clearly different from layer {near[0]}: {format_difference(others[near[0]])}."


def _strength_fact(best: LayerScore) -> list[str]:
    words = f"{best.strength:g} in the saved probe"
    if len(best.by_strength) < 2:
        return [words]
    times = Counter(best.strengths)
    splits = ", ".join(f"{value:g} in {n}" for value, n in sorted(times.items()))
    scores = ", ".join(f"{c}: {format_figure(one)}" for c, one in best.by_strength.items())
    return [f"{words}; selected in splits: {splits}", f"score by value: {scores}"]


@dataclass(frozen=True, slots=True)
class _ClassTable:
    """Recall and precision by class, and the confusion matrix if the terminal is wide enough.

    Only the classes with the lowest recall are shown if there are more than `_CLASSES`.
    """

    peak: Mapping[str, Any]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        room = options.max_width - _BESIDE_CONFUSION
        recall, confusion = self.peak["recall"], self.peak["confusion"]
        if _confusion_width(confusion) > room:
            confusion = None
        shown = sorted(recall, key=lambda name: _score(recall[name]) or 0.0)[:_CLASSES]
        yield self._table(shown, confusion)
        if confusion:
            yield folded_text("→1: rows of this class that are predicted as class 1.")
        else:
            yield folded_text(
                f"The confusion matrix of {len(recall)} classes is in `vsp report --json`."
            )
        if len(shown) < len(recall):
            yield folded_text(
                f"Shown: the {len(shown)} of {len(recall)} classes with the lowest recall."
            )

    def _table(self, shown: Collection[str], confusion: Sequence[Sequence[int]] | None) -> Table:
        recall, precision = self.peak["recall"], self.peak["precision"] or {}
        table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 1, 0, 0))
        table.add_column("class", overflow="fold", max_width=24)
        columns = ["recall", "", "precision"]
        columns += [f"→{i + 1}" for i in range(len(recall))] if confusion else []
        for column in columns:
            table.add_column(column, justify="right", no_wrap=True)
        for i, name in enumerate(recall):
            if name in shown:
                counts = [str(n) if n else "·" for n in confusion[i]] if confusion else []
                number, of_class = f"{i + 1} " if confusion else "", recall[name]
                interval = "–" if of_class is None else format_interval(of_class)
                figures = [format_figure(_score(of_class)), interval]
                figures += [format_figure(precision.get(name)), *counts]
                table.add_row(text_line(f"{number}{name}"), *map(text_line, figures))
        return table


def _score(recall: Mapping[str, Any] | None) -> float | None:
    return None if recall is None else recall["score"]


def _confusion_width(confusion: Sequence[Sequence[int]]) -> int:
    digits = max(len(str(n)) for counts in confusion for n in counts)
    return len(confusion) * (1 + max(digits, len(f"→{len(confusion)}")))
