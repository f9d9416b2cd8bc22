"""Linear algebra in float32: the inverse of I + cG, and the directions of the largest spread."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack

# Tried in turn on the diagonal of a matrix that rounding makes indefinite.
JITTER = (0, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1)

_MIRRORED_ROWS = 256  # at once
_OVERSAMPLING = 2  # this many times the directions are iterated
_ITERATIONS = 2


def inverse(gram: NDArray[np.float32], c: float = 1, plus: float = 0) -> NDArray[np.float32]:
    """(plus·I + c·gram)⁻¹ for a symmetric positive semi-definite `gram` [row, row]."""
    for jitter in JITTER:
        matrix = gram * np.float32(c)
        matrix.flat[:: len(gram) + 1] *= np.float32(1 + jitter)
        matrix.flat[:: len(gram) + 1] += np.float32(plus)
        lower, failed = lapack.spotrf(matrix.T, lower=1, overwrite_a=1)
        if not failed:
            break
    result, failed = lapack.spotri(lower, lower=1, overwrite_c=1)
    assert not failed, failed
    whole: NDArray[np.float32] = result.T  # C order; only the upper triangle is filled
    for start in range(0, len(gram), _MIRRORED_ROWS):
        stop = start + _MIRRORED_ROWS
        whole[stop:, start:stop] = whole[start:stop, stop:].T
        corner = whole[start:stop, start:stop]
        corner[:] = np.triu(corner) + np.triu(corner, 1).T
    return whole


def widest_directions(states: NDArray[np.float32], n: int) -> tuple[NDArray[np.float64], float]:
    """Orthonormal directions [hidden, n] of nearly the largest spread, and the next spread.

    Subspace iteration (Halko, Martinsson & Tropp 2011). Any orthonormal directions are correct;
    the nearer they are to the principal ones, the better is the metric, which neglects how the
    two parts of the states depend on each other.
    """
    rng = np.random.default_rng(0)
    n_iterated = min(_OVERSAMPLING * n, *states.shape)
    block = rng.standard_normal((len(states), n_iterated), dtype=np.float32).T @ states
    for _ in range(_ITERATIONS):
        directions, _ = np.linalg.qr(block.T)
        block = (states @ directions).T @ states
    directions, _ = np.linalg.qr(block.T.astype(np.float64))
    along = (states @ directions.astype(np.float32)).astype(np.float64)
    spread, rotation = np.linalg.eigh(along.T @ along)
    widest = np.asarray(directions @ rotation[:, ::-1][:, :n])
    return widest, float(spread[-n - 1]) if n_iterated > n else 0.0
