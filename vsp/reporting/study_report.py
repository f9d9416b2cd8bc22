"""`vsp report --study`: the question, its answer, the runs and the transfers, for the terminal and as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Group, RenderableType

from vsp.evaluation.transfer import Transfer
from vsp.reporting.axes_words import axes_cautions, axes_sentence, entanglement_sentence
from vsp.reporting.columns import Column, FittingTable, figure_cells
from vsp.reporting.effects_facts import effects_json_of, effects_lines
from vsp.reporting.formatting import format_figure, format_interval
from vsp.reporting.study_facts import FIGURES_NOTE, RoleFacts, StudyFacts, selected_layer
from vsp.reporting.transfer_page import shown_layer
from vsp.reporting.verdict_page import verdict_json, verdict_parts, verdict_sentence
from vsp.storage.axes import Axes, axes_json
from vsp.storage.study import ORIGINAL
from vsp.utils.terminal import fact_table, folded_text, text_line


def study_page(facts: StudyFacts) -> RenderableType:
    """The page of a study, for 80 columns."""
    study = facts.study
    parts: list[RenderableType] = []
    if study.question:
        parts += [folded_text(study.question, style="bold"), text_line()]
    if facts.verdict is not None:
        parts += [folded_text(verdict_sentence(facts.verdict), style="bold"), text_line()]
    if facts.answer:
        parts += [folded_text(facts.answer), text_line()]
    parts += [
        fact_table({"study": study.name, "model": study.model, "dataset": study.dataset}),
        text_line(),
        _run_table(facts.runs),
        text_line(),
        *map(folded_text, _run_notes(facts.runs)),
    ]
    if facts.transfers.transfers:
        parts += [text_line(), *_transfer_parts(facts.transfers.transfers)]
    if facts.axes is not None:
        parts += [text_line(), *map(folded_text, _axes_lines(facts.axes))]
    if facts.effects:
        parts += [text_line(), *map(folded_text, effects_lines(list(facts.effects)))]
    if facts.verdict is not None:
        parts += [text_line(), *verdict_parts(facts.verdict)]
    if facts.cautions:
        parts += [text_line(), *(folded_text(f"! {one}", style="yellow") for one in facts.cautions)]
    return Group(*parts)


def study_json(facts: StudyFacts) -> dict[str, Any]:
    """All that the page shows."""
    study = facts.study
    return {
        "study": study.name,
        "question": study.question,
        "model": study.model,
        "dataset": study.dataset,
        "with": list(study.variants),
        "on": list(study.on),
        "plan": dict(study.options),
        "answer": facts.answer,
        "runs": {one.role: _run_json(one) for one in facts.runs},
        "verdict": None if facts.verdict is None else verdict_json(facts.verdict),
        "axes": None if facts.axes is None else axes_json(facts.axes),
        "effects": effects_json_of(list(facts.effects)),
        "transfers": {role: asdict(one) for role, one in facts.transfers.transfers.items()},
        "cautions": list(facts.cautions),
    }


def _run_json(one: RoleFacts) -> dict[str, Any]:
    found: dict[str, Any] = {
        "run": one.listed.name,
        "setting": None if one.results is None else one.results.setting,
        "why_not": one.why_not,
        "stale": one.stale,
    }
    if one.summary:
        peak = one.summary["peak"]
        found |= {
            "statistic": one.summary["statistic"],
            "peak": {name: peak[name] for name in ("estimate", "low", "high", "layers")},
            "chance": one.summary["chance"],
            "words": one.words,
            "says": one.says,
        }
    return found


def _run_table(runs: Sequence[RoleFacts]) -> RenderableType:
    """A line for each run: the figure to cite, and what it is compared with."""
    columns = [
        Column("run", [text_line(one.role) for one in runs], is_bar=True),
        Column(_peak_head(runs), figure_cells([_peak(one) for one in runs])),
        Column("layer", figure_cells([_layer(one) for one in runs]), rank=3),
        Column("chance", figure_cells([_figure(one, "chance") for one in runs]), rank=4),
        Column("words", figure_cells([_score(one.words) for one in runs]), rank=1),
        Column("says", figure_cells([_score(one.says) for one in runs]), rank=2),
    ]
    styles = ["bold" if one.role == ORIGINAL else "" for one in runs]
    return FittingTable(columns, styles)


def _peak_head(runs: Sequence[RoleFacts]) -> str:
    statistics = dict.fromkeys(one.summary["statistic"] for one in runs if one.summary)
    return f"peak {' or '.join(statistics)}".strip()


def _peak(one: RoleFacts) -> str:
    if not one.summary:
        return "–"
    peak = one.summary["peak"]
    return f"{format_figure(peak['estimate'])} {format_interval(peak)}"


def _layer(one: RoleFacts) -> str:
    layer = selected_layer(one.summary) if one.summary else None
    return "–" if layer is None else str(layer)


def _figure(one: RoleFacts, name: str) -> str:
    return format_figure(one.summary.get(name))


def _score(found: Mapping[str, Any] | None) -> str:
    return "–" if found is None else format_figure(found["score"])


def _run_notes(runs: Sequence[RoleFacts]) -> list[str]:
    lines = [FIGURES_NOTE]
    confidences = dict.fromkeys(one.summary["confidence"] for one in runs if one.summary)
    if confidences:
        shares = " and ".join(f"{one:.0%}" for one in confidences)
        lines.append(f"{shares} intervals; `vsp report RUN` shows all layers of a run.")
    return lines


def _transfer_parts(transfers: Mapping[str, Transfer]) -> list[RenderableType]:
    """The probes of the original on the other runs."""
    first = next(iter(transfers.values()))
    shown = {role: shown_layer(one, None) for role, one in transfers.items()}
    scores = [
        "–" if one is None else f"{one.score:.3f} [{one.low:.3f}, {one.high:.3f}]"
        for one in shown.values()
    ]
    differences = [
        "–"
        if one is None or one.difference is None
        else f"{one.difference:+.3f}{'' if transfers[role].paired else '*'} "
        f"[{one.difference_low:+.3f}, {one.difference_high:+.3f}]"
        for role, one in shown.items()
    ]
    columns = [
        Column("probes on", [text_line(role) for role in transfers], is_bar=True),
        Column(first.statistic, figure_cells(scores)),
        Column("minus own", figure_cells(differences), rank=1),
        Column("chance", figure_cells([f"{one.chance:.3f}" for one in transfers.values()]), rank=2),
        Column("rows", figure_cells([f"{one.n_rows:,}" for one in transfers.values()]), rank=3),
    ]
    notes = [
        f"The probes of layer {first.selected}, which the training rows of the original select; nothing is "
        "fitted on the target. minus own: the score minus that on the original's test rows."
    ]
    if not all(one.paired for one in transfers.values()):
        notes.append("* between other rows; without a star, between the same rows.")
    lost = {
        role: sum(one.without_class.values())
        for role, one in transfers.items()
        if one.without_class
    }
    notes += [
        f"{role}: {n:,} rows have labels that the original does not have, and are left out."
        for role, n in lost.items()
    ]
    return [FittingTable(columns, [""] * len(transfers)), text_line(), *map(folded_text, notes)]


def _axes_lines(axes: Axes) -> list[str]:
    """What the swapped twin shows about the directions of relations."""
    return [
        *filter(None, (axes_sentence(axes), entanglement_sentence(axes))),
        *(f"Note: {note}." for note in axes_cautions(axes)),
        f"`vsp axes {axes.run} {axes.swapped}` shows all layers.",
    ]
