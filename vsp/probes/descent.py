"""Many L2-regularised logistic problems at once, each to a certified duality gap.

Minimised is ½‖w‖² + Σᵢ sᵢ ℓ(yᵢ, xᵢ·w + b), with sᵢ the row's weight times C and b free, over w in a
`Space`: the span of the rows (kernel form) or all of it (primal form). All problems take each step
of a limited-memory quasi-Newton descent (L-BFGS; Nocedal & Wright 2006, section 7.2) together, so
that a step is one matrix product for all of them, and the metric of the steps is the inverse of
I + c XᵀX, of which the Hessian differs by the spread of the logistic weights alone.

Arrays are [problem, score, …]: a problem has one score a row (one class against the rest) or one
for each class (multinomial).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]

_MEMORY = 6  # steps that are remembered
_LOOK = 5  # steps between two looks at the curvature
_FRESH = 6  # steps near the optimum after which sums that rounding has bent are computed anew
_BACKTRACKS = 12
_FLOOR = 2e-7  # relative gap below which float32 is not asked to go
_NEAR = 10_000  # tolerances
_ROUNDING = {"float32": 3e-9, "float64": 1e-14}  # of a problem's value, relative
_SPARSE = 0.75  # of the problems still going on, below which the others are left behind
_STALLS = 3  # looks in a row without any step between them, then a problem is given up


class Space(Protocol):
    """Where the weights of a problem live: coordinates [width], the last of them the intercept."""

    width: int
    n_rows: int

    def image(self, coordinates: Array) -> Array:
        """Their product with the Gram matrix of the coordinates (`a·image(a)` is ‖w‖² + b²)."""

    def values(self, coordinates: Array, image: Array) -> Array:
        """The scores [problem, score, row]."""

    def pulled(self, residuals: Array) -> Array:
        """The coordinates of Σᵢ rᵢ xᵢ; the last, that of the intercept, is Σᵢ rᵢ."""

    def foreseen(self, curvature: Array) -> Array:
        """What the curvature [problem] is like at the optimum, from that of constant scores."""

    def step(
        self, gradient: Array, curvature: Array, sets: NDArray[np.intp]
    ) -> tuple[Array, Array]:
        """About (I + c XᵀX)⁻¹ of the gradient for each problem's c and training set; its image."""

    def exact(self, coordinates: Array, residuals: Array | None) -> tuple[Array, Array, Array]:
        """In float64 and from the rows themselves: scores, ‖w‖², and ‖w − Σ rᵢ xᵢ‖²."""


class Loss(Protocol):
    """A convex loss of the scores of a row."""

    def start(self, target: Array, weight: Array) -> Array:
        """Intercepts [problem, score] of the best constant scores."""

    def residuals(self, scores: Array, target: Array, weight: Array) -> tuple[Array, Array]:
        """The loss [problem], and minus its gradient by the scores, of the shape of `scores`."""

    def curvature(self, residuals: Array, target: Array, weight: Array) -> Array:
        """The mean second derivative by a score [problem]."""

    def settled(self, scores: Array, target: Array, weight: Array) -> Array:
        """Shifts [problem, score] of the intercepts after which residuals sum to nothing."""


@dataclass(slots=True)
class Problems:
    """Problems of one space that are solved together; `sets` tells each one's training rows."""

    target: Array  # [problem, score, row]
    weight: Array  # [problem, 1, row]: C times the weight of the row; 0: not a training row
    sets: NDArray[np.intp]  # [problem], an index of the space's training sets

    def __len__(self) -> int:
        return len(self.target)

    def take(self, which: NDArray[np.intp]) -> Problems:
        return Problems(self.target[which], self.weight[which], self.sets[which])


@dataclass(slots=True)
class Solved:
    """Where each problem ended."""

    coordinates: Array  # [problem, score, width]
    gap: NDArray[np.float64]  # [problem] certified: primal minus dual value, over the primal value
    n_steps: NDArray[np.int32]  # [problem]

    def put(self, where: NDArray[np.intp], other: Solved) -> None:
        self.coordinates[where] = other.coordinates
        self.gap[where] = other.gap
        self.n_steps[where] += other.n_steps


def solve(
    space: Space,
    loss: Loss,
    problems: Problems,
    tolerance: float,
    max_steps: int,
    start: Array | None = None,
) -> Solved:
    """Minimise every problem until its relative duality gap is at most `tolerance`.

    Most of the way is gone in float32. What float32 cannot certify goes on in float64, with scores
    and norms from the rows themselves. A gap above the tolerance says that the steps ran out.
    """
    if start is None:
        start = np.zeros((*problems.target.shape[:2], space.width), np.float32)
        start[..., -1] = loss.start(problems.target, problems.weight)
    coarse = _Descent(space, loss, problems, start.astype(np.float32), max(tolerance, _FLOOR))
    solved = coarse.run(max_steps)
    _go_on(space, loss, problems, solved, tolerance, max_steps)
    return solved


