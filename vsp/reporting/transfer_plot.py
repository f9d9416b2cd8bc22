"""The plot of `vsp evaluate`: curves of all targets, or a matrix of several runs and targets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vsp.errors import ConfigError
from vsp.reporting.figure_file import (
    GREY,
    STYLES,
    FigureStyle,
    check_suffix,
    figure,
    label,
    mark_every,
    set_title,
    wrapped,
)
from vsp.reporting.transfer_page import shown_layer, target_name, trained_name

if TYPE_CHECKING:
    from vsp.evaluation.transfer import Transfer

_DARK = 0.6  # share of the colour scale from which a cell's text is white


def check_plot(path: Path, n_runs: int, n_targets: int) -> None:
    """Raise ConfigError for a suffix that is not of a figure, and for more curves than styles."""
    check_suffix(path)
    if n_runs == 1 and n_targets > len(STYLES):
        raise ConfigError(f"plot of {n_targets} targets: at most {len(STYLES)} can be told apart")


def plot_transfers(
    transfers: Sequence[Transfer],
    path: Path,
    layer: int | None = None,
    style: FigureStyle | None = None,
) -> None:
    """Draw the curve of each target for one run, or the matrix of several runs and targets.

    `layer`: the one in the matrix; None: the one that each run selects. The file is PNG, SVG or PDF by
    its suffix. Raises ConfigError as `check_plot` does.
    """
    style = style or FigureStyle()
    check_plot(
        path, *(len({name(one) for one in transfers}) for name in (trained_name, target_name))
    )
    if len({trained_name(one) for one in transfers}) > 1:
        _draw_matrix(transfers, path, layer, style)
    else:
        _draw_curves(transfers, path, style)


def _draw_curves(transfers: Sequence[Transfer], path: Path, style: FigureStyle) -> None:
    from matplotlib.ticker import MaxNLocator

    with figure(path, style) as axes:
        lowest = 0.0
        for one, (color, mark, line) in zip(transfers, STYLES, strict=False):
            layers = [figures.layer for figures in one.layers]
            low, high = [f.low for f in one.layers], [f.high for f in one.layers]
            axes.fill_between(layers, low, high, color=color, alpha=0.2, linewidth=0)
            scores, words = [f.score for f in one.layers], label(f"on {target_name(one)}")
            every = mark_every(len(layers))
            axes.plot(layers, scores, line, marker=mark, markevery=every, color=color, label=words)
            axes.axhline(one.chance, color=color, linestyle=":", linewidth=1)
            lowest = min([lowest, *low, one.chance])
        first = transfers[0]
        axes.set(
            xlabel=wrapped(f"layer of {first.trained}", style, 0.8),
            ylabel=first.statistic,
            ylim=(max(lowest - 0.05, -1.0) if lowest < 0 else 0.0, 1.04),
        )
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.axvline(first.selected, color=GREY, linewidth=0.8)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", alpha=0.3)
        title = (
            f"trained on {trained_name(first)}; bands: {first.confidence:.0%} interval, dots: chance, "
            "line: selected layer"
        )
        set_title(axes, title, style)


def _draw_matrix(
    transfers: Sequence[Transfer], path: Path, layer: int | None, style: FigureStyle
) -> None:
    trained = list(dict.fromkeys(map(trained_name, transfers)))
    targets = list(dict.fromkeys(map(target_name, transfers)))
    values = np.full((len(trained), len(targets)), np.nan)
    for one in transfers:
        figures = shown_layer(one, layer)
        if figures is not None:
            values[trained.index(trained_name(one)), targets.index(target_name(one))] = (
                figures.score
            )
    height = max(style.height, (len(trained) + 4) * 2.2 * style.font_size / 72 * 2.54)
    with figure(path, style, height) as axes:
        low, high = min(0.0, float(np.nanmin(values, initial=0.0))), 1.0
        # One hue, from white to dark: read alike with any colour vision and in grey.
        axes.imshow(values, cmap="Blues", vmin=low, vmax=high, aspect="auto")
        for (row, column), value in np.ndenumerate(values):
            _write_cell(axes, row, column, float(value), (low, high))
        axes.set_xticks(
            range(len(targets)), targets, rotation=20, ha="right", rotation_mode="anchor"
        )
        axes.set_yticks(range(len(trained)), trained)
        axes.set(xlabel="on", ylabel="trained on")
        which = "selected layer" if layer is None else f"layer {layer}"
        set_title(axes, f"{transfers[0].statistic}, {which}", style)


def _write_cell(axes: Any, row: int, column: int, value: float, ends: tuple[float, float]) -> None:
    if np.isnan(value):
        axes.text(column, row, "–", ha="center", va="center")
        return
    share = (value - ends[0]) / (ends[1] - ends[0])
    color = "white" if share > _DARK else "black"
    axes.text(column, row, f"{value:.3f}", ha="center", va="center", color=color)
