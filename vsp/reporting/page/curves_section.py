"""Curves: the score of each layer with its interval, and what it must be compared with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from vsp.choices import position_words
from vsp.reporting.answer import beats_chance
from vsp.reporting.curve_plot import is_by_depth, layer_places
from vsp.reporting.formatting import format_figure, layer_axis
from vsp.reporting.page.page_run import N_COLORS, PageRun
from vsp.reporting.page.section import Chart, Control, Option, Section, Table

# Kind of line: its words, colour and dash if one run is shown. Several runs have a colour each.
_KINDS = {
    "probe": ("probe (knows)", 1, ""),
    "says": ("the model's answer (says)", 4, "dashed"),
    "lens": ("logit lens", 6, "dotted"),
    "control": ("control tasks", 2, "dashed"),
    "untrained": ("untrained model", 3, "dashed"),
    "words": ("words alone", 5, "dotted"),
    "chance": ("chance", 7, "dotted"),
}
_DASHES = {"": [1, 0], "dashed": [7, 4], "dotted": [2, 3]}


@dataclass(frozen=True, slots=True)
class _Point:
    layer: int
    score: float
    low: float | None = None
    high: float | None = None
    tested: bool | None = None  # above chance at the corrected level; None: no test


@dataclass(frozen=True, slots=True)
class _Line:
    run: PageRun
    kind: str
    color: int
    points: Sequence[_Point]


def curves_section(runs: Sequence[PageRun]) -> Section:
    """The curves of the runs in one chart."""
    lines = [line for number, run in enumerate(runs) for line in _lines(run, number, len(runs))]
    return Section("curves", "Score by layer", charts=[_chart(runs, lines)])


def _lines(run: PageRun, number: int, n_runs: int) -> Iterator[_Line]:
    for kind, (_, color, _) in _KINDS.items():
        points = _points(run, kind)
        if points:
            yield _Line(run, kind, color if n_runs == 1 else number % N_COLORS + 1, points)


def _points(run: PageRun, kind: str) -> list[_Point]:
    """The points of a kind of line; empty if the run has none."""
    summary, scores = run.summary, run.scores
    if kind == "probe":
        return [
            _Point(
                s.layer, s.score, s.low, s.high, None if s.p_corrected is None else beats_chance(s)
            )
            for s in scores
        ]
    if kind == "chance":
        return [_Point(s.layer, summary["chance"]) for s in scores]
    return []


def _chart(runs: Sequence[PageRun], lines: Sequence[_Line]) -> Chart:
    by_depth = is_by_depth([run.summary for run in runs], None)
    kinds = [kind for kind in _KINDS if any(line.kind == kind for line in lines)]
    spec = _spec(runs, lines, kinds, by_depth)
    return Chart(
        "curves",
        spec,
        f"{runs[0].summary['statistic']} of each layer",
        f"Bands are {runs[0].summary['confidence']:.0%} intervals. Filled marks are above chance.",
        _table(lines),
        _controls(runs, lines, kinds),
    )


def _controls(
    runs: Sequence[PageRun], lines: Sequence[_Line], kinds: Sequence[str]
) -> list[Control]:
    shown = [
        Option(kind, _KINDS[kind][0], color=_KINDS[kind][1] if len(runs) == 1 else None,
               dash=_KINDS[kind][2])
        for kind in kinds
    ]  # fmt: skip
    controls = [Control("kinds", "Show", [*shown, Option("band", "intervals")])]
    if len(runs) > 1:
        colors = {line.run.name: line.color for line in lines}
        chosen = [Option(run.name, run.name, color=colors[run.name]) for run in runs]
        controls.insert(0, Control("runs", "Runs", chosen))
    return controls


def _values(
    runs: Sequence[PageRun], lines: Sequence[_Line], by_depth: bool
) -> list[dict[str, Any]]:
    values = []
    for line in lines:
        label = _KINDS[line.kind][0]
        label = label if len(runs) == 1 else f"{line.run.name}: {label}"
        color = f"var(--c{line.color})"
        places = layer_places([point.layer for point in line.points], line.run.summary, by_depth)
        for place, point in zip(places, line.points, strict=True):
            values.append(
                {
                    "run": line.run.name, "kind": line.kind, "label": label, "layer": place,
                    "score": point.score, "low": point.low, "high": point.high, "color": color,
                    "fill": "var(--paper)" if point.tested is False else color,
                    "text": _point_text(point),
                }
            )  # fmt: skip
    return values


def _point_text(point: _Point) -> str:
    if point.low is None or point.high is None:
        return format_figure(point.score)
    return f"{point.score:.3f} [{point.low:.3f}, {point.high:.3f}]"


def _spec(
    runs: Sequence[PageRun], lines: Sequence[_Line], kinds: Sequence[str], by_depth: bool
) -> dict[str, Any]:
    shown = "indexof(kinds, datum.kind) >= 0 && indexof(runs, datum.run) >= 0"
    place = {"field": "layer", "type": "quantitative", "axis": _layer_axis(runs, by_depth)}
    color = {"field": "color", "type": "nominal", "scale": None}
    value = {"field": "score", "type": "quantitative", "axis": {"title": None, "format": ".1f"}}
    value["scale"] = _domain(lines)
    detail = [{"field": "label", "type": "nominal"}]
    looks = [
        {
            "transform": [{"filter": f"datum.kind === '{kind}'"}],
            "mark": {"type": "line", "strokeDash": _DASHES[_KINDS[kind][2]], "strokeWidth": 2},
            "encoding": {"x": place, "y": value, "stroke": color, "detail": detail},
        }
        for kind in kinds
    ]
    band = {
        "transform": [{"filter": "indexof(kinds, 'band') >= 0 && isValid(datum.low)"}],
        "mark": {"type": "area", "opacity": 0.18},
        "encoding": {"x": place, "y": {**value, "field": "low"}, "y2": {"field": "high"}, "fill": color, "detail": detail},
    }  # fmt: skip
    points = {
        "transform": [{"filter": "datum.kind === 'probe'"}],
        "mark": {"type": "point", "size": 45, "strokeWidth": 1.8, "opacity": 1},
        "encoding": {"x": place, "y": value, "stroke": color, "fill": {**color, "field": "fill"}},
    }
    return {
        "width": "container",
        "height": 320,
        "data": {"values": _values(runs, lines, by_depth)},
        "params": [
            {"name": "kinds", "value": [*kinds, "band"]},
            {"name": "runs", "value": [run.name for run in runs]},
        ],
        "transform": [{"filter": shown}],
        "layer": [band, *looks, points, _hover(place)],
    }


def _hover(place: dict[str, Any]) -> dict[str, Any]:
    """A line at the layer under the pointer, with the figures of all curves that are shown."""
    return {
        "transform": [{"pivot": "label", "value": "text", "op": "min", "groupby": ["layer"]}],
        "params": [
            {
                "name": "hover",
                "select": {
                    "type": "point", "fields": ["layer"], "nearest": True,
                    "on": "pointermove", "clear": "pointerout",
                },
            }
        ],
        "mark": {"type": "rule", "tooltip": {"content": "data"}, "color": "var(--muted)"},
        "encoding": {
            "x": place,
            "opacity": {"condition": {"param": "hover", "empty": False, "value": 0.5}, "value": 0},
        },
    }  # fmt: skip


def _layer_axis(runs: Sequence[PageRun], by_depth: bool) -> dict[str, Any]:
    if by_depth:
        title = "relative depth (0 = embedding output, 1 = last layer)"
        return {"title": title, "grid": False, "tickCount": 5}
    return {"title": layer_axis(runs[0].summary["plan"]), "grid": False, "tickMinStep": 1}


def _domain(lines: Sequence[_Line]) -> dict[str, Any]:
    lowest = min(
        v for line in lines for p in line.points for v in (p.score, p.low) if v is not None
    )
    return {"domain": [min(lowest, 0.0), 1.0], "nice": False}


def _table(lines: Sequence[_Line]) -> Table:
    return Table(
        ("run", "position", "line", "layer", "score", "low", "high"),
        [
            (
                line.run.name, position_words(line.run.summary["position"]),
                _KINDS[line.kind][0], p.layer, p.score, p.low, p.high,
            )
            for line in lines
            for p in line.points
        ],
    )  # fmt: skip
