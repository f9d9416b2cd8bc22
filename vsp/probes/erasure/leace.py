"""LEACE: the smallest change of states after which no linear probe reads a concept.

Belrose, Schneider-Joseph, Ravfogel, Cotterell, Raff & Biderman, "LEACE: Perfect linear concept erasure
in closed form", 2023 (arXiv:2306.03819). With states X and concept Z, both centred, the paper erases
with W⁺ U Uᵀ W, where W is the inverse root of the covariance of X and U an orthonormal basis of the
columns of W Σxz. The same matrix is Σxz (Σxzᵀ A)⁺ Aᵀ with A = X⁺ Z, the regression of the concept on
the states, which needs no root. What is erased has no covariance with the concept, whatever the
rounding errors of A.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vsp.probes.treatment import row_slices
from vsp.storage.changes import Eraser

Floats = NDArray[np.float64]

_LEAST = 1e-12  # squared correlation that counts, as a share of the concept's variance


def leace(states: NDArray[np.floating], concept: NDArray[np.floating]) -> Eraser:
    """The eraser of `concept` [row, k] from `states` [row, hidden], in float64.

    One-hot labels or a number. The rank is at most k, for one-hot labels at most k - 1, and 0 if
    states or concept do not change.
    """
    mean = mean_of(states)
    z = concept - concept.mean(axis=0)
    regression, covariance = _regression(states, mean, z)
    explained = covariance.T @ regression  # [k, k], symmetric but for rounding
    values, basis = np.linalg.eigh((explained + explained.T) / 2)
    kept = values > _LEAST * max(float(np.square(z).sum(axis=0).max()), np.finfo(float).tiny)
    basis = basis[:, kept] / np.sqrt(values[kept])
    left = (covariance @ basis).T
    right = regression @ basis
    return Eraser(mean, np.linalg.solve((left @ right).T, right.T).T if kept.any() else right, left)


def mean_of(states: NDArray[np.floating]) -> Floats:
    """The mean [hidden] in float64; exactly the first row if all rows are equal."""
    first, total = states[0].astype(np.float64), np.zeros(states.shape[1])
    for rows in row_slices(states):
        total += (states[rows].astype(np.float64) - first).sum(axis=0)
    mean: Floats = first + total / len(states)
    return mean


def _regression(states: NDArray[np.floating], mean: Floats, z: Floats) -> tuple[Floats, Floats]:
    """X⁺ Z and Xᵀ Z [hidden, k] of centred states, from the smaller of X Xᵀ and Xᵀ X."""
    n, hidden = states.shape
    if n <= hidden:
        x = states.astype(np.float64) - mean
        return x.T @ _pseudo_solve(x @ x.T, z), x.T @ z
    gram, covariance = np.zeros((hidden, hidden)), np.zeros((hidden, z.shape[1]))
    for rows in row_slices(states):
        x = states[rows].astype(np.float64) - mean
        gram += x.T @ x
        covariance += x.T @ z[rows]
    return _pseudo_solve(gram, covariance), covariance


def _pseudo_solve(gram: Floats, right: Floats) -> Floats:
    """The pseudo-inverse of a symmetric matrix without negative eigenvalues, times `right`.

    Eigenvalues count as 0 below the tolerance of numpy.linalg.pinv for float64.
    """
    values, basis = np.linalg.eigh(gram)
    tolerance = float(values[-1]) * len(gram) * np.finfo(np.float64).eps
    kept = values > max(tolerance, np.finfo(np.float64).tiny)
    projected = basis[:, kept].T @ right
    return np.asarray(basis[:, kept] @ (projected / values[kept, None]))
