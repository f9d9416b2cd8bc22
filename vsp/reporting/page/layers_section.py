"""The table of all layers, and that of the baselines."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from vsp.reporting.layer_table import layer_notes
from vsp.reporting.page.answer_section import notes
from vsp.reporting.page.elements import disclosure, paragraphs, table
from vsp.reporting.page.markup import Html, joined, tag
from vsp.reporting.page.page_run import PageRun
from vsp.reporting.page.section import Cell, Section, Table
from vsp.storage.layer_score import LayerScore

_Value = Callable[[LayerScore], Cell]


def layers_section(runs: Sequence[PageRun]) -> Section:
    """The figures of each layer of each run; those of several runs are folded."""
    if len(runs) == 1:
        return Section("layers", "All layers", _of_run(runs[0]))
    parts = [disclosure(run.name, _of_run(run)) for run in runs]
    return Section("layers", "All layers", joined(parts))


def _of_run(run: PageRun) -> Html:
    columns = _columns(run)
    rows = [
        (_layer(run, score), *(value(score) for value in columns.values())) for score in run.scores
    ]
    of_layers = Table(("layer", *columns), rows)
    baselines = Table(
        ("baseline", run.statistic, "low", "high"),
        [(name, one["score"], one["low"], one["high"]) for name, one in _baselines(run).items()],
    )
    # The bar, line and arrow of the notes are those of the terminal.
    explained = [note for note in layer_notes(run.summary, run.scores) if note[:1] not in "▒│←"]
    return joined(
        [
            table(of_layers, f"Layers of {run.name}"),
            tag("p", f"* layer selected on training rows: {run.selected}", class_="small"),
            disclosure("What the columns are", paragraphs(explained)) if explained else None,
            tag("h3", "Baselines"),
            table(baselines, f"Baselines of {run.name}"),
            notes(run),
        ]
    )


def _layer(run: PageRun, score: LayerScore) -> Cell:
    return f"{score.layer} *" if score.layer == run.selected else score.layer


def _columns(run: PageRun) -> dict[str, _Value]:
    """Columns with a figure for any layer."""
    untrained = run.untrained.score if run.untrained else {}
    parameter = run.summary["probe"]["parameter"] or "strength"
    known: dict[str, _Value] = {
        run.statistic: lambda s: s.score,
        "low": lambda s: s.low,
        "high": lambda s: s.high,
        "p corr": lambda s: s.p_corrected,
        "p word": lambda s: s.p_within_corrected,
        "select": _selectivity,
        "untrained": lambda s: untrained.get(s.layer),
        "lens": lambda s: s.lens["score"] if s.lens else None,
        "balanced accuracy": lambda s: s.balanced_accuracy,
        "macro F1": lambda s: s.macro_f1,
        "RMSE": lambda s: s.rmse,
        "compression": lambda s: s.compression,
        parameter: lambda s: None if s.strength is None else f"{s.strength:g}",
    }
    if run.statistic == "balanced accuracy":
        known["accuracy"] = lambda s: s.accuracy
    return {
        name: value
        for name, value in known.items()
        if any(value(score) is not None for score in run.scores)
    }


def _selectivity(score: LayerScore) -> Cell:
    first = next(iter(score.controls.values()), {}).get("selectivity")
    return first["difference"] if first else None


def _baselines(run: PageRun) -> dict[str, dict[str, float | None]]:
    found = {name: one for name, one in run.summary["baselines"].items() if one is not None}
    if run.untrained and run.untrained.peak:
        found["untrained model"] = dict(run.untrained.peak)
    return found
