"""Parts of the Vega-Lite specifications of curves: places, bands, lines, marks, and the hover line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vsp.reporting.formatting import layer_axis
from vsp.reporting.page.page_run import PageRun

Spec = dict[str, Any]
COLOR: Spec = {"field": "color", "type": "nominal", "scale": None}
_DASH: Spec = {"field": "dash", "type": "nominal", "scale": None}
_LINE: list[Spec] = [{"field": "label", "type": "nominal"}]


def layer_place(runs: Sequence[PageRun], by_depth: bool) -> Spec:
    """The horizontal place: the number of a layer, or its depth."""
    layers = sorted({score.layer for run in runs for score in run.scores})
    title = "relative depth (0 = embedding output, 1 = last layer)"
    axis: Spec = {"title": title, "grid": False, "tickCount": 5}
    if not by_depth:
        title = layer_axis(runs[0].summary["plan"])
        axis = {"title": title, "grid": False, "tickMinStep": 1, "format": "d"}
        axis["tickCount"] = min(len(layers), 20)
    domain = [0, 1] if by_depth else [layers[0], max(layers[-1], layers[0] + 1)]
    scale = {"domain": domain, "zero": False, "nice": False, "padding": 10}
    name = "depth" if by_depth else "layer"
    return {"field": name, "type": "quantitative", "axis": axis, "scale": scale}


def score_place(lowest: float) -> Spec:
    axis = {"title": None, "format": ".1f", "tickCount": 6, "domain": False, "ticks": False}
    scale = {"domain": [min(lowest, 0.0), 1.0], "nice": False, "zero": False}
    return {"field": "score", "type": "quantitative", "axis": axis, "scale": scale}


def band(place: Spec, value: Spec, shown: str) -> Spec:
    return {
        "transform": [{"filter": f"{shown} && isValid(datum.low) && isValid(datum.high)"}],
        "mark": {"type": "area", "opacity": 0.16, "tooltip": None},
        "encoding": {
            "x": place, "y": {**value, "field": "low"}, "y2": {"field": "high"},
            "fill": COLOR, "detail": _LINE,
        },
    }  # fmt: skip


def lines(place: Spec, value: Spec) -> Spec:
    return {
        "mark": {"type": "line", "strokeWidth": 2, "strokeJoin": "round", "tooltip": None},
        "encoding": {"x": place, "y": value, "stroke": COLOR, "strokeDash": _DASH, "detail": _LINE},
    }


def marks(place: Spec, value: Spec, shown: str) -> Spec:
    """Marks on a line; the field `fill` says whether one is filled."""
    return {
        "transform": [{"filter": shown}],
        "mark": {"type": "point", "size": 42, "strokeWidth": 1.8, "opacity": 1, "tooltip": None},
        "encoding": {"x": place, "y": value, "stroke": COLOR, "fill": {**COLOR, "field": "fill"}},
    }


def cited(place: Spec, value: Spec, shown: str) -> list[Spec]:
    """A diamond with its interval, at the layer to cite."""
    ends = {"y": {**value, "field": "low"}, "y2": {"field": "high"}}
    rule = {"type": "rule", "strokeWidth": 1.6, "tooltip": None}
    mark = {"type": "point", "shape": "diamond", "size": 150, "strokeWidth": 2, "opacity": 1}
    only = [{"filter": shown}]
    return [
        {"transform": only, "mark": rule, "encoding": {"x": place, **ends, "stroke": COLOR}},
        {
            "transform": only,
            "mark": {**mark, "tooltip": None},
            "encoding": {"x": place, "y": value, "stroke": COLOR},
        },
    ]


def hover(place: Spec) -> Spec:
    """A line at the layer nearest to the pointer, with the figures of all lines that are shown."""
    name = place["field"]
    return {
        "transform": [{"pivot": "label", "value": "text", "op": "min", "groupby": [name]}],
        "params": [
            {
                "name": "hover",
                "select": {
                    "type": "point", "fields": [name], "nearest": True,
                    "on": "pointermove", "clear": "pointerout",
                },
            }
        ],
        "mark": {"type": "rule", "tooltip": {"content": "data"}, "color": "var(--muted)"},
        "encoding": {
            "x": place,
            "opacity": {"condition": {"param": "hover", "empty": False, "value": 0.6}, "value": 0},
        },
    }  # fmt: skip


def chosen(parameter: str, field: str) -> str:
    """An expression: the check boxes of `parameter` hold the value of `field`."""
    return f"indexof({parameter}, datum.{field}) >= 0"
