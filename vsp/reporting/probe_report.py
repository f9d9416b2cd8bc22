"""`vsp report`: what a probed run found, as a page for the terminal and as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from vsp.cluster.status import far
from vsp.config import parse
from vsp.reporting.formatting import (
    format_difference,
    format_figure,
    format_interval,
    format_model,
    shorten_path,
)
from vsp.storage.journal import Worst
from vsp.storage.results import LayerScore, Results
from vsp.storage.run import Plan
from vsp.utils.terminal import fact_table, folded_text
from vsp.utils.text import format_ranges

_BAR = 22  # characters for a score of 1
_CONFUSION = 47  # columns of the terminal for a confusion matrix
_CLASSES = 20  # rows of the table of classes


def report_json(results: Results) -> dict[str, Any]:
    """The summary and every layer's scores, for machines."""
    summary, scores = results.read()
    return {**summary, "layers": [asdict(score) for score in scores]}


def report_table(results: Results) -> RenderableType:
    """What a probed run found, 80 columns wide."""
    summary, scores = results.read()
    best = next(score for score in scores if score.layer == summary["best_layer"])
    parts: list[RenderableType] = [
        _run_facts(summary, best),
        Text(),
        _layer_table(summary, scores),
        Text(),
    ]
    parts += [folded_text(note) for note in _layer_notes(summary, scores)]
    parts += [Text(), _baseline_table(summary), Text(), _best_layer_heading(best)]
    parts += [_best_layer_facts(summary, scores, best)]
    if best.recall is not None:
        parts += [Text(), *_class_tables(best)]
    warnings = _warnings(summary, scores)
    if warnings:
        parts += [Text(), *(folded_text(f"! {line}", style="yellow") for line in warnings)]
    return Group(*parts)


def run_title(summary: Mapping[str, Any]) -> str:
    """Dataset and model, in a line."""
    plan = _plan(summary)
    return f"{Path(plan.dataset).name} · {format_model(plan.model)}"


def _run_facts(summary: Mapping[str, Any], best: LayerScore) -> Table:
    plan, rows = _plan(summary), summary["rows"]
    facts = {
        "run": summary["run"],
        "model": format_model(plan.model),
        "dataset": f"{shorten_path(plan.dataset)}, prompt {plan.prompt}",
        "rows": (
            f"{rows['done']} done, {rows['failed']} failed, {rows['missing']} missing "
            f"of {rows['planned']}"
        ),
        "states": (
            f"{plan.n_layers} layers × {plan.hidden_size}, computed in {plan.compute_dtype}, "
            f"kept in {plan.dtype}"
        ),
        "batching": far(Worst(**summary["batching"])) if summary["batching"] else "not compared",
        "split": f"{summary['split']}; {best.n_train} rows to fit, {best.n_test} to judge",
        "probe": _probe_fact(summary["probe"]),
        "fits": _fits_fact(summary),
    }
    if summary["peak"] is not None:
        naive = f"the largest of the plain estimates is {format_figure(summary['peak']['naive'])}"
        facts["peak"] = f"{_peak_fact(summary)}; {naive}"
    return fact_table(facts)


def _peak_fact(summary: Mapping[str, Any]) -> str:
    """The layer that splits chose, and the score on rows that had no part in it."""
    peak = summary["peak"]
    times = sorted(peak["layers"].items(), key=lambda one: (-one[1], int(one[0])))
    n_splits = sum(peak["layers"].values())
    (layer, n), others = times[0], times[1:3]
    also = ", ".join(f"{one} in {k}" for one, k in others) + (", others less" if times[3:] else "")
    return (
        f"layer {layer} chosen in {n} of {n_splits} split{'s' * (n_splits > 1)}"
        f"{f' ({also})' if also else ''}; {format_figure(peak['estimate'])} {format_interval(peak)} on rows "
        "that did not choose it"
    )


def _probe_fact(card: Mapping[str, Any]) -> str:
    words = [card["probe"], f"treatment {card['treatment']}"]
    words += {"sigmoid": ["one against the rest"], "softmax": ["softmax"]}.get(card["link"], [])
    grid = card["grid"]
    if card["parameter"] and grid is None:
        words.append(f"{card['parameter']} chosen in the training rows, of each layer's own grid")
    elif card["parameter"] and len(grid) > 1:
        listed = " ".join(f"{value:g}" for value in grid)
        words.append(f"{card['parameter']} chosen in the training rows of {listed}")
    elif card["parameter"]:
        words.append(f"{card['parameter']} = {grid[0]:g}")
    return ", ".join(words)


