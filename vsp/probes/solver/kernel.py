"""Where the weights of linear problems live, and the metric of the steps that are taken there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack

from vsp.errors import ProbeError
from vsp.probes.solver.row_blocks import Rows
from vsp.probes.treatment import Treatment

Array = NDArray[np.floating]

_APART = 32  # directions of the largest spread, which have coordinates of their own
_SPARE = 2  # times as many are searched for
_ROUNDS = 2
_SMALL = 2.0  # curvature times spread, below which the metric need be none
_LARGEST = 1e37
_EASED = 1e-9  # of the mean of a diagonal, added to it
_TINY = 1e-38
_EMPTY = 1e-11  # of the largest spread: that of a direction of rounding errors
_BLOCK = 256  # rows of a matrix that are mirrored at once, or in memory as float64
_KEPT = 6  # metrics …
_AT_HAND = 2  # … and of these, with what leads to training sets
_STEP = 3  # powers of 2 from one curvature for which there is a metric to the next
_JITTER = (0, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1)  # of the diagonal, where rounding demands it


@dataclass(frozen=True, slots=True)
class _HeldOut:
    """The rows that are not of a training set, in a metric."""

    rows: NDArray[np.intp]
    inverse: NDArray[np.float32]  # of their block of the metric [held out, held out]
    across: NDArray[np.float32]  # their rows of the metric [held out, row]


@dataclass(slots=True)
class _Metric:
    """(I + c X'X'ᵀ)⁻¹ [row, row], and what leads from it to that of a training set."""

    c: float
    inverse: NDArray[np.float32] | None  # None: about I
    ends: dict[int, NDArray[np.float32]] = field(default_factory=dict)
    held_out: dict[int, _HeldOut] = field(default_factory=dict)


class Kernel:
    """The span of the rows, for no more rows than dimensions: w = X'ᵀa + Vβ.

    The states X [row, hidden] are split into their parts along few directions V [hidden, apart],
    which hold most of the spread, and the rest X'. Of the rest all that is needed is the Gram
    matrix X'X'ᵀ; the directions have coordinates β of their own. Without the split, rounding of a
    in float32 would be multiplied by the largest spread, which outlier dimensions make huge.

    Coordinates are (a [row], β [apart], b). A product with the metric's inverse gives its image
    too, X'X'ᵀ(I + cX'X'ᵀ)⁻¹q = (q − (I + cX'X'ᵀ)⁻¹q) / c, so that a step costs one product.
    """

    soon = 10.0  # a look costs one product, and the gap is soon about the distance

    @classmethod
    def of(
        cls,
        states: Array,
        treatment: Treatment,
        train: NDArray[np.bool_],
        index: NDArray[np.intp] | None = None,
    ) -> Self:
        """Of `states` [sample, hidden] as they are, or of those in `index`, ascending.

        `train` [set, row]: the rows of each problem.
        """
        return cls(Rows(states, treatment, index, memory=1 << 62), train)

    def __init__(self, rows: Rows, train: NDArray[np.bool_]) -> None:
        """`rows` that are kept in memory. Raises ProbeError if they are too large."""
        assert rows.kept is not None
        self.rows, self.train = rows, train
        self.shift = rows.centre  # [hidden] taken from treated states
        self.states = rows.kept
        self.n_rows = len(self.states)
        check_products(self.states)
        self.directions, self.widest = _widest(self.states, min(_APART, *self.states.shape))
        directions = self.directions.astype(np.float32)
        apart = self.states @ directions
        rest = apart @ directions.T
        np.subtract(self.states, rest, out=rest)
        self.gram = np.asarray(rest @ rest.T, dtype=np.float32)
        self.apart = np.hstack([apart, np.ones((self.n_rows, 1), np.float32)])  # [row, apart + 1]
        self.width = self.n_rows + self.apart.shape[1]
        self._partial: NDArray[np.bool_] = np.logical_not(
            train.all(axis=1)
        )  # [set]: some rows only
        self._metrics: dict[int, _Metric] = {}

    @cached_property
    def typical(self) -> float:
        return float(np.einsum("ij,ij->", self.states, self.states) / self.n_rows)

    @cached_property
    def _apart64(self) -> NDArray[np.float64]:
        apart = np.ones((self.n_rows, self.apart.shape[1]))
        for rows, block in self._blocks(np.dtype(np.float64)):
            apart[rows, :-1] = block @ self.directions
        return apart

    def _apart_as(self, dtype: np.dtype[np.floating]) -> Array:
        """U and ones [row, apart + 1], of that precision and not just of that type."""
        return self._apart64 if dtype == np.float64 else self.apart

    @cached_property
    def _gram64(self) -> NDArray[np.float64]:
        return self.gram.astype(np.float64)

    def image(self, coordinates: Array) -> Array:
        """As `Space` has it; summed in the dtype of the coordinates."""
        n = self.n_rows
        gram = self._gram64 if coordinates.dtype == np.float64 else self.gram
        image = coordinates.copy()
        a = np.ascontiguousarray(coordinates[..., :n]).reshape(-1, n)
        if a.any():
            image[..., :n] = (a @ gram).reshape(image[..., :n].shape)
        return image

    def values(self, coordinates: Array, image: Array) -> Array:
        n = self.n_rows
        values: Array = coordinates[..., n:] @ self._apart_as(coordinates.dtype).T
        values += image[..., :n]
        return values

    def pulled(self, residuals: Array) -> Array:
        pulled = np.empty((*residuals.shape[:2], self.width), residuals.dtype)
        pulled[..., : self.n_rows] = residuals
        pulled[..., self.n_rows :] = residuals @ self._apart_as(residuals.dtype)
        return pulled

    def foreseen(self, constant: Array, here: Array) -> Array:
        """Smaller, as rows are fitted the better the more they differ; a rule that was measured."""
        return self._tempered(constant)

    def _tempered(self, curvature: Array) -> Array:
        """For the metric it is smaller than the mean, in which few rows have the greatest part.

        A few directions in which the metric is too small are soon learned; a rule that was measured.
        """
        return np.asarray(curvature / np.sqrt(1 + curvature * self._typical_rest))

    @cached_property
    def _typical_rest(self) -> float:
        return float(self.gram.diagonal().mean(dtype=float))

    def step(
        self, gradient: Array, curvature: Array, sets: NDArray[np.intp]
    ) -> tuple[Array, Array]:
        n = self.n_rows
        direction, image = np.empty_like(gradient), np.empty_like(gradient)
        for metric, which in self._metrics_of(curvature):
            some: NDArray[np.intp] | slice = slice(None) if len(which) == len(sets) else which
            q = np.ascontiguousarray(gradient[some][..., :n])
            direction[some, :, :n], image[some, :, :n] = self._of_rows(metric, q, sets[some])
            ends = np.stack([self._ends(metric, group) for group in sets[some]])
            direction[some, :, n:] = np.matmul(gradient[some][..., n:], ends)
        image[..., n:] = direction[..., n:]
        return direction, image

    def _of_rows(self, metric: _Metric, q: Array, sets: NDArray[np.intp]) -> tuple[Array, Array]:
        if metric.inverse is None:
            return q, self._times(q, self.gram)
        z = self._times(q, metric.inverse)
        q = self._without_held_out(metric, q, z, sets)
        return z, (q - z) * np.float32(1 / metric.c)

    def _times(self, a: Array, matrix: Array) -> Array:
        product: Array = (a.reshape(-1, self.n_rows) @ matrix).reshape(a.shape)
        return product

    def _ends(self, metric: _Metric, group: int) -> NDArray[np.float32]:
        """The metric of the directions and the intercept, which has no penalty."""
        if group not in metric.ends:
            apart = self.apart[self.train[group]].astype(np.float64)
            matrix = metric.c * (apart.T @ apart)
            matrix.flat[: -1 : len(matrix) + 1] += 1
            metric.ends[group] = np.linalg.inv(matrix).astype(np.float32)
        return metric.ends[group]

    def _metrics_of(self, curvature: Array) -> Iterator[tuple[_Metric, NDArray[np.intp]]]:
        """Each metric that is needed, and the problems it is for.

        As few as will do; whatever metrics there are from before has no influence.
        """
        left = np.arange(len(curvature))
        wanted = np.log2(self._tempered(curvature))
        while len(left):
            middle = float(np.sort(wanted[left])[len(left) // 2])
            level = _STEP * round(middle / _STEP)
            near = np.abs(wanted[left] - level) <= _STEP
            yield self._metric(level), left[near]
            left = left[~near]

    def _metric(self, level: int) -> _Metric:
        metric = self._metrics.pop(level, None)
        if metric is None:
            c = 2.0**level
            small = c * self.widest <= _SMALL
            metric = _Metric(c, None if small else _inverse(self.gram, c, plus=1))
            while len(self._metrics) >= _KEPT:
                del self._metrics[next(iter(self._metrics))]
        self._metrics[level] = metric  # the last one that was used
        for earlier in list(self._metrics.values())[:-_AT_HAND]:
            earlier.held_out.clear()  # as large as the metric itself, and soon there again
        return metric

    def _without_held_out(
        self, metric: _Metric, q: Array, z: Array, sets: NDArray[np.intp]
    ) -> Array:
        """From the metric of all rows to those of training sets: z has no part of other rows then.

        With u of the other rows such that (I + cX'X'ᵀ)⁻¹(q − u) is 0 there. Changes z [problem,
        score, row]; returns q − u.
        """
        partial = self._partial[sets]
        if not partial.any():
            return q
        q, scores = q.copy(), np.arange(z.shape[1])
        for group in np.unique(sets[partial]):
            held_out = self._held_out(metric, int(group))
            which = np.flatnonzero(sets == group)
            there = np.ix_(which, scores, held_out.rows)
            u = z[there] @ held_out.inverse
            q[there] -= u
            z[which] -= (u.reshape(-1, len(held_out.rows)) @ held_out.across).reshape(
                len(which), *z.shape[1:]
            )
            z[there] = 0
        return q

    def _held_out(self, metric: _Metric, group: int) -> _HeldOut:
        assert metric.inverse is not None
        if group not in metric.held_out:
            rows = np.flatnonzero(~self.train[group])
            across = metric.inverse[rows]
            metric.held_out[group] = _HeldOut(rows, _inverse(across[:, rows]), across)
        return metric.held_out[group]

    def dual(
        self, coordinates: Array, gradient: Array, residuals: Array, bent: Array
    ) -> NDArray[np.float64]:
        """As `Space` has it: of each row something between its coordinate and its residual.

        Where the loss is bent it hardly matters to it which, and coordinates are nearer to the
        weights; where it is flat only residuals are. Were products of different rows nothing, the
        share here would be the best. Then α is moved where the loss is bent until Uᵀα = β, with U
        of directions and ones.
        """
        n = self.n_rows
        apart = self._apart_as(coordinates.dtype)
        off = gradient[..., :n].astype(np.float64)  # coordinates less residuals
        share = bent * self._typical_rest
        share /= 1 + share
        largest = np.abs(off).max(1, keepdims=True)
        share = np.minimum(
            share, 0.5 * bent / np.maximum(largest, _TINY)
        )  # no row leaves its domain
        dual = residuals + share * off
        lack = coordinates[..., n:].astype(np.float64)
        lack[..., -1] = 0
        lack -= dual @ apart
        dual += bent * self._moved(bent, lack)
        total = bent.sum(-1, keepdims=True, dtype=float)
        dual -= bent * (dual.sum(-1, keepdims=True) / np.maximum(total, _TINY))
        return np.asarray(dual)

    def _moved(self, bent: Array, lack: Array) -> Array:
        """Ue [problem, score, row] with Uᵀ·bent·Ue = lack, or nearly so."""
        plain, turn = self._plain
        shape = len(bent), len(turn), len(turn)
        across = (bent[:, 0].astype(np.float32) @ self._pairs).astype(np.float64).reshape(shape)
        scale = np.trace(across, axis1=1, axis2=2)[:, None] / len(turn) + _TINY
        across.reshape(len(across), -1)[:, :: len(turn) + 1] += _EASED * scale
        e = np.linalg.solve(across, (lack @ turn).swapaxes(1, 2)).swapaxes(1, 2)
        moved: Array = e.astype(np.float32) @ plain.T
        return moved

    @cached_property
    def _plain(self) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """U turned such that its columns are orthonormal, and what turns it."""
        apart = self.apart.astype(np.float64)
        size, turn = np.linalg.eigh(apart.T @ apart)
        there = size > _EMPTY * size[-1]
        turn = turn * np.where(there, 1 / np.sqrt(np.where(there, size, 1)), 0)
        return (apart @ turn).astype(np.float32), turn

    @cached_property
    def _pairs(self) -> NDArray[np.float32]:
        """Products of each two columns of the turned U [row, apart · apart]."""
        plain = self._plain[0]
        return (plain[:, :, None] * plain[:, None]).reshape(self.n_rows, -1)

    def far(self, coordinates: Array, dual: Array) -> Array:
        """‖w − Σ αᵢ xᵢ‖² [problem]."""
        n = self.n_rows
        lack = coordinates[..., n:-1] - dual @ self._apart_as(coordinates.dtype)[:, :-1]
        off = (coordinates[..., :n] - dual).astype(coordinates.dtype)
        gram = self._gram64 if off.dtype == np.float64 else self.gram
        norm = np.vecdot(off, self._times(off, gram)).astype(np.float64)
        return np.asarray(np.maximum(norm, 0).sum(1) + np.vecdot(lack, lack).sum(1))

    def weights(self, coordinates: Array) -> tuple[Array, Array]:
        """w [.., hidden] and b of coordinates, in their dtype and from the rows themselves."""
        ends = coordinates[..., self.n_rows : -1]
        directions = self.directions.astype(coordinates.dtype)
        w = self._pull(coordinates[..., : self.n_rows])
        for _ in range(2):  # the second time takes away what rounding left along the directions
            w += (ends - w @ directions) @ directions.T
        return w, coordinates[..., -1]

    def _pull(self, a: Array) -> Array:
        """Σ aᵢxᵢ [.., hidden], in the dtype of `a`."""
        flat = a.reshape(-1, self.n_rows)
        pulled = np.zeros((len(flat), self.states.shape[1]), a.dtype)
        for rows, block in self._blocks(a.dtype):
            pulled += flat[:, rows] @ block
        return pulled.reshape(*a.shape[:-1], -1)

    def _blocks(self, dtype: np.dtype[np.floating]) -> Iterator[tuple[slice, Array]]:
        """The states, as they are or through one small buffer of another dtype."""
        if dtype == np.float32:
            yield slice(0, self.n_rows), self.states
            return
        room = np.empty((_BLOCK, self.states.shape[1]), dtype)
        for start in range(0, self.n_rows, _BLOCK):
            rows = slice(start, min(start + _BLOCK, self.n_rows))
            block = room[: rows.stop - start]
            np.copyto(block, self.states[rows])
            yield rows, block

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
        others = self.rows.alike(states, index)
        flat = weights.reshape(-1, weights.shape[-1])
        scores = np.empty((len(flat), others.shape[0]), np.float32)
        for rows, block in others.blocks():
            scores[:, rows] = flat @ block.T
        shape = (*intercepts.shape, -1)
        return scores.reshape(shape) + intercepts[..., None].astype(np.float32)

    def exact(self, coordinates: Array) -> tuple[Array, Array, Array]:
        """In float64 and from the rows themselves: scores, ‖w‖², and the image."""
        n = self.n_rows
        w, b = self.weights(coordinates)
        flat = w.reshape(-1, w.shape[-1])
        scores = np.empty((len(flat), n), w.dtype)
        for rows, block in self._blocks(w.dtype):
            scores[:, rows] = flat @ block.T
        scores = scores.reshape(*b.shape, -1) + b[..., None]
        image = coordinates.copy()
        image[..., :n] = scores - coordinates[..., n:] @ self._apart_as(w.dtype).T
        return scores, np.vecdot(w, w).sum(-1), image

    def away(self, coordinates: Array, dual: Array) -> Array:
        """In float64 and from the rows themselves: ‖w − Σ αᵢ xᵢ‖² [problem]."""
        off = coordinates - self.pulled(dual)  # those of the difference
        weights, _ = self.weights(off)
        return np.asarray(np.vecdot(weights, weights).sum(-1))


def check_products(states: Array) -> None:
    """Raises ProbeError if products of `states` [row, hidden], summed, are no float32 numbers."""
    most = max(abs(float(states.max(initial=0))), abs(float(states.min(initial=0))))
    if most * most * states.size > _LARGEST:
        raise ProbeError(
            f"states of up to {most:.1g} are too large for their products to be numbers in "
            "float32; scale them down, or use treatment standardize"
        )


def _inverse(gram: NDArray[np.float32], c: float = 1, plus: float = 0) -> NDArray[np.float32]:
    """(plus·I + c·gram)⁻¹, whole."""
    for jitter in _JITTER:
        matrix = gram * np.float32(c)
        matrix.flat[:: len(gram) + 1] *= np.float32(1 + jitter)
        matrix.flat[:: len(gram) + 1] += np.float32(plus)
        lower, failed = lapack.spotrf(matrix.T, lower=1, overwrite_a=1)
        if not failed:
            break
    inverse, failed = lapack.spotri(lower, lower=1, overwrite_c=1)
    assert not failed, failed
    whole: NDArray[np.float32] = inverse.T  # in C order, of which the upper triangle is there
    for start in range(0, len(gram), _BLOCK):
        stop = start + _BLOCK
        whole[stop:, start:stop] = whole[start:stop, stop:].T
        corner = whole[start:stop, start:stop]
        corner[:] = np.triu(corner) + np.triu(corner, 1).T
    return whole


def _widest(states: NDArray[np.float32], n: int) -> tuple[NDArray[np.float64], float]:
    """Orthonormal directions [hidden, n] of nearly the largest spread, and the next largest spread.

    By subspace iteration: Halko, Martinsson & Tropp 2011. Any directions split the states, but
    the nearer these are to the principal ones, the less do the two parts depend on each other.
    """
    rng = np.random.default_rng(0)
    more = min(_SPARE * n, *states.shape)
    found = rng.standard_normal((len(states), more), dtype=np.float32).T @ states
    for _ in range(_ROUNDS):
        directions, _ = np.linalg.qr(found.T)
        found = (states @ directions).T @ states
    directions, _ = np.linalg.qr(found.T.astype(np.float64))
    along = (states @ directions.astype(np.float32)).astype(np.float64)
    spread, rotation = np.linalg.eigh(along.T @ along)
    wide = np.asarray(directions @ rotation[:, ::-1][:, :n])
    return wide, float(spread[-n - 1]) if more > n else 0.0
