"""Linear discriminant analysis with a shrunk covariance, fast enough for 4096 dimensions.

The result is that of scikit-learn's LinearDiscriminantAnalysis(solver="lsqr", shrinkage): the
covariance of each class is shrunk (by the amount of Ledoit & Wolf 2004 for "auto"), the
covariances are averaged by class frequency, and the class means are multiplied by the inverse.
That covariance is AᵀA + D with A [row, hidden] and D diagonal. With fewer rows than dimensions,
the Woodbury identity needs a row × row system where scikit-learn solves a least-squares problem
of hidden × hidden.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

from vsp.errors import ProbeError
from vsp.probes.base import LabelProbe
from vsp.probes.closed_form import ClosedForm, class_means
from vsp.probes.linear_probe import Readout
from vsp.probes.treatment import Array

_LEAST_SHRINKAGE = 1e-8  # so that the covariance can always be inverted


class LDA(ClosedForm, LabelProbe):
    """`shrinkage`: "auto", or a number from 0 to 1."""

    link = "softmax"

    def __init__(self, shrinkage: str | float = "auto", treatment: str = "none") -> None:
        self.shrinkage = shrinkage
        self.treatment = treatment

    def solve(
        self, treated: Array, ys: Sequence[NDArray[Any]], strengths: Sequence[float]
    ) -> Iterator[list[Readout]]:
        for codes in ys:
            means, counts = class_means(treated, codes)
            if len(means) == len(treated):
                raise ProbeError(
                    f"{len(means)} classes on {len(treated)} rows leave no variance within a class; "
                    "lda needs more rows than classes"
                )
            prior = counts / len(codes)
            centre = prior @ means
            centred = means - centre
            within = treated - means[codes]
            coef = _times_inverse_covariance(within, codes, prior, centred, self.shrinkage)
            half = np.einsum("ch,ch->c", coef, centred) / 2
            yield [Readout(coef, np.log(prior) - half - coef @ centre)]


def _times_inverse_covariance(
    within: Array, codes: NDArray[np.intp], prior: Array, means: Array, shrinkage: str | float
) -> Array:
    """`means` [class, hidden] times the inverse of the pooled covariance of `within` [row, hidden].

    `within` holds rows minus the mean of their class. It is overwritten.
    """
    diagonal = np.zeros(within.shape[1])
    for one, share in enumerate(prior):
        member = codes == one
        amount, added = _shrink(within[member], shrinkage)
        within[member] *= np.sqrt(share * (1 - amount) / member.sum())
        diagonal += share * added
    if not diagonal.any():  # no variance within classes: nearest mean
        diagonal += 1
    root = np.sqrt(diagonal)
    within /= root
    solved: Array = _solve_identity_plus_gram(within, (means / root).T).T / root
    return solved


def _shrink(rows: Array, shrinkage: str | float) -> tuple[float, Array]:
    """Shrinkage of the covariance of `rows` [row, hidden] of mean 0, and the added diagonal.

    "auto" shrinks the covariance of standardised rows towards the identity.
    """
    variance = np.einsum("rh,rh->h", rows, rows) / len(rows)
    if shrinkage == "auto":
        scale = np.where(variance > 0, variance, 1)  # as scikit-learn: 1 for constant dimensions
        amount = _ledoit_wolf(rows / np.sqrt(scale))
        level = float((variance > 0).mean())
    elif isinstance(shrinkage, (int, float)) and 0 <= shrinkage <= 1:
        scale, amount = np.ones(len(variance)), float(shrinkage)
        level = float(variance.mean())
    else:
        raise ProbeError(
            f'shrinkage {shrinkage!r} is not known; use "auto" or a number from 0 to 1'
        )
    return amount, max(amount, _LEAST_SHRINKAGE) * level * scale


def _ledoit_wolf(rows: Array) -> float:
    """Shrinkage of Ledoit & Wolf for `rows` [row, hidden] of mean 0.

    XXᵀ and XᵀX have the same sum of squares; scikit-learn always computes XᵀX.
    """
    n, d = rows.shape
    product = rows @ rows.T if n <= d else rows.T @ rows
    squares = float((product * product).sum()) / n**2  # sum over the entries of the covariance
    squared_norms = np.einsum("rh,rh->r", rows, rows)
    trace = float(squared_norms.sum()) / n
    spread = squares - trace**2 / d
    error = min((float(squared_norms @ squared_norms) / n - squares) / n, spread)
    return error / spread if error > 0 else 0.0


def _solve_identity_plus_gram(a: Array, right: Array) -> Array:
    """(I + AᵀA)⁻¹ `right` [hidden, class] for A [row, hidden], by the smaller of AAᵀ and AᵀA."""
    by_row = a.shape[0] <= a.shape[1]
    inner = a @ a.T if by_row else a.T @ a
    inner[np.diag_indices_from(inner)] += 1
    solution: Array = cho_solve(cho_factor(inner), a @ right if by_row else right)
    return right - a.T @ solution if by_row else solution
