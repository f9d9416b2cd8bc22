"""All of the hidden dimensions as the place of the weights: for more rows than dimensions."""

from __future__ import annotations

from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import blas, lapack

from vsp.probes.solver.row_blocks import MEMORY, Rows
from vsp.probes.treatment import Array, Treatment

_METRICS = 3.0  # factor from one curvature for which there is a metric to the next
_METRIC_BYTES = 400 << 20  # of metrics that are kept; at least two are
_SAMPLED = 8  # rows a dimension from which the metric is made: fewer cost more steps than they save
_TAKEN = 2048  # of them at a time
_JITTER = (0, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1)  # of the diagonal, where rounding demands it
_LEAST = 1e-12


class Primal:
    """w [hidden] and b themselves, for more rows than dimensions.

    Coordinates are (w, b) and are their own image. The metric of the steps is I + c XᵀX, hidden ×
    hidden; where there are many rows, a sample of them stands for all: a metric need not be exact.
    The rows are read in blocks, once for the scores of a direction and once for a gradient.
    """

    soon = 1 / 3  # a look reads all rows, and the gap lags
    shift: NDArray[np.float64]  # [hidden] taken from treated states, to centre them

    @classmethod
    def of(
        cls,
        states: Array,
        treatment: Treatment,
        train: NDArray[np.bool_],
        index: NDArray[np.intp] | None = None,
        memory: int = MEMORY,
    ) -> Self:
        """Of `states` [sample, hidden] as they are, or of those in `index`, ascending.

        `train` [set, row]: the rows of each problem. Rows that take more than `memory` bytes in
        float32 are read anew in each pass.
        """
        return cls(Rows(states, treatment, index, memory), train)

    def __init__(self, rows: Rows, train: NDArray[np.bool_]) -> None:
        """`train` [set, row]: the rows each problem may use."""
        self.rows = rows
        self.shift = rows.centre
        self.n_rows, self.hidden = rows.shape
        self.width = self.hidden + 1
        self.train = train
        self.counts = train.sum(axis=1)
        self._gram: NDArray[np.float32] | None = None
        self._factors: dict[float, NDArray[np.float32]] = {}

    @property
    def typical(self) -> float:
        if self._gram is None:
            self._gram = self._mean_gram()
        return float(self._gram.trace())

    def image(self, coordinates: Array) -> Array:
        return coordinates.copy()

    def values(self, coordinates: Array, image: Array) -> Array:
        return _scores(self.rows, coordinates)

    def pulled(self, residuals: Array) -> Array:
        flat = residuals.reshape(-1, self.n_rows)
        pulled = np.zeros((len(flat), self.width))
        for rows, block in self.rows.blocks(residuals.dtype.type):
            pulled[:, :-1] += flat[:, rows] @ block
        pulled[:, -1] = flat.sum(axis=1, dtype=np.float64)
        shape = (*residuals.shape[:-1], self.width)
        return pulled.reshape(shape).astype(residuals.dtype, copy=False)

    def foreseen(self, constant: Array, here: Array) -> Array:
        """As here: where rows outnumber dimensions, few are fitted so well that it drops."""
        return here

    def step(
        self, gradient: Array, curvature: Array, sets: NDArray[np.intp]
    ) -> tuple[Array, Array]:
        direction = np.empty_like(gradient)
        total = np.maximum(curvature * self.counts[sets], _LEAST)  # over the rows of a problem
        level = np.round(np.log(total) / np.log(_METRICS))
        for one in np.unique(level):
            which = np.flatnonzero(level == one)
            w = gradient[which][..., :-1]
            factor = self._factor(float(_METRICS**one))
            solved, _ = lapack.spotrs(factor, w.reshape(-1, self.hidden).T, lower=1)
            direction[which, :, :-1] = solved.T.reshape(w.shape)
        direction[..., -1] = gradient[..., -1] / total[:, None]
        return direction, direction.copy()

    def _factor(self, total: float) -> NDArray[np.float32]:
        """The Cholesky factor of I + total · (mean of xxᵀ), in the lower triangle."""
        if total not in self._factors:
            if len(self._factors) >= max(2, _METRIC_BYTES // (4 * self.hidden**2)):
                del self._factors[next(iter(self._factors))]
            self._factors[total] = self._cholesky(total)
        return self._factors[total]

    def _cholesky(self, total: float) -> NDArray[np.float32]:
        if self._gram is None:
            self._gram = self._mean_gram()
        factor: NDArray[np.float32]
        for jitter in _JITTER:
            matrix = self._gram * np.float32(total)
            diagonal = matrix.T.reshape(-1)[:: self.hidden + 1]  # a view: in Fortran order
            diagonal += 1 + np.float32(jitter) * diagonal
            factor, failed = lapack.spotrf(matrix, lower=1, clean=0, overwrite_a=1)
            if not failed:
                break
        assert not failed, failed
        return factor

    def _mean_gram(self) -> NDArray[np.float32]:
        """Of training rows, or of a sample of them: the lower triangle, in Fortran order."""
        some = np.flatnonzero(self.train.any(axis=0))
        if len(some) > _SAMPLED * self.hidden:
            rng = np.random.default_rng(0)
            some = np.sort(rng.choice(some, _SAMPLED * self.hidden, replace=False))
        gram = np.zeros((self.hidden, self.hidden), np.float32, order="F")
        for start in range(0, len(some), _TAKEN):
            block = self.rows.take(some[start : start + _TAKEN])
            gram = blas.ssyrk(1 / len(some), block.T, beta=1, c=gram, lower=1, overwrite_c=1)
        return gram

    def weights(self, coordinates: Array) -> tuple[Array, Array]:
        """w [.., hidden] and b of coordinates."""
        return coordinates[..., :-1], coordinates[..., -1]

    def fitted(self, coordinates: Array) -> Array:
        """Scores [problem, score, row] of the rows of the space, as float32."""
        return _scores(self.rows, coordinates.astype(np.float32))

    def seen(
        self,
        states: Array,
        weights: Array,
        intercepts: Array,
        index: NDArray[np.intp] | None = None,
    ) -> Array:
        """Scores [problem, score, row] of other rows, of states [row, hidden] as they are.

        `index`: of which of them, ascending (None: all).
        """
        coordinates = np.concatenate([weights, intercepts[..., None]], axis=-1)
        return _scores(self.rows.alike(states, index), coordinates.astype(np.float32))

    def dual(self, coordinates: Array, gradient: Array, residuals: Array, bent: Array) -> None:
        """None: there are no coordinates of rows."""

    def far(self, coordinates: Array, dual: Array) -> Array:
        """‖w − Σ αᵢ xᵢ‖² [problem]."""
        return self.away(coordinates, dual)

    def exact(self, coordinates: Array) -> tuple[Array, Array, Array]:
        """In float64 and from the rows themselves: scores, ‖w‖², and the image."""
        w, _ = self.weights(coordinates)
        return _scores(self.rows, coordinates), np.vecdot(w, w).sum(-1), coordinates.copy()

    def away(self, coordinates: Array, dual: Array) -> Array:
        """In float64 and from the rows themselves: ‖w − Σ αᵢ xᵢ‖² [problem]."""
        off = coordinates[..., :-1] - self.pulled(dual)[..., :-1]
        return np.asarray(np.vecdot(off, off).sum(-1))


def _scores(rows: Rows, coordinates: Array) -> Array:
    """[problem, score, row], in the dtype of the coordinates."""
    n_rows, hidden = rows.shape
    w = coordinates[..., :-1].reshape(-1, hidden)
    scores = np.empty((len(w), n_rows), coordinates.dtype)
    scores[:] = coordinates[..., -1].reshape(-1, 1)
    if w.any():
        for some, block in rows.blocks(coordinates.dtype.type):
            scores[:, some] += (block @ w.T).T
    return scores.reshape(*coordinates.shape[:-1], n_rows)
