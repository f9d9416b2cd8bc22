"""Curves: the score of each layer with its interval, and what it must be compared with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vsp.reporting.curve_plot import is_by_depth, layer_places
from vsp.reporting.page.class_curves import class_chart
from vsp.reporting.page.curve_lines import (
    CITED,
    DASHES,
    KINDS,
    PROBE,
    Line,
    Point,
    position_dash,
    run_lines,
)
from vsp.reporting.page.curve_spec import (
    band,
    chosen,
    cited,
    hover,
    layer_place,
    lines,
    marks,
    score_place,
)
from vsp.reporting.page.elements import paragraphs
from vsp.reporting.page.messages import without_folders
from vsp.reporting.page.page_run import PageRun
from vsp.reporting.page.section import Cell, Chart, Control, Option, Section, Table

_BANDS = [PROBE, "says", "lens"]  # lines whose intervals are drawn; the table has all


def curves_section(runs: Sequence[PageRun], n_in_full: int) -> Section:
    """The curves of the runs in one chart, and those of their classes in another one.

    Only the first `n_in_full` runs have all kinds of lines and classes; the others have their probe.
    """
    drawn = [
        line
        for number, run in enumerate(runs)
        for line in run_lines(run, number, len(runs))
        if number < n_in_full or (line.run is run and line.kind in (PROBE, CITED))
    ]
    charts = [_chart(runs, drawn)]
    of_classes = class_chart(runs[:n_in_full])
    return Section(
        "curves",
        "Score by layer",
        paragraphs(_left_out(runs, n_in_full)),
        charts if of_classes is None else [*charts, of_classes],
        left_out=[without_folders(one, run) for run in runs for one in run.unreadable],
    )


def _left_out(runs: Sequence[PageRun], n_in_full: int) -> list[str]:
    """Which parts of the page are about the first runs alone."""
    if n_in_full >= len(runs):
        return []
    of = ", ".join(run.name for run in runs[:n_in_full])
    return [
        f"To keep the page small, labels, layers and rows below are those of {of}, and other runs have the "
        "curve of their probe alone; vsp report RUN --html FILE makes the page of a run."
    ]


def _chart(runs: Sequence[PageRun], drawn: Sequence[Line]) -> Chart:
    statistics = " and ".join(dict.fromkeys(run.statistic for run in runs))
    confidence = runs[0].summary["confidence"]
    tested = any(point.beats_chance is not None for line in drawn for point in line.points)
    marked = (
        " Filled marks: above chance at corrected p < 0.05; open marks: not shown to be."
        if tested
        else ""
    )
    controls = _controls(runs, drawn)
    return Chart(
        "curves",
        _spec(runs, drawn, controls),
        f"{statistics[:1].upper()}{statistics[1:]} of each layer on test rows",
        f"Bands and bars: {confidence:.0%} intervals.{marked}",
        _table(drawn),
        controls,
    )


def _controls(runs: Sequence[PageRun], drawn: Sequence[Line]) -> list[Control]:
    several = len(runs) > 1
    kinds = [
        Option(
            name,
            kind.words,
            kind.is_shown_for_several if several else kind.is_shown,
            None if several else kind.color,
            kind.dash,
        )
        for name, kind in KINDS.items()
        if any(line.kind == name for line in drawn)
    ]
    controls = [Control("kinds", "Show", [*kinds, Option("band", "intervals")])]
    positions = _positions(drawn)
    if len(positions) > 1:
        own = {run.position for run in runs}
        looks = [
            Option(one, one, one in own, None if several else 1, position_dash(place))
            for place, one in enumerate(positions)
        ]
        controls.insert(0, Control("positions", "Positions", looks))
    if several:
        colors = {line.run.name: line.color for line in drawn}
        options = [Option(run.name, run.name, color=colors[run.name]) for run in runs]
        controls.insert(0, Control("runs", "Runs", options))
    return controls


def _positions(drawn: Sequence[Line]) -> list[str]:
    return list(dict.fromkeys(line.run.position for line in drawn))


def _spec(
    runs: Sequence[PageRun], drawn: Sequence[Line], controls: Sequence[Control]
) -> dict[str, Any]:
    by_depth = is_by_depth([run.summary for run in runs], None)
    everything = [run for one in runs for run in (one, *one.others)]
    place = layer_place(everything, by_depth)
    scores = [v for line in drawn for p in line.points for v in (p.score, p.low) if v is not None]
    value = score_place(min(scores))
    shown = " && ".join(
        chosen(control.parameter, control.parameter.removesuffix("s")) for control in controls
    )
    return {
        "width": "container",
        "height": 340,
        "data": {"values": _values(runs, drawn, place["field"])},
        "params": [
            {"name": one.parameter, "value": [o.value for o in one.options if o.chosen]}
            for one in controls
        ],
        "transform": [{"filter": shown}],
        "layer": [
            band(
                place, value, f"indexof(kinds, 'band') >= 0 && indexof({_BANDS}, datum.kind) >= 0"
            ),
            lines(place, value),
            marks(place, value, f"datum.kind === '{PROBE}'"),
            *cited(place, value, f"datum.kind === '{CITED}'"),
            hover(place),
        ],
    }


def _values(
    runs: Sequence[PageRun], drawn: Sequence[Line], place_name: str
) -> list[dict[str, Any]]:
    """A row for each point of each line."""
    several_positions = len(_positions(drawn)) > 1
    values = []
    for line in drawn:
        label = line.label(len(runs) > 1, several_positions)
        color = f"var(--c{line.color})"
        layers = [point.layer for point in line.points]
        by_depth = place_name == "depth"
        places: Sequence[float] = (
            layer_places(layers, line.run.summary, True) if by_depth else layers
        )
        for place, point in zip(places, line.points, strict=True):
            values.append(
                {
                    place_name: place, "run": line.run.name,
                    **({"position": line.run.position} if several_positions else {}),
                    "kind": line.kind, "label": label,
                    "score": point.score, "low": point.low, "high": point.high,
                    "color": color, "dash": DASHES[line.dash], "text": _point_text(point),
                    "fill": "var(--paper)" if point.beats_chance is False else color,
                }
            )  # fmt: skip
    return values


def _point_text(point: Point) -> str:
    if point.low is None or point.high is None:
        return f"{point.score:.3f}"
    return f"{point.score:.3f} [{point.low:.3f}, {point.high:.3f}]"


def _table(drawn: Sequence[Line]) -> Table:
    """A row for each layer of each line, and one for a line that is level over several layers."""
    several = len(_positions(drawn)) > 1
    rows: list[tuple[Cell, ...]] = []
    for line in drawn:
        names = (KINDS[line.kind].words, line.run.name, *([line.run.position] if several else []))
        figures = [(one.score, one.low, one.high) for one in line.points]
        if len(figures) > 1 and len(set(figures)) == 1:
            rows.append((*names, "all", *figures[0]))
            continue
        rows += [(*names, one.layer, *of) for one, of in zip(line.points, figures, strict=True)]
    position = ("position",) if several else ()
    return Table(("line", "run", *position, "layer", "score", "low", "high"), rows)
