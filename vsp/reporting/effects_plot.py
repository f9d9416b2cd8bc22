"""Figures of effects: dose curves by layer, changes by layer, and the map of layers and tokens."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vsp.errors import ConfigError
from vsp.reporting.effects_page import shown_settings
from vsp.reporting.effects_words import setting_name, signed
from vsp.reporting.figure_file import (
    BLACK,
    GREY,
    STYLES,
    FigureStyle,
    figure,
    set_title,
    wrapped,
)
from vsp.reporting.formatting import format_layers
from vsp.storage.found_effects import ERASE, PATCH, STEER, UNRELATED

if TYPE_CHECKING:
    from vsp.storage.found_effects import FoundEffects

DOSE, LAYERS, MAP = "dose", "layers", "map"
_DEFAULT = {STEER: DOSE, PATCH: MAP, ERASE: LAYERS}
_FITS = {STEER: (DOSE, LAYERS), PATCH: (MAP, LAYERS), ERASE: (LAYERS,)}
_DARK = 0.6  # share of the largest change from which a cell's text is white
_CELL = 0.55  # cm, of a row of the map


def plot_effects(
    found: FoundEffects, path: Path, style: FigureStyle, kind: str | None, scale: float | None
) -> None:
    """Draw a figure; `kind` is DOSE, LAYERS or MAP, None: the usual one.

    Raises ConfigError for a kind that the effects do not have, or a scale that the figure does not show.
    """
    kind = kind or _DEFAULT[found.kind]
    if kind not in _FITS[found.kind]:
        raise ConfigError(
            f"--figure {kind}: does not fit effects of kind {found.kind}; use "
            f"{' or '.join(_FITS[found.kind])}"
        )
    if kind == DOSE:
        _plot_dose(found, path, style)
    elif kind == MAP:
        _plot_map(found, path, style)
    else:
        _plot_layers(found, path, style, scale)


def _change_label(found: FoundEffects) -> str:
    if found.kind == ERASE:
        return "change of log odds against the label"
    return "change of log p(target) − log p(label)"


def _plot_dose(found: FoundEffects, path: Path, style: FigureStyle) -> None:
    """The change by scale, a curve for each layer; grey: random directions, all layers."""
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.ticker import MaxNLocator

    change, passed = found.figures.change, found.passed()
    names = dict.fromkeys(one.name for one in found.settings)
    shade = Normalize(found.layers[0], max(found.layers[-1], found.layers[0] + 1))
    colors = colormaps["viridis_r"]
    with figure(path, style) as drawn:
        for name in (one for one in names if one.startswith("random-")):
            scales, places = _doses(found, name)
            curves = np.vstack([np.zeros(len(found.layers)), change[:, places].T])
            order = np.argsort([0.0, *scales])
            drawn.plot(np.array([0.0, *scales])[order], curves[order], "-", color="#cccccc",
                       linewidth=0.4, zorder=0)  # fmt: skip
        for name in (one.name for i, one in enumerate(found.settings) if i in _main(found)):
            scales, places = _doses(found, name)
            order = np.argsort([0.0, *scales])
            at = np.array([0.0, *scales])[order]
            for entry, layer in enumerate(found.layers):
                values = np.array([0.0, *change[entry, places]])[order]
                color = colors(shade(layer))
                drawn.plot(at, values, "-", color=color)
                hit = np.array([False, *passed[entry, places]])[order]
                drawn.plot(at[hit], values[hit], "o", color=color)
        drawn.axhline(0, color=BLACK, linewidth=0.6)
        bar = drawn.figure.colorbar(ScalarMappable(shade, colors), ax=drawn, label="layer")
        bar.ax.yaxis.set_major_locator(MaxNLocator(integer=True))
        drawn.set(xlabel="scale of the direction", ylabel=wrapped(_change_label(found), style, 0.5))
        _finish(drawn, found, style, "marks: corrected p < {level}; grey: random directions")


def _main(found: FoundEffects) -> list[int]:
    """One setting of each name that is no control."""
    first: dict[str, int] = {}
    for i, one in enumerate(found.settings):
        if not one.is_control:
            first.setdefault(one.name, i)
    return list(first.values())


def _doses(found: FoundEffects, name: str) -> tuple[list[float], list[int]]:
    """The scales of a name other than 0, and their settings."""
    places = [i for i, one in enumerate(found.settings) if one.name == name and one.scale]
    return [found.settings[i].scale for i in places], places


def _plot_layers(found: FoundEffects, path: Path, style: FigureStyle, scale: float | None) -> None:
    """The change by layer with its interval; grey: from the smallest to the largest random change."""
    from matplotlib.ticker import MaxNLocator

    figures, layers, passed = found.figures, np.array(found.layers), found.passed()
    shown = shown_settings(found, scale)
    scales = {found.settings[i].scale for i in shown}
    unrelated = [i for i, one in enumerate(found.settings)
                 if one.name == UNRELATED and one.scale in scales]  # fmt: skip
    random = [i for i, one in enumerate(found.settings) if one.is_random and one.scale in scales]
    if len(shown) + len(unrelated) > len(STYLES):
        raise ConfigError(
            f"plot of {len(shown)} settings: at most {len(STYLES)} can be told apart; use --csv"
        )
    with figure(path, style) as drawn:
        drawn.axhline(0, color=BLACK, linewidth=0.6)
        if random:
            of_random = figures.change[:, random]
            drawn.fill_between(layers, of_random.min(axis=1), of_random.max(axis=1), color=GREY,
                               alpha=0.25, linewidth=0, label=f"{len(random)} random")  # fmt: skip
        for i, (color, mark, line) in zip([*shown, *unrelated], STYLES, strict=False):
            values = figures.change[:, i]
            low, high = figures.change_low[:, i], figures.change_high[:, i]
            drawn.fill_between(layers, low, high, color=color, alpha=0.18, linewidth=0)
            drawn.plot(layers, values, line, marker=mark, color=color, markerfacecolor="white",
                       label=setting_name(found, i))  # fmt: skip
            drawn.plot(layers[passed[:, i]], values[passed[:, i]], mark, color=color)
        drawn.set(xlabel="layer", ylabel=wrapped(_change_label(found), style, 0.5))
        drawn.xaxis.set_major_locator(MaxNLocator(integer=True))
        _finish(drawn, found, style, "bands: {confidence} intervals; filled: corrected p < {level}")


def _finish(drawn: Any, found: FoundEffects, style: FigureStyle, note: str) -> None:
    drawn.spines[["top", "right"]].set_visible(False)
    drawn.grid(axis="y", alpha=0.3)
    note = note.format(level=f"{found.level:g}", confidence=f"{found.confidence:.0%}")
    set_title(drawn, f"{found.run}; {note}", style)


def _plot_map(found: FoundEffects, path: Path, style: FigureStyle) -> None:
    """The change of each layer and group of tokens as a map; bold: corrected p < level."""
    values = found.figures.change.T  # [tokens, layer]
    passed = found.passed().T
    largest = float(np.nanmax(np.abs(values), initial=0.0)) or 1.0
    n_layers = len(found.layers)
    has_texts = n_layers <= style.signs // 7
    height = min(max(4.0, _CELL * 2 * len(values) + 2.5), style.height * 1.5)
    with figure(path, style, height) as drawn:
        # Two hues that any colour vision tells apart, white at 0.
        shown = drawn.imshow(values, cmap="PuOr_r", vmin=-largest, vmax=largest, aspect="auto")
        drawn.figure.colorbar(shown, ax=drawn, label="change")
        for (row, column), value in np.ndenumerate(values):
            hit = bool(passed[row, column])
            text = signed(float(value), 2) if has_texts else "•" if hit else ""
            drawn.text(column, row, text, ha="center", va="center", fontsize=style.font_size * 0.85,
                       color="white" if abs(value) > _DARK * largest else "black",
                       fontweight="bold" if hit else "normal")  # fmt: skip
        names = [setting_name(found, i) for i in range(len(found.settings))]
        drawn.set_yticks(range(len(names)), names)
        step = max(1, n_layers // 16)
        places = range(0, n_layers, step)
        drawn.set_xticks(places, [str(found.layers[i]) for i in places])
        drawn.set_xlabel("layer")
        mark = "bold" if has_texts else "dots"
        title = (
            f"{found.of_run}, states of {found.variant} at layers {format_layers(found.layers)}: change of log "
            f"p(variant's label) − log p(label); {mark}: corrected p < {found.level:g}"
        )
        set_title(drawn, title, style)
