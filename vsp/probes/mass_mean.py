"""Difference of means: the direction from one class mean to the other, split at their midpoint.

The mass-mean probe of Marks & Tegmark 2024, The Geometry of Truth (arXiv:2310.06824), without the
covariance; with the covariance it is linear discriminant analysis (`lda`). It has no parameter to
choose. Its scores have the unit of squared states and are not probabilities.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vsp.probes.base import LabelProbe
from vsp.probes.closed_form import ClosedForm, class_means
from vsp.probes.linear_probe import Readout
from vsp.probes.treatment import Array


class MassMean(ClosedForm, LabelProbe):
    """With several classes: each class against the rows of all others."""

    def __init__(self, treatment: str = "none") -> None:
        self.treatment = treatment

    def solve(
        self, treated: Array, ys: Sequence[NDArray[Any]], strengths: Sequence[float]
    ) -> Iterator[list[Readout]]:
        for codes in ys:
            means, counts = class_means(treated, codes)
            sums = means * counts[:, None]
            rest = (sums.sum(axis=0) - sums) / (len(codes) - counts)[:, None]
            if len(means) == 2:  # exactly, without the rounding of a difference of sums
                rest = means[::-1]
            coef = means - rest
            yield [Readout(coef, -np.einsum("ch,ch->c", coef, (means + rest) / 2))]
