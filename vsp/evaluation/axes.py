"""Relation axes: do the states of all rows move the same way when subject and reference change places?

A run and its swapped twin have the same rows, ids and pictures; the twin exchanges subject and
reference, so that left becomes right. For each pair of rows, the difference of their states is
signed by the label, so that all differences of an axis such as left/right point the same way if the
model has a direction for it.
"""

from __future__ import annotations

from dataclasses import dataclass

from vsp.choices import LAST
from vsp.storage.axes import Axes
from vsp.storage.run import Run


@dataclass(frozen=True, slots=True)
class AxesSettings:
    """Confidence level and number of random draws."""

    confidence: float = 0.95
    resamples: int = 2000  # of the group bootstrap
    flips: int = 1999  # random sign vectors; if there are not more than that, all are used
    seed: int = 0


def relation_axes(
    run: Run, swapped: Run, position: str = LAST, settings: AxesSettings | None = None
) -> Axes:
    """Coherence of each relation axis and cosines between axes, by layer.

    Raises RunError if the runs are not twins, ProbeError if no pair of rows is left.
    """
    raise NotImplementedError
