"""What `vsp report` says of states that were erased before the probe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vsp.reporting.formatting import format_figure
from vsp.storage.layer_score import LayerScore
from vsp.utils.text import format_count

_METHODS = {
    "leace": "LEACE",
    "inlp": "iterative nullspace projection (INLP)",
    "random": "a random subspace, a control",
}


def erasure_fact(summary: Mapping[str, Any], best: LayerScore) -> str:
    """The method, and what it leaves on training rows of the selected layer; empty without erasure."""
    method = str(summary.get("settings", {}).get("erase", ""))
    figures = best.erasure
    if not method or figures is None:
        return ""
    return (
        f"{_METHODS.get(method, method)}, {format_count(int(figures['rank']), 'dimension')} in layer "
        f"{best.layer}, fitted on the training rows of each fit; a probe of these rows then scores "
        f"{format_figure(figures['train'])} on them, chance there is "
        f"{format_figure(figures['train_chance'])}"
    )


def random_erasure_figures(scores: Sequence[LayerScore]) -> list[str]:
    """The mean score without random subspaces, by layer; empty if nothing was erased."""
    if not any(one.erasure for one in scores):
        return []
    return [format_figure(one.erasure["random"] if one.erasure else None) for one in scores]


def erasure_notes(summary: Mapping[str, Any], scores: Sequence[LayerScore]) -> list[str]:
    """What the column of random subspaces is."""
    if not any(one.erasure for one in scores):
        return []
    return [
        f"rand.: mean {summary['statistic']} after the erasure of random subspaces of the same rank "
        "instead."
    ]
