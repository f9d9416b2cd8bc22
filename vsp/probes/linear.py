"""Linear regression of a number by least squares; the solution of least norm if several exist."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lstsq

from vsp.probes.base import NumberProbe
from vsp.probes.closed_form import ClosedForm
from vsp.probes.linear_probe import Readout
from vsp.probes.treatment import Array


class Linear(ClosedForm, NumberProbe):
    """A probe without a penalty; with no more rows than dimensions it fits every row exactly."""

    def __init__(self, treatment: str = "standardize") -> None:
        self.treatment = treatment

    def solve(
        self, treated: Array, ys: Sequence[NDArray[Any]], strengths: Sequence[float]
    ) -> Iterator[list[Readout]]:
        centre, numbers = treated.mean(axis=0), np.stack(ys, axis=1)  # [row, number]
        treated -= centre
        means = numbers.mean(axis=0)
        # Centring reduces the rank by one up to rounding; singular values below this are 0.
        rounding = max(treated.shape) * np.finfo(np.float64).eps
        coefs = lstsq(treated, numbers - means, cond=rounding)[0]
        for mean, coef in zip(means, coefs.T, strict=True):
            yield [Readout(coef[None], mean[None] - coef @ centre)]
