"""Where the weights of linear problems live, and the metric of the steps that are taken there."""

from __future__ import annotations

from functools import cached_property
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve, lapack

from vsp.probes.treatment import Treatment

Array = NDArray[np.floating]

_APART = 32  # directions of the largest spread, which have coordinates of their own
_BLOCK = 256  # rows of a matrix that are mirrored at once
_METRICS = 10.0  # factor from one curvature for which there is a metric to the next


class Kernel:
    """The span of the rows, for no more rows than dimensions: w = X'ᵀa + Vβ.

    The states X [row, hidden] are split into their parts along few directions V [hidden, apart],
    which hold most of the spread, and the rest X'. Of the rest all that is needed is the Gram
    matrix X'X'ᵀ; the directions have coordinates β of their own. Without the split, rounding of a
    in float32 would be multiplied by the largest spread, which outlier dimensions make huge.

    Coordinates are (a [row], β [apart], b). A product with the metric's inverse gives its image
    too, X'X'ᵀ(I + cX'X'ᵀ)⁻¹q = (q − (I + cX'X'ᵀ)⁻¹q) / c, so that a step costs one product.
    """

    shift: NDArray[np.float64]  # [hidden] taken from treated states, to centre them

    @classmethod
    def of(cls, states: Array, treatment: Treatment, train: NDArray[np.bool_]) -> Self:
        """Of `states` [row, hidden] as they are; `train` [set, row]: the rows of each problem."""
        treated = np.empty(states.shape, np.float32)
        for rows, block in treatment.blocks(states):
            treated[rows] = block
        return cls(treated, train, treatment)

    def __init__(
        self, states: NDArray[np.float32], train: NDArray[np.bool_], treatment: Treatment
    ) -> None:
        self.treatment = treatment
        self.shift = states.mean(0, dtype=np.float64)
        states = states - self.shift.astype(np.float32)
        self.n_rows, _ = states.shape
        self.train = train
        self.states = states
        self.directions = _widest(states, min(_APART, *states.shape))
        apart = states @ self.directions
        rest = states - apart @ self.directions.T
        self.gram = rest @ rest.T
        ones = np.ones((self.n_rows, 1), np.float32)
        self.apart = np.hstack([apart, ones])  # [row, apart + 1]
        self.width = self.n_rows + self.apart.shape[1]
        self._inverse: dict[float, Array] = {}
        self._held_out: dict[tuple[float, int], tuple[NDArray[np.intp], Array]] = {}
        self.spread = train @ (self.apart**2)  # [set, apart + 1]

    @cached_property
    def _gram64(self) -> NDArray[np.float64]:
        return self.gram.astype(np.float64)

    def image(self, coordinates: Array) -> Array:
        image = np.empty_like(coordinates)
        n = self.n_rows
        rows = np.ascontiguousarray(coordinates[..., :n]).reshape(-1, n)
        image[..., :n] = (rows.astype(np.float64) @ self._gram64).reshape(image[..., :n].shape)
        image[..., n:] = coordinates[..., n:]
        return image

    def values(self, coordinates: Array, image: Array) -> Array:
        n = self.n_rows
        values = coordinates[..., n:] @ self.apart.T.astype(coordinates.dtype, copy=False)
        values += image[..., :n]
        return values

    def pulled(self, residuals: Array) -> Array:
        pulled = np.empty((*residuals.shape[:2], self.width), residuals.dtype)
        pulled[..., : self.n_rows] = residuals
        pulled[..., self.n_rows :] = residuals @ self.apart.astype(residuals.dtype, copy=False)
        return pulled

    def foreseen(self, curvature: Array) -> Array:
        """What the curvature at the optimum will be like, from that of the best constant scores."""
        return curvature / (1 + np.sqrt(curvature * self.gram.diagonal().mean(dtype=float)))

    def step(
        self, gradient: Array, curvature: Array, sets: NDArray[np.intp]
    ) -> tuple[Array, Array]:
        n = self.n_rows
        direction, image = np.empty_like(gradient), np.empty_like(gradient)
        level = np.round(np.log(np.maximum(curvature, 1e-30)) / np.log(_METRICS))
        for one in np.unique(level):
            which = np.flatnonzero(level == one)
            c = float(_METRICS**one)
            q = gradient[which][..., :n]
            z = (q.reshape(-1, n) @ self._metric(c)).reshape(q.shape)
            for group in np.unique(sets[which]):
                self._without_held_out(z, np.flatnonzero(sets[which] == group), c, int(group))
            direction[which, :, :n] = z
            image[which, :, :n] = (q - z) / np.float32(c)
        penalty = np.ones(self.apart.shape[1])
        penalty[-1] = 0
        ends = gradient[..., n:] / (penalty + curvature[:, None] * self.spread[sets])[:, None, :]
        direction[..., n:] = image[..., n:] = ends
        return direction, image

    def _without_held_out(self, z: Array, which: NDArray[np.intp], c: float, group: int) -> None:
        """From the metric of all rows to that of a training set: a Schur complement."""
        if (c, group) not in self._held_out:
            rows = np.flatnonzero(~self.train[group])
            block = self._metric(c)[np.ix_(rows, rows)]
            self._held_out[c, group] = rows, cho_factor(block, lower=True)
        rows, factor = self._held_out[c, group]
        if not len(rows):
            return
        part = z[which]
        held = part[..., rows].reshape(-1, len(rows))
        solved = cho_solve(factor, held.T).T
        part -= (solved @ self._metric(c)[rows]).reshape(part.shape)
        part[..., rows] = 0
        z[which] = part

    def _metric(self, c: float) -> Array:
        if c not in self._inverse:
            self._inverse[c] = _inverse(self.gram, c)
        return self._inverse[c]

    def weights(self, coordinates: Array) -> tuple[Array, Array]:
        """w [.., hidden] and b of coordinates, in their dtype and from the rows themselves."""
        n = self.n_rows
        a, ends = coordinates[..., :n], coordinates[..., n:-1]
        directions = self.directions.astype(coordinates.dtype)
        states = self.states.astype(coordinates.dtype)
        w = a @ states
        w += (ends - w @ directions) @ directions.T
        return w, coordinates[..., -1]

    def fitted(self, coordinates: Array) -> Array:
        """Scores [problem, score, row] of the rows of the space, as float32."""
        coordinates = coordinates.astype(np.float32)
        n = self.n_rows
        image = np.empty_like(coordinates)
        rows = np.ascontiguousarray(coordinates[..., :n]).reshape(-1, n)
        image[..., :n] = (rows @ self.gram).reshape(image[..., :n].shape)
        return self.values(coordinates, image)

    def seen(self, states: Array, weights: Array, intercepts: Array) -> Array:
        """Scores [problem, score, row] of other rows, of states [row, hidden] as they are."""
        scores = np.empty((*intercepts.shape, len(states)), np.float32)
        for rows, block in self.treatment.blocks(states):
            scores[..., rows] = weights @ (block - self.shift).T + intercepts[..., None]
        return scores

    def exact(self, coordinates: Array, residuals: Array | None) -> tuple[Array, Array, Array]:
        states = self.states.astype(np.float64)
        w, b = self.weights(coordinates)
        if residuals is not None:
            off = w - residuals @ states
            return b, b, np.vecdot(off, off).sum(-1)
        return w @ states.T + b[..., None], np.vecdot(w, w).sum(-1), b


