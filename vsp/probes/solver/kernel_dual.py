"""Dual points of the kernel form: near the coordinates of the rows, and feasible."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from vsp.probes.treatment import Array

_LARGEST_SHARE = 0.5  # a dual point moves at most this share of the way to the domain's border
_RIDGE = 1e-9  # times the mean of a diagonal, added to the diagonal
_EMPTY = 1e-11  # times the largest spread: smaller spreads are rounding errors
_TINY = 1e-38


class KernelDual:
    """Computes dual points α with Σᵢ αᵢ = 0 and, nearly, (XV)ᵀα = β for the wide directions V."""

    def __init__(self, wide: NDArray[np.float32], rest_norm: float) -> None:
        """`wide` [row, wide + 1] U: scores along wide directions, and ones.

        `rest_norm`: mean squared norm of the rows without their part along wide directions.
        """
        self.wide, self.rest_norm = wide, rest_norm

    def point(
        self, coordinates: Array, gradient: Array, residuals: Array, curvatures: Array, wide: Array
    ) -> NDArray[np.float64]:
        """α [problem, score, row]: for each row a point between its residual and its coordinate.

        The coordinate gives the smaller distance to w, the residual the smaller Fenchel–Young
        loss. A row with a larger curvature of the loss moves closer to its coordinate; the share
        is the best one if rows are orthogonal. Then α gets a correction in proportion to the
        curvature that gives it the right part along wide directions, and sum 0. `wide` is U in
        the dtype of the coordinates.
        """
        n = len(self.wide)
        difference = gradient[..., :n].astype(np.float64)  # coordinates minus residuals
        share = curvatures * self.rest_norm
        share /= 1 + share
        largest = np.abs(difference).max(1, keepdims=True)
        # No row leaves the domain of the conjugate.
        limit = _LARGEST_SHARE * curvatures / np.maximum(largest, _TINY)
        dual = residuals + np.minimum(share, limit) * difference
        missing = coordinates[..., n:].astype(np.float64)
        missing[..., -1] = 0  # the last column of U is ones: α must sum to 0
        missing -= dual @ wide
        dual += curvatures * self._correction(curvatures, missing)
        if dual.shape[1] > 1:  # the conjugate of the softmax is finite only where classes sum to 0
            dual -= dual.mean(1, keepdims=True)
        total = curvatures.sum(-1, keepdims=True, dtype=float)
        dual -= curvatures * (dual.sum(-1, keepdims=True) / np.maximum(total, _TINY))
        return np.asarray(dual)

    def _correction(self, curvatures: Array, missing: Array) -> Array:
        """Ue [problem, score, row] with Uᵀ·diag(curvatures)·Ue = missing, or nearly so."""
        basis, turn = self._basis
        shape = len(curvatures), len(turn), len(turn)
        system = (curvatures[:, 0].astype(np.float32) @ self._pair_products).astype(np.float64)
        system = system.reshape(shape)
        scale = np.trace(system, axis1=1, axis2=2)[:, None] / len(turn) + _TINY
        system.reshape(len(system), -1)[:, :: len(turn) + 1] += _RIDGE * scale
        e = np.linalg.solve(system, (missing @ turn).swapaxes(1, 2)).swapaxes(1, 2)
        correction: Array = e.astype(np.float32) @ basis.T
        return correction

    @cached_property
    def _basis(self) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """An orthonormal basis UT of the columns of U [row, wide + 1], and T."""
        wide = self.wide.astype(np.float64)
        spread, turn = np.linalg.eigh(wide.T @ wide)
        held = spread > _EMPTY * spread[-1]
        turn = turn * np.where(held, 1 / np.sqrt(np.where(held, spread, 1)), 0)
        return (wide @ turn).astype(np.float32), turn

    @cached_property
    def _pair_products(self) -> NDArray[np.float32]:
        """Products of every two columns of the basis [row, (wide + 1)²]."""
        basis = self._basis[0]
        return (basis[:, :, None] * basis[:, None]).reshape(len(basis), -1)
