"""The figures of `vsp axes`: curves of coherence, and a heat map of cosines between axes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vsp.choices import position_words
from vsp.errors import ConfigError
from vsp.reporting.answer import LEVEL
from vsp.reporting.axes_page import entry_of
from vsp.reporting.axes_words import axis_name, cosines_of, is_coherent
from vsp.reporting.axes_words import figure as figure_text
from vsp.reporting.figure_file import BLACK, STYLES, FigureStyle, figure, set_title, wrapped

if TYPE_CHECKING:
    from vsp.storage.axes import Axes

_SQUARE = 12.0  # cm; a heat map is not wider
_DARK = 0.6  # absolute cosine from which a cell's text is white


def plot_coherence(axes: Axes, path: Path, style: FigureStyle) -> None:
    """Draw the coherence of each axis by layer. Raises ConfigError for more axes than styles."""
    from matplotlib.ticker import MaxNLocator

    if len(axes.axes) > len(STYLES):
        raise ConfigError(
            f"plot of {len(axes.axes)} axes: at most {len(STYLES)} can be told apart; use --csv"
        )
    with figure(path, style) as drawn:
        drawn.axhline(0, color=BLACK, linewidth=0.6)
        for i, (axis, (color, mark, line)) in enumerate(zip(axes.axes, STYLES, strict=False)):
            values, layers = axes.coherence[:, i], np.array(axes.layers)
            low, high = axes.coherence_low[:, i], axes.coherence_high[:, i]
            drawn.fill_between(layers, low, high, color=color, alpha=0.18, linewidth=0)
            drawn.plot(layers, values, line, marker=mark, color=color, markerfacecolor="white",
                       label=axis_name(axis))  # fmt: skip
            passed = [e for e in range(len(layers)) if is_coherent(axes, e, i)]
            drawn.plot(layers[passed], values[passed], mark, color=color)
        lowest = float(np.nanmin(axes.coherence_low, initial=0.0))
        drawn.set(
            xlabel=wrapped(f"layer of {axes.run}", style, 0.8),
            ylabel="coherence",
            ylim=(min(lowest - 0.02, -0.02), 1.04),
        )
        drawn.xaxis.set_major_locator(MaxNLocator(integer=True))
        drawn.spines[["top", "right"]].set_visible(False)
        drawn.grid(axis="y", alpha=0.3)
        title = (
            f"{axes.run} and {axes.swapped}, {position_words(axes.position)}; bands: "
            f"{axes.confidence:.0%} interval, filled: corrected p < {LEVEL:g}"
        )
        set_title(drawn, title, style)


def plot_cosines(axes: Axes, path: Path, style: FigureStyle, layer: int | None = None) -> None:
    """Draw the cosines between axes in one layer, by default that of the highest mean coherence.

    Raises ConfigError if the layer is not recorded, or if there is one axis only.
    """
    _check_cosines(axes)
    entry = entry_of(axes, layer)
    values, low, high = cosines_of(axes, entry)
    names = [axis_name(axis) for axis in axes.axes]
    with figure(path, style, min(style.width, _SQUARE) * 0.8) as drawn:
        # Two hues that any colour vision tells apart, white at 0.
        shown = drawn.imshow(values, cmap="PuOr_r", vmin=-1, vmax=1)
        drawn.figure.colorbar(shown, ax=drawn, label="cosine")
        for (row, column), value in np.ndenumerate(values):
            text = figure_text(float(value))
            if row != column and not np.isnan(value):
                ends = (figure_text(float(bound[row, column])) for bound in (low, high))
                text += "\n[" + ", ".join(ends) + "]"
            color = "white" if abs(value) > _DARK else "black"
            size = style.font_size * 0.85
            drawn.text(column, row, text, ha="center", va="center", color=color, fontsize=size)
        drawn.set_xticks(range(len(names)), names, rotation=20, ha="right", rotation_mode="anchor")
        drawn.set_yticks(range(len(names)), names)
        title = f"{axes.run}, layer {axes.layers[entry]}: cosine of mean directions"
        set_title(drawn, title, style)


def _check_cosines(axes: Axes) -> None:
    """Raise ConfigError if there is one axis only."""
    if len(axes.axes) == 1:
        raise ConfigError(
            f"--figure cosines: needs two axes, and the runs have {axis_name(axes.axes[0])} only; use "
            "--figure coherence"
        )
