"""Reasons why a curve may mean less than it seems, from its baselines and controls."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vsp.reporting.formatting import format_difference, format_figure, format_interval
from vsp.reporting.untrained import Untrained

_OVER = {
    "over_words": "the words alone score about as well as the selected layer, so the score does not "
    "show that the model uses the picture",
    "over_embedding": "layer 0 scores about as well as the selected layer, so the score does not show "
    "that the layers compute the label",
}
_RANDOM = "random features"


def cautions(summary: Mapping[str, Any], untrained: Untrained | None) -> list[str]:
    """One line for each baseline or control that the selected layer does not clearly exceed.

    Paired differences decide for the words, layer 0 and the control tasks. Features of random or
    untrained models have no paired difference: they are named if their score reaches the interval
    of the selected layer.
    """
    peak = summary["peak"]
    lines = [
        f"{words} (difference {format_difference(peak[name])})"
        for name, words in _OVER.items()
        if peak[name] is not None and _reaches_zero(peak[name])
    ]
    for name, control in peak["controls"].items():
        found = control["selectivity"]
        if found is not None and _reaches_zero(found):
            lines.append(
                f"the probe learns random labels of control {name} about as well as the real ones "
                f"(selectivity {format_difference(found)})"
            )
    return lines + _random_models(summary, untrained)


def _reaches_zero(difference: Mapping[str, Any]) -> bool:
    return difference["low"] is None or difference["low"] <= 0


def _random_models(summary: Mapping[str, Any], untrained: Untrained | None) -> list[str]:
    peak = summary["peak"]
    models = {_RANDOM: summary["baselines"].get(_RANDOM)}
    if untrained is not None and untrained.peak:
        models["the untrained model"] = untrained.peak
    return [
        f"{name}: {summary['statistic']} {format_figure(one['score'])} {format_interval(one)} reaches "
        "the interval of the selected layer, so training may add nothing to it"
        for name, one in models.items()
        if one is not None and _reaches(one["score"], peak["low"])
    ]


def _reaches(score: float | None, low: float | None) -> bool:
    return score is not None and low is not None and score >= low
