"""The plots of `vsp report` and `vsp compare`: score by layer, readable without colour."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from vsp.errors import ConfigError
from vsp.reporting.answer import LEVEL, beats_chance
from vsp.reporting.figure_file import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PINK,
    SKY,
    STYLES,
    FigureStyle,
    figure,
    label,
    mark_every,
    set_title,
    wrapped,
)
from vsp.reporting.formatting import controlled_type, layer_axis
from vsp.reporting.names import model_name, plan_of, run_title
from vsp.reporting.untrained import Untrained, read_untrained
from vsp.storage.layer_score import LayerScore
from vsp.storage.results import Results

_BAND = "#c6dcea"  # a light blue


def plot(results: Results, path: Path, style: FigureStyle | None = None) -> None:
    """Draw the score by layer with its interval, the controls, chance and the peak.

    The model's own answers are a line with an interval, and the logit lens is a curve. The untrained
    model is drawn if its results lie beside these results. The file is PNG, SVG or PDF by its suffix;
    the same results give the same bytes. Raises ConfigError for any other suffix.
    """
    summary, scores = results.read()
    style = style or FigureStyle()
    with figure(path, style) as axes:
        _draw_scores(axes, summary, scores, style)
        _draw_control(axes, scores, style)
        _draw_untrained(axes, read_untrained(results, summary))
        _draw_says(axes, summary, scores)
        _draw_chance(axes, summary)
        if len(scores) > 1:
            _draw_peak(axes, summary, style)
        _label_axes(axes, summary, scores, style)
        set_title(axes, run_title(summary), style)


def plot_runs(
    runs: Sequence[tuple[str, Results]],
    path: Path,
    style: FigureStyle | None = None,
    layer_axis_kind: str | None = None,
) -> None:
    """Draw the scores of several runs (name, results) with their intervals in one plot.

    `layer_axis_kind`: absolute (by number) or relative (by depth); None: by number, or by depth if the
    models have different numbers of layers, as the comparison matches them. File and errors are
    those of `plot`. Raises ConfigError for more runs than styles.
    """
    if len(runs) > len(STYLES):
        raise ConfigError(f"plot of {len(runs)} runs: at most {len(STYLES)} can be told apart")
    read = [(name, *results.read()) for name, results in runs]
    style = style or FigureStyle()
    by_depth = is_by_depth([summary for _, summary, _ in read], layer_axis_kind)
    with figure(path, style) as axes:
        for (name, summary, scores), (color, mark, line) in zip(read, STYLES, strict=False):
            x = layer_places([score.layer for score in scores], summary, by_depth)
            low, high = _curve(scores, lambda s: s.low), _curve(scores, lambda s: s.high)
            axes.fill_between(x, low, high, color=color, alpha=0.2, linewidth=0)
            values = _curve(scores, lambda s: s.score)
            every = mark_every(len(x))
            axes.plot(x, values, line, marker=mark, markevery=every, color=color, label=label(name))
        for chance in sorted({f"{summary['chance']:.3f}" for _, summary, _ in read}):
            axes.axhline(float(chance), color=GREY, linestyle=":", label=f"chance: {chance}")
        lowest = min(summary["chance"] for _, summary, _ in read)
        everything = [score for _, _, scores in read for score in scores]
        _label_axes(axes, {**read[0][1], "chance": lowest}, everything, style)
        confidence = read[0][1]["confidence"]
        title = f"{common_title([s for _, s, _ in read])}bands: {confidence:.0%} interval"
        set_title(axes, title, style)
        if by_depth:
            label_depth(axes, style)


def is_by_depth(summaries: Sequence[Mapping[str, Any]], asked: str | None) -> bool:
    """Whether layers are placed by relative depth."""
    if asked is not None:
        return asked == "relative"
    return len({summary["n_layers"] for summary in summaries}) > 1


def layer_places(layers: Sequence[int], summary: Mapping[str, Any], by_depth: bool) -> list[float]:
    """The place of each layer on the axis: its number, or its depth from 0 to 1."""
    last = max(summary["n_layers"] - 1, 1) if by_depth else 1
    return [layer / last for layer in layers]


def label_depth(axes: Any, style: FigureStyle) -> None:
    from matplotlib.ticker import MultipleLocator

    ends = "0 to 1" if style.is_narrow else "0 = embedding output, 1 = last layer"
    axes.set_xlabel(f"relative depth ({ends})")
    axes.xaxis.set_major_locator(MultipleLocator(0.25))


def common_title(summaries: Sequence[Mapping[str, Any]]) -> str:
    """Model and prompt if all runs have the same; else nothing."""
    plans = [plan_of(summary) for summary in summaries]
    if len({(model_name(plan.model), plan.prompt) for plan in plans}) > 1:
        return ""
    return f"{model_name(plans[0].model)}, prompt {plans[0].prompt}; "


def _draw_scores(
    axes: Any, summary: Mapping[str, Any], scores: Sequence[LayerScore], style: FigureStyle
) -> None:
    """The curve; filled marks for layers significantly above chance, open marks for the others."""
    layers = [score.layer for score in scores]
    low, high = _curve(scores, lambda s: s.low), _curve(scores, lambda s: s.high)
    band = f"{summary['confidence']:.0%} interval"
    axes.fill_between(layers, low, high, color=_BAND, linewidth=0, label=band)
    values = _curve(scores, lambda s: s.score)
    axes.plot(layers, values, "-", color=BLUE, label=summary["statistic"])
    tested = any(score.p_corrected is not None for score in scores)
    for passed, fill, words in (
        (True, BLUE, f"corrected p < {LEVEL:g}"),
        (False, "white", f"corrected p ≥ {LEVEL:g}"),
    ):
        shown = [s for s in scores if tested and beats_chance(s) is passed]
        if shown:
            axes.plot(
                [s.layer for s in shown],
                [s.score for s in shown],
                "o",
                color=BLUE,
                markerfacecolor=fill,
                markersize=1.2 * style.mark,
                label=words,
            )


def _draw_control(axes: Any, scores: Sequence[LayerScore], style: FigureStyle) -> None:
    """Scores of the first control task, normalised by its own chance, from the chance line up."""
    for name in list(scores[0].controls)[:1]:
        values = _curve(scores, lambda s, name=name: _control_score(s, name))  # type: ignore[misc]
        layers = [s.layer for s in scores]
        words = "control tasks" + ("" if style.is_narrow else f" ({controlled_type(name)})")
        axes.plot(layers, values, "s--", color=ORANGE, label=words)


def _control_score(score: LayerScore, name: str) -> float | None:
    of_control = score.controls.get(name, {}).get("control")
    normalised = of_control["difference"] if of_control else None
    return None if normalised is None else score.chance + (1 - score.chance) * normalised


def _draw_untrained(axes: Any, untrained: Untrained | None) -> None:
    """Scores of the model with random weights, if its results are beside those of the run."""
    if untrained and untrained.score:
        layers, values = zip(*untrained.score.items(), strict=True)
        axes.plot(layers, values, "^-.", color=GREEN, label="untrained model")


def _draw_says(axes: Any, summary: Mapping[str, Any], scores: Sequence[LayerScore]) -> None:
    """The score of the model's own answers across all layers, and of those of the logit lens.

    Left out if their statistic is not that of the curve.
    """
    says = summary["says"]
    if says is None or says["statistic"] != summary["statistic"]:
        return
    own = says["figures"][says["statistic"]]["says"]
    if own["score"] is not None:
        words = f"says (the model's own answers): {own['score']:.3f}"
        axes.axhline(own["score"], color=PINK, linestyle=(0, (7, 2)), label=words)
        if own["low"] is not None and own["high"] is not None:
            axes.axhspan(own["low"], own["high"], color=PINK, alpha=0.12, linewidth=0)
    if any(score.lens for score in scores):
        values = _curve(scores, lambda s: s.lens["score"] if s.lens else None)
        axes.plot([s.layer for s in scores], values, "v:", color=SKY, label="logit lens")


def _draw_chance(axes: Any, summary: Mapping[str, Any]) -> None:
    chance = summary["chance"]
    axes.axhline(chance, color=GREY, linestyle=":", label=f"chance: {chance:.3f}")
    words = summary["baselines"].get("words alone")
    if words is not None:
        said = f"words alone: {words['score']:.3f}"
        axes.axhline(words["score"], color=GREY, linestyle=(0, (4, 1, 1, 1)), label=said)


def _draw_peak(axes: Any, summary: Mapping[str, Any], style: FigureStyle) -> None:
    """The score of the selected layer on test rows, at the layer that most splits selected."""
    peak = summary["peak"]
    layer = int(max(peak["layers"], key=lambda one: (peak["layers"][one], -int(one))))
    estimate = peak["estimate"]
    low, high = (estimate if peak[key] is None else peak[key] for key in ("low", "high"))
    axes.errorbar(
        [layer],
        [estimate],
        yerr=[[max(estimate - low, 0)], [max(high - estimate, 0)]],
        fmt="D",
        color=BLACK,
        markerfacecolor="none",
        markersize=2.4 * style.mark,
        capsize=1.2 * style.mark,
        zorder=5,
        label=f"{'selected layer' if style.is_narrow else 'layer selected on training rows'}: "
        f"{estimate:.3f}",
    )


def _label_axes(
    axes: Any, summary: Mapping[str, Any], scores: Sequence[LayerScore], style: FigureStyle
) -> None:
    from matplotlib.ticker import MaxNLocator

    drawn = [value for s in scores for value in (s.score, s.low) if value is not None]
    lowest = min([*drawn, summary["chance"], 0.0])
    axes.set(
        xlabel=wrapped(layer_axis(summary["plan"]), style, 0.8),
        ylabel=summary["statistic"],
        ylim=(max(lowest - 0.05, -1.0) if lowest < 0 else 0.0, 1.04),
    )
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", alpha=0.3)


def _curve(
    scores: Sequence[LayerScore], figure: Callable[[LayerScore], float | None]
) -> list[float]:
    """One figure of each layer; NaN, drawn as a gap, if it is not defined."""
    values = map(figure, scores)
    return [math.nan if value is None else value for value in values]
