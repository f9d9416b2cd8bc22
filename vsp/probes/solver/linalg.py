"""Linear algebra in float32: inverses of I + cG, and directions of the largest spread."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack

# Relative increases of the diagonal, tried in turn if rounding makes a matrix indefinite.
JITTER = (0, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1)

_MIRRORED_ROWS = 256  # mirrored at once
_OVERSAMPLING = 2  # iterates this many times the directions
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
    """Orthonormal directions [hidden, n] of about the largest spread, and the next largest spread.

    Subspace iteration (Halko, Martinsson & Tropp 2011). Any orthonormal directions are correct;
    the closer they are to the principal ones, the smaller is the rest of the states.
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