def _inverse(gram: Array, c: float) -> Array:
    """(I + c·gram)⁻¹ in float32, whole."""
    matrix = gram * np.float32(c)
    matrix.flat[:: len(gram) + 1] += 1
    lower, failed = lapack.spotrf(matrix.T, lower=1, overwrite_a=1)
    assert not failed, failed
    inverse, failed = lapack.spotri(lower, lower=1, overwrite_c=1)
    assert not failed, failed
    whole = inverse.T  # in C order, of which the upper triangle is there
    for start in range(0, len(gram), _BLOCK):
        stop = start + _BLOCK
        whole[stop:, start:stop] = whole[start:stop, stop:].T
        corner = whole[start:stop, start:stop]
        corner[:] = np.triu(corner) + np.triu(corner, 1).T
    return whole


def _widest(states: NDArray[np.float32], n: int) -> NDArray[np.float32]:
    """Orthonormal directions [hidden, n] of nearly the largest spread, by subspace iteration.

    Halko, Martinsson & Tropp 2011. They need not be exact: any directions split the states.
    """
    rng = np.random.default_rng(0)
    found = rng.standard_normal((len(states), n), dtype=np.float32).T @ states
    for _ in range(3):
        directions, _ = np.linalg.qr(found.T)
        found = (states @ directions).T @ states
    directions, _ = np.linalg.qr(found.T.astype(np.float64))
    return directions.astype(np.float32)
