"""One sentence that says what a curve shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vsp.reporting.formatting import format_figure, format_interval
from vsp.storage.results import LayerScore
from vsp.utils.text import format_ranges

LEVEL = 0.05  # of the corrected p


def beats_chance(score: LayerScore) -> bool:
    """Whether the layer's corrected p is under LEVEL."""
    return score.p_corrected is not None and score.p_corrected < LEVEL


def answer(summary: Mapping[str, Any], scores: Sequence[LayerScore]) -> str:
    """Which layers beat chance, and the score of the layer selected on training rows.

    Empty if no permutation test was done.
    """
    if all(score.p_corrected is None for score in scores):
        return ""
    chance = format_figure(summary["chance"])
    above = [score.layer for score in scores if beats_chance(score)]
    if not above:
        return f"No layer scores above chance ({chance}) at corrected p < {LEVEL:g}."
    if len(above) == len(scores):
        said = "All layers score"
    else:
        listed = format_ranges(above).replace("-", "–").replace(",", ", ")
        said = f"Layers {listed} score" if len(above) > 1 else f"Layer {listed} scores"
    said += f" above chance ({chance}) at corrected p < {LEVEL:g}"
    peak = summary["peak"]
    if peak is None:
        return f"{said}."
    estimate = f"{summary['statistic']} {format_figure(peak['estimate'])} {format_interval(peak)}"
    return f"{said}; the layer selected on training rows has {estimate} on test rows."
