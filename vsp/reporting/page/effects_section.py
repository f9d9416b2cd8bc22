"""Effects of interventions: changes by layer and by scale, and the map of layers and tokens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from vsp.reporting.effects_words import (
    about_words,
    change_meaning,
    change_words,
    claim_p,
    effects_cautions,
    effects_sentence,
    flip_meaning,
    flip_words,
    left_out_words,
    setting_name,
    shown_scale,
    signed,
)
from vsp.reporting.page.curve_lines import N_COLORS
from vsp.reporting.page.curve_spec import band, chosen, hover, lines, marks
from vsp.reporting.page.elements import paragraphs
from vsp.reporting.page.markup import joined
from vsp.reporting.page.messages import without_folders
from vsp.reporting.page.page_run import PageRun
from vsp.reporting.page.section import Cell, Chart, Control, Option, Section, Table
from vsp.storage.found_effects import PATCH, STEER, effects_about
from vsp.storage.sealed_summary import identity_of

if TYPE_CHECKING:
    from vsp.storage.found_effects import FoundEffects

Spec = dict[str, Any]
_COLUMNS = (
    "setting", "run", "layer", "change", "low", "high", "flips", "flips low", "flips high",
    "random mean", "rank", "corrected p",
)  # fmt: skip


def effects_of_runs(runs: Sequence[PageRun]) -> tuple[list[FoundEffects], list[str]]:
    """The effects of interventions on these runs, and why others are not shown."""
    found: dict[str, FoundEffects] = {}
    problems: dict[str, None] = {}
    for run in runs:
        of_run, of_problems = effects_about(run.results.home, identity_of(run.summary))
        found |= {one.run: one for one in of_run}
        problems |= dict.fromkeys(without_folders(one, run) for one in of_problems)
    return list(found.values()), list(problems)


def effects_section(found: Sequence[FoundEffects], problems: Sequence[str] = ()) -> Section | None:
    """The effects of one or several runs of interventions; None without any."""
    if not found and not problems:
        return None
    body = paragraphs([line for one in found for line in _lines(one, len(found))])
    doubts = [f"{one}: {note}." for f in found for one, note in _doubts(f)]
    cautions = paragraphs(doubts, class_="caution")
    charts: list[Chart] = []
    with_controls = [one for one in found if one.kind != PATCH]
    steered = [one for one in found if one.kind == STEER]
    patched = [one for one in found if one.kind == PATCH]
    charts += [_layers_chart(with_controls)] if with_controls else []
    charts += [_dose_chart(steered)] if steered else []
    charts += [_map_chart(patched)] if patched else []
    return Section(
        "effects",
        "Is it used? Effects of interventions",
        joined([body, cautions]),
        charts,
        left_out=problems,
    )


def _doubts(found: FoundEffects) -> list[tuple[str, str]]:
    return [(found.run, note) for note in effects_cautions(found)]


def _lines(found: FoundEffects, n: int) -> list[str]:
    """What the charts of these effects show, in sentences."""
    about = f"{found.run}: " if n > 1 else ""
    left_out = "; ".join(left_out_words(found))
    return [
        f"{about}{effects_sentence(found)}",
        f"{found.n_rows:,} rows in {found.n_groups:,} groups; {about_words(found)}."
        + (f" Left out: {left_out}." if left_out else ""),
        f"{change_meaning(found)} {flip_meaning(found)}",
    ]


def _number(value: Any) -> float | None:
    return None if np.isnan(value) else float(value)


def _which(found: Sequence[FoundEffects]) -> list[Control]:
    """A list of runs, if there are several."""
    options = [Option(str(i), one.run, i == 0) for i, one in enumerate(found)]
    return [Control("of", "Run", options, one=True)] if len(found) > 1 else []


def _shown(found: FoundEffects) -> list[int]:
    """The settings with a line of their own: all but the random ones."""
    return [i for i, one in enumerate(found.settings) if not one.is_random and one.scale]


def _layers_chart(found: Sequence[FoundEffects]) -> Chart:
    names = list(dict.fromkeys(setting_name(one, i) for one in found for i in _shown(one)))
    colors = {name: number % N_COLORS + 1 for number, name in enumerate(names)}
    first = {setting_name(one, i) for one in found for i in _shown(one)
             if one.kind != STEER or one.settings[i].scale == shown_scale(one)}  # fmt: skip
    options = [Option(name, name, name in first, color=color) for name, color in colors.items()]
    shown = Control("settings", "Show", [*options, Option("band", "intervals")])
    return Chart(
        "effects-layers",
        _layers_spec(found, colors, [*first, "band"]),
        "Change of the answers by layer",
        f"Bands: {found[0].confidence:.0%} intervals; filled marks: p < {found[0].level:g} against random "
        "controls and over groups, corrected over layers and scales; grey area: from the smallest to the "
        "largest change of the random controls.",
        Table(_COLUMNS, [row for one in found for row in _rows(one)]),
        [*_which(found), shown],
    )


def _rows(found: FoundEffects) -> Iterator[tuple[Cell, ...]]:
    figures, p = found.figures, claim_p(found)
    for i in range(len(found.settings)) if found.kind == PATCH else _shown(found):
        for entry, layer in enumerate(found.layers):
            names = ("change", "change_low", "change_high", "flip", "flip_low", "flip_high")
            values = [_number(getattr(figures, name)[entry, i]) for name in names]
            random = _number(figures.change[entry, i] - figures.excess[entry, i])
            rank = _number(figures.rank[entry, i])
            yield (
                setting_name(found, i), found.run, layer, *values, random,
                None if rank is None else int(rank), _number(p[entry, i]),
            )  # fmt: skip


def _layer_place(found: Sequence[FoundEffects]) -> Spec:
    layers = sorted({layer for one in found for layer in one.layers})
    axis = {"title": "layer", "grid": False, "tickMinStep": 1, "format": "d"}
    axis["tickCount"] = min(len(layers), 20)
    domain = [layers[0], max(layers[-1], layers[0] + 1)]
    scale = {"domain": domain, "zero": False, "nice": False, "padding": 10}
    return {"field": "layer", "type": "quantitative", "axis": axis, "scale": scale}


def _change_place() -> Spec:
    axis = {"title": None, "tickCount": 6, "domain": False, "ticks": False}
    return {"field": "score", "type": "quantitative", "axis": axis, "scale": {"zero": True}}


def _layers_spec(found: Sequence[FoundEffects], colors: dict[str, int], first: list[str]) -> Spec:
    place, value = _layer_place(found), _change_place()
    values = [v for k, one in enumerate(found) for v in _layer_values(one, k, colors)]
    area = {
        "data": {"values": [v for k, one in enumerate(found) for v in _random_values(one, k)]},
        "transform": [{"filter": f"datum.of === of && {chosen('settings', 'setting')}"}],
        "mark": {"type": "area", "opacity": 0.18, "color": "var(--muted)", "tooltip": None},
        "encoding": {
            "x": place, "y": {**value, "field": "low"}, "y2": {"field": "high"},
            "detail": [{"field": "setting", "type": "nominal"}],
        },
    }  # fmt: skip
    curves = {
        "transform": [{"filter": f"datum.of === of && {chosen('settings', 'label')}"}],
        "layer": [
            band(place, value, "indexof(settings, 'band') >= 0"),
            lines(place, value),
            marks(place, value, "isValid(datum.score)"),
            hover(place),
        ],
    }
    return {
        "width": "container",
        "height": 300,
        "data": {"values": values},
        "params": [{"name": "of", "value": "0"}, {"name": "settings", "value": first}],
        "layer": [area, curves],
    }


def _layer_values(found: FoundEffects, number: int, colors: dict[str, int]) -> Iterator[Spec]:
    figures, passed = found.figures, found.passed()
    for i in _shown(found):
        name = setting_name(found, i)
        color = f"var(--c{colors[name]})"
        for entry, layer in enumerate(found.layers):
            low, high = (_number(a[entry, i]) for a in (figures.change_low, figures.change_high))
            yield {
                "of": str(number), "label": name, "layer": layer,
                "score": _number(figures.change[entry, i]), "low": low, "high": high,
                "color": color, "dash": [1, 0],
                "fill": color if passed[entry, i] else "var(--paper)",
                "text": f"{change_words(found, entry, i)}, flips {flip_words(found, entry, i)}",
            }  # fmt: skip


def _random_values(found: FoundEffects, number: int) -> Iterator[Spec]:
    """The smallest and the largest random change beside each shown setting that is no control."""
    for i in (one for one in _shown(found) if not found.settings[one].is_control):
        scale = found.settings[i].scale
        random = [k for k, one in enumerate(found.settings) if one.is_random and one.scale == scale]
        for entry, layer in enumerate(found.layers) if random else ():
            of_layer = found.figures.change[entry, random]
            yield {
                "of": str(number), "setting": setting_name(found, i), "layer": layer,
                "low": float(of_layer.min()), "high": float(of_layer.max()),
            }  # fmt: skip


def _dose_chart(found: Sequence[FoundEffects]) -> Chart:
    layers = sorted({layer for one in found for layer in one.layers})
    options = [Option(str(layer), str(layer), color=k % N_COLORS + 1)
               for k, layer in enumerate(layers)]  # fmt: skip
    scales = sorted({one.scale for f in found for one in f.settings} | {0.0})
    rows = [
        (f"layer {layer}", one.run, scale, change)
        for one in found
        for entry, layer in enumerate(one.layers)
        for scale, change in _doses(one, entry)
    ]
    return Chart(
        "effects-dose",
        _dose_spec(found, layers, scales),
        "Dose curves",
        "Change of the answers by the scale of the direction, a line for each layer.",
        Table(("layer", "run", "scale", "change"), rows),
        [*_which(found), Control("layers", "Layers", options)],
    )


def _doses(found: FoundEffects, entry: int) -> list[tuple[float, float]]:
    """Scale and change of what is tested, from the lowest scale; nothing is changed at 0."""
    own = [
        (one.scale, float(found.figures.change[entry, i]))
        for i, one in enumerate(found.settings)
        if not one.is_control and one.scale
    ]
    return sorted([*own, (0.0, 0.0)])


def _dose_spec(found: Sequence[FoundEffects], layers: list[int], scales: list[float]) -> Spec:
    axis = {"title": "scale", "grid": False, "values": scales}
    place = {"field": "layer", "type": "quantitative", "axis": axis,
             "scale": {"zero": True, "padding": 10}}  # fmt: skip
    value = _change_place()
    values = [
        {
            "of": str(number), "at": str(layer), "label": f"layer {layer}", "layer": scale,
            "score": change, "text": signed(change), "dash": [1, 0],
            "color": f"var(--c{layers.index(layer) % N_COLORS + 1})",
            "fill": "var(--paper)",
        }
        for number, one in enumerate(found)
        for entry, layer in enumerate(one.layers)
        for scale, change in _doses(one, entry)
    ]  # fmt: skip
    return {
        "width": "container",
        "height": 260,
        "data": {"values": values},
        "params": [
            {"name": "of", "value": "0"},
            {"name": "layers", "value": [str(layer) for layer in layers]},
        ],
        "transform": [{"filter": f"datum.of === of && {chosen('layers', 'at')}"}],
        "layer": [
            lines(place, value),
            marks(place, value, "isValid(datum.score)"),
            hover(place),
        ],
    }


def _map_chart(found: Sequence[FoundEffects]) -> Chart:
    return Chart(
        "effects-map",
        _map_spec(found),
        "Where patching moves the answer",
        "Mean change towards the label of the variant, by layer and group of tokens. Outlined: p < "
        f"{found[0].level:g}, corrected over layers and tokens.",
        Table(_COLUMNS, [row for one in found for row in _rows(one)]),
        _which(found),
    )


def _map_spec(found: Sequence[FoundEffects]) -> Spec:
    values = [v for k, one in enumerate(found) for v in _map_values(one, k)]
    axis = {"domain": False, "ticks": False, "labelLimit": 160, "title": None}
    x = {"field": "layer", "type": "ordinal", "axis": {**axis, "title": "layer", "labelAngle": 0}}
    y = {"field": "tokens", "type": "nominal", "sort": None, "axis": axis}
    stroke = {
        "condition": {"test": "datum.passed", "value": "var(--ink)"},
        "value": "var(--paper)",
    }
    cells = {
        "mark": {"type": "rect", "strokeWidth": 1.5},
        "encoding": {
            "fill": {"field": "fill", "type": "nominal", "scale": None},
            "fillOpacity": {
                "field": "size", "type": "quantitative", "legend": None,
                "scale": {"domain": [0, 1], "range": [0.04, 1]},
            },
            "stroke": stroke,
            "tooltip": [
                {"field": "tokens", "title": "tokens"},
                {"field": "layer", "title": "layer"},
                {"field": "tip", "title": "change"},
                {"field": "flips", "title": "flips"},
            ],
        },
    }  # fmt: skip
    return {
        "width": "container",
        "height": 36 * max(len(one.settings) for one in found),
        "data": {"values": values},
        "params": [{"name": "of", "value": "0"}],
        "transform": [{"filter": "datum.of === of"}],
        "encoding": {"x": x, "y": y},
        "layer": [cells],
    }


def _map_values(found: FoundEffects, number: int) -> Iterator[Spec]:
    change, passed = found.figures.change, found.passed()
    largest = float(np.nanmax(np.abs(change), initial=0.0)) or 1.0
    for i in range(len(found.settings)):
        for entry, layer in enumerate(found.layers):
            value = float(change[entry, i])
            yield {
                "of": str(number), "tokens": setting_name(found, i), "layer": layer,
                "size": abs(value) / largest, "passed": bool(passed[entry, i]),
                "fill": "var(--heat-minus)" if value < 0 else "var(--heat)",
                "tip": change_words(found, entry, i), "flips": flip_words(found, entry, i),
            }  # fmt: skip
