"""Difference of means: the direction from one class's mean to the other's, and the middle.

Marks & Tegmark 2023, The Geometry of Truth (arXiv:2310.06824), their mass-mean probe without the
covariance; with it, it is linear discriminant analysis (`lda`). It has no parameter to choose, and
its scores, in units of squared states, are not probabilities.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vsp.probes.base import ClosedForm, LabelProbe, Line, class_means
from vsp.probes.treatment import Array


class MassMean(ClosedForm, LabelProbe):
    """Several classes: each against the rows of all the others."""

    def __init__(self, treatment: str = "none") -> None:
        self.treatment = treatment

    def _solve(
        self, treated: Array, ys: Sequence[NDArray[Any]], strengths: Sequence[float]
    ) -> Iterator[list[Line]]:
        for codes in ys:
            means, counts = class_means(treated, codes)
            sums = means * counts[:, None]
            rest = (sums.sum(axis=0) - sums) / (len(codes) - counts)[:, None]
            if len(means) == 2:  # exactly, not as a difference of sums
                rest = means[::-1]
            coef = means - rest
            yield [Line(coef, -np.einsum("ch,ch->c", coef, (means + rest) / 2))]
