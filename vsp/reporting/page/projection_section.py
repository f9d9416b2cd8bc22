"""Held-out rows of a layer in two dimensions, with the colour and shape of their label."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from vsp.errors import ProbeError, RunError, StoreError
from vsp.escaping import one_line
from vsp.evaluation.projection import LDA, PCA, Projections, project
from vsp.reporting.page.elements import paragraphs
from vsp.reporting.page.messages import without_folders
from vsp.reporting.page.page_run import PageRun
from vsp.reporting.page.section import Chart, Control, Option, Section, Sentence, Table
from vsp.utils.text import format_count

_MOST_ROWS, _FEW_ROWS = 400, 150  # points of a layer; fewer on a page of several runs
_MOST_LAYERS, _FEW_LAYERS = 6, 3  # to choose from
_N_COLORS = 8  # of the style sheet
_MOST_LABELS = 24  # that colours and shapes tell apart
_SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "stroke")
_TITLE = "States in two dimensions"
_METHOD = Sentence(
    "Held-out states are shown in the first two directions of a principal component analysis and of a linear "
    "discriminant analysis with a shrunk covariance, both fitted on training rows.",
    ("pca", "lda", "shrinkage"),
)


def projection_section(runs: Sequence[PageRun], small: bool = False) -> Section | None:
    """Some layers of the first run with labels; a line that says why if they cannot be read.

    `small`: fewer rows and layers, for a page of many runs.
    """
    run = next((run for run in runs if run.classes), None)
    if run is None:
        return None
    try:
        found = project(
            run.results,
            _layers(run, _FEW_LAYERS if small else _MOST_LAYERS),
            _FEW_ROWS if small else _MOST_ROWS,
        )
    except (RunError, StoreError, ProbeError) as error:
        line = without_folders(f"States cannot be projected: {error}.", run)
        return Section("projection", _TITLE, paragraphs([line]))
    shown = [one for one in found.layers if one.points]
    if not shown or not len(found.id):
        line = "States cannot be projected: they are the same for all training rows."
        return Section("projection", _TITLE, paragraphs([line]))
    return Section(
        "projection",
        _TITLE,
        paragraphs(_words(run, found, small or len(runs) > 1)),
        [_chart(run, found)],
        methods=[_METHOD],
    )


def _layers(run: PageRun, most: int) -> list[int]:
    """The selected, the first and the last layer, and evenly spaced ones between."""
    layers = [score.layer for score in run.scores]
    places = np.linspace(0, len(layers) - 1, min(most, len(layers))).round().astype(int)
    chosen = [layers[place] for place in places]
    if run.selected not in chosen:  # in place of the nearest one between
        between = range(1, len(chosen) - 1) if len(chosen) > 2 else range(len(chosen))
        nearest = min(between, key=lambda one: abs(chosen[one] - run.selected))
        chosen[nearest] = run.selected
    return sorted(set(chosen))


def _words(run: PageRun, found: Projections, several: bool) -> list[str]:
    n_shown = len(found.id)
    of_all = (
        f"All {n_shown:,}"
        if n_shown == found.n_held_out
        else f"{n_shown:,} of {found.n_held_out:,}"
    )
    of_run = f" of {run.name}" if several else ""
    lines = [
        f"{of_all} rows{of_run} that the first split holds out; position: {run.position}. The directions are "
        f"fitted on {format_count(found.n_training, 'training row')} of that split, which are not shown: "
        "LDA separates the rows that it is fitted on even where a layer knows nothing.",
        "Values are standardised. PCA takes the directions of the largest variance, LDA those that "
        "separate labels best, of the first principal components. Two dimensions hide what further "
        "ones have: labels that overlap here may be read well by the probe.",
    ]
    if found.second_is_component:
        lines.append(
            "There are two labels, so LDA has one direction; the second is that of PCA's first."
        )
    flat = [str(one.layer) for one in found.layers if not one.points]
    if flat:
        lines.append(f"Left out, since all states are the same: layer {', '.join(flat)}.")
    n_more = len(run.scores) - len(found.layers)
    if n_more:
        lines.append(f"Layers between that are left out, to keep the page small: {n_more}.")
    return lines


def _chart(run: PageRun, found: Projections) -> Chart:
    layers = [one.layer for one in found.layers if one.points]
    first = run.selected if run.selected in layers else layers[-1]
    names = [
        Option(
            str(layer), f"layer {layer}" + (" (selected)" if layer == run.selected else ""),
            layer == first,
        )
        for layer in layers
    ]  # fmt: skip
    methods = [one for one in (LDA, PCA) if any(one in layer.points for layer in found.layers)]
    return Chart(
        "projection",
        _spec(found, str(first), methods),
        "Held-out rows by label",
        "Each mark is a row. Its colour and shape are those of its label.",
        _table(found),
        [
            Control("layer", "Layer", names, one=True),
            Control(
                "method",
                "Method",
                [Option(one, one, one == methods[0]) for one in methods],
                one=True,
            ),
        ],
        "high",
    )


def _spec(found: Projections, layer: str, methods: Sequence[str]) -> dict[str, Any]:
    labels = sorted({one_line(str(one)) for one in found.label})
    colors = [f"var(--c{number % _N_COLORS + 1})" for number in range(len(labels))]
    shapes = [_SHAPES[number % len(_SHAPES)] for number in range(len(labels))]
    legend = {
        "orient": "bottom",
        "columns": 3,
        "title": None,
        "labelLimit": 150,
        "symbolLimit": _MOST_LABELS,
    }
    return {
        "width": "container",
        "height": 420,
        "data": {"values": _values(found)},
        "params": [{"name": "layer", "value": layer}, {"name": "method", "value": methods[0]}],
        "transform": [
            {"calculate": "datum['x' + method + layer]", "as": "x"},
            {"calculate": "datum['y' + method + layer]", "as": "y"},
            {"filter": "isValid(datum.x)"},
        ],
        "mark": {"type": "point", "size": 50, "opacity": 0.85, "strokeWidth": 1.6},
        "encoding": {
            "x": _axis("x", "first direction"),
            "y": _axis("y", "second direction"),
            "color": {"field": "label", "type": "nominal", "legend": legend,
                      "scale": {"domain": labels, "range": colors}},
            "shape": {"field": "label", "type": "nominal", "legend": legend,
                      "scale": {"domain": labels, "range": shapes}},
            "tooltip": [{"field": name, "type": "nominal"} for name in ("label", "row")],
        },
    }  # fmt: skip


def _axis(field: str, title: str) -> dict[str, Any]:
    return {
        "field": field, "type": "quantitative", "scale": {"zero": False, "nice": False, "padding": 12},
        "axis": {"title": title, "labels": False, "ticks": False, "grid": False},
    }  # fmt: skip


def _values(found: Projections) -> list[dict[str, Any]]:
    """A value for each row: its coordinates by method and layer, as `xLDA12` and `yLDA12`."""
    values: list[dict[str, Any]] = [
        {"label": one_line(str(label)), "row": one_line(str(row_id))}
        for label, row_id in zip(found.label, found.id, strict=True)
    ]
    for one in found.layers:
        for method, points in one.points.items():
            for value, (x, y) in zip(values, points.tolist(), strict=True):
                value[f"x{method}{one.layer}"] = float(f"{x:.4g}")
                value[f"y{method}{one.layer}"] = float(f"{y:.4g}")
    return values


def _table(found: Projections) -> Table:
    """Where the rows of each label are: their mean and spread in each layer."""
    rows = []
    for one in found.layers:
        for method, points in one.points.items():
            for label in np.unique(found.label):
                of_label = points[found.label == label]
                mean, spread = of_label.mean(axis=0), of_label.std(axis=0)
                rows.append((one.layer, method, one_line(str(label)), len(of_label),
                             float(mean[0]), float(spread[0]), float(mean[1]), float(spread[1])))  # fmt: skip
    columns = ("layer", "method", "label", "rows", "mean of the first direction", "spread",
               "mean of the second direction", "spread")  # fmt: skip
    return Table(columns, rows)
