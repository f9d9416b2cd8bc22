"""The primal form, for more rows than dimensions: the variables are w and b."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import blas, lapack

from vsp.probes.solver.kernel_metric import WideMetric
from vsp.probes.solver.linalg import JITTER
from vsp.probes.solver.row_blocks import MEMORY, RowBlocks
from vsp.probes.treatment import Array, Treatment

if TYPE_CHECKING:
    from typing import Self

_LEVEL_FACTOR = 3.0  # curvatures are rounded to powers of this
_FACTOR_BYTES = 400 << 20  # limit on the Cholesky factors that are kept; at least two are kept
_ROWS_PER_DIMENSION = 8  # in the Gram matrix; with fewer rows the metric needs more steps
_GRAM_ROWS = 2048  # read at once
_LEAST_TOTAL = 1e-12


class PrimalSpace:
    """All hidden dimensions.

    Coordinates are (w [hidden], b); their Gram matrix is I, so they are their own image. The
    metric I + cXᵀX is hidden × hidden. It is computed from a sample if there are many rows, since
    a preconditioner need not be exact. Each step reads the rows twice, in blocks: for the scores
    and for the gradient.
    """

    check_gap_within = 1 / 3  # a check reads all rows, and the gap is larger than the distance

    @classmethod
    def of(
        cls,
        states: Array,
        treatment: Treatment,
        train: NDArray[np.bool_],
        index: NDArray[np.intp] | None = None,
        memory: int = MEMORY,
    ) -> Self:
        """For raw `states` [sample, hidden], or those in `index` (ascending).

        `train` [set, row]: training sets. Rows that take more than `memory` bytes in float32 are
        read again in each pass.
        """
        return cls(RowBlocks(states, treatment, index, memory), train)

    def __init__(self, rows: RowBlocks, train: NDArray[np.bool_]) -> None:
        """`train` [set, row]: training sets."""
        self.rows, self.train = rows, train
        self.centre: NDArray[np.float64] = rows.centre  # [hidden] subtracted from treated states
        self.n_rows, self.hidden = rows.shape
        self.n_coordinates = self.hidden + 1
        self.counts = train.sum(axis=1)  # [set]
        self._factors: dict[float, NDArray[np.float32]] = {}  # oldest first

    @property
    def mean_squared_norm(self) -> float:
        return float(self._mean_gram.trace())

    def image(self, coordinates: Array) -> Array:
        """A copy of the coordinates: their Gram matrix is I."""
        image: Array = coordinates.copy()
        return image

    def scores(self, coordinates: Array, image: Array) -> Array:
        """Scores w·xᵢ + b [problem, score, row]."""
        return _scores(self.rows, coordinates)

    def combine_rows(self, factors: Array) -> Array:
        """Coordinates of Σᵢ rᵢxᵢ for factors r [problem, score, row]; the last one is Σᵢ rᵢ."""
        flat = factors.reshape(-1, self.n_rows)
        combined = np.zeros((len(flat), self.n_coordinates))
        for rows, block in self.rows.blocks(factors.dtype.type):
            combined[:, :-1] += flat[:, rows] @ block
        combined[:, -1] = flat.sum(axis=1, dtype=np.float64)
        shape = (*factors.shape[:-1], self.n_coordinates)
        return combined.reshape(shape).astype(factors.dtype, copy=False)

    def expected_curvature(self, at_constant: Array, at_start: Array) -> Array:
        """The curvature at the start; with many rows it changes little during the fit."""
        return at_start

    def wide_metric(self, second: Array, curvature: Array, sets: NDArray[np.intp]) -> None:
        """None: one number for all rows is enough."""

    def precondition(
        self,
        gradient: Array,
        curvature: Array,
        sets: NDArray[np.intp],
        wide: WideMetric | None = None,
    ) -> tuple[Array, Array]:
        """Apply about (I + cXᵀX)⁻¹ for each problem's c and training set; result and its image."""
        direction = np.empty_like(gradient)
        total = np.maximum(curvature * self.counts[sets], _LEAST_TOTAL)  # over the training rows
        level = np.round(np.log(total) / np.log(_LEVEL_FACTOR))
        for one in np.unique(level):
            which = np.flatnonzero(level == one)
            w = gradient[which][..., :-1]
            factor = self._factor(float(_LEVEL_FACTOR**one))
            solved, _ = lapack.spotrs(factor, w.reshape(-1, self.hidden).T, lower=1)
            direction[which, :, :-1] = solved.T.reshape(w.shape)
        direction[..., -1] = gradient[..., -1] / total[:, None]
        return direction, direction.copy()

    def _factor(self, total: float) -> NDArray[np.float32]:
        """The Cholesky factor of I + total · (mean of xxᵀ), in the lower triangle."""
        if total not in self._factors:
            if len(self._factors) >= max(2, _FACTOR_BYTES // (4 * self.hidden**2)):
                del self._factors[next(iter(self._factors))]
            self._factors[total] = self._cholesky(total)
        return self._factors[total]

    def _cholesky(self, total: float) -> NDArray[np.float32]:
        factor: NDArray[np.float32]
        for jitter in JITTER:
            matrix = self._mean_gram * np.float32(total)
            diagonal = matrix.T.reshape(-1)[:: self.hidden + 1]  # a view: Fortran order
            diagonal += 1 + np.float32(jitter) * diagonal
            factor, failed = lapack.spotrf(matrix, lower=1, clean=0, overwrite_a=1)
            if not failed:
                break
        assert not failed, failed
        return factor

    @cached_property
    def _mean_gram(self) -> NDArray[np.float32]:
        """Mean of xxᵀ over the training rows or a sample: lower triangle, Fortran order."""
        used = np.flatnonzero(self.train.any(axis=0))
        n_most = _ROWS_PER_DIMENSION * self.hidden
        if len(used) > n_most:
            used = np.sort(np.random.default_rng(0).choice(used, n_most, replace=False))
        gram = np.zeros((self.hidden, self.hidden), np.float32, order="F")
        for start in range(0, len(used), _GRAM_ROWS):
            block = self.rows.take(used[start : start + _GRAM_ROWS])
            gram = blas.ssyrk(1 / len(used), block.T, beta=1, c=gram, lower=1, overwrite_c=1)
        return gram

    def weights(self, coordinates: Array) -> tuple[Array, Array]:
        """w [.., hidden] and b."""
        return coordinates[..., :-1], coordinates[..., -1]

    def score_others(
        self,
        states: Array,
        weights: Array,
        intercepts: Array,
        index: NDArray[np.intp] | None = None,
    ) -> Array:
        """Scores [problem, score, row] of raw `states` [row, hidden] that are not in the space.

        `index`: rows of `states`, ascending (None: all).
        """
        coordinates = np.concatenate([weights, intercepts[..., None]], axis=-1)
        return _scores(self.rows.treat_alike(states, index), coordinates.astype(np.float32))

    def dual_point(
        self, coordinates: Array, gradient: Array, residuals: Array, curvatures: Array
    ) -> None:
        """None: the rows have no coordinates."""

    def squared_distance(self, coordinates: Array, dual: Array) -> Array:
        """‖w − Σ αᵢxᵢ‖² [problem]."""
        return self.squared_distance_exactly(coordinates, dual)

    def evaluate_exactly(self, coordinates: Array) -> tuple[Array, Array, Array]:
        """Scores, ‖w‖² [problem] and image, in float64 and from the states themselves."""
        w, _ = self.weights(coordinates)
        return _scores(self.rows, coordinates), np.vecdot(w, w).sum(-1), coordinates.copy()

    def squared_distance_exactly(self, coordinates: Array, dual: Array) -> Array:
        """‖w − Σ αᵢxᵢ‖² [problem], in float64 and from the states themselves."""
        difference = coordinates[..., :-1] - self.combine_rows(dual)[..., :-1]
        return np.asarray(np.vecdot(difference, difference).sum(-1))


def _scores(rows: RowBlocks, coordinates: Array) -> Array:
    """Scores [problem, score, row], in the dtype of the coordinates."""
    n_rows, hidden = rows.shape
    w = coordinates[..., :-1].reshape(-1, hidden)
    scores = np.empty((len(w), n_rows), coordinates.dtype)
    scores[:] = coordinates[..., -1].reshape(-1, 1)
    if w.any():
        for which, block in rows.blocks(coordinates.dtype.type):
            scores[:, which] += (block @ w.T).T
    return scores.reshape(*coordinates.shape[:-1], n_rows)