def certify(
    space: Space,
    loss: Loss,
    problems: Problems,
    solved: Solved,
    which: NDArray[np.intp],
    tolerance: float,
    max_steps: int,
) -> None:
    """See with the rows themselves that gaps are what they are said to be; go on where not."""
    solved.gap[which] = np.inf
    _go_on(space, loss, problems, solved, tolerance, max_steps, exact=True)


def _go_on(
    space: Space,
    loss: Loss,
    problems: Problems,
    solved: Solved,
    tolerance: float,
    max_steps: int,
    exact: bool = False,
) -> None:
    """Take up in float64 what has no gap within the tolerance yet."""
    rest = np.flatnonzero(~(solved.gap <= tolerance))
    if not len(rest):
        return
    begin = solved.coordinates[rest].astype(np.float64)
    fine = _Descent(space, loss, problems.take(rest), begin, tolerance, exact)
    solved.coordinates = solved.coordinates.astype(np.float64)
    solved.put(rest, fine.run(max_steps))


def _dot(one: Array, other: Array) -> Array:
    """Inner products [problem] of arrays [problem, score, …]."""
    shape = (len(one), -1)
    return np.vecdot(one.reshape(shape), other.reshape(shape))


def _weights(one: Array, image: Array) -> Array:
    """Inner products of the weights alone: without the intercepts, which are not penalised."""
    return _dot(one, image) - _dot(one[..., -1:], image[..., -1:])


def _by(factors: Array) -> Array:
    return factors[:, None, None]


