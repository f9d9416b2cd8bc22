"""`vsp report`: the results of a probed run, as a page for the terminal and as JSON."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table

from vsp.choices import DEFAULT_PROBE, LAST, position_words
from vsp.config import parse
from vsp.reporting.answer import answer
from vsp.reporting.answer_rows import answered_rows, rows_page
from vsp.reporting.cautions import cautions
from vsp.reporting.effects_facts import effects_json_of, effects_lines, effects_of_results
from vsp.reporting.erasure_facts import erasure_fact, erasure_notes
from vsp.reporting.formatting import (
    format_batch_effect,
    format_figure,
    format_interval,
    format_model,
    shorten_path,
)
from vsp.reporting.layer_table import holds_out_names, layer_notes, layer_table
from vsp.reporting.peak_facts import has_class_weights, peak_fact, peak_page, similar_layers_fact
from vsp.reporting.says_facts import lens_note, says_page, says_sentence
from vsp.reporting.untrained import Untrained, read_untrained
from vsp.storage.layer_score import LayerScore
from vsp.storage.ledger import BatchEffect
from vsp.storage.plan import Plan
from vsp.storage.results import Results
from vsp.storage.stored_settings import StoredSetting, stored_settings, why_stale
from vsp.utils.terminal import fact_table, folded_text, text_line


def report_json(results: Results, rows: str | None = None) -> dict[str, Any]:
    """The summary and the scores of every layer, as `vsp report --json` prints them.

    `rows` is a kind of ROW_KINDS; all rows of this kind are then listed.
    """
    summary, scores = results.read()
    layers = [asdict(score) for score in scores]
    untrained = read_untrained(results, summary)
    effects, problems = effects_of_results(results, summary)
    named = {
        "run": results.name,
        "setting": results.setting,
        "answer": _sentences(summary, scores),
        "cautions": [*cautions(summary, untrained), *problems],
        "effects": effects_json_of(effects),
        "stale": why_stale(results, summary["rows"]),
        "other_settings": [one.name for one in _other_settings(results)],
    }
    found = None if untrained is None else asdict(untrained)
    values = {**summary, **named, "layers": layers, "untrained_model": found}
    if rows is not None:
        values["listed_rows"] = [asdict(row) for row in answered_rows(results, rows)]
    return values


def first_sentences(results: Results) -> str:
    """The sentences with which the page begins, after a note about results of an older state."""
    summary, scores = results.read()
    return " ".join([*_stale_line(results, summary), _sentences(summary, scores)])


def report_page(results: Results, rows: str | None = None) -> RenderableType:
    """The page of `vsp report`, for 80 columns, with a list of `rows` as `report_json`."""
    summary, scores = results.read()
    best = next(score for score in scores if score.layer == summary["best_layer"])
    untrained = read_untrained(results, summary)
    parts: list[RenderableType] = [folded_text(_sentences(summary, scores), style="bold")]
    effects, problems = effects_of_results(results, summary)
    parts += [folded_text(line, style="bold") for line in effects_lines(effects)]
    doubts = [*_stale_line(results, summary), *cautions(summary, untrained), *problems]
    parts += _warning_lines(doubts)
    named = {**summary, "run": results.name, "setting": _settings_fact(results)}
    parts += [text_line(), _run_facts(named, scores, best), text_line()]
    parts += [layer_table(summary, scores, untrained), text_line()]
    notes = [
        *layer_notes(summary, scores),
        *lens_note(summary, scores),
        *erasure_notes(summary, scores),
        *_untrained_notes(summary, untrained),
    ]
    parts += [folded_text(note) for note in notes]
    parts += [text_line(), _baseline_table(summary, untrained), text_line()]
    parts += peak_page(summary, best, len(scores))
    says = says_page(summary)
    parts += [text_line(), *says] if says else []
    if rows is not None:
        parts += [text_line(), *rows_page(answered_rows(results, rows), rows)]
    warnings = report_warnings(summary, scores)
    parts += [text_line(), *_warning_lines(warnings)] if warnings else []
    return Group(*parts)


def _warning_lines(lines: Sequence[str]) -> list[RenderableType]:
    return [folded_text(f"! {line}", style="yellow") for line in lines]


def _stale_line(results: Results, summary: Mapping[str, Any]) -> list[str]:
    """One line if the run has other rows now."""
    why = why_stale(results, summary["rows"])
    return [f"stale: {why}; `vsp probe --run {results.name}` probes them"] if why else []


def _other_settings(results: Results) -> list[StoredSetting]:
    return [
        one
        for one in stored_settings(results.home)
        if one.results.folder.absolute() != results.folder.absolute()
    ]


def _settings_fact(results: Results) -> str:
    """The setting that is shown, and the others that `--probe` shows."""
    others = [one.name for one in _other_settings(results) if one.name]
    shown = results.setting or "older layout"
    return f"{shown}; --probe also shows {', '.join(others)}" if others else shown


def _sentences(summary: Mapping[str, Any], scores: Sequence[LayerScore]) -> str:
    """What the curve shows, and what the model says beside it."""
    return " ".join(filter(None, (answer(summary, scores), says_sentence(summary))))


def _run_facts(summary: Mapping[str, Any], scores: Sequence[LayerScore], best: LayerScore) -> Table:
    plan, rows, batching = _plan(summary), summary["rows"], summary["batching"]
    facts = {
        "run": summary["run"],
        "setting": summary["setting"],
        "model": format_model(plan.model),
        "dataset": f"{shorten_path(plan.dataset)}, prompt {plan.prompt}",
        "rows": (
            f"{rows['planned']} planned: {rows['done']} done, {rows['failed']} failed, "
            f"{rows['missing']} missing{_dropped_labels(summary)}"
        ),
        "states": (
            f"{position_words(summary['position'])}, {summary['n_layers']} layers × "
            f"{summary['hidden_size']}, computed in {plan.compute_dtype}, stored in {plan.dtype}"
        ),
        "imported": _imported_fact(plan),
        "batch effect": format_batch_effect(BatchEffect(**batching))
        if batching
        else "not measured",
        "split": split_fact(summary, best),
        "probe": probe_fact(summary["probe"]),
        "erased": erasure_fact(summary, best),
        "fits": _fits_fact(summary),
    }
    if len(scores) > 1:
        facts |= {"peak": peak_fact(summary), "other layers": similar_layers_fact(scores, best)}
    return fact_table({name: fact for name, fact in facts.items() if fact})


def _imported_fact(plan: Plan) -> str:
    """The layers of imported states, which may be numbered in another way."""
    if plan.imported is None:
        return ""
    known = plan.convention()
    numbered = "" if known.layers == tuple(range(plan.n_layers)) else "; numbered here from 0"
    assumed = " (assumed)" if known.assumed else ""
    return f"{known.describe()}{numbered}{assumed}"


def split_fact(summary: Mapping[str, Any], best: LayerScore) -> str:
    """The splits, and the rows on each side of the first one."""
    words = f"{summary['split']}; {best.n_train} training rows, {best.n_test} test rows"
    rows = summary["rows"]
    n_left_out = rows["used"] - best.n_train - best.n_test
    words += f", {n_left_out} in neither" if n_left_out else ""
    never = rows["used"] - rows["test"]
    if holds_out_names(summary) and never:
        words += f"; {never} of {rows['used']} rows are never tested"
    return words


def _dropped_labels(summary: Mapping[str, Any]) -> str:
    """Rows left out with --drop-label; results of older versions have none."""
    dropped = summary.get("dropped_labels", {})
    return "".join(f"; {n} of label {label!r} left out" for label, n in dropped.items())


def probe_fact(card: Mapping[str, Any]) -> str:
    words = [card["probe"], f"treatment {card['treatment']}"]
    if "own_code" not in card:  # else scores are those of the estimator
        words += {"sigmoid": ["one-vs-rest"], "softmax": ["softmax"]}.get(card["link"], [])
    if has_class_weights(card):
        words.append("class weights balanced")
    grid = card["grid"]
    if card["parameter"] and grid is None:
        words.append(f"{card['parameter']} selected on training rows from a grid for each layer")
    elif card["parameter"] and len(grid) > 1:
        listed = " ".join(f"{value:g}" for value in grid)
        words.append(f"{card['parameter']} selected on training rows from {listed}")
    elif card["parameter"]:
        words.append(f"{card['parameter']} = {grid[0]:g}")
    if card.get("not_saved"):
        words.append("not saved")
    return ", ".join(words)


def _fits_fact(summary: Mapping[str, Any]) -> str:
    n_fits, n_bad, gap = summary["n_fits"], summary["n_uncertified"], summary["max_gap"]
    if n_bad and gap is None:  # the probe computes no duality gap
        return f"{n_bad:,} of {n_fits:,} stopped before convergence"
    if n_bad:
        return (
            f"{n_bad:,} of {n_fits:,} did not reach a relative duality gap of "
            f"{summary['tolerance']:g}; the largest is {gap:.1g}"
        )
    return f"{n_fits:,}" + ("" if gap is None else f", relative duality gap at most {gap:.1g}")


def _untrained_notes(summary: Mapping[str, Any], untrained: Untrained | None) -> list[str]:
    """What the column of the untrained model is, or why there is none."""
    if untrained is None:
        missing = summary["untrained"]
        return [f"untrained: results/{missing} is no longer there."] if missing else []
    if untrained.why_not:
        return [f"untrained: results/{untrained.name} is not shown: {untrained.why_not}."]
    return [f"untr.: {summary['statistic']} of the model with random weights, {untrained.name}."]


def _baseline_table(summary: Mapping[str, Any], untrained: Untrained | None) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("baseline")
    table.add_column(summary["statistic"], justify="right")
    table.add_column(f"{summary['confidence']:.0%}", justify="right")
    baselines = dict(summary["baselines"])
    if untrained and untrained.peak:
        baselines["untrained model"] = untrained.peak
    for name, baseline in baselines.items():
        if baseline is not None:
            table.add_row(
                name, format_figure(baseline["score"]), text_line(format_interval(baseline))
            )
    return table


def report_warnings(summary: Mapping[str, Any], scores: Sequence[LayerScore]) -> list[str]:
    """One line for each reason to read the figures with care."""
    rows, parameter = summary["rows"], summary["probe"]["parameter"]
    lines = []
    at_edge = [score for score in scores if score.at_edge and score.layer]
    if at_edge:
        n_edge = sum(score.at_edge for score in at_edge)
        n_chosen = sum(len(score.strengths) for score in scores if score.layer)
        lines.append(
            f"{parameter} is at an end of the grid in {n_edge} of {n_chosen} choices, where its last "
            f"step still improved the inner score; a wider grid may score higher: {_wider(summary, at_edge)}"
        )
    if summary["n_permutations"] and summary["n_movable"] < rows["used"] / 2:
        lines.append(
            f"labels of {summary['n_movable']} of {rows['used']} rows can be permuted, because only "
            "groups of the same size exchange labels; more such groups would give smaller p values"
        )
    lines += _too_few_within(summary, scores) + _without_boxes(summary)
    lines += equal_states_lines(summary) + portion_lines(summary)
    if rows["done"] < rows["planned"]:
        lines.append(f"{rows['planned'] - rows['done']} failed or missing rows were left out")
    return lines + _failure_lines(rows["failed"], summary["failed_reasons"])


def _wider(summary: Mapping[str, Any], scores: Sequence[LayerScore]) -> str:
    """The command with a grid that reaches one power of ten further at both ends."""
    settings = summary.get("settings", {})
    words = ["--run", str(summary["run"])]
    for option, default in (("probe", DEFAULT_PROBE), ("position", LAST), ("metric", "auto")):
        value = str(settings.get(option, default))
        words += [f"--{option}", value] if value != default else []
    values = sorted({float(name) for score in scores for name in score.by_strength})
    grid = [values[0] / 10, *values, values[-1] * 10]
    return f"`vsp probe {shlex.join(words)} --grid {' '.join(f'{value:g}' for value in grid)}`"


def _too_few_within(summary: Mapping[str, Any], scores: Sequence[LayerScore]) -> list[str]:
    """Why there is no permutation test among rows with the same prompt."""
    n_within, n_tested = summary["n_within"], summary["rows"]["test"]
    if not summary["n_permutations"] or n_within is None or scores[0].p_within is not None:
        return []
    return [
        f"{n_within} of {n_tested} test rows share their prompt with a row of another label; a "
        "permutation test within prompts needs 100"
    ]


def _without_boxes(summary: Mapping[str, Any]) -> list[str]:
    n_without, n_used = summary["n_without_boxes"], summary["rows"]["used"]
    if n_without in (0, n_used):
        return []
    if "boxes" in summary["baselines"]:
        return [f"baseline boxes: {n_without} of {n_used} rows have no boxes and get their mean"]
    return [f"no baseline boxes: {n_without} of {n_used} rows have no boxes, more than 5 %"]


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


def portion_lines(summary: Mapping[str, Any]) -> list[str]:
    """One line if an estimator of the user could not be fitted on portions of the learning curve."""
    found = summary.get("portion_errors")
    if not found:
        return []
    return [
        f"{found['n']} fits on small portions of the training rows raised an error; the learning curve "
        f"has a gap there and the code length counts the uniform code. The first: {found['first']}"
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
