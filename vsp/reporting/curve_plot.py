"""The plots of `vsp report` and `vsp compare`: score by layer, readable without colour."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vsp.errors import ConfigError
from vsp.escaping import one_line
from vsp.reporting.answer import LEVEL, beats_chance
from vsp.reporting.formatting import controlled_type, layer_axis
from vsp.reporting.probe_report import run_title
from vsp.reporting.untrained import Untrained, read_untrained
from vsp.storage.layer_score import LayerScore
from vsp.storage.results import Results
from vsp.utils.files import write_aside

_SCORE, _BAND, _CONTROL, _UNTRAINED = "#0b3d73", "#b9d0e8", "#b45f06", "#1b7837"
_LINES, _SAYS, _LENS = "#666666", "#7b2d8b", "#b0267d"
# Colour (told apart with any colour vision: Wong 2011, Nature Methods 8:441), mark and line of each
# run of a comparison.
STYLES = (
    ("#0072b2", "o", "-"),
    ("#d55e00", "s", "--"),
    ("#009e73", "^", "-."),
    ("#cc79a7", "D", ":"),
    ("#e69f00", "v", "-"),
    ("#56b4e9", "P", "--"),
    ("#000000", "X", "-."),
)


def plot(results: Results, path: Path) -> None:
    """Draw the score by layer with its interval, the controls, chance and the peak.

    The model's own answers are a line with an interval, and the logit lens is a curve. The untrained model is drawn if its results lie beside these results. The file is PNG or SVG by
    its suffix; the same results give the same bytes. Raises ConfigError for any other suffix.
    """
    summary, scores = results.read()
    with figure(path) as axes:
        _draw_scores(axes, summary, scores)
        _draw_control(axes, scores)
        _draw_untrained(axes, read_untrained(results, summary))
        _draw_says(axes, summary, scores)
        _draw_chance(axes, summary)
        if len(scores) > 1:
            _draw_peak(axes, summary)
        _label_axes(axes, summary, scores)
        axes.set_title(run_title(summary), fontsize=10)


def plot_runs(runs: Sequence[tuple[str, Results]], path: Path) -> None:
    """Draw the scores of several runs (name, results) with their intervals in one plot.

    Layers of models of different depth are placed by relative depth, as the comparison matches
    them. File and errors are those of `plot`. Raises ConfigError for more runs than styles.
    """
    if len(runs) > len(STYLES):
        raise ConfigError(f"plot of {len(runs)} runs: at most {len(STYLES)} can be told apart")
    read = [(name, *results.read()) for name, results in runs]
    deepest = {max(score.layer for score in scores) for _, _, scores in read}
    by_depth = len(deepest) > 1
    with figure(path) as axes:
        for (name, _, scores), (color, mark, line) in zip(read, STYLES, strict=False):
            last = max(score.layer for score in scores)
            x = [score.layer / max(last, 1) if by_depth else score.layer for score in scores]
            low, high = _curve(scores, lambda s: s.low), _curve(scores, lambda s: s.high)
            axes.fill_between(x, low, high, color=color, alpha=0.2, linewidth=0)
            # matplotlib leaves a label that begins with "_" out of the legend.
            label = f"\u200b{name}" if name.startswith("_") else name
            values = _curve(scores, lambda s: s.score)
            axes.plot(x, values, line, marker=mark, markersize=5, color=color, label=label)
        for chance in sorted({f"{summary['chance']:.3f}" for _, summary, _ in read}):
            axes.axhline(float(chance), color=_LINES, linestyle=":", label=f"chance: {chance}")
        lowest = min(summary["chance"] for _, summary, _ in read)
        everything = [score for _, _, scores in read for score in scores]
        _label_axes(axes, {**read[0][1], "chance": lowest}, everything)
        confidence = read[0][1]["confidence"]
        axes.set_title(f"{_common_title(read)}bands: {confidence:.0%} interval", fontsize=10)
        if by_depth:
            axes.set_xlabel("relative depth (0 = embedding output, 1 = last layer)")
            axes.xaxis.set_major_locator(_every_quarter())


def _common_title(read: Sequence[tuple[str, Mapping[str, Any], Sequence[LayerScore]]]) -> str:
    """Model and prompt if all runs have the same; else nothing."""
    plans = {(p["model"]["checkpoint"], p["prompt"]) for _, s, _ in read for p in (s["plan"],)}
    if len(plans) > 1:
        return ""
    ((checkpoint, prompt),) = plans
    return f"{Path(str(checkpoint)).name}, prompt {prompt}; "


def _every_quarter() -> Any:
    from matplotlib.ticker import MultipleLocator

    return MultipleLocator(0.25)


def check_suffix(path: Path) -> None:
    """Raise ConfigError unless a plot can be written to a file of this name."""
    if path.suffix not in (".png", ".svg"):
        raise ConfigError(f"plot {str(path)!r}: unknown suffix {path.suffix!r}; use .png or .svg")


@contextmanager
def figure(path: Path) -> Iterator[Any]:
    """The axes to draw on. At the end of the block, the figure is written with a legend."""
    check_suffix(path)
    import matplotlib

    matplotlib.use("Agg")
    # SVG text stays text, and its ids do not change from call to call. Names are no mathematics.
    matplotlib.rcParams.update(
        {"svg.fonttype": "none", "svg.hashsalt": "vsp", "text.parse_math": False}
    )
    from matplotlib.figure import Figure
    from matplotlib.text import Text

    drawn = Figure(figsize=(7, 4.6), layout="constrained")
    axes = drawn.subplots()
    yield axes
    if axes.get_legend_handles_labels()[0]:
        drawn.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=8)
    for text in drawn.findobj(Text):
        text.set_text(one_line(text.get_text()))
    with write_aside(path) as file:
        metadata = {"Date": None} if path.suffix == ".svg" else {}
        drawn.savefig(file, format=path.suffix[1:], dpi=150, metadata=metadata)


def _draw_scores(axes: Any, summary: Mapping[str, Any], scores: Sequence[LayerScore]) -> None:
    """The curve; filled marks for layers significantly above chance, open marks for the others."""
    layers = [score.layer for score in scores]
    low, high = _curve(scores, lambda s: s.low), _curve(scores, lambda s: s.high)
    band = f"{summary['confidence']:.0%} interval"
    axes.fill_between(layers, low, high, color=_BAND, linewidth=0, label=band)
    values = _curve(scores, lambda s: s.score)
    axes.plot(layers, values, "-", color=_SCORE, linewidth=1.8, label=summary["statistic"])
    tested = any(score.p_corrected is not None for score in scores)
    for passed, fill, words in (
        (True, _SCORE, f"corrected p < {LEVEL:g}"),
        (False, "white", f"corrected p ≥ {LEVEL:g}"),
    ):
        shown = [s for s in scores if tested and beats_chance(s) is passed]
        if shown:
            axes.plot(
                [s.layer for s in shown],
                [s.score for s in shown],
                "o",
                color=_SCORE,
                markerfacecolor=fill,
                markersize=5,
                label=words,
            )


def _draw_control(axes: Any, scores: Sequence[LayerScore]) -> None:
    """Scores of the first control task, normalised by its own chance, from the chance line up."""
    for name in list(scores[0].controls)[:1]:
        values = _curve(scores, lambda s, name=name: _control_score(s, name))  # type: ignore[misc]
        style = {"color": _CONTROL, "linewidth": 1.2, "markersize": 2.5}
        layers = [s.layer for s in scores]
        axes.plot(layers, values, "s--", label=f"control tasks ({controlled_type(name)})", **style)


def _control_score(score: LayerScore, name: str) -> float | None:
    of_control = score.controls.get(name, {}).get("control")
    normalised = of_control["difference"] if of_control else None
    return None if normalised is None else score.chance + (1 - score.chance) * normalised


def _draw_untrained(axes: Any, untrained: Untrained | None) -> None:
    """Scores of the model with random weights, if its results are beside those of the run."""
    if untrained and untrained.score:
        layers, values = zip(*untrained.score.items(), strict=True)
        style = {"color": _UNTRAINED, "linewidth": 1.2, "markersize": 3.5}
        axes.plot(layers, values, "^-.", label="untrained model", **style)


def _draw_says(axes: Any, summary: Mapping[str, Any], scores: Sequence[LayerScore]) -> None:
    """The score of the model's own answers across all layers, and of those of the logit lens.

    Left out if their statistic is not that of the curve.
    """
    says = summary["says"]
    if says is None or says["statistic"] != summary["statistic"]:
        return
    own = says["figures"][says["statistic"]]["says"]
    if own["score"] is not None:
        label = f"says (the model's own answers): {own['score']:.3f}"
        axes.axhline(own["score"], color=_SAYS, linestyle=(0, (7, 2)), linewidth=1.6, label=label)
        if own["low"] is not None and own["high"] is not None:
            axes.axhspan(own["low"], own["high"], color=_SAYS, alpha=0.12, linewidth=0)
    if any(score.lens for score in scores):
        values = _curve(scores, lambda s: s.lens["score"] if s.lens else None)
        style = {"color": _LENS, "linewidth": 1.2, "markersize": 3.5}
        axes.plot([s.layer for s in scores], values, "v:", label="logit lens", **style)


def _draw_chance(axes: Any, summary: Mapping[str, Any]) -> None:
    chance = summary["chance"]
    axes.axhline(chance, color=_LINES, linestyle=":", label=f"chance: {chance:.3f}")
    words = summary["baselines"].get("words alone")
    if words is not None:
        label = f"words alone: {words['score']:.3f}"
        axes.axhline(words["score"], color=_LINES, linestyle="-.", linewidth=1, label=label)


def _draw_peak(axes: Any, summary: Mapping[str, Any]) -> None:
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
        color="black",
        markerfacecolor="none",
        markersize=10,
        capsize=5,
        zorder=5,
        label=f"layer selected on training rows: {estimate:.3f}",
    )


def _label_axes(axes: Any, summary: Mapping[str, Any], scores: Sequence[LayerScore]) -> None:
    from matplotlib.ticker import MaxNLocator

    drawn = [value for s in scores for value in (s.score, s.low) if value is not None]
    lowest = min([*drawn, summary["chance"], 0.0])
    axes.set(
        xlabel=layer_axis(summary["plan"]),
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
