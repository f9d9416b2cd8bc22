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
    "over_random": "random features score about as well as the selected layer, so training may add "
    "nothing to it",
}
_UNTRAINED = "the untrained model scores about as well as the selected layer, so training may add nothing to it"
_RANDOM = "random features"


def cautions(summary: Mapping[str, Any], untrained: Untrained | None) -> list[str]:
    """One line for each baseline or control that the selected layer does not clearly exceed.

    Differences on the same rows decide. Older results have none to random features, which are named if
    their score reaches the interval of the selected layer.
    """
    peak = summary["peak"]
    over = {words: peak.get(name) for name, words in _OVER.items()}
    if untrained is not None:
        over[_UNTRAINED] = untrained.difference or None
    lines = [
        f"{words} (difference {format_difference(found)})"
        for words, found in over.items()
        if found is not None and _reaches_zero(found)
    ]
    for name, control in peak["controls"].items():
        found = control["selectivity"]
        if found is not None and _reaches_zero(found):
            lines.append(
                f"the probe learns random labels of control {name} about as well as the real ones "
                f"(selectivity {format_difference(found)})"
            )
    return lines if "over_random" in peak else lines + _random_of_older_results(summary)


def _reaches_zero(difference: Mapping[str, Any]) -> bool:
    return difference["low"] is None or difference["low"] <= 0


def _random_of_older_results(summary: Mapping[str, Any]) -> list[str]:
    one, low = summary["baselines"].get(_RANDOM), summary["peak"]["low"]
    if one is None or one["score"] is None or low is None or one["score"] < low:
        return []
    return [
        f"{_RANDOM}: {summary['statistic']} {format_figure(one['score'])} {format_interval(one)} reaches "
        "the interval of the selected layer, so training may add nothing to it"
    ]
