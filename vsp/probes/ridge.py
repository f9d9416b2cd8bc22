"""Ridge regression of a number: least squares with a penalty on the squared coefficients.

The optimum is that of scikit-learn's Ridge(alpha). One product of the states, row × row or hidden
× hidden, whichever is smaller, serves all values of alpha and all targets.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cho_factor, cho_solve

from vsp.errors import ProbeError
from vsp.probes.base import NumberProbe
from vsp.probes.closed_form import ClosedForm
from vsp.probes.linear_probe import Readout
from vsp.probes.treatment import Array


class Ridge(ClosedForm, NumberProbe):
    """The intercept is not penalised."""

    strength_name = "alpha"
    default_grid = (1.0, 10.0, 100.0, 1e3, 1e4, 1e5)

    def __init__(self, alpha: float = 100.0, treatment: str = "standardize") -> None:
        self.alpha = alpha
        self.treatment = treatment

    def solve(
        self, treated: Array, ys: Sequence[NDArray[Any]], strengths: Sequence[float]
    ) -> Iterator[list[Readout]]:
        centre, numbers = treated.mean(axis=0), np.stack(ys, axis=1)  # [row, number]
        treated -= centre
        means = numbers.mean(axis=0)
        coefs = np.stack([*_coefficients(treated, numbers - means, strengths)])
        for i, mean in enumerate(means):
            by_alpha = coefs[:, i]
            yield [Readout(coef[None], mean[None] - coef @ centre) for coef in by_alpha]


def _coefficients(states: Array, numbers: Array, alphas: Sequence[float]) -> Iterator[Array]:
    """Coefficients [number, hidden] for each alpha. `states` and `numbers` have mean 0."""
    by_row = len(states) <= states.shape[1]
    product = states @ states.T if by_row else states.T @ states
    right = numbers if by_row else states.T @ numbers
    diagonal = np.diag_indices_from(product)
    for alpha in alphas:
        system = product.copy()
        system[diagonal] += alpha
        try:
            if not alpha > 0:
                raise LinAlgError
            solution = cho_solve(cho_factor(system, overwrite_a=True), right)
        except LinAlgError:
            raise ProbeError(
                f"alpha {alpha:g} is too small for these states to have one solution; "
                "use a larger one, or the probe linear"
            ) from None
        yield (states.T @ solution).T if by_row else solution.T
