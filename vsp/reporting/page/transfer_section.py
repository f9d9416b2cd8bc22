"""The transfer matrix: saved probes of runs, judged on the states of other runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from vsp.reporting.page.section import Chart, Control, Option, Section, Table
from vsp.reporting.transfer_page import shown_layer, target_name, trained_name

if TYPE_CHECKING:
    from vsp.evaluation.judged_rows import LayerFigures
    from vsp.evaluation.transfer import Transfer

_SELECTED = "selected"


def transfer_section(transfers: Sequence[Transfer]) -> Section | None:
    """A matrix of what each run's probes score on each target; None without evaluations.

    The names of the transfers are shown as they are, so they should be names and not paths.
    """
    if not transfers:
        return None
    layers = sorted({figures.layer for one in transfers for figures in one.layers})
    options = [Option(_SELECTED, "the selected layer of each run")]
    options += [Option(str(layer), f"layer {layer}", False) for layer in layers]
    statistics = " and ".join(dict.fromkeys(one.statistic for one in transfers))
    chart = Chart(
        "transfer",
        _spec(transfers),
        "Probes of one run on the states of another",
        f"{statistics[:1].upper()}{statistics[1:]} with its {transfers[0].confidence:.0%} interval. "
        "Rows: what the probes were trained on; columns: what they are judged on. No probe is fitted "
        "again, and no row counts that a probe was fitted on.",
        _table(transfers),
        [Control("layer", "Layer", options, one=True)],
    )
    return Section("transfer", "On other data", charts=[chart])


def _spec(transfers: Sequence[Transfer]) -> dict[str, Any]:
    n_targets = len({target_name(one) for one in transfers})
    axis = {"domain": False, "ticks": False, "labelLimit": 160}
    names = {"type": "nominal", "sort": None}
    x = {
        **names,
        "field": "target",
        "axis": {
            **axis,
            "title": "judged on",
            "orient": "top",
            "labelAngle": 0 if n_targets < 4 else -30,
        },
    }
    y = {**names, "field": "trained", "axis": {**axis, "title": "trained on"}}
    scale = {"domain": [0, 1], "range": [0.04, 1], "clamp": True}
    share = {"field": "score", "type": "quantitative", "scale": scale}
    tips = [{"field": name} for name in ("trained", "target", "layer", "interval")]
    cells = {
        "mark": {"type": "rect", "fill": "var(--heat)", "stroke": "var(--paper)", "strokeWidth": 2},
        "encoding": {"fillOpacity": {**share, "legend": None}, "tooltip": tips},
    }
    ink = {
        "condition": {"test": "datum.score > 0.55", "value": "var(--on-heat)"},
        "value": "var(--ink)",
    }
    score = {
        "mark": {"type": "text", "fontSize": 14, "dy": -7},
        "encoding": {"text": {"field": "score", "format": ".3f"}, "color": ink},
    }
    interval = {
        "mark": {"type": "text", "fontSize": 11, "dy": 10},
        "encoding": {"text": {"field": "bounds"}, "color": ink},
    }
    return {
        "width": {"step": 116},
        "height": {"step": 56},
        "data": {"values": [value for one in transfers for value in _values(one)]},
        "params": [{"name": "layer", "value": _SELECTED}],
        "transform": [{"filter": "indexof(datum.of, layer) >= 0"}],
        "encoding": {"x": x, "y": y},
        "layer": [cells, score, interval],
    }  # fmt: skip


def _values(one: Transfer) -> list[dict[str, Any]]:
    return [
        {
            "trained": trained_name(one), "target": target_name(one), "layer": figures.layer,
            "of": [str(figures.layer), *([_SELECTED] if figures.layer == one.selected else [])],
            "score": figures.score, "bounds": _bounds(figures),
            "interval": f"{figures.score:.3f} {_bounds(figures)}",
        }
        for figures in one.layers
    ]  # fmt: skip


def _bounds(figures: LayerFigures) -> str:
    return f"[{figures.low:.3f}, {figures.high:.3f}]"


def _table(transfers: Sequence[Transfer]) -> Table:
    rows = []
    for one in transfers:
        found = shown_layer(one, None)
        if found is not None:
            rows.append(
                (
                    trained_name(one), target_name(one), found.layer, found.score, found.low,
                    found.high, found.own, found.difference, one.chance, one.n_rows,
                )
            )  # fmt: skip
    columns = (
        "trained on", "judged on", "layer", "score", "low", "high", "own score", "difference",
        "chance", "rows",
    )  # fmt: skip
    return Table(columns, rows, "The selected layer of each run")
