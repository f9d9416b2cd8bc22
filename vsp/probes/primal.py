"""All of the hidden dimensions as the place of the weights: for more rows than dimensions."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import blas, lapack

from vsp.probes.descent import Loss, Problems, solve
from vsp.probes.rows import Rows

Array = NDArray[np.floating]

_METRICS = 10.0  # factor from one curvature for which there is a metric to the next
_SAMPLED = 4  # rows a dimension from which the metric is made
_JITTER = 1e-6  # of the diagonal, where rounding leaves a metric without a Cholesky factor
_EMPTY = 1e-12


class Primal:
    """w [hidden] and b themselves, for more rows than dimensions.

    Coordinates are (w, b) and are their own image. The metric of the steps is I + c XᵀX, hidden ×
    hidden, X being the rows or, where they are many, a sample of them in their place: a metric
    need not be exact, and the sum over all rows would cost more than all else. Rows are read in
    blocks, twice in a step: for the scores of a direction, and for the gradient.
    """

    def __init__(self, rows: Rows, train: NDArray[np.bool_]) -> None:
        """`train` [set, row]: the rows each problem may use."""
        self.rows, self.train = rows, train
        self.n_rows, self.hidden = rows.shape
        self.width = self.hidden + 1
        self.counts = train.sum(axis=1)
        self.sample = _sample(np.flatnonzero(train.any(axis=0)), _SAMPLED * self.hidden)
        self._gram: NDArray[np.float32] | None = None
        self._factors: dict[float, NDArray[np.float32]] = {}

    def image(self, coordinates: Array) -> Array:
        return coordinates.copy()

    def values(self, coordinates: Array, image: Array) -> Array:
        values = np.empty((*coordinates.shape[:-1], self.n_rows), coordinates.dtype)
        values[:] = coordinates[..., -1:]
        w = coordinates[..., :-1].reshape(-1, self.hidden)
        if not w.any():
            return values
        flat = values.reshape(-1, self.n_rows)
        for rows, block in self.rows.blocks(coordinates.dtype.type):
            flat[:, rows] += (block @ w.T).T
        return values

    def pulled(self, residuals: Array) -> Array:
        flat = residuals.reshape(-1, self.n_rows)
        pulled = np.zeros((len(flat), self.width))
        for rows, block in self.rows.blocks(residuals.dtype.type):
            pulled[:, :-1] += flat[:, rows] @ block
        pulled[:, -1] = flat.sum(axis=1, dtype=np.float64)
        return pulled.reshape(*residuals.shape[:-1], -1).astype(residuals.dtype)

    def foreseen(self, curvature: Array) -> Array:
        return curvature

    def step(self, gradient: Array, curvature: Array, sets: NDArray[np.intp]) -> tuple[Array, Array]:
        direction = np.empty_like(gradient)
        total = np.maximum(curvature * self.counts[sets], _EMPTY)  # of all rows of a problem
        level = np.round(np.log(total) / np.log(_METRICS))
        for one in np.unique(level):
            which = np.flatnonzero(level == one)
            w = gradient[which][..., :-1]
            solved, _ = lapack.spotrs(
                self._factor(float(_METRICS**one)), w.reshape(-1, self.hidden).T, lower=1
            )
            direction[which, :, :-1] = solved.T.reshape(w.shape)
        direction[..., -1] = gradient[..., -1] / total[:, None]
        return direction, direction.copy()

    def _factor(self, total: float) -> NDArray[np.float32]:
        """The lower Cholesky factor of I + total · the mean of xxᵀ."""
        if self._gram is None:
            self._gram = self._mean_gram()
        if total not in self._factors:
            jitter = 0.0
            while True:
                matrix = self._gram * np.float32(total)
                matrix.T.flat[:: self.hidden + 1] *= np.float32(1 + jitter)
                matrix.T.flat[:: self.hidden + 1] += 1
                factor, failed = lapack.spotrf(matrix, lower=1, clean=0, overwrite_a=1)
                if not failed:
                    break
                jitter = max(_JITTER, 10 * jitter)
            self._factors[total] = factor
        return self._factors[total]

    def _mean_gram(self) -> NDArray[np.float32]:
        """Of the sampled rows; the lower triangle, in Fortran order."""
        gram = np.zeros((self.hidden, self.hidden), np.float32, order="F")
        step = 4096
        for start in range(0, len(self.sample), step):
            block = self.rows.take(self.sample[start : start + step])
            gram = blas.ssyrk(
                1 / len(self.sample), block.T, beta=1, c=gram, lower=1, overwrite_c=1
            )
        return gram

    def weights(self, coordinates: Array) -> tuple[Array, Array]:
        """w [.., hidden] and b for treated rows that are not centred, in their dtype."""
        w = coordinates[..., :-1]
        return w, coordinates[..., -1] - w @ self.rows.centre.astype(coordinates.dtype)

    def exact(self, coordinates: Array, residuals: Array | None) -> tuple[Array, Array, Array]:
        w, b = coordinates[..., :-1], coordinates[..., -1]
        if residuals is not None:
            off = w - self.pulled(residuals)[..., :-1]
            return b, b, np.vecdot(off, off).sum(-1)
        return self.values(coordinates, coordinates), np.vecdot(w, w).sum(-1), b


def _sample(rows: NDArray[np.intp], size: int) -> NDArray[np.intp]:
    """`rows`, or `size` of them; ascending."""
    if len(rows) <= size:
        return rows
    return np.sort(np.random.default_rng(0).choice(rows, size, replace=False))


def warm(space: Primal, loss: Loss, problems: Problems, tolerance: float, max_steps: int, size: int) -> Array:
    rows = _sample(np.flatnonzero(space.train.any(axis=0)), size)
    few = Primal(Rows(space.rows.take(rows)), space.train[:, rows])
    few._gram, few._factors = space._gram or space._mean_gram(), space._factors
    space._gram = few._gram
    share = space.counts / np.maximum(few.counts, 1)
    weight = problems.weight[..., rows] * share[problems.sets].astype(np.float32)[:, None, None]
    return solve(few, loss, Problems(problems.target[..., rows], weight, problems.sets), tolerance, max_steps).coordinates
