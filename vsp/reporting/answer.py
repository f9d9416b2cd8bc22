"""One sentence that says what a curve shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vsp.reporting.formatting import format_figure, format_interval
from vsp.storage.layer_score import LayerScore
from vsp.utils.text import format_ranges

LEVEL = 0.05  # of the corrected p


def beats_chance(score: LayerScore) -> bool:
    """True if the layer's corrected p is under LEVEL."""
    return score.p_corrected is not None and score.p_corrected < LEVEL


def answer(summary: Mapping[str, Any], scores: Sequence[LayerScore]) -> str:
    """A sentence that names the layers above chance and the selected layer's score.

    A layer is named if its corrected p, against permuted labels, is under LEVEL and its score is
    over that of the most frequent label. Empty if there are too few permutations for such a p.
    """
    if 1 / (summary["n_permutations"] + 1) >= LEVEL or not summary["n_permutations"]:
        return ""
    chance = format_figure(summary["chance"])
    above = [s.layer for s in scores if beats_chance(s) and s.score > summary["chance"]]
    if len(above) == len(scores) > 1:
        said = f"All {len(scores)} probed layers score"
    elif above:
        listed = format_ranges(above).replace("-", "–").replace(",", ", ")
        said = f"Layers {listed} score" if len(above) > 1 else f"Layer {listed} scores"
    else:
        said = f"None of the {len(scores)} probed layers scores"
    said += f" above chance ({chance}) at corrected p < {LEVEL:g}"
    peak = summary["peak"]
    if len(scores) == 1 or not above:
        return f"{said}."
    one = len(peak["layers"]) == 1
    which = (
        "the layer selected on training rows has"
        if one
        else ("the layers selected on the training rows of each split have")
    )
    estimate = f"{summary['statistic']} {format_figure(peak['estimate'])} {format_interval(peak)}"
    return f"{said}; {which} {estimate} on test rows."