class _Descent:
    """All problems side by side. Problems that are done run along until many are left behind."""

    def __init__(
        self,
        space: Space,
        loss: Loss,
        problems: Problems,
        start: Array,
        tolerance: float,
        exact: bool = False,
    ) -> None:
        n = len(problems)
        self.space, self.loss, self.problems = space, loss, problems
        self.tolerance, self.exact = tolerance, exact
        self.rounding = _ROUNDING[start.dtype.name]
        self.ids = np.arange(n)
        self.live = np.ones(n, dtype=bool)
        self.due = np.full(n, tolerance / 3)  # the estimated distance at which a look is worth it
        self.stalls = np.zeros(n, dtype=np.intp)
        self.looked = np.zeros(n, dtype=np.intp)  # at which step
        self.at, self.image = start, np.empty_like(start)
        self.gradient = np.empty_like(start)
        self.scores = np.empty(problems.target.shape, start.dtype)
        self.residuals = np.empty_like(self.scores)
        self.value, self.losses = np.empty(n), np.empty(n)
        self.curvature = np.empty(n)
        self.history: list[tuple[Array, Array, Array, Array]] = []
        self.solved = Solved(start.copy(), np.full(n, np.inf), np.zeros(n, np.int32))

    def run(self, max_steps: int) -> Solved:
        self._look(np.arange(len(self.ids)), np.full(len(self.ids), np.inf), 0)
        self.curvature = self.space.foreseen(self._curvature())
        for n_steps in range(1, max_steps + 1):
            self._leave_behind()
            if not len(self.ids):
                break
            if n_steps % _LOOK == 0:
                self.curvature = self._curvature()
            distance, moved = self._step()
            self.stalls = np.where(moved, 0, self.stalls + 1)
            near = (distance <= _NEAR * self.tolerance) & (n_steps - self.looked >= _FRESH)
            worth = (distance <= self.due) | near | ~moved | (n_steps == max_steps) | self.exact
            self._look(np.flatnonzero(self.live & worth), distance, n_steps)
        return self.solved

    def _look(self, which: NDArray[np.intp], distance: Array, n_steps: int) -> None:
        """Compute what was updated step by step anew, certify, and retire what is good enough."""
        if not len(which):
            return
        everything = len(which) == len(self.ids)
        which_or_all: NDArray[np.intp] | slice = slice(None) if everything else which
        gap = self._measured(which_or_all)
        ids = self.ids[which]
        better = gap < self.solved.gap[ids]
        self.solved.gap[ids[better]] = gap[better]
        self.solved.coordinates[ids[better]] = self.at[which[better]]
        self.solved.n_steps[ids] = self.looked[which] = n_steps
        given_up = self.stalls[which] >= _STALLS
        self.live[which[(gap <= self.tolerance) | given_up]] = False
        # The gap lags behind the distance by a factor that differs from problem to problem.
        expected = 1.5 * self.tolerance * distance[which] / np.maximum(gap, 1e-300)
        self.due[which] = np.minimum(0.7 * distance[which], np.nan_to_num(expected, posinf=np.inf))
        if not n_steps:
            self.due[which] = self.tolerance / 3

    def _measured(self, which: NDArray[np.intp] | slice) -> NDArray[np.float64]:
        """The relative duality gaps, at intercepts that make the residuals a dual point."""
        at = self.at[which]
        target, weight = self.problems.target[which], self.problems.weight[which]
        if self.exact:
            scores, norm, _ = self.space.exact(at, None)
            image = self.space.image(at.astype(np.float32)).astype(at.dtype)
        else:
            image = self.space.image(at)
            scores, norm = self.space.values(at, image), _weights(at, image)
        shift = self.loss.settled(scores, target, weight)
        at[..., -1] += shift
        image[..., -1] += shift
        scores = scores + shift[..., None]
        losses, residuals = self.loss.residuals(scores, target, weight)
        gradient = self._gradient(at, residuals)
        if self.exact:
            gap = 0.5 * self.space.exact(at, residuals)[2]
        else:
            gap = 0.5 * _weights(gradient, self.space.image(gradient))
        value = 0.5 * norm.astype(float) + losses
        self.at[which], self.image[which], self.scores[which] = at, image, scores
        self.residuals[which], self.gradient[which] = residuals, gradient
        self.losses[which], self.value[which] = losses, value
        return np.maximum(gap, 0) / np.maximum(value, 1e-300)

    def _gradient(self, at: Array, residuals: Array) -> Array:
        gradient = at - self.space.pulled(residuals).astype(at.dtype, copy=False)
        gradient[..., -1] -= at[..., -1]
        return gradient

    def _curvature(self) -> Array:
        return self.loss.curvature(self.residuals, self.problems.target, self.problems.weight)

    def _step(self) -> tuple[Array, NDArray[np.bool_]]:
        """Take one. Returns how far from the optimum each problem was, estimated, and who moved."""
        direction, image = self._direction()
        slope = _dot(self.gradient, image).astype(float)
        along = self.space.values(direction, image).astype(self.scores.dtype, copy=False)
        mixed, far = _weights(direction, self.image), _weights(direction, image)
        allowed = self.rounding * self.value
        t = np.ones(len(self.ids), self.at.dtype)
        target, weight = self.problems.target, self.problems.weight
        for _ in range(_BACKTRACKS):
            scores = self.scores + _by(t) * along
            losses, residuals = self.loss.residuals(scores, target, weight)
            # By differences: near the optimum they are far smaller than the value itself.
            change = t * mixed + 0.5 * t * t * far + (losses - self.losses)
            bad = ~(change <= allowed + 1e-4 * t * slope)
            if not (bad & self.live).any():
                break
            t = np.where(bad, t * 0.35, t).astype(t.dtype)
        t = np.where(bad, 0, t).astype(t.dtype)
        if bad.any():
            scores = np.where(_by(bad), self.scores, scores)
            residuals = np.where(_by(bad), self.residuals, residuals)
            losses, change = np.where(bad, self.losses, losses), np.where(bad, 0, change)
        step, step_image = _by(t) * direction, _by(t) * image
        self.at = self.at + step
        self.image = self.image + step_image
        gradient = self._gradient(self.at, residuals)
        self._remember(step, step_image, gradient - self.gradient, bad)
        self.gradient, self.scores, self.residuals = gradient, scores, residuals
        self.losses, self.value = losses, self.value + change
        return -slope / 2 / np.maximum(self.value, 1e-300), ~bad

    def _direction(self) -> tuple[Array, Array]:
        """Minus the approximate inverse Hessian times the gradient, and its image."""
        q = self.gradient.copy()
        factors = []
        for _, image, change, per in reversed(self.history):
            factor = per * _dot(image, q)
            q -= _by(factor) * change
            factors.append(factor)
        direction, along = self.space.step(
            q.astype(np.float32, copy=False), self.curvature, self.problems.sets
        )
        direction = direction.astype(q.dtype, copy=False)
        along = along.astype(q.dtype, copy=False)
        for (step, image, change, per), factor in zip(self.history, factors[::-1], strict=True):
            rest = _by(factor - per * _dot(change, along))
            direction += rest * step
            along += rest * image
        return -direction, -along

    def _remember(
        self, step: Array, image: Array, change: Array, unmoved: NDArray[np.bool_]
    ) -> None:
        bent = _dot(change, image)
        small = ~(bent > 1e-12 * _dot(step, image)) | unmoved
        per = np.where(small, 0, 1 / np.where(small, 1, bent)).astype(step.dtype)
        self.history = self.history[-(_MEMORY - 1) :] + [(step, image, change, per)]
        for *_, kept in self.history:
            kept[unmoved] = 0  # what was learned led nowhere

    def _leave_behind(self) -> None:
        if self.live.mean() > _SPARSE:
            return
        kept = np.flatnonzero(self.live)
        self.problems = self.problems.take(kept)
        for name in ("ids", "live", "due", "stalls", "looked", "at", "image", "gradient", "scores",
                     "residuals", "value", "losses", "curvature"):  # fmt: skip
            setattr(self, name, getattr(self, name)[kept])
        self.history = [tuple(part[kept] for part in parts) for parts in self.history]
