"""The kernel form, for no more rows than dimensions: w = X'ᵀa + Vβ."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vsp.errors import ProbeError
from vsp.probes.solver.kernel_dual import KernelDual
from vsp.probes.solver.kernel_metric import KernelMetrics, WideMetric
from vsp.probes.solver.linalg import widest_directions
from vsp.probes.solver.row_blocks import RowBlocks
from vsp.probes.treatment import Array, Treatment

if TYPE_CHECKING:
    from typing import Self

_N_WIDE = 32  # directions with their own coordinates
_FLOAT64_ROWS = 256  # rows converted to float64 at once
_LARGEST_SUM = 1e37  # of products; the largest float32 is 3e38
_ALL_IN_MEMORY = 1 << 62  # bytes: more than any layer takes


class KernelSpace:
    """The span of the rows.

    The states X [row, hidden] are split into their part along a few directions V [hidden, wide],
    which hold most of the spread, and the rest X'. Only the Gram matrix X'X'ᵀ of the rest is
    needed; the wide directions have their own coordinates β. Without the split, the spread of
    outlier dimensions would multiply the rounding errors of a in float32.

    Coordinates are (a [row], β [wide], b).
    """

    check_gap_within = 10.0  # a check costs one product, and the gap is soon about the distance

    @classmethod
    def of(
        cls,
        states: Array,
        treatment: Treatment,
        train: NDArray[np.bool_],
        index: NDArray[np.intp] | None = None,
    ) -> Self:
        """For raw `states` [sample, hidden], or those in `index` (ascending).

        `train` [set, row]: training sets. Raises ProbeError if the states are too large.
        """
        return cls(RowBlocks(states, treatment, index, memory=_ALL_IN_MEMORY), train)

    def __init__(self, rows: RowBlocks, train: NDArray[np.bool_]) -> None:
        """`rows` must be kept in memory. Raises ProbeError if their products overflow."""
        assert rows.kept is not None
        self.rows, self.states = rows, rows.kept
        self.centre = rows.centre  # [hidden] subtracted from treated states
        self.n_rows = len(self.states)
        check_products(self.states)
        n_wide = min(_N_WIDE, *self.states.shape)
        self.directions, rest_spread = widest_directions(self.states, n_wide)
        directions = self.directions.astype(np.float32)
        wide = self.states @ directions
        rest = wide @ directions.T
        np.subtract(self.states, rest, out=rest)
        self.gram = np.asarray(rest @ rest.T, dtype=np.float32)
        self.wide = np.hstack([wide, np.ones((self.n_rows, 1), np.float32)])  # [row, wide + 1]
        self.n_coordinates = self.n_rows + self.wide.shape[1]
        self._metrics = KernelMetrics(self.gram, self.wide, train, rest_spread)

    @cached_property
    def mean_squared_norm(self) -> float:
        return float(np.einsum("ij,ij->", self.states, self.states) / self.n_rows)

    def image(self, coordinates: Array) -> Array:
        """Product of the Gram matrix and the coordinates, in their dtype."""
        n = self.n_rows
        image: Array = coordinates.copy()
        a = np.ascontiguousarray(coordinates[..., :n]).reshape(-1, n)
        if a.any():
            product = a @ self._gram_as(coordinates.dtype)
            image[..., :n] = product.reshape(image[..., :n].shape)
        return image

    def scores(self, coordinates: Array, image: Array) -> Array:
        """Scores w·xᵢ + b [problem, score, row]."""
        n = self.n_rows
        scores: Array = coordinates[..., n:] @ self._wide_as(coordinates.dtype).T
        scores += image[..., :n]
        return scores

    def combine_rows(self, factors: Array) -> Array:
        """Coordinates of Σᵢ rᵢxᵢ for factors r [problem, score, row]; the last one is Σᵢ rᵢ."""
        combined = np.empty((*factors.shape[:2], self.n_coordinates), factors.dtype)
        combined[..., : self.n_rows] = factors
        combined[..., self.n_rows :] = factors @ self._wide_as(factors.dtype)
        return combined

    def expected_curvature(self, at_constant: Array, at_start: Array) -> Array:
        """The effective curvature at the best constant scores (empirical)."""
        return self._effective(at_constant)

    def _effective(self, curvature: Array) -> Array:
        """The c of the metric for a mean curvature of the loss.

        Empirical: smaller than the mean, because few rows hold most of the curvature, and L-BFGS
        quickly learns the few directions in which c is too small.
        """
        return np.asarray(curvature / np.sqrt(1 + curvature * self._rest_norm))

    @cached_property
    def _rest_norm(self) -> float:
        """Mean squared norm of the rows of X'."""
        return float(self.gram.diagonal().mean(dtype=float))

    def wide_metric(self, second: Array, curvature: Array, sets: NDArray[np.intp]) -> WideMetric:
        """The part of the metric with the second derivatives [problem, score, row] of all rows."""
        return self._metrics.wide_metric(second, self._effective(curvature), sets)

    def precondition(
        self,
        gradient: Array,
        curvature: Array,
        sets: NDArray[np.intp],
        wide: WideMetric | None,
    ) -> tuple[Array, Array]:
        """Apply about (I + XᵀDX)⁻¹ for each problem and training set; result and its image."""
        assert wide is not None
        return self._metrics.apply(gradient, self._effective(curvature), sets, wide)

    def dual_point(
        self, coordinates: Array, gradient: Array, residuals: Array, curvatures: Array
    ) -> NDArray[np.float64]:
        """A dual point α [problem, score, row] with Σᵢ αᵢ = 0 near coordinates and residuals."""
        wide = self._wide_as(coordinates.dtype)
        return self._dual.point(coordinates, gradient, residuals, curvatures, wide)

    @cached_property
    def _dual(self) -> KernelDual:
        return KernelDual(self.wide, self._rest_norm)

    def squared_distance(self, coordinates: Array, dual: Array) -> Array:
        """‖w − Σ αᵢxᵢ‖² [problem]."""
        n, dtype = self.n_rows, coordinates.dtype
        along_wide = coordinates[..., n:-1] - dual @ self._wide_as(dtype)[:, :-1]
        difference = (coordinates[..., :n] - dual).astype(dtype)
        product = (difference.reshape(-1, n) @ self._gram_as(dtype)).reshape(difference.shape)
        norm = np.vecdot(difference, product).astype(np.float64)
        return np.asarray(np.maximum(norm, 0).sum(1) + np.vecdot(along_wide, along_wide).sum(1))

    def weights(self, coordinates: Array) -> tuple[Array, Array]:
        """w [.., hidden] and b, computed from the states in the dtype of the coordinates."""
        along_wide = coordinates[..., self.n_rows : -1]
        directions = self.directions.astype(coordinates.dtype)
        w = self._combine_states(coordinates[..., : self.n_rows])
        for _ in range(2):  # the second pass removes what rounding left along the directions
            w += (along_wide - w @ directions) @ directions.T
        return w, coordinates[..., -1]

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
        others = self.rows.treat_alike(states, index)
        flat = weights.reshape(-1, weights.shape[-1])
        scores = np.empty((len(flat), others.shape[0]), np.float32)
        for rows, block in others.blocks():
            scores[:, rows] = flat @ block.T
        shape = (*intercepts.shape, -1)
        return scores.reshape(shape) + intercepts[..., None].astype(np.float32)

    def evaluate_exactly(self, coordinates: Array) -> tuple[Array, Array, Array]:
        """Scores, ‖w‖² [problem] and image, in float64 and from the states themselves."""
        n = self.n_rows
        w, b = self.weights(coordinates)
        flat = w.reshape(-1, w.shape[-1])
        scores = np.empty((len(flat), n), w.dtype)
        for rows, block in self._states_as(w.dtype):
            scores[:, rows] = flat @ block.T
        scores = scores.reshape(*b.shape, -1) + b[..., None]
        image = coordinates.copy()
        image[..., :n] = scores - coordinates[..., n:] @ self._wide_as(w.dtype).T
        return scores, np.vecdot(w, w).sum(-1), image

    def squared_distance_exactly(self, coordinates: Array, dual: Array) -> Array:
        """‖w − Σ αᵢxᵢ‖² [problem], in float64 and from the states themselves."""
        weights, _ = self.weights(coordinates - self.combine_rows(dual))
        return np.asarray(np.vecdot(weights, weights).sum(-1))

    def _combine_states(self, a: Array) -> Array:
        """Σ aᵢxᵢ [.., hidden], in the dtype of `a`."""
        flat = a.reshape(-1, self.n_rows)
        combined = np.zeros((len(flat), self.states.shape[1]), a.dtype)
        for rows, block in self._states_as(a.dtype):
            combined += flat[:, rows] @ block
        return combined.reshape(*a.shape[:-1], -1)

    def _states_as(self, dtype: np.dtype[np.floating]) -> Iterator[tuple[slice, Array]]:
        """Blocks of the states: all at once in float32, else through one small buffer."""
        if dtype == np.float32:
            yield slice(0, self.n_rows), self.states
            return
        buffer = np.empty((_FLOAT64_ROWS, self.states.shape[1]), dtype)
        for start in range(0, self.n_rows, _FLOAT64_ROWS):
            rows = slice(start, min(start + _FLOAT64_ROWS, self.n_rows))
            block = buffer[: rows.stop - start]
            np.copyto(block, self.states[rows])
            yield rows, block

    def _wide_as(self, dtype: np.dtype[np.floating]) -> Array:
        """U = (X V, 1) [row, wide + 1]; for float64 it is computed in float64."""
        return self._wide64 if dtype == np.float64 else self.wide

    @cached_property
    def _wide64(self) -> NDArray[np.float64]:
        wide = np.ones((self.n_rows, self.wide.shape[1]))
        for rows, block in self._states_as(np.dtype(np.float64)):
            wide[rows, :-1] = block @ self.directions
        return wide

    def _gram_as(self, dtype: np.dtype[np.floating]) -> Array:
        """X'X'ᵀ [row, row]; its entries have float32 precision in either dtype."""
        return self._gram64 if dtype == np.float64 else self.gram

    @cached_property
    def _gram64(self) -> NDArray[np.float64]:
        return self.gram.astype(np.float64)


def check_products(states: Array) -> None:
    """Raise ProbeError if sums of products of `states` [row, hidden] may overflow in float32."""
    largest = max(abs(float(states.max(initial=0))), abs(float(states.min(initial=0))))
    if largest * largest * states.size > _LARGEST_SUM:
        raise ProbeError(
            f"states of up to {largest:.1g} are too large for their products to be numbers in "
            "float32; scale them down, or use treatment standardize"
        )
