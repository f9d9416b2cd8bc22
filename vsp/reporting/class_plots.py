"""The figures of `vsp report` about classes: curves, a confusion matrix, and layers by classes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vsp.errors import ConfigError
from vsp.reporting.figure_file import (
    GREY,
    STYLES,
    FigureStyle,
    figure,
    label,
    mark_every,
    set_title,
    wrapped,
)
from vsp.reporting.formatting import layer_axis
from vsp.reporting.names import run_title
from vsp.storage.layer_score import LayerScore
from vsp.storage.results import Results
from vsp.utils.text import format_ranges

_WRITTEN = 12  # classes up to which a confusion matrix has figures in its cells
_MOST = 60  # classes whose names can be read beside a matrix
_LEAST = 3.5  # points of the smallest name
_SQUARE = 14.0  # cm; a confusion matrix is not wider
_NO_VALUE = "#d0d0d0"
_DARK = 0.55  # share of the colour scale from which text on it is white
_NAME = 18  # signs of a class's name beside a matrix


def plot_classes(results: Results, path: Path, style: FigureStyle) -> None:
    """Draw the recall of each class by layer, and their mean. Raises ConfigError without classes."""
    summary, scores = results.read()
    classes = _classes(results, scores, "classes")
    if len(classes) > len(STYLES):
        raise ConfigError(
            f"--figure classes: at most {len(STYLES)} curves can be told apart, and there are "
            f"{len(classes)} classes; use --figure heatmap"
        )
    layers = [score.layer for score in scores]
    with figure(path, style) as axes:
        for name, (color, mark, line) in zip(classes, STYLES, strict=False):
            values = [_recall(score, name) for score in scores]
            every = mark_every(len(layers))
            axes.plot(
                layers, values, line, marker=mark, markevery=every, color=color, label=label(name)
            )
        mean = [math.nan if s.balanced_accuracy is None else s.balanced_accuracy for s in scores]
        axes.plot(layers, mean, "-", color=GREY, linewidth=2 * style.line, alpha=0.6,
                  label="mean of all classes")  # fmt: skip
        axes.set(
            xlabel=wrapped(layer_axis(summary["plan"]), style, 0.8),
            ylabel="recall",
            ylim=(0.0, 1.04),
        )
        set_title(axes, run_title(summary), style)
        axes.grid(axis="y", alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)


def plot_confusion(
    results: Results, path: Path, style: FigureStyle, layer: int | None = None
) -> None:
    """Draw true by predicted classes of a layer, by default of the selected one.

    A cell's colour and figure are the share of the rows of its true class. Raises ConfigError
    without classes, for too many of them, and for a layer without a score.
    """
    summary, scores = results.read()
    classes = _classes(results, scores, "confusion")
    score = _layer(results, scores, summary["best_layer"] if layer is None else layer)
    counts = np.array(score.confusion, dtype=np.float64)
    total = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, total, out=np.full_like(counts, np.nan), where=total > 0)
    points = _cell_points(style, classes)
    written = len(classes) <= _WRITTEN
    with figure(path, style, 0.85 * min(style.width, _SQUARE)) as axes:
        _draw_cells(axes, shares, "share of true class", shrink=0.8)
        axes.set_aspect("equal")
        names, turn = _short(classes), 30 if written else 90
        axes.set_xticks(range(len(names)), names, rotation=turn, ha="right", rotation_mode="anchor",
                        va="top" if written else "center")  # fmt: skip
        axes.set_yticks(range(len(names)), names)
        axes.set(xlabel="predicted", ylabel="true")
        axes.tick_params(labelsize=min(style.font_size, 0.9 * points))
        if written:
            _write_shares(axes, shares, min(style.font_size, points / 2.6))
        chosen = ", selected" if score.layer == summary["best_layer"] else ""
        set_title(axes, f"{run_title(summary)} · layer {score.layer}{chosen}", style)


def plot_heatmap(results: Results, path: Path, style: FigureStyle) -> None:
    """Draw the recall of each class (a row) in each layer (a column). Errors as `plot_confusion`."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    summary, scores = results.read()
    classes = _classes(results, scores, "heatmap")
    values = np.array([[_recall(score, name) for score in scores] for name in classes])
    height = max(0.3 * style.width, len(classes) * style.font_size * 1.5 * 2.54 / 72 + 2.5)

    def layer_at(place: float, _: Any) -> str:
        known = float(place).is_integer() and 0 <= place < len(scores)
        return str(scores[int(place)].layer) if known else ""

    with figure(path, style, height) as axes:
        _draw_cells(axes, values, "recall")
        axes.set_yticks(range(len(classes)), _short(classes))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.xaxis.set_major_formatter(FuncFormatter(layer_at))
        axes.set_xlabel(wrapped(layer_axis(summary["plan"]), style, 0.8))
        set_title(axes, run_title(summary), style)


def _classes(results: Results, scores: Sequence[LayerScore], kind: str) -> list[str]:
    if scores[0].recall is None or scores[0].confusion is None:
        raise ConfigError(
            f"--figure {kind}: {results.name} has no classes, because its probes read a number; use "
            "--figure curve"
        )
    classes = list(scores[0].recall)
    if len(classes) > _MOST:
        raise ConfigError(
            f"--figure {kind}: the names of {len(classes)} classes cannot be read, at most {_MOST} can; "
            "use --csv FILE, which has the recall of each"
        )
    return classes


def _layer(results: Results, scores: Sequence[LayerScore], layer: int) -> LayerScore:
    for score in scores:
        if score.layer == layer:
            return score
    raise ConfigError(
        f"--layer {layer}: {results.name} has no score of this layer; it has layers "
        f"{format_ranges([score.layer for score in scores])}"
    )


def _recall(score: LayerScore, name: str) -> float:
    value = (score.recall or {}).get(name)
    return math.nan if value is None else value


def _draw_cells(axes: Any, values: Any, words: str, shrink: float = 1.0) -> None:
    """The values as colours, with a colour bar; cells without a value are grey."""
    axes.set_facecolor(_NO_VALUE)
    # One hue, from white to dark: read alike with any colour vision and in grey.
    image = axes.imshow(values, cmap="Blues", vmin=0.0, vmax=1.0, aspect="auto")
    words += "\n(grey: no rows)" if np.isnan(values).any() else ""
    axes.figure.colorbar(image, ax=axes, label=words, shrink=shrink)


def _write_shares(axes: Any, shares: Any, points: float) -> None:
    for (row, column), share in np.ndenumerate(shares):
        text = "–" if np.isnan(share) else f"{share:.2f}"
        color = "white" if share > _DARK else "black"
        axes.text(column, row, text, ha="center", va="center", color=color, fontsize=points)


def _cell_points(style: FigureStyle, classes: Sequence[str]) -> float:
    """About the width of a cell of a square, in points; names and colour bar take the rest.

    Raises ConfigError if names of that height cannot be read.
    """
    points = 0.5 * min(style.width, _SQUARE) / 2.54 * 72 / len(classes)
    if points < _LEAST:
        raise ConfigError(
            f"--figure confusion: the names of {len(classes)} classes cannot be read at a width of "
            f"{style.width:g} cm; use --width double, or --csv FILE, which has the recall of each"
        )
    return points


def _short(names: Sequence[str]) -> list[str]:
    """The names, cut where they are long and still differ."""
    for most in range(_NAME, 3 * _NAME):
        cut = [name if len(name) <= most else f"{name[: most - 1]}…" for name in names]
        if len(set(cut)) == len(names):
            return cut
    return list(names)