def _fits_fact(summary: Mapping[str, Any]) -> str:
    n_fits, n_bad, gap = summary["n_fits"], summary["n_uncertified"], summary["max_gap"]
    if n_bad and gap is None:  # of a probe that has no certificate
        return f"{n_bad} of {n_fits} fits stopped before they had converged"
    if n_bad:
        worst = f"; the largest is {gap:.1g}"
        return f"{n_bad} of {n_fits} fits did not reach a gap of {summary['tolerance']:g}{worst}"
    return f"{n_fits} fits" if gap is None else f"all {n_fits} fits exact to a gap of {gap:.1g}"


def _layer_table(summary: Mapping[str, Any], scores: Sequence[LayerScore]) -> Table:
    """A row for each layer; a column that no layer has a figure for is left out."""
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
    table.add_column("", no_wrap=True)
    width = _BAR if len(columns) < 6 else _BAR - 8
    for score in scores:
        best = score.layer == summary["best_layer"]
        bar = _score_bar(score, width) + Text(" best" if best else "")
        cells = [Text(figure(score)) for figure in columns.values()]
        table.add_row(*cells, bar, style="bold green" if best else "")
    return table


def _score_bar(score: LayerScore, width: int) -> Text:
    """A bar of the score from 0 to 1, its interval light, with a mark where chance is."""
    sure, perhaps = (
        round(width * (score.score if one is None else one)) for one in (score.low, score.high)
    )
    cells = ["█" if i < sure else "▒" if i < perhaps else "·" for i in range(width)]
    if score.chance >= 0:
        cells[min(round(width * score.chance), width - 1)] = "│"
    return Text("".join(cells))


def _layer_notes(summary: Mapping[str, Any], scores: Sequence[LayerScore]) -> list[str]:
    by_label = summary["probe"]["target"] == "label"
    what = "the commonest training label" if by_label else "the mean of the training rows"
    notes = [
        f"▒ {summary['confidence']:.0%} interval, {summary['resamples']} resamples of "
        f"{summary['n_groups']} groups; │ chance, {summary['chance']:.3f}: always saying {what}"
    ]
    if any(score.selectivity is not None for score in scores):
        notes.append(
            "select.: selectivity, score less that of control tasks (a random label for each prompt)"
        )
    if summary["n_permutations"]:
        notes.append(
            f"p corr.: {summary['n_permutations']} refits with permuted labels, against the "
            "largest score of all layers"
        )
    return notes


