"""The figures of `vsp report` about classes: curves, a confusion matrix, and layers by classes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vsp.errors import ConfigError
from vsp.reporting.figure_file import GREY, STYLES, FigureStyle, figure, label, mark_every, wrapped
from vsp.reporting.formatting import layer_axis
from vsp.reporting.names import run_title
from vsp.storage.layer_score import LayerScore
from vsp.storage.results import Results
from vsp.utils.text import format_ranges

_WRITTEN = 12  # classes up to which a confusion matrix has figures in its cells
_MOST = 60  # classes whose names can be read beside a matrix
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
        _finish(axes, summary, style)
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
    height = min(style.width, 12.0) * 0.85 if len(classes) <= _WRITTEN else style.width * 0.9
    with figure(path, style, height) as axes:
        image = _image(axes, shares)
        axes.set_aspect("equal")
        names = [_short(name) for name in classes]
        axes.set_xticks(range(len(names)), names, rotation=30, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(len(names)), names)
        axes.set(xlabel="predicted", ylabel="true")
        if len(classes) <= _WRITTEN:
            _write_shares(axes, shares, min(style.font_size, _cell_points(style, classes) / 2.6))
        else:
            _small_ticks(axes, style, len(classes), height)
        axes.figure.colorbar(image, ax=axes, label="share of the true class", shrink=0.8)
        chosen = ", selected" if score.layer == summary["best_layer"] else ""
        _finish(axes, summary, style, f"layer {score.layer}{chosen}")


def plot_heatmap(results: Results, path: Path, style: FigureStyle) -> None:
    """Draw the recall of each class (a row) in each layer (a column). Errors as `plot_confusion`."""
    summary, scores = results.read()
    classes = _classes(results, scores, "heatmap")
    values = np.array([[_recall(score, name) for score in scores] for name in classes])
    height = max(0.3 * style.width, len(classes) * style.font_size * 1.5 * 2.54 / 72 + 2.5)
    with figure(path, style, height) as axes:
        image = _image(axes, values)
        axes.set_yticks(range(len(classes)), [_short(name) for name in classes])
        step = max(1, math.ceil(len(scores) * 3.2 * style.font_size * 2.54 / 72 / style.width))
        places = range(0, len(scores), step)
        axes.set_xticks(places, [str(scores[place].layer) for place in places])
        axes.set_xlabel(wrapped(layer_axis(summary["plan"]), style, 0.8))
        axes.figure.colorbar(image, ax=axes, label="recall")
        _finish(axes, summary, style)


def _classes(results: Results, scores: Sequence[LayerScore], kind: str) -> list[str]:
    if scores[0].recall is None or scores[0].confusion is None:
        raise ConfigError(
            f"--figure {kind}: {results.name} has no classes, because its probes read a number; use "
            "--figure curve"
        )
    classes = list(scores[0].recall)
    if len(classes) > _MOST:
        raise ConfigError(
            f"--figure {kind}: the names of {len(classes)} classes cannot be read, at most {_MOST}; "
            "--csv FILE has the recall of each"
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


def _image(axes: Any, values: Any) -> Any:
    # One hue, from white to dark: read alike with any colour vision and in grey.
    return axes.imshow(values, cmap="Blues", vmin=0.0, vmax=1.0, aspect="auto")


def _write_shares(axes: Any, shares: Any, points: float) -> None:
    for (row, column), share in np.ndenumerate(shares):
        text = "–" if np.isnan(share) else f"{share:.2f}"
        color = "white" if share > _DARK else "black"
        axes.text(column, row, text, ha="center", va="center", color=color, fontsize=points)


def _cell_points(style: FigureStyle, classes: Sequence[str]) -> float:
    """About the width of a cell, in points; names and colour bar take the rest."""
    return min(style.width, 12.0) * 0.6 / 2.54 * 72 / len(classes)


def _small_ticks(axes: Any, style: FigureStyle, n: int, height: float) -> None:
    """Names that do not overlap where there are many."""
    axes.tick_params(labelsize=min(style.font_size, height * 0.7 / 2.54 * 72 / n * 0.9))


def _short(name: str) -> str:
    return name if len(name) <= _NAME else f"{name[: _NAME - 1]}…"


def _finish(axes: Any, summary: Mapping[str, Any], style: FigureStyle, more: str = "") -> None:
    title = " · ".join(filter(None, (run_title(summary), more)))
    axes.set_title(wrapped(style.or_title(title), style, 0.8))
