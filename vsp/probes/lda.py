"""Linear discriminant analysis with a shrunk covariance, within reach of 4096 dimensions.

It is scikit-learn's LinearDiscriminantAnalysis(solver="lsqr", shrinkage): the covariance of each
class is shrunk (Ledoit & Wolf 2004 for "auto"), they are averaged by class frequency, and the
means are weighed by the inverse. That covariance is A'A + D with A of n rows and D diagonal, so
with fewer rows than dimensions an n × n system takes the place of one of hidden × hidden
(Woodbury), and of a least-squares solution of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

from vsp.errors import ProbeError
from vsp.probes.base import ClosedForm, LabelProbe, Line, class_means
from vsp.probes.treatment import Array

_LEAST = 1e-8  # of shrinkage: some, so that the covariance can be inverted whatever the rows


class LDA(ClosedForm, LabelProbe):
    """`shrinkage`: "auto", or a number from 0 to 1."""

    link = "softmax"

    def __init__(self, shrinkage: str | float = "auto", treatment: str = "none") -> None:
        self.shrinkage = shrinkage
        self.treatment = treatment

    def _solve(
        self, treated: Array, ys: Sequence[NDArray[Any]], strengths: Sequence[float]
    ) -> Iterator[list[Line]]:
        for codes in ys:
            means, counts = class_means(treated, codes)
            if len(means) == len(treated):
                raise ProbeError(
                    f"{len(means)} classes on {len(treated)} rows leave no variance within a class; "
                    "lda needs more rows than classes"
                )
            prior = counts / len(codes)
            middle = prior @ means
            away = means - middle
            coef = _weighed(treated - means[codes], codes, prior, away, self.shrinkage)
            half = np.einsum("ch,ch->c", coef, away) / 2
            yield [Line(coef, np.log(prior) - half - coef @ middle)]


def _weighed(
    within: Array, codes: NDArray[np.intp], prior: Array, means: Array, shrinkage: str | float
) -> Array:
    """`means` [class, hidden] times the inverse of the pooled covariance of `within` [row, hidden].

    `within`, rows less the mean of their class, is overwritten.
    """
    diagonal = np.zeros(within.shape[1])
    for one, share in enumerate(prior):
        member = codes == one
        amount, target = _shrunk(within[member], shrinkage)
        within[member] *= np.sqrt(share * (1 - amount) / member.sum())
        diagonal += share * target
    if not diagonal.any():  # no class varies: the nearest mean
        diagonal += 1
    root = np.sqrt(diagonal)
    within /= root
    return _solved(within, (means / root).T).T / root


def _shrunk(rows: Array, shrinkage: str | float) -> tuple[float, Array]:
    """How much the covariance of `rows` [row, hidden], of mean 0, is shrunk, and what is added.

    What is added [hidden] is the diagonal. "auto" shrinks standardised rows, towards the identity.
    """
    variance = np.einsum("rh,rh->h", rows, rows) / len(rows)
    if shrinkage == "auto":
        scale = np.where(variance > 0, variance, 1)  # as scikit-learn: 1 where nothing varies
        amount = _ledoit_wolf(rows / np.sqrt(scale))
        level = float((variance > 0).mean())
    elif isinstance(shrinkage, (int, float)) and 0 <= shrinkage <= 1:
        scale, amount = np.ones(len(variance)), float(shrinkage)
        level = float(variance.mean())
    else:
        raise ProbeError(
            f'shrinkage {shrinkage!r} is not known; use "auto" or a number from 0 to 1'
        )
    return amount, max(amount, _LEAST) * level * scale


def _ledoit_wolf(rows: Array) -> float:
    """Ledoit & Wolf's amount for `rows` [row, hidden] of mean 0, on the smaller of two sides.

    The sum of the squares of X'X is that of XX'; scikit-learn forms the former.
    """
    n, d = rows.shape
    product = rows @ rows.T if n <= d else rows.T @ rows
    square = float((product * product).sum()) / n**2  # of the covariance's entries
    lengths = np.einsum("rh,rh->r", rows, rows)
    trace = float(lengths.sum()) / n
    spread = square - trace**2 / d
    error = min((float(lengths @ lengths) / n - square) / n, spread)
    return error / spread if error > 0 else 0.0


def _solved(a: Array, right: Array) -> Array:
    """(I + A'A)⁻¹ `right` [hidden, class] for A [row, hidden], on the smaller of two sides."""
    by_row = a.shape[0] <= a.shape[1]
    inner = a @ a.T if by_row else a.T @ a
    inner[np.diag_indices_from(inner)] += 1
    answer: Array = cho_solve(cho_factor(inner), a @ right if by_row else right)
    return right - a.T @ answer if by_row else answer
