"""The confusion matrix of a layer that the reader chooses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vsp.escaping import one_line
from vsp.reporting.page.page_run import PageRun
from vsp.reporting.page.section import Chart, Control, Option, Section, Table
from vsp.storage.layer_score import LayerScore

_TITLE = "Which labels are confused"
_MOST_CLASSES = 60  # whose names can be read beside a matrix
_WRITTEN = 14  # classes up to which the cells hold counts
_MOST_CELLS = 60_000  # of all matrices: their size in the page
_MOST_ROWS = 240  # of the table; beyond it, only the selected layer is in it


def confusion_section(runs: Sequence[PageRun]) -> Section | None:
    """One matrix with a list of layers and, for several runs, of runs; None without classes."""
    many = [
        f"the confusion matrix of {run.name}, which has {len(run.classes)} labels; {_MOST_CLASSES} can be read"
        for run in runs
        if len(run.classes) > _MOST_CLASSES
    ]
    runs = [run for run in runs if 0 < len(run.classes) <= _MOST_CLASSES]
    if not runs:
        return Section("confusion", _TITLE, left_out=many) if many else None
    shown = {run.name: _layers(run, len(runs)) for run in runs}
    left_out = sum(len(run.scores) - len(shown[run.name]) for run in runs)
    words = "Rows are true labels, columns are predictions. Colour: share of the row's test rows."
    words += f" {left_out} layers are left out, to keep the page small." if left_out else ""
    chart = Chart(
        "confusion",
        _spec(runs, shown),
        "Predictions by true label",
        words,
        _table(runs),
        _controls(runs, shown),
    )
    return Section("confusion", _TITLE, charts=[chart], left_out=many)


def _layers(run: PageRun, n_runs: int) -> list[LayerScore]:
    """The layers that are drawn: all, or as many as the page has room for, with the selected one."""
    room = max(int(_MOST_CELLS / n_runs / len(run.classes) ** 2), 1)
    step = -(-len(run.scores) // room)
    return [
        score
        for number, score in enumerate(run.scores)
        if score.layer == run.selected or (room > 1 and number % step == 0)
    ]


def _controls(runs: Sequence[PageRun], shown: dict[str, list[LayerScore]]) -> list[Control]:
    layers = sorted({score.layer for scores in shown.values() for score in scores})
    first = runs[0]
    options = [
        Option(
            str(layer),
            f"layer {layer}" + (" (selected)" if layer == first.selected else ""),
            layer == first.selected,
        )
        for layer in layers
    ]
    controls = [Control("layer", "Layer", options, one=True)]
    if len(runs) > 1:
        names = [Option(run.name, run.name, run is first) for run in runs]
        controls.insert(0, Control("run", "Run", names, one=True))
    return controls


def _spec(runs: Sequence[PageRun], shown: dict[str, list[LayerScore]]) -> dict[str, Any]:
    n_classes = max(len(run.classes) for run in runs)
    step = min(72, max(14, 640 // n_classes))
    axis = {"domain": False, "ticks": False, "labelLimit": 140}
    names = {"type": "nominal", "sort": None}
    longest = max(len(one_line(name)) for run in runs for name in run.classes)
    angle = 0 if longest * 7 <= step else -40
    top = {**axis, "title": "predicted", "orient": "top", "labelAngle": angle}
    x = {**names, "field": "predicted", "axis": top}
    y = {**names, "field": "true", "axis": {**axis, "title": "true label"}}
    return {
        "width": {"step": step},
        "height": {"step": min(step, 56)},
        "data": {"values": _values(runs, shown)},
        "params": [
            {"name": "layer", "value": str(runs[0].selected)},
            {"name": "run", "value": runs[0].name},
        ],
        "transform": [
            {"filter": "datum.run === run && toString(datum.layer) === layer"},
            {"flatten": ["predicted", "n"]},
            {"calculate": "datum.total > 0 ? datum.n / datum.total : 0", "as": "share"},
        ],
        "encoding": {"x": x, "y": y},
        "layer": [_cells(), _counts()] if n_classes <= _WRITTEN else [_cells()],
    }  # fmt: skip


def _cells() -> dict[str, Any]:
    share = {
        "field": "share",
        "type": "quantitative",
        "scale": {"domain": [0, 1], "range": [0.04, 1]},
        "legend": None,
    }
    tips = [
        {"field": name, "title": title}
        for name, title in (("true", "true label"), ("predicted", "predicted"), ("n", "test rows"))
    ]
    tips.append({"field": "share", "title": "share", "format": ".3f"})
    return {
        "mark": {"type": "rect", "fill": "var(--heat)", "stroke": "var(--paper)", "strokeWidth": 2},
        "encoding": {"fillOpacity": share, "tooltip": tips},
    }


def _counts() -> dict[str, Any]:
    """The number of rows in each cell, light on dark cells."""
    color = {
        "condition": {"test": "datum.share > 0.55", "value": "var(--on-heat)"},
        "value": "var(--ink)",
    }
    return {
        "mark": {"type": "text", "fontSize": 13},
        "encoding": {"text": {"field": "n"}, "color": color},
    }


def _values(runs: Sequence[PageRun], shown: dict[str, list[LayerScore]]) -> list[dict[str, Any]]:
    """A row for each true label of each layer; its counts are a list."""
    return [
        {
            "run": run.name, "layer": score.layer, "true": one_line(name),
            "predicted": [one_line(one) for one in run.classes], "n": counts, "total": sum(counts),
        }
        for run in runs
        for score in shown[run.name]
        for name, counts in zip(run.classes, score.confusion or [], strict=True)
    ]  # fmt: skip


def _table(runs: Sequence[PageRun]) -> Table:
    classes = list(dict.fromkeys(name for run in runs for name in run.classes))
    n_rows = sum(len(run.scores) * len(run.classes) for run in runs)
    every = n_rows <= _MOST_ROWS
    rows = []
    for run in runs:
        for score in run.scores:
            if not every and score.layer != run.selected:
                continue
            for name, counts in zip(run.classes, score.confusion or [], strict=True):
                by_name = dict(zip(run.classes, counts, strict=True))
                rows.append((name, run.name, score.layer, *(by_name.get(one) for one in classes)))
    which = (
        "" if every else "Counts of the selected layer of each run; scores.jsonl has all layers."
    )
    columns = ("true label", "run", "layer", *(f"predicted {one}" for one in classes))
    return Table(columns, rows, which)
