"""The first sentences of a report: what the curve shows, and the figure to cite."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vsp.reporting.formatting import (
    format_difference,
    format_figure,
    format_interval,
    format_layers,
)
from vsp.storage.layer_score import LayerScore
from vsp.utils.text import format_count

LEVEL = 0.05  # of the corrected p


def beats_chance(score: LayerScore) -> bool:
    """True if the layer's corrected p is under LEVEL."""
    return score.p_corrected is not None and score.p_corrected < LEVEL


def answer(summary: Mapping[str, Any], scores: Sequence[LayerScore]) -> str:
    """The sentences of `finding`, and the figure to cite."""
    return " ".join(filter(None, finding(summary, scores)))


def finding(summary: Mapping[str, Any], scores: Sequence[LayerScore]) -> tuple[str, str]:
    """Which layers are above chance and above the words; and the figure to cite, empty if none is.

    A layer beats chance if its p against permuted labels, corrected for the number of layers, is
    under LEVEL and its score is over that of the most frequent label. It beats the words alone if
    the p of labels permuted among rows with the same prompt is under LEVEL too. If there are
    too few permutations for such a p, the sentence says only that.
    """
    n = summary["n_permutations"]
    if 1 / (n + 1) >= LEVEL:
        needed = round(1 / LEVEL)
        return (
            f"Not tested against chance: p < {LEVEL:g} needs {needed} permutations, and there are {n}.",
            _to_cite(summary),
        )
    above = [one for one in scores if beats_chance(one) and one.score > summary["chance"]]
    chance = f"chance ({format_figure(summary['chance'])})"
    if not above:
        subject = "No layer beats" if len(scores) > 1 else f"Layer {scores[0].layer} does not beat"
        return f"{subject} {chance} at corrected p < {LEVEL:g}.", ""
    found = f"{_layers(above, scores)} {chance}{_beyond_words(above, scores)} at corrected p < {LEVEL:g}."
    return f"{found}{_words_at_peak(summary, scores)}", _to_cite(summary)


def _layers(some: Sequence[LayerScore], scores: Sequence[LayerScore]) -> str:
    if len(some) == len(scores) > 1:
        return f"All {len(scores)} probed layers beat"
    listed = format_layers(one.layer for one in some)
    return f"Layers {listed} beat" if len(some) > 1 else f"Layer {listed} beats"


def _beyond_words(above: Sequence[LayerScore], scores: Sequence[LayerScore]) -> str:
    """Which of the layers above chance also read more than the words tell."""
    if _untested(scores):
        return ""
    beyond = [
        one
        for one in above
        if one.p_within_corrected is not None and one.p_within_corrected < LEVEL
    ]
    if not beyond:
        return ", none of them the words alone,"
    if len(beyond) == len(above):
        return " and the words alone"
    return f", {'layers' if len(beyond) > 1 else 'layer'} {format_layers(one.layer for one in beyond)} also the words alone,"


def _untested(scores: Sequence[LayerScore]) -> bool:
    """Whether no layer has a test within prompts."""
    return all(one.p_within_corrected is None for one in scores)


def _words_at_peak(summary: Mapping[str, Any], scores: Sequence[LayerScore]) -> str:
    """The difference to the words alone, where the layers have no test within prompts."""
    if not _untested(scores):
        return ""
    over = summary["peak"]["over_words"]
    if over is None:
        return " Whether they beat the words alone was not tested."
    return f" The selected layer scores {format_difference(over)} over the words alone."


def _to_cite(summary: Mapping[str, Any]) -> str:
    """The score on test rows of the layers that the training rows select."""
    peak = summary["peak"]
    figure = f"{summary['statistic']} {format_figure(peak['estimate'])} {format_interval(peak)}"
    n_splits = sum(peak["layers"].values())
    unit = "group" if summary["split_by"] == "image" else "name pair"
    if n_splits == 1:
        (layer,) = peak["layers"]
        which = f"of layer {layer}, which the training rows select"
    else:
        which = "of the layer that the training rows of each split select"
    return (
        f"Cite {figure}: the score on test rows {which}, for this dataset, prompt and probe; the "
        f"interval is about other {_other(n_splits)} ({format_count(summary['n_groups'], unit)})."
    )


def _other(n_splits: int) -> str:
    return "training and test rows" if n_splits > 1 else "test rows"
