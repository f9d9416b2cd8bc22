"""`vsp report`: the results of a probed run, as a page for the terminal and as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.measure import Measurement
from rich.table import Table

from vsp.config import parse
from vsp.reporting.answer import answer
from vsp.reporting.formatting import (
    format_batch_effect,
    format_difference,
    format_figure,
    format_interval,
    format_model,
    shorten_path,
)
from vsp.storage.ledger import BatchEffect
from vsp.storage.results import LayerScore, Results
from vsp.storage.run import Plan
from vsp.utils.terminal import fact_table, folded_text, text_line
from vsp.utils.text import format_ranges

_BAR = 22  # maximum width of the bar of a score of 1
_SELECTED = " ←"  # after the bar of the selected layer
_BESIDE_CONFUSION = 33  # width of class names, recall and precision
_CLASSES = 20  # maximum number of rows in the table of classes


def report_json(results: Results) -> dict[str, Any]:
    """The summary and the scores of every layer, as `vsp report --json` prints them."""
    summary, scores = results.read()
    layers = [asdict(score) for score in scores]
    named = {"run": results.name, "answer": answer(summary, scores)}
    return {**summary, **named, "layers": layers}


def report_page(results: Results) -> RenderableType:
    """The page of `vsp report`, for 80 columns."""
    summary, scores = results.read()
    best = next(score for score in scores if score.layer == summary["best_layer"])
    sentence = answer(summary, scores)
    parts: list[RenderableType] = (
        [folded_text(sentence, style="bold"), text_line()] if sentence else []
    )
    parts += [_run_facts({**summary, "run": results.name}, best), text_line()]
    parts += [_layer_table(summary, scores), text_line()]
    parts += [folded_text(note) for note in _layer_notes(summary, scores)]
    parts += [text_line(), _baseline_table(summary), text_line()]
    parts += [text_line(f"Layer selected on training data: {best.layer}", style="bold")]
    parts += [_best_layer_facts(summary, scores, best)]
    if best.recall is not None:
        parts += [text_line(), _ClassTable(best)]
    warnings = _warnings(summary, scores)
    if warnings:
        parts += [text_line(), *(folded_text(f"! {line}", style="yellow") for line in warnings)]
    return Group(*parts)


def run_title(summary: Mapping[str, Any]) -> str:
    """Dataset and model in one line."""
    plan = _plan(summary)
    return f"{Path(plan.dataset).name} · {format_model(plan.model)}"


def _run_facts(summary: Mapping[str, Any], best: LayerScore) -> Table:
    plan, rows, batching = _plan(summary), summary["rows"], summary["batching"]
    facts = {
        "run": summary["run"],
        "model": format_model(plan.model),
        "dataset": f"{shorten_path(plan.dataset)}, prompt {plan.prompt}",
        "rows": (
            f"{rows['planned']} planned: {rows['done']} done, {rows['failed']} failed, "
            f"{rows['missing']} missing{_dropped_labels(summary)}"
        ),
        "states": (
            f"{plan.n_layers} layers × {plan.hidden_size}, computed in {plan.compute_dtype}, "
            f"stored in {plan.dtype}"
        ),
        "batch effect": format_batch_effect(BatchEffect(**batching))
        if batching
        else "not measured",
        "split": f"{summary['split']}; {best.n_train} training rows, {best.n_test} test rows",
        "probe": _probe_fact(summary["probe"]),
        "fits": _fits_fact(summary),
    }
    if summary["peak"] is not None:
        facts["peak"] = _peak_fact(summary)
    return fact_table(facts)


def _dropped_labels(summary: Mapping[str, Any]) -> str:
    """Rows left out with --drop-label; results of older versions have none."""
    dropped = summary.get("dropped_labels", {})
    return "".join(f"; {n} of label {label!r} left out" for label, n in dropped.items())


def _peak_fact(summary: Mapping[str, Any]) -> str:
    """The layer selected in most splits, its score on test rows, and the optimistic maximum."""
    peak = summary["peak"]
    times = sorted(peak["layers"].items(), key=lambda one: (-one[1], int(one[0])))
    n_splits = sum(peak["layers"].values())
    (layer, n), others = times[0], times[1:3]
    where = f" in {n} of {n_splits} splits" if n_splits > 1 else ""
    also = [f"{other} in {k}" for other, k in others] + ["others less often"] * bool(times[3:])
    where += f" ({', '.join(also)})" if also else ""
    return (
        f"Layer selected on training rows: {layer}{where}, "
        f"test {summary['statistic']} {format_figure(peak['estimate'])} {format_interval(peak)}. "
        f"Highest of any layer: {format_figure(peak['naive'])} (optimistic)."
    )


def _probe_fact(card: Mapping[str, Any]) -> str:
    words = [card["probe"], f"treatment {card['treatment']}"]
    words += {"sigmoid": ["one-vs-rest"], "softmax": ["softmax"]}.get(card["link"], [])
    grid = card["grid"]
    if card["parameter"] and grid is None:
        words.append(f"{card['parameter']} selected on training rows from a grid for each layer")
    elif card["parameter"] and len(grid) > 1:
        listed = " ".join(f"{value:g}" for value in grid)
        words.append(f"{card['parameter']} selected on training rows from {listed}")
    elif card["parameter"]:
        words.append(f"{card['parameter']} = {grid[0]:g}")
    return ", ".join(words)


def _fits_fact(summary: Mapping[str, Any]) -> str:
    n_fits, n_bad, gap = summary["n_fits"], summary["n_uncertified"], summary["max_gap"]
    if n_bad and gap is None:  # the probe computes no duality gap
        return f"{n_bad} of {n_fits} fits stopped before convergence"
    if n_bad:
        return (
            f"{n_bad} of {n_fits} fits did not reach a relative duality gap of "
            f"{summary['tolerance']:g}; the largest is {gap:.1g}"
        )
    return f"{n_fits} fits" + ("" if gap is None else f", relative duality gap at most {gap:.1g}")


def _layer_table(summary: Mapping[str, Any], scores: Sequence[LayerScore]) -> Table:
    """One row per layer; columns without any figure are left out."""
    columns: dict[str, Callable[[LayerScore], str]] = {
        "layer": lambda score: str(score.layer),
        summary["statistic"]: lambda score: format_figure(score.score),
        f"{summary['confidence']:.0%}": lambda score: format_interval(asdict(score)),
    }
    if any(score.rmse is not None for score in scores):
        columns["RMSE"] = lambda score: "–" if score.rmse is None else f"{score.rmse:#.3g}"
    if any(score.selectivity is not None for score in scores):
        columns["select."] = lambda score: format_figure(score.selectivity)
    if any(score.p_corrected is not None for score in scores):
        columns["p corr."] = lambda score: format_figure(score.p_corrected)
    table = Table(box=None, pad_edge=False, header_style="bold")
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


def _layer_notes(summary: Mapping[str, Any], scores: Sequence[LayerScore]) -> list[str]:
    by_label = summary["probe"]["target"] == "label"
    what = "the most frequent training label" if by_label else "the mean of the training rows"
    notes = [
        f"▒ {summary['confidence']:.0%} interval: {summary['resamples']} bootstrap resamples of "
        f"{summary['n_groups']} groups.",
        f"│ chance, {summary['chance']:.3f}: the score of always predicting {what}.",
    ]
    if any(score.selectivity is not None for score in scores):
        notes.append(
            "select.: selectivity, the score minus the score on control tasks, which give each "
            "prompt a random label."
        )
    if summary["n_permutations"]:
        notes.append(
            f"p corr.: p value from {summary['n_permutations']} refits with permuted labels, "
            "corrected for the number of layers (maximum statistic)."
        )
    return [*notes, "← layer selected on training data."]


def _baseline_table(summary: Mapping[str, Any]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("baseline")
    table.add_column(summary["statistic"], justify="right")
    table.add_column(f"{summary['confidence']:.0%}", justify="right")
    for name, baseline in summary["baselines"].items():
        if baseline is not None:
            table.add_row(
                name, format_figure(baseline["score"]), text_line(format_interval(baseline))
            )
    return table


def _best_layer_facts(
    summary: Mapping[str, Any], scores: Sequence[LayerScore], best: LayerScore
) -> Table:
    """Figures of the selected layer by name; undefined figures are left out."""
    balanced, f1 = format_figure(best.balanced_accuracy), format_figure(best.macro_f1)
    facts = {
        "score": f"{summary['statistic']} {format_figure(best.score)} {format_interval(asdict(best))}",
        "other layers": _similar_layers_fact(scores, best),
        "error": best.rmse is not None and f"RMSE {best.rmse:.4g}",
        "classes": best.macro_f1 is not None and f"balanced accuracy {balanced}, macro F1 {f1}",
        "calibration": best.brier is not None
        and f"ECE {format_figure(best.ece)}, Brier {format_figure(best.brier)}",
        "code length": best.code_bits is not None
        and _code_length_fact(best.code_bits, best.compression),
        "learning curve": _curve_fact(best.curve),
        "minus layer 0": best.over_embedding is not None and format_difference(best.over_embedding),
        "minus prompt-only": summary["best_over_prompt"] is not None
        and format_difference(summary["best_over_prompt"]),
        "control tasks": best.control is not None
        and f"{format_figure(best.control)}, selectivity {format_figure(best.selectivity)}",
        summary["probe"]["parameter"]: best.strength is not None and _strength_fact(best),
    }
    return fact_table({name: fact for name, fact in facts.items() if fact})


def _curve_fact(curve: Sequence[Sequence[float | None]]) -> str:
    """The score after each number of training rows."""
    figures = [f"{format_figure(score)} with {rows or 0:,.0f}" for rows, score in curve]
    figures[:1] = [f"{first} training rows" for first in figures[:1]]
    return ", ".join(figures)


def _code_length_fact(bits: float, compression: float | None) -> str:
    words = f"{bits:,.0f} bits (online code)"
    if not compression:
        return words
    times, than = (compression, "shorter") if compression >= 1 else (1 / compression, "longer")
    return f"{words}, {format_figure(times, 2)} times {than} than the uniform code"


def _similar_layers_fact(scores: Sequence[LayerScore], best: LayerScore) -> str:
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
        layers = format_ranges(near).replace("-", "–").replace(",", ", ")
        return f"Not clearly different from layers {layers}."
    return f"Not clearly different from layer {near[0]}: {format_difference(others[near[0]])}."


def _strength_fact(best: LayerScore) -> list[str]:
    words = f"{best.strength:g} in the saved probe"
    if len(best.by_strength) < 2:
        return [words]
    times = Counter(best.strengths)
    splits = ", ".join(f"{value:g} in {n}" for value, n in sorted(times.items()))
    scores = ", ".join(f"{c}: {format_figure(one['score'])}" for c, one in best.by_strength.items())
    selected = f"{words}; selected in splits: {splits}"
    return [selected, f"score by value: {scores}"] if scores else [selected]


@dataclass(frozen=True, slots=True)
class _ClassTable:
    """Recall and precision by class, and the confusion matrix if the terminal is wide enough.

    Only the classes with the lowest recall are shown if there are more than `_CLASSES`.
    """

    best: LayerScore

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        room = options.max_width - _BESIDE_CONFUSION
        recall, confusion = self.best.recall or {}, self.best.confusion
        if confusion and _confusion_width(confusion) > room:
            confusion = None
        shown = sorted(recall, key=lambda name: recall[name] or 0.0)[:_CLASSES]
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
        recall, precision = self.best.recall or {}, self.best.precision or {}
        table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 1, 0, 0))
        table.add_column("class", overflow="fold", max_width=24)
        columns = ["recall", "precision"]
        columns += [f"→{i + 1}" for i in range(len(recall))] if confusion else []
        for column in columns:
            table.add_column(column, justify="right", no_wrap=True)
        for i, name in enumerate(recall):
            if name in shown:
                counts = [str(n) if n else "·" for n in confusion[i]] if confusion else []
                number = f"{i + 1} " if confusion else ""
                figures = [format_figure(recall[name]), format_figure(precision.get(name)), *counts]
                table.add_row(text_line(f"{number}{name}"), *figures)
        return table


def _confusion_width(confusion: Sequence[Sequence[int]]) -> int:
    digits = max(len(str(n)) for counts in confusion for n in counts)
    return len(confusion) * (1 + max(digits, len(f"→{len(confusion)}")))


def _warnings(summary: Mapping[str, Any], scores: Sequence[LayerScore]) -> list[str]:
    """One line for each reason to read the figures with care."""
    rows, parameter = summary["rows"], summary["probe"]["parameter"]
    lines = []
    n_edge, n_chosen = (
        sum(score.at_edge for score in scores), sum(len(score.strengths) for score in scores)
    )  # fmt: skip
    if n_edge:
        lines.append(
            f"{parameter} is at an end of the grid in {n_edge} of {n_chosen} choices; a wider "
            "grid may score higher"
        )
    if summary["n_permutations"] and summary["n_movable"] < rows["used"] / 2:
        lines.append(
            f"labels of {summary['n_movable']} of {rows['used']} rows can be permuted, because only "
            "groups of the same size exchange labels; more such groups would give smaller p values"
        )
    known = summary.get("n_prompt_known")
    if scores[0].selectivity is not None and known is not None and known < rows["test"] / 2:
        lines.append(
            f"{known} of {rows['test']} test rows have a prompt that also occurs in their training "
            "rows; a probe cannot memorise other prompts, so selectivity says little here"
        )
    lines += equal_states_lines(summary)
    if rows["done"] < rows["planned"]:
        lines.append(f"{rows['planned'] - rows['done']} failed or missing rows were left out")
    return lines + _failure_lines(rows["failed"], summary["failed_reasons"])


def equal_states_lines(summary: Mapping[str, Any]) -> list[str]:
    """One line if test rows have the states of training rows about other images."""
    n = summary.get("equal_states", 0)
    if not n:
        return []
    return [
        f"{n} of {summary['rows']['test']} test rows have the same states and label as a training row "
        "about another image, so images are copies and scores are too high; `vsp plan` without "
        "--keep-copies puts copies on one side"
    ]


def _failure_lines(n_failed: int, reasons: Mapping[str, int]) -> list[str]:
    """One line with the two most frequent reasons, if rows failed."""
    if not n_failed:
        return []
    shown = dict(list(reasons.items())[:2])
    words = [f"{n} × {why}" for why, n in shown.items()]
    rest = n_failed - sum(shown.values())
    words += [f"{rest} for other reasons (`vsp report --json` lists all)"] if rest else []
    return ["failed rows: " + "; ".join(words)]


def _plan(summary: Mapping[str, Any]) -> Plan:
    return parse(Plan, summary["plan"], f"results of run {summary['run']}")
