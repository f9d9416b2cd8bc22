"""The recall of each class by layer, of the probe (knows) and of the model's answers (says)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from vsp.escaping import one_line
from vsp.reporting.page.curve_lines import DASHES, N_COLORS, N_DASHES
from vsp.reporting.page.curve_spec import chosen, hover, layer_place, lines, score_place
from vsp.reporting.page.page_run import PageRun
from vsp.reporting.page.section import Chart, Control, Option, Table

_MOST = 24  # curves that colour and dash tell apart
_SAYS, _KNOWS = "says", "knows"


def class_chart(runs: Sequence[PageRun]) -> Chart | None:
    """The curves of the classes of one chosen run; None if no run has classes."""
    runs = [run for run in runs if run.classes]
    if not runs:
        return None
    classes = list(dict.fromkeys(name for run in runs for name in run.classes))
    drawn = classes[:_MOST]
    left_out = len(classes) - len(drawn)
    words = "Share of the test rows of a label that are predicted right."
    words += (
        f" {left_out} of {len(classes)} labels are not drawn; the table has all."
        if left_out
        else ""
    )
    controls = _controls(runs, drawn)
    return Chart(
        "classes",
        _spec(runs, drawn, controls),
        "Recall of each label",
        words,
        _table(runs),
        controls,
    )


def _controls(runs: Sequence[PageRun], drawn: Sequence[str]) -> list[Control]:
    # The place of a label in the list is its value: a label can have any characters.
    looks = [
        Option(str(number), one_line(name), number < N_COLORS, number % N_COLORS + 1, _dash(number))
        for number, name in enumerate(drawn)
    ]
    controls = [Control("classes", "Labels", looks)]
    if any(run.summary["says"] for run in runs):
        both = [
            Option(_KNOWS, "probe (knows)"),
            Option(_SAYS, "model's answer (says, level lines)"),
        ]
        controls.append(Control("kinds", "Show", both))
    if len(runs) > 1:
        options = [Option(run.name, run.name, run is runs[0]) for run in runs]
        controls.insert(0, Control("run", "Run", options, one=True))
    return controls


def _dash(number: int) -> str:
    return list(DASHES)[number // N_COLORS % N_DASHES]


def _spec(
    runs: Sequence[PageRun], drawn: Sequence[str], controls: Sequence[Control]
) -> dict[str, Any]:
    place, value = layer_place(runs, False), score_place(0.0)
    params: list[dict[str, Any]] = []
    filters = []
    for control in controls:
        values = [option.value for option in control.options if option.chosen]
        params.append({"name": control.parameter, "value": values[0] if control.one else values})
        filters.append(
            "datum.run === run"
            if control.one
            else chosen(control.parameter, _FIELD[control.parameter])
        )
    return {
        "width": "container",
        "height": 300,
        "data": {"values": list(_values(runs, drawn))},
        "params": params,
        "transform": [{"filter": " && ".join(filters)}],
        "layer": [lines(place, value), hover(place)],
    }


_FIELD = {"classes": "class", "kinds": "kind"}


def _values(runs: Sequence[PageRun], drawn: Sequence[str]) -> Iterator[dict[str, Any]]:
    """A row for each point. `label` is the name of a field in the tips of the chart, in which `title`,
    `image` and `layer` have a meaning of their own; with its kind, no label is one of them."""
    for run in runs:
        for name, kind, layer, value in _recalls(run):
            if value is None or name not in drawn:
                continue
            number = drawn.index(name)
            yield {
                "layer": layer, "run": run.name, "class": str(number), "kind": kind,
                "score": value, "label": f"{one_line(name)}, {kind}",
                "color": f"var(--c{number % N_COLORS + 1})",
                "dash": DASHES[_dash(number) if kind == _KNOWS else "dotted"],
                "text": f"{value:.3f}",
            }  # fmt: skip


def _recalls(run: PageRun) -> Iterator[tuple[str, str, int, float | None]]:
    """Class, kind, layer and recall."""
    for name in run.classes:
        for score in run.scores:
            yield name, _KNOWS, score.layer, (score.recall or {}).get(name)
    says = run.summary["says"]
    for name in run.classes if says else ():
        said = (says["recall"].get(name) or {}).get("says")
        for score in run.scores:
            yield name, _SAYS, score.layer, said and said["score"]


def _table(runs: Sequence[PageRun]) -> Table:
    """A row for each label of each run, a column for each layer."""
    layers = sorted({score.layer for run in runs for score in run.scores})
    rows = []
    for run in runs:
        by_class: dict[tuple[str, str], dict[int, float | None]] = {}
        for name, kind, layer, value in _recalls(run):
            by_class.setdefault((name, kind), {})[layer] = value
        for (name, kind), values in by_class.items():
            if kind == _SAYS and set(values.values()) == {None}:
                continue
            rows.append((name, run.name, kind, *(values.get(layer) for layer in layers)))
    return Table(("label", "run", "of", *(f"layer {layer}" for layer in layers)), rows)