def _baseline_table(summary: Mapping[str, Any]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("baseline")
    table.add_column(summary["statistic"], justify="right")
    table.add_column(f"{summary['confidence']:.0%}", justify="right")
    for name, baseline in summary["baselines"].items():
        if baseline is not None:
            table.add_row(name, format_figure(baseline["score"]), Text(format_interval(baseline)))
    return table


def _best_layer_heading(best: LayerScore) -> Text:
    heading = Text(f"best layer {best.layer}", style="bold")
    return heading.append(", which the training rows prefer", style="not bold")


def _best_layer_facts(
    summary: Mapping[str, Any], scores: Sequence[LayerScore], best: LayerScore
) -> Table:
    """Figures of one layer, by name; those that are not defined are left out."""
    balanced, f1 = format_figure(best.balanced_accuracy), format_figure(best.macro_f1)
    facts = {
        "score": f"{summary['statistic']} {format_figure(best.score)} {format_interval(asdict(best))}",
        "as good": _similar_layers_fact(scores, best),
        "error": best.rmse is not None and f"RMSE {best.rmse:.4g}",
        "classes": best.macro_f1 is not None and f"balanced accuracy {balanced}, macro F1 {f1}",
        "calibration": best.brier is not None
        and f"ECE {format_figure(best.ece)}, Brier {format_figure(best.brier)}",
        "code length": best.code_bits is not None
        and _code_length_fact(best.code_bits, best.compression),
        "curve": best.curve
        and ", ".join(f"{format_figure(score)} of {rows:,.0f} rows" for rows, score in best.curve),
        "over layer 0": best.over_embedding is not None and format_difference(best.over_embedding),
        "over prompts": summary["best_over_prompt"] is not None
        and format_difference(summary["best_over_prompt"]),
        "control": best.control is not None
        and f"{format_figure(best.control)}, selectivity {format_figure(best.selectivity)}",
        summary["probe"]["parameter"]: best.strength is not None and _strength_fact(best),
    }
    return fact_table({name: fact for name, fact in facts.items() if fact})


def _code_length_fact(bits: float, compression: float | None) -> str:
    words = f"{bits:,.0f} bits online"
    if not compression:
        return words
    times, than = (compression, "shorter") if compression >= 1 else (1 / compression, "longer")
    return f"{words}, {format_figure(times, 2)} times {than} than the uniform code"


def _similar_layers_fact(scores: Sequence[LayerScore], best: LayerScore) -> str:
    """Layers whose paired difference to the best could be none."""
    others = {s.layer: s.below_best for s in scores if s is not best and s.below_best}
    near = [
        layer
        for layer, difference in others.items()
        if difference["high"] is not None and difference["high"] >= 0
    ]
    if not others:
        return ""
    if not near:
        return "no other layer: all score less on the same rows, by more than the interval"
    if len(near) > 1:
        return f"perhaps layers {format_ranges(near)} on the same rows"
    return f"perhaps layer {near[0]} on the same rows, {format_difference(others[near[0]])}"


def _strength_fact(best: LayerScore) -> str:
    words = f"{best.strength:g} in the probe that is saved"
    if len(best.by_strength) < 2:
        return words
    times = Counter(best.strengths)
    splits = ", ".join(f"{value:g} in {n}" for value, n in sorted(times.items()))
    scores = ", ".join(f"{c}: {format_figure(one['score'])}" for c, one in best.by_strength.items())
    return f"{words}; in the splits: {splits}" + (f"\nscore at each: {scores}" if scores else "")


def _class_tables(best: LayerScore) -> list[RenderableType]:
    """Recall, precision and confusion of each class; of very many, those read worst."""
    recall, precision = best.recall or {}, best.precision or {}
    names = list(recall)
    confusion = best.confusion if best.confusion and _confusion_fits(best.confusion) else None
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 1, 0, 0))
    table.add_column("class", overflow="fold", max_width=24)
    columns = ["recall", "precision"]
    columns += [f"→{i + 1}" for i in range(len(names))] if confusion else []
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    shown = sorted(names, key=lambda name: recall[name])[:_CLASSES]
    for i, name in enumerate(names):
        if name in shown:
            counts = [str(n) if n else "·" for n in confusion[i]] if confusion else []
            number = f"{i + 1} " if confusion else ""
            figures = [format_figure(recall[name]), format_figure(precision.get(name)), *counts]
            table.add_row(Text(f"{number}{name}"), *figures)
    notes = []
    if confusion:
        notes.append("→1: rows of the class that are predicted as class 1")
    else:
        notes.append(f"confusion of {len(names)} classes: `vsp report --json` has it")
    if len(shown) < len(names):
        notes.append(f"the {len(shown)} of {len(names)} classes with the lowest recall are shown")
    return [table, *map(folded_text, notes)]


def _confusion_fits(confusion: Sequence[Sequence[int]]) -> bool:
    digits = max(len(str(n)) for counts in confusion for n in counts)
    return len(confusion) * (1 + max(digits, len(f"→{len(confusion)}"))) <= _CONFUSION


def _warnings(summary: Mapping[str, Any], scores: Sequence[LayerScore]) -> list[str]:
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
            f"labels of {summary['n_movable']} of {rows['used']} rows can be permuted, as groups "
            "stay whole; p is larger than it would be with more groups alike"
        )
    known = summary.get("n_prompt_known")
    if scores[0].selectivity is not None and known is not None and known < rows["test"] / 2:
        lines.append(
            f"{known} of {rows['test']} judged rows have a prompt that their probe was fitted "
            "on; what it never saw no probe can have memorised, so selectivity says little here"
        )
    if rows["used"] < rows["planned"]:
        lines.append(f"{rows['planned'] - rows['used']} rows failed or missing were left out")
    return lines + _failure_lines(rows["failed"], summary["failed_reasons"])


def _failure_lines(n_failed: int, reasons: Mapping[str, int]) -> list[str]:
    """Why rows failed, in a line; the two commonest reasons."""
    if not n_failed:
        return []
    shown = dict(list(reasons.items())[:2])
    words = [f"{n} × {why}" for why, n in shown.items()]
    rest = n_failed - sum(shown.values())
    words += [f"{rest} for other reasons; `vsp status --json` has all"] if rest else []
    return ["failed rows: " + "; ".join(words)]


def _plan(summary: Mapping[str, Any]) -> Plan:
    return parse(Plan, summary["plan"], f"results of run {summary['run']}")
