"""The figure of differences between runs, layer by layer, with their intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vsp.errors import ConfigError
from vsp.reporting.answer import LEVEL
from vsp.reporting.curve_plot import common_title, is_by_depth, label_depth, layer_places
from vsp.reporting.figure_file import BLACK, STYLES, FigureStyle, figure, set_title, wrapped
from vsp.reporting.formatting import layer_axis

if TYPE_CHECKING:
    from vsp.evaluation.compare import Pair
    from vsp.storage.results import Results


def plot_differences(
    pairs: Sequence[Pair],
    runs: Sequence[tuple[str, Results]],
    path: Path,
    style: FigureStyle,
    layer_axis_kind: str | None = None,
) -> None:
    """Draw the difference of each other run to the first, at the layers of the first.

    `runs` are names and results, the first run first, in the order of `pairs`. Filled marks have a
    corrected p under LEVEL. Raises ConfigError for more pairs than styles.
    """
    if len(pairs) > len(STYLES):
        raise ConfigError(f"plot of {len(pairs)} pairs: at most {len(STYLES)} can be told apart")
    summaries = [results.summary() for _, results in runs]
    by_depth = is_by_depth(summaries, layer_axis_kind)
    names = [name for name, _ in runs]
    with figure(path, style) as axes:
        axes.axhline(0, color=BLACK, linewidth=0.6)
        for pair, name, look in zip(pairs, names[1:], STYLES, strict=False):
            x = layer_places([one.first_layer for one in pair.layers], summaries[0], by_depth)
            _draw_pair(axes, pair, x, f"{name} − {names[0]}", look)
        axes.set(
            xlabel=wrapped(layer_axis(summaries[0]["plan"]), style, 0.8),
            ylabel=f"difference in {pairs[0].statistic}",
        )
        _finish(axes, pairs, summaries, style)
        if by_depth:
            label_depth(axes, style)


def _draw_pair(
    axes: Any, pair: Pair, x: Sequence[float], words: str, look: tuple[str, str, str]
) -> None:
    color, mark, line = look
    low, high = [one.low for one in pair.layers], [one.high for one in pair.layers]
    axes.fill_between(x, low, high, color=color, alpha=0.15, linewidth=0)
    for bound in (low, high):  # bands overlap, and in grey print they look alike
        axes.plot(x, bound, line, color=color, linewidth=0.5)
    values = [one.difference for one in pair.layers]
    axes.plot(x, values, line, marker=mark, color=color, markerfacecolor="white", label=words)
    passed = [i for i, one in enumerate(pair.layers) if one.p_corrected < LEVEL]
    if passed:
        axes.plot([x[i] for i in passed], [values[i] for i in passed], mark, color=color)


def _finish(
    axes: Any,
    pairs: Sequence[Pair],
    summaries: Sequence[Mapping[str, Any]],
    style: FigureStyle,
) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", alpha=0.3)
    title = (
        f"{common_title(summaries)}bands: {pairs[0].confidence:.0%} interval, filled: corrected p < "
        f"{LEVEL:g}"
    )
    set_title(axes, title, style)
