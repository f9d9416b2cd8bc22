"""The preconditioner of the kernel form: (I + cX'X'ᵀ)⁻¹ for several c and any training set.

The inverse is computed once for all rows. For a training set without some of the rows it is
corrected, at a cost that depends on the number of held-out rows. The wide directions and the
intercept have a small matrix for each problem, with the curvature of every row.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from vsp.probes.solver.linalg import inverse
from vsp.probes.treatment import Array

_IDENTITY_BELOW = 2.0  # c times spread; below this, I replaces the metric of the rows
_LEVEL = 3  # c is rounded to 2 to the power of a multiple of this
_KEPT = 6  # metrics
_KEPT_HELD_OUT = 2  # metrics whose corrections are kept; together they may be as large as a metric
_RIDGE = 1e-6  # relative increase of the diagonal of wide matrices, which are sums in float32
_LEAST_CURVATURE = 1e-9  # of the intercept, as a share of the mean curvature of a row
_TINY = 1e-38


@dataclass(frozen=True, slots=True)
class WideMetric:
    """The metric of the wide directions and the intercept, with the curvature of every row."""

    curvatures: NDArray[np.float32]  # [problem, score, row]: D
    inverse: NDArray[np.float32]  # [problem, score, wide + 1, wide + 1]: of R + UᵀDU

    def take(self, which: NDArray[np.intp]) -> WideMetric:
        return WideMetric(self.curvatures[which], self.inverse[which])


@dataclass(frozen=True, slots=True)
class _HeldOut:
    """Parts of a metric for the held-out rows of a training set."""

    rows: NDArray[np.intp]
    block_inverse: NDArray[np.float32]  # inverse of M[held out, held out]
    across: NDArray[np.float32]  # M[held out, row]


@dataclass(slots=True)
class _Metric:
    """M = (I + cX'X'ᵀ)⁻¹ [row, row], with corrections for training sets."""

    c: float
    inverse: NDArray[np.float32] | None  # None: I is used
    held_out: dict[int, _HeldOut] = field(default_factory=dict)  # by training set


class KernelMetrics:
    """Applies the metric of each problem; the result does not depend on which metrics are kept."""

    def __init__(
        self,
        gram: NDArray[np.float32],
        wide: NDArray[np.float32],
        train: NDArray[np.bool_],
        spread: float,
    ) -> None:
        """`gram` [row, row] X'X'ᵀ, `wide` [row, wide + 1] (X V, 1), `train` [set, row].

        `spread`: about the largest eigenvalue of `gram`.
        """
        self.gram, self.wide, self.train, self.spread = gram, wide, train, spread
        self.n_rows = len(gram)
        self._partial: NDArray[np.bool_] = np.logical_not(train.all(axis=1))  # [set]
        self._metrics: dict[int, _Metric] = {}  # by level; the last used comes last

    def wide_metric(self, second: Array, curvature: Array, sets: NDArray[np.intp]) -> WideMetric:
        """The wide part of the metric, for second derivatives of the loss [problem, score, row].

        They are scaled so that their mean over the training rows is `curvature` [problem].
        """
        n_scores = self.train[sets].sum(axis=1) * second.shape[1]
        mean = second.sum((1, 2), dtype=float) / n_scores
        factor = (curvature / np.maximum(mean, _TINY)).astype(np.float32)
        scaled = second.astype(np.float32) * factor[:, None, None]
        upper, products = self._pair_products
        n = self.wide.shape[1]
        matrix = np.empty((*second.shape[:2], n, n))
        matrix[..., upper[0], upper[1]] = matrix[..., upper[1], upper[0]] = scaled @ products
        diagonal = np.arange(n)
        matrix[..., diagonal, diagonal] *= 1 + _RIDGE
        # The intercept has no penalty, so it has a 0 in place of the 1 of I.
        matrix[..., diagonal[:-1], diagonal[:-1]] += 1
        # A class whose probability is 0 or 1 on all rows has no curvature at all.
        least = np.maximum(_LEAST_CURVATURE * curvature, _TINY)[:, None]
        matrix[..., -1, -1] = np.maximum(matrix[..., -1, -1], least)
        return WideMetric(scaled, np.linalg.inv(matrix).astype(np.float32))

    @cached_property
    def _pair_products(self) -> tuple[tuple[NDArray[np.intp], ...], NDArray[np.float32]]:
        """Indices of every two columns of U, and their products [row, pair]."""
        upper = np.triu_indices(self.wide.shape[1])
        return upper, self.wide[:, upper[0]] * self.wide[:, upper[1]]

    def apply(
        self, gradient: Array, curvature: Array, sets: NDArray[np.intp], wide: WideMetric
    ) -> tuple[Array, Array]:
        """Apply about (I + XᵀDX)⁻¹ to `gradient` [problem, score, coordinate]; result and image.

        `curvature` [problem]: the c of the rows of each problem, which is rounded to that of a
        metric. A block of symmetric Gauss–Seidel: wide directions, rows, wide directions.
        """
        n = self.n_rows
        direction, image = np.empty_like(gradient), np.empty_like(gradient)
        first = _times_each(gradient[..., n:], wide.inverse)
        rows = gradient[..., :n] - wide.curvatures * (first @ self.wide.T)
        for metric, which in self._assign(curvature):
            some: NDArray[np.intp] | slice = slice(None) if len(which) == len(sets) else which
            direction[some, :, :n], image[some, :, :n] = self._apply_to_rows(
                metric, rows[some], sets[some]
            )
        coupled = (wide.curvatures * image[..., :n]) @ self.wide
        direction[..., n:] = first - _times_each(coupled, wide.inverse)
        image[..., n:] = direction[..., n:]
        return direction, image

    def _apply_to_rows(
        self, metric: _Metric, q: Array, sets: NDArray[np.intp]
    ) -> tuple[Array, Array]:
        """Mq and its image X'X'ᵀMq = (q − Mq) / c, which needs no second product."""
        if metric.inverse is None:
            return q, _times(q, self.gram)
        z = _times(q, metric.inverse)
        q = self._remove_held_out(metric, q, z, sets)
        return z, (q - z) * np.float32(1 / metric.c)

    def _assign(self, curvature: Array) -> Iterator[tuple[_Metric, NDArray[np.intp]]]:
        """The metrics that are needed, as few as possible, each with the indices of its problems."""
        left = np.arange(len(curvature))
        wanted = np.log2(curvature)
        while len(left):
            median = float(np.sort(wanted[left])[len(left) // 2])
            level = _LEVEL * round(median / _LEVEL)
            near = np.abs(wanted[left] - level) <= _LEVEL
            yield self._metric(level), left[near]
            left = left[~near]

    def _metric(self, level: int) -> _Metric:
        """The metric for c = 2 to the power of `level`, computed unless it is kept."""
        metric = self._metrics.pop(level, None)
        if metric is None:
            c = 2.0**level
            about_identity = c * self.spread <= _IDENTITY_BELOW
            metric = _Metric(c, None if about_identity else inverse(self.gram, c, plus=1))
            while len(self._metrics) >= _KEPT:
                del self._metrics[next(iter(self._metrics))]
        self._metrics[level] = metric
        for earlier in list(self._metrics.values())[:-_KEPT_HELD_OUT]:
            earlier.held_out.clear()
        return metric

    def _remove_held_out(
        self, metric: _Metric, q: Array, z: Array, sets: NDArray[np.intp]
    ) -> Array:
        """Correct z = Mq [problem, score, row] to the metric of each problem's training set.

        u is 0 on training rows, and makes M(q − u) 0 on held-out rows. Overwrites z with
        M(q − u); returns q − u.
        """
        partial = self._partial[sets]
        if not partial.any():
            return q
        q, scores = q.copy(), np.arange(z.shape[1])
        for one in np.unique(sets[partial]):
            held_out = self._held_out(metric, int(one))
            which = np.flatnonzero(sets == one)
            there = np.ix_(which, scores, held_out.rows)
            u = z[there] @ held_out.block_inverse
            q[there] -= u
            z[which] -= (u.reshape(-1, len(held_out.rows)) @ held_out.across).reshape(
                len(which), *z.shape[1:]
            )
            z[there] = 0
        return q

    def _held_out(self, metric: _Metric, one: int) -> _HeldOut:
        assert metric.inverse is not None
        if one not in metric.held_out:
            rows = np.flatnonzero(~self.train[one])
            across = metric.inverse[rows]
            metric.held_out[one] = _HeldOut(rows, inverse(across[:, rows]), across)
        return metric.held_out[one]


def _times_each(a: Array, matrices: Array) -> Array:
    """a [problem, score, wide] times a matrix for each problem and score."""
    return np.asarray(np.matmul(a[..., None, :], matrices)[..., 0, :])


def _times(a: Array, matrix: Array) -> Array:
    """a [problem, score, row] times a matrix [row, row], as one product."""
    product: Array = (a.reshape(-1, len(matrix)) @ matrix).reshape(a.shape)
    return product
