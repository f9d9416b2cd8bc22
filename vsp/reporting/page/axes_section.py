"""Relation axes: curves of coherence, and the cosines between axes in a chosen layer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from vsp.choices import position_words
from vsp.errors import RunError
from vsp.reporting.answer import LEVEL
from vsp.reporting.axes_words import (
    axes_cautions,
    axes_sentence,
    axis_name,
    axis_pairs,
    cosines_of,
    entanglement_sentence,
    equal_words,
    figure,
    interval_words,
    is_coherent,
    left_out_words,
    pair_name,
    usual_entry,
)
from vsp.reporting.page.curve_lines import N_COLORS
from vsp.reporting.page.curve_spec import band, chosen, hover, lines, marks, score_place
from vsp.reporting.page.elements import paragraphs
from vsp.reporting.page.messages import without_folders
from vsp.reporting.page.page_run import PageRun
from vsp.reporting.page.section import Cell, Chart, Control, Option, Section, Sentence, Table
from vsp.storage.axes import axes_file, read_axes, stored_axes
from vsp.storage.sealed_summary import identity_of

if TYPE_CHECKING:
    from vsp.storage.axes import Axes

Spec = dict[str, Any]

_TITLE = "Directions of relations"
_METHOD = Sentence(
    "Directions of relations are means of the differences between the states of a row and those of its twin "
    "with subject and reference exchanged, tested by sign flips of groups and corrected over layers and axes "
    "by the maximum statistic.",
    ("contrastive", "maximum"),
)


def axes_of_runs(runs: Sequence[PageRun]) -> tuple[list[Axes], list[str]]:
    """The axes that the results of runs keep, and why other files of axes are left out."""
    found: list[Axes] = []
    left_out: list[str] = []
    for home, run in {run.results.home: run for run in runs}.items():
        for swapped, position in stored_axes(home):
            try:
                axes = read_axes(home, swapped, position)
            except RunError as error:
                left_out.append(without_folders(str(error), run))
                continue
            if axes is not None and axes.identity == identity_of(run.summary):
                found.append(axes)
            elif axes is not None:
                path = without_folders(str(axes_file(home, swapped, position).absolute()), run)
                left_out.append(
                    f"{path}: belongs to an earlier plan of {run.name}; run `vsp axes` again"
                )
    return found, left_out


def axes_section(found: Sequence[Axes], left_out: Sequence[str] = ()) -> Section | None:
    """The axes of one run, or of several in a list; None without axes and without files left out."""
    if not found:
        return Section("axes", _TITLE, left_out=left_out) if left_out else None
    body = [line for one in found for line in _lines(one, len(found))]
    charts = [_coherence_chart(found)]
    if any(len(one.axes) > 1 for one in found):
        charts.append(_cosine_chart(found))
    return Section("axes", _TITLE, paragraphs(body), charts, methods=[_METHOD], left_out=left_out)


def _lines(axes: Axes, n: int) -> list[str]:
    """What the charts of these axes show, in sentences."""
    about = f"{_name(axes)}: " if n > 1 else ""
    equal = equal_words(axes)
    left_out = "; ".join(left_out_words(axes))
    return [
        about + " ".join(filter(None, (axes_sentence(axes), entanglement_sentence(axes)))),
        f"{axes.n_rows:,} rows in {axes.n_groups:,} groups of {axes.run} and its swapped twin "
        f"{axes.swapped}, {position_words(axes.position)}."
        + (f" Left out: {left_out}." if left_out else "")
        + (f" States of {equal}." if equal else ""),
        *(f"Note: {note}." for note in axes_cautions(axes)),
    ]


def _name(axes: Axes) -> str:
    return f"{axes.run} and {axes.swapped}, {position_words(axes.position)}"


def _coherence_chart(found: Sequence[Axes]) -> Chart:
    names = list(dict.fromkeys(axis_name(axis) for one in found for axis in one.axes))
    colors = {name: number % N_COLORS + 1 for number, name in enumerate(names)}
    options = [Option(name, name, color=color) for name, color in colors.items()]
    shown = Control("axes", "Show", [*options, Option("band", "intervals")])
    return Chart(
        "axes-coherence",
        _coherence_spec(found, colors),
        "Coherence of each axis by layer",
        "Mean cosine of the differences between the run and its swapped twin, of two rows of different "
        "groups, signed by the label: 0 without a common direction, 1 if all agree. Bands: "
        f"{found[0].confidence:.0%} intervals; filled marks: p < {LEVEL:g}, corrected over layers and axes.",
        Table(
            ("axis", "run", "layer", "coherence", "low", "high", "between labels", "corrected p"),
            [row for one in found for row in _coherence_rows(one)],
        ),
        [*_which(found), shown],
    )


def _which(found: Sequence[Axes]) -> list[Control]:
    """A list of runs, if there are several."""
    options = [Option(str(i), _name(one), i == 0) for i, one in enumerate(found)]
    return [Control("of", "Run", options, one=True)] if len(found) > 1 else []


def _coherence_rows(axes: Axes) -> Iterator[tuple[Cell, ...]]:
    for i, axis in enumerate(axes.axes):
        for entry, layer in enumerate(axes.layers):
            arrays = (
                axes.coherence, axes.coherence_low, axes.coherence_high, axes.between_labels,
                axes.p_corrected,
            )  # fmt: skip
            values = (_number(array[entry, i]) for array in arrays)
            yield axis_name(axis), _name(axes), layer, *values


def _number(value: Any) -> float | None:
    return None if np.isnan(value) else float(value)


def _coherence_spec(found: Sequence[Axes], colors: dict[str, int]) -> Spec:
    layers = sorted({layer for one in found for layer in one.layers})
    axis = {"title": "layer", "grid": False, "tickMinStep": 1, "format": "d"}
    axis["tickCount"] = min(len(layers), 20)
    domain = [layers[0], max(layers[-1], layers[0] + 1)]
    scale = {"domain": domain, "zero": False, "nice": False, "padding": 10}
    place = {"field": "layer", "type": "quantitative", "axis": axis, "scale": scale}
    value = score_place(min(float(np.nanmin(one.coherence_low, initial=0.0)) for one in found))
    shown = f"datum.of === of && {chosen('axes', 'axis')}"
    return {
        "width": "container",
        "height": 300,
        "data": {
            "values": [v for i, one in enumerate(found) for v in _coherence_values(one, i, colors)]
        },
        "params": [
            {"name": "of", "value": "0"},
            {"name": "axes", "value": [*colors, "band"]},
        ],
        "transform": [{"filter": shown}],
        "layer": [
            band(place, value, "indexof(axes, 'band') >= 0"),
            lines(place, value),
            marks(place, value, "isValid(datum.score)"),
            hover(place),
        ],
    }


def _coherence_values(axes: Axes, number: int, colors: dict[str, int]) -> Iterator[Spec]:
    for i, axis in enumerate(axes.axes):
        name = axis_name(axis)
        color = f"var(--c{colors[name]})"
        for entry, layer in enumerate(axes.layers):
            value, low, high = (
                _number(array[entry, i])
                for array in (axes.coherence, axes.coherence_low, axes.coherence_high)
            )
            if value is None:
                continue
            yield {
                "of": str(number), "axis": name, "label": name, "layer": layer, "score": value,
                "low": low, "high": high, "color": color, "dash": [1, 0],
                "fill": color if is_coherent(axes, entry, i) else "var(--paper)",
                "text": f"{figure(value)} {interval_words(low or 0.0, high or 0.0)}",
            }  # fmt: skip


def _cosine_chart(found: Sequence[Axes]) -> Chart:
    usual = found[0].layers[usual_entry(found[0])]
    layers = sorted({layer for one in found for layer in one.layers})
    options = [
        Option(
            str(layer),
            f"layer {layer}" + (" (highest mean coherence)" if layer == usual else ""),
            layer == usual,
        )
        for layer in layers
    ]
    return Chart(
        "axes-cosines",
        _cosine_spec(found, usual),
        "Cosines between axes",
        "Cosine of the mean directions of two axes, the first label of each counting as positive: 0 if "
        "they are independent, 1 or -1 if they are one direction. A dash: one of them is not coherent.",
        Table(
            ("directions", "run", "layer", "cosine", "low", "high"),
            [row for one in found for row in _cosine_rows(one)],
        ),
        [*_which(found), Control("layer", "Layer", options, one=True)],
    )


def _cosine_rows(axes: Axes) -> Iterator[tuple[Cell, ...]]:
    for entry, layer in enumerate(axes.layers):
        arrays = cosines_of(axes, entry)
        for pair in axis_pairs(axes):
            values = (_number(array[pair]) for array in arrays)
            yield pair_name(axes, *pair), _name(axes), layer, *values


def _cosine_spec(found: Sequence[Axes], usual: int) -> Spec:
    axis = {"domain": False, "ticks": False, "labelLimit": 140, "title": None}
    names = {"type": "nominal", "sort": None}
    x = {**names, "field": "other", "axis": {**axis, "orient": "top", "labelAngle": 0}}
    y = {**names, "field": "axis", "axis": axis}
    scale = {"domain": [0, 1], "range": [0.04, 1]}
    tips = [
        {"field": "axis", "title": "axis"},
        {"field": "other", "title": "with"},
        {"field": "tip", "title": "cosine"},
    ]
    cells = {
        "mark": {"type": "rect", "stroke": "var(--paper)", "strokeWidth": 2},
        "encoding": {
            "fill": {"field": "fill", "type": "nominal", "scale": None},
            "fillOpacity": {
                "field": "size",
                "type": "quantitative",
                "scale": scale,
                "legend": None,
            },
            "tooltip": tips,
        },
    }
    ink = {
        "condition": {"test": "datum.size > 0.55", "value": "var(--on-heat)"},
        "value": "var(--ink)",
    }
    texts = [
        {
            "mark": {"type": "text", "fontSize": size, "dy": dy},
            "encoding": {"text": {"field": field}, "color": ink},
        }
        for field, size, dy in (("text", 14, -7), ("bounds", 11, 10))
    ]
    return {
        "width": {"step": 112},
        "height": {"step": 56},
        "data": {"values": [v for i, one in enumerate(found) for v in _cosine_values(one, i)]},
        "params": [{"name": "of", "value": "0"}, {"name": "layer", "value": str(usual)}],
        "transform": [{"filter": "datum.of === of && toString(datum.layer) === layer"}],
        "encoding": {"x": x, "y": y},
        "layer": [cells, *texts],
    }


def _cosine_values(axes: Axes, number: int) -> Iterator[Spec]:
    names = [axis_name(axis) for axis in axes.axes]
    for entry, layer in enumerate(axes.layers):
        cosine, low, high = cosines_of(axes, entry)
        for (i, j), value in np.ndenumerate(cosine):
            has_interval = i != j and not np.isnan(value)
            ends = float(low[i, j]), float(high[i, j])
            bounds = interval_words(*ends) if has_interval else ""
            yield {
                "of": str(number), "layer": layer, "axis": names[i], "other": names[j],
                "size": abs(_number(value) or 0.0), "text": figure(float(value)), "bounds": bounds,
                "tip": f"{figure(float(value))} {bounds}".rstrip(),
                "fill": "var(--heat-minus)" if value < 0 else "var(--heat)",
            }  # fmt: skip
