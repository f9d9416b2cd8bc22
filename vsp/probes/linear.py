"""Linear regression: a number, by least squares; of several solutions the one of least norm."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lstsq

from vsp.probes.base import ClosedForm, Line, NumberProbe
from vsp.probes.treatment import Array


class Linear(ClosedForm, NumberProbe):
    """With no more rows than dimensions it goes through every row: a probe without a penalty."""

    def __init__(self, treatment: str = "standardize") -> None:
        self.treatment = treatment

    def _solve(
        self, treated: Array, ys: Sequence[NDArray[Any]], strengths: Sequence[float]
    ) -> Iterator[list[Line]]:
        middle, numbers = treated.mean(axis=0), np.stack(ys, axis=1)  # [row, number]
        treated -= middle
        means = numbers.mean(axis=0)
        # Centring costs a rank, to rounding: what is below is noise, as scikit-learn has it.
        noise = max(treated.shape) * np.finfo(np.float64).eps
        coefs = lstsq(treated, numbers - means, cond=noise)[0]
        for mean, coef in zip(means, coefs.T, strict=True):
            yield [Line(coef[None], mean[None] - coef @ middle)]
