"""Many L2-regularised logistic problems at once, each to a certified duality gap.

Minimised is ½‖w‖² + Σᵢ sᵢ ℓ(yᵢ, xᵢ·w + b), with sᵢ the row's weight times C and b free, over w in a
`Space`: the span of the rows (kernel form) or all of it (primal form). All problems take each step
of a limited-memory quasi-Newton descent (L-BFGS; Nocedal & Wright 2006, section 7.2) together, so
that a step is one matrix product for all of them, and the metric of the steps is the inverse of
I + c XᵀX, of which the Hessian differs by the spread of the logistic weights alone.

Any dual point α bounds the distance to the optimum: the gap is ½‖w − Σ αᵢxᵢ‖² plus what the loss and
its conjugate lose at α. Of the residuals the loss loses nothing, but far weights do; of coordinates
of rows the weights lose nothing, but the loss does where it is flat. Where the space has such
coordinates, a point between the two is tried, row by row, which is soon about as near as the
optimum is.

Arrays are [problem, score, …]: a problem has one score a row (one class against the rest) or one
for each class (multinomial).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from vsp.probes.solver.losses import bends

Array = NDArray[np.floating]
Which = NDArray[np.intp] | NDArray[np.bool_] | slice

_MEMORY = 10  # steps that are remembered
_PAUSE = 4  # steps between two looks at the gaps
_LOOK = 5  # steps between two looks at the curvature
_LIKE = 3.0  # factor by which it may be off before the metric is changed …
_ALIKE = 10.0  # … of problems so few that another metric costs more than it saves
_LEAST = 1e-7  # of a weight: the smallest curvature that a metric is made for
_MANY = 16
_FRESH = 12  # steps near the optimum after which sums that rounding has bent are computed anew
_TRIES = 20  # of a step's length
_FLOOR = 2e-7  # relative gap below which float32 is not asked to go
_NEAR = 10_000  # tolerances
_ROUGH = 0.02  # curvature of a problem that float32 just sees: then gaps are checked in float64
_SPARSE = 0.75  # of the problems still going on, below which the others are left behind
_GROWN = 1.001  # times its value at the last look, where a problem must have descended
_STALLS = 3  # looks in a row without any step between them, then a problem is given up
_STRETCH = 10**0.25  # of a start, as often as it is downhill


class Space(Protocol):
    """Where the weights of a problem live: coordinates [width], the last of them the intercept."""

    width: int
    n_rows: int
    soon: float  # tolerances from the optimum, before a step, after which a look is worth it

    @property
    def typical(self) -> float:
        """‖x‖² of a row."""

    def image(self, coordinates: Array) -> Array:
        """Their product with the Gram matrix of the coordinates (`a·image(a)` is ‖w‖² + b²)."""

    def values(self, coordinates: Array, image: Array) -> Array:
        """The scores [problem, score, row]."""

    def pulled(self, residuals: Array) -> Array:
        """The coordinates of Σᵢ rᵢ xᵢ; the last, that of the intercept, is Σᵢ rᵢ."""

    def foreseen(self, constant: Array, here: Array) -> Array:
        """What the curvature [problem] is like at the optimum: from that of constant scores, and
        of the first scores there are."""

    def step(
        self, gradient: Array, curvature: Array, sets: NDArray[np.intp]
    ) -> tuple[Array, Array]:
        """About (I + c XᵀX)⁻¹ of the gradient for each problem's c and training set; its image."""

    def dual(
        self, coordinates: Array, gradient: Array, residuals: Array, bent: Array
    ) -> Array | None:
        """α [problem, score, row] with Σᵢ αᵢ = 0 near both coordinates and residuals, if it can.

        `bent` [problem, 1, row]: how much the loss is.
        """

    def far(self, coordinates: Array, dual: Array) -> Array:
        """‖w − Σ αᵢ xᵢ‖² [problem]."""

    def exact(self, coordinates: Array) -> tuple[Array, Array, Array]:
        """In float64 and from the rows themselves: scores, ‖w‖², and the image."""

    def away(self, coordinates: Array, dual: Array) -> Array:
        """In float64 and from the rows themselves: ‖w − Σ αᵢ xᵢ‖² [problem]."""


class Loss(Protocol):
    """A convex loss of the scores of a row."""

    def start(self, target: Array, weight: Array) -> Array:
        """Intercepts [problem, score] of the best constant scores."""

    def losses(self, scores: Array, target: Array, weight: Array) -> NDArray[np.float64]:
        """The loss [problem]."""

    def residuals(self, scores: Array, target: Array, weight: Array) -> Array:
        """Minus the gradient by the scores, of the shape of `scores`."""

    def curvature(self, residuals: Array, target: Array, weight: Array) -> NDArray[np.float64]:
        """The mean second derivative by a score [problem]."""

    def settled(self, scores: Array, target: Array, weight: Array) -> Array:
        """Shifts [problem, score] of the intercepts after which residuals sum to nothing."""

    def divergence(self, dual: Array, residuals: Array, target: Array, weight: Array) -> Array:
        """At most what loss and conjugate lose at a dual point [problem]; inf where it is none."""


@dataclass(slots=True)
class Problems:
    """Problems of one space that are solved together; `sets` tells each one's training rows."""

    target: Array  # [problem, score, row]
    weight: Array  # [problem, 1, row]: C times the weight of the row; 0: not a training row
    sets: NDArray[np.intp]  # [problem], an index of the space's training sets

    def __len__(self) -> int:
        return len(self.target)

    def take(self, which: Which) -> Problems:
        return Problems(self.target[which], self.weight[which], self.sets[which])

    @classmethod
    def joined(cls, some: Sequence[Problems]) -> Self:
        return cls(*(np.concatenate([getattr(one, f.name) for one in some]) for f in fields(cls)))


@dataclass(slots=True)
class Solved:
    """Where each problem ended."""

    coordinates: Array  # [problem, score, width]
    scores: Array  # [problem, score, row]
    gap: NDArray[np.float64]  # [problem] certified: primal minus dual value, over the primal value
    n_steps: NDArray[np.int32]  # [problem]

    @classmethod
    def joined(cls, some: Sequence[Solved]) -> Self:
        return cls(*(np.concatenate([getattr(one, f.name) for one in some]) for f in fields(cls)))

    def take(self, which: Which) -> Solved:
        return Solved(
            self.coordinates[which], self.scores[which], self.gap[which], self.n_steps[which]
        )

    def put(self, where: Which, other: Solved) -> None:
        self.coordinates[where] = other.coordinates
        self.scores[where] = other.scores
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

    Most of the way is gone in float32; what needs a smaller gap than float32 can certify goes on in
    float64. A gap above the tolerance says that the steps ran out.
    """
    cold = start is None
    if start is None:
        start = np.zeros((*problems.target.shape[:2], space.width), np.float32)
        start[..., -1] = loss.start(problems.target, problems.weight)
    begin = start.astype(np.float32)
    coarse = _Descent(space, loss, problems, begin, max(0.7 * tolerance, _FLOOR))
    solved = coarse.run(-(-max_steps // 2), cold)  # rounding may keep it from ever getting there
    solved.gap = np.maximum(solved.gap, np.finfo(np.float32).eps)  # float32 sees no smaller one
    solved = _gone_on(space, loss, problems, solved, tolerance, max_steps)
    # What is left rounding has spoilt; where states are that large, gaps may be wrong too.
    rough = np.finfo(np.float32).eps * problems.weight.max((1, 2)) * space.typical
    solved.gap[rough > _ROUGH] = np.inf
    return _gone_on(space, loss, problems, solved, tolerance, max_steps, exact=True)


def certified(
    space: Space,
    loss: Loss,
    problems: Problems,
    solved: Solved,
    tolerance: float,
    max_steps: int,
) -> Solved:
    """With gaps seen from the rows themselves, in float64; gone on where they are not small."""
    solved = solved.take(slice(None))
    solved.gap = np.full(len(problems), np.inf)
    return _gone_on(space, loss, problems, solved, tolerance, max_steps, exact=True)


def _gone_on(
    space: Space,
    loss: Loss,
    problems: Problems,
    solved: Solved,
    tolerance: float,
    max_steps: int,
    exact: bool = False,
) -> Solved:
    """What has no gap within the tolerance yet is taken up in float64."""
    rest = np.flatnonzero(~(solved.gap <= tolerance))
    if not len(rest):
        return solved
    left = max_steps - int(solved.n_steps[rest].min())
    if left <= 0 and np.isfinite(solved.gap[rest]).all():
        return solved
    begin = solved.coordinates[rest].astype(np.float64)
    fine = _Descent(space, loss, problems.take(rest), begin, tolerance, exact).run(max(0, left))
    better = fine.gap <= solved.gap[rest]
    whole = Solved(solved.coordinates.astype(np.float64), solved.scores, solved.gap, solved.n_steps)
    whole.put(rest[better], fine.take(better))
    whole.n_steps[rest[~better]] += fine.n_steps[~better]
    return whole


def _dot(one: Array, other: Array) -> Array:
    """Inner products [problem] of arrays [problem, score, …]."""
    shape = (len(one), -1)
    products: Array = np.vecdot(one.reshape(shape), other.reshape(shape))
    return products


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
        self.ids = np.arange(n)
        self.live = np.ones(n, dtype=bool)
        self.due = np.full(n, space.soon * tolerance)  # distances at which a look is worth it
        self.stalls = np.zeros(n, dtype=np.intp)
        self.at, self.image = start, np.empty_like(start)
        self.gradient = np.empty_like(start)
        self.scores = np.empty(problems.target.shape, start.dtype)
        self.residuals = np.empty_like(self.scores)
        self.value: Array = np.full(n, np.inf)  # at the last look
        self.curvature: Array = np.empty(n)
        self.history = _History(start)
        self.solved = Solved(
            start.copy(), np.empty(self.scores.shape, np.float32), np.full(n, np.inf),
            np.zeros(n, np.int32),
        )  # fmt: skip

    def run(self, max_steps: int, cold: bool = False) -> Solved:
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # see _measured
            self._run(max_steps, cold)
        return self.solved

    def _run(self, max_steps: int, cold: bool) -> None:
        self._begin(cold)
        for n_steps in range(1, max_steps + 1):
            self._leave_behind()
            if not len(self.ids):
                break
            if n_steps % _LOOK == 0:
                self._see_curvature()
            distance, moved = self._step()
            self.stalls = np.where(moved, 0, self.stalls + 1)
            # A metric of shorter steps for what is stuck far from its optimum.
            self.curvature[~moved & (np.abs(distance) > _NEAR * self.tolerance)] *= _ALIKE
            which = self._worth_a_look(distance, moved, n_steps, max_steps)
            anew = n_steps % _FRESH == 0 or n_steps == max_steps or not moved[which].all()
            self._look(which, distance, n_steps, anew)

    def _worth_a_look(
        self, distance: Array, moved: NDArray[np.bool_], n_steps: int, max_steps: int
    ) -> NDArray[np.intp]:
        """Which problems. A look at a few costs nearly as much as one at many: they wait."""
        worth = distance <= self.due
        if n_steps % _PAUSE and not worth[self.live].all():
            worth[:] = False
        if n_steps % _FRESH == 0:
            worth |= distance <= _NEAR * self.tolerance
        worth |= ~moved | self.exact | (n_steps == max_steps)
        return np.flatnonzero(self.live & worth)

    def _begin(self, cold: bool) -> None:
        everything = np.arange(len(self.ids))
        if self.exact:
            self._look(everything, np.full(len(everything), np.inf), 0, anew=True)
        elif cold or self.at.dtype == np.float64:
            self._anew(slice(None))
        else:
            self._anew(slice(None), self._stretch())
        here = self._curvature()
        target, weight = self.problems.target, self.problems.weight
        constant = np.zeros_like(self.scores)
        constant += self.loss.start(target, weight)[..., None]
        residuals = self.loss.residuals(constant, target, weight)
        self.curvature = self.space.foreseen(self.loss.curvature(residuals, target, weight), here)

    def _stretch(self) -> Array:
        """Start further out where that is downhill: weights grow with C. Returns the image there."""
        target, weight = self.problems.target, self.problems.weight
        image = self.space.image(self.at)
        ends = _by(np.ones(len(self.at), self.at.dtype)) * self.at[..., -1:]
        along = self.space.values(self.at, image) - ends
        norm = _weights(self.at, image)
        factor = np.ones(len(self.at), self.at.dtype)
        for _ in range(8):
            further = factor * np.float32(_STRETCH)
            residuals = self.loss.residuals(_by(further) * along + ends, target, weight)
            downhill = further * norm < _dot(residuals, along)
            if not downhill.any():
                break
            factor = np.where(downhill, further, factor)
        self.at[..., :-1] *= _by(factor)
        image[..., :-1] *= _by(factor)
        return image

    def _look(self, which: NDArray[np.intp], distance: Array, n_steps: int, anew: bool) -> None:
        """Certify, and retire what is good enough. `anew`: what was updated step by step."""
        if not len(which):
            return
        some = slice(None) if len(which) == len(self.ids) else which
        gap = self._measured(some, anew or self.exact)
        self._note(which, gap, n_steps)
        self.live[which[self.stalls[which] >= _STALLS]] = False
        if not n_steps:
            return
        # The gap is the distance times a factor that differs from problem to problem.
        expected = 1.5 * self.tolerance * distance[which] / np.maximum(gap, 1e-300)
        self.due[which] = np.minimum(0.7 * distance[which], np.nan_to_num(expected, posinf=np.inf))

    def _measured(self, which: Which, anew: bool) -> NDArray[np.float64]:
        """The relative duality gaps; inf for problems whose value has grown: rounding led them.

        Residuals are a dual point where intercepts settle them, and never outside of the domain.
        """
        before = self.value[which].copy()
        gap = None if anew else self._mixed_gap(which)
        if gap is None:
            self._anew(which)
            gap = self._mixed_gap(which)
            if gap is None:
                gap = self._residual_gap(which)
            elif not (gap <= self.tolerance * self.value[which]).all():
                gap = np.minimum(gap, self._residual_gap(which))
        else:
            self.value[which] = self._value(which)
        lost = ~(self.value[which] <= before * _GROWN)
        self.live[which] &= ~lost  # given up
        return np.where(lost, np.inf, gap / self.value[which]).astype(np.float64)

    def _mixed_gap(self, which: Which) -> Array | None:
        """Gaps [problem], not relative, of a dual point near the coordinates; None: has none."""
        some, at, residuals = self.problems.take(which), self.at[which], self.residuals[which]
        bent = bends(residuals, some.weight).min(1, keepdims=True)
        dual = self.space.dual(at, self.gradient[which], residuals, bent)
        if dual is None:
            return None
        far = self.space.away(at, dual) if self.exact else self.space.far(at, dual)
        return self.loss.divergence(dual, residuals, some.target, some.weight) + 0.5 * far

    def _residual_gap(self, which: Which) -> Array:
        """Gaps [problem], not relative, of residuals that sum to nothing."""
        if self.exact:
            return 0.5 * self.space.away(self.at[which], self.residuals[which])
        gradient = self.gradient[which]
        return 0.5 * np.maximum(_weights(gradient, self.space.image(gradient)), 0)

    def _value(self, which: Which) -> Array:
        some = self.problems.take(which)
        value = self.loss.losses(self.scores[which], some.target, some.weight)
        return value + 0.5 * _weights(self.at[which], self.image[which])

    def _note(self, which: NDArray[np.intp], gap: Array, n_steps: int) -> None:
        ids = self.ids[which]
        better = gap < self.solved.gap[ids]
        self.solved.gap[ids[better]] = gap[better]
        self.solved.coordinates[ids[better]] = self.at[which[better]]
        self.solved.scores[ids[better]] = self.scores[which[better]]
        self.solved.n_steps[ids] = n_steps
        self.live[which[gap <= self.tolerance]] = False

    def _anew(self, which: Which, image: Array | None = None) -> None:
        """Compute anew what was updated step by step, with intercepts that settle the residuals.

        `image`: of the coordinates, where it is known.
        """
        at, some = self.at[which], self.problems.take(which)
        if self.exact:
            scores, norm, image = self.space.exact(at)
        else:
            if image is None:  # in float64, or rounding is multiplied by the spread of the states
                image = self.space.image(at.astype(np.float64)).astype(at.dtype, copy=False)
            scores, norm = self.space.values(at, image), _weights(at, image)
        shift = self.loss.settled(scores, some.target, some.weight)
        if shift.shape[1] > 1:  # of several scores only the differences matter
            shift = shift - (at[..., -1] + shift).mean(1, keepdims=True)
        at[..., -1] += shift
        image[..., -1] += shift
        scores = scores + shift[..., None]
        residuals = self.loss.residuals(scores, some.target, some.weight)
        value = 0.5 * norm.astype(float)
        value += self.loss.losses(scores, some.target, some.weight)
        self.at[which], self.image[which], self.scores[which] = at, image, scores
        self.residuals[which], self.gradient[which] = residuals, self._gradient(at, residuals)
        self.value[which] = np.where(value > 0, value, np.nan)  # no sum of squares by rounding

    def _gradient(self, at: Array, residuals: Array) -> Array:
        gradient = -self.space.pulled(residuals)
        gradient[..., :-1] += at[..., :-1]
        return gradient

    def _see_curvature(self) -> None:
        """Where it is no longer what the metric is for; few problems are not worth another one."""
        curvature = self._curvature()
        within = np.log(_LIKE if len(curvature) >= _MANY else _ALIKE)
        off = np.abs(np.log(curvature / self.curvature)) > within
        self.curvature = np.where(off, curvature, self.curvature)

    def _curvature(self) -> Array:
        target, weight = self.problems.target, self.problems.weight
        least = _LEAST * weight.max((1, 2))
        return np.asarray(np.maximum(self.loss.curvature(self.residuals, target, weight), least))

    def _step(self) -> tuple[Array, NDArray[np.bool_]]:
        """Take one. Returns how far from the optimum each problem was, estimated, and who moved."""
        direction, image = self.history.direction(self.gradient, self._steepest)
        if self.exact:
            along, _, image = self.space.exact(direction)
        else:
            along = self.space.values(direction, image)
        slope = _dot(self.gradient, image)
        t, scores, residuals = self._length(direction, image, slope, along)
        direction *= _by(t)
        image *= _by(t)
        self.at += direction
        self.image += image
        gradient = self._gradient(self.at, residuals)
        self.history.add(direction, image, gradient - self.gradient)
        self.gradient, self.scores, self.residuals = gradient, scores, residuals
        return -slope.astype(float) / 2 / self.value, t > 0

    def _length(
        self, direction: Array, image: Array, slope: Array, along: Array
    ) -> tuple[Array, Array, Array]:
        """How far to go [problem]; scores and residuals there.

        The slope there may be uphill by a part of what it is downhill here; a part so small that the
        value has fallen for certain. Along a line the curvature of the logistic loss changes at
        most by exp of the change of a score (Bach 2010, Self-concordant analysis for logistic
        regression). Slopes are precise where values have long been blurred by rounding.
        """
        mixed, far = _weights(direction, self.image), _weights(direction, image)
        reach = np.abs(along).max((1, 2)) * (1 if along.shape[1] == 1 else 2)
        target, weight = self.problems.target, self.problems.weight
        t = np.where(slope < 0, 1, 0).astype(self.at.dtype)
        for _ in range(_TRIES):
            scores = along * _by(t)
            scores += self.scores
            residuals = self.loss.residuals(scores, target, weight)
            there = mixed + t * far - _dot(residuals, along)
            bad = ~(there <= 0.5 * np.exp(-0.5 * reach * t) * -slope) & (t > 0)
            if not (bad & self.live).any():
                break
            shorter = np.clip(-slope / np.where(bad, there - slope, 1), 0.1, 0.5)
            t = np.where(bad, t * shorter, t)
        if bad.any():
            t[bad] = 0
            scores[bad] = self.scores[bad]
            residuals[bad] = self.residuals[bad]
        return t, scores, residuals

    def _steepest(self, gradient: Array) -> tuple[Array, Array]:
        direction, image = self.space.step(
            gradient.astype(np.float32, copy=False), self.curvature, self.problems.sets
        )
        dtype = gradient.dtype
        return direction.astype(dtype, copy=False), image.astype(dtype, copy=False)

    def _leave_behind(self) -> None:
        if self.live.mean() > _SPARSE:
            return
        kept = np.flatnonzero(self.live)
        self.problems = self.problems.take(kept)
        for name in ("ids", "live", "due", "stalls", "at", "image", "gradient", "scores",
                     "residuals", "value", "curvature"):  # fmt: skip
            setattr(self, name, getattr(self, name)[kept])
        self.history.keep(kept)


class _History:
    """The last steps of each problem, and what they teach about the curvature.

    Inner products of what is remembered are kept too, so that the two loops of L-BFGS take few
    passes over it (as in Chen, Wang & Zhou 2014, Large-scale L-BFGS using MapReduce).
    """

    def __init__(self, like: Array) -> None:
        self.shape = like.shape  # [problem, score, width]
        n, size = len(like), like[0].size if len(like) else 0
        self.steps, self.images, self.changes = (
            np.zeros((n, _MEMORY, size), like.dtype) for _ in range(3)
        )
        self.products = np.zeros((n, _MEMORY, _MEMORY), like.dtype)  # image i times change j
        self.per = np.zeros((n, _MEMORY), like.dtype)  # 1 / (step times change); 0: forgotten
        self.slots: list[int] = []  # oldest first

    def direction(
        self, gradient: Array, metric: Callable[[Array], tuple[Array, Array]]
    ) -> tuple[Array, Array]:
        """Minus the approximate inverse Hessian times the gradient, and its image."""
        if not self.slots:
            direction, image = metric(gradient)
            return -direction, -image
        n, last = len(gradient), len(self.slots)
        flat = gradient.reshape(n, -1, 1)
        known = np.matmul(self.images[:, :last], flat)[..., 0]
        factors = np.zeros_like(known)
        for i in reversed(self.slots):
            lack = known[:, i] - _dot(factors, self.products[:, i, :last])
            factors[:, i] = self.per[:, i] * lack
        rest = flat[..., 0] - np.matmul(factors[:, None], self.changes[:, :last])[:, 0]
        direction, image = metric(rest.reshape(gradient.shape))
        known = np.matmul(self.changes[:, :last], image.reshape(n, -1, 1))[..., 0]
        back = np.zeros_like(known)
        for i in self.slots:
            lack = known[:, i] + _dot(back, self.products[:, :last, i])
            back[:, i] = factors[:, i] - self.per[:, i] * lack
        back = -back[:, None]
        direction, image = -direction, -image
        direction += np.matmul(back, self.steps[:, :last]).reshape(gradient.shape)
        image += np.matmul(back, self.images[:, :last]).reshape(gradient.shape)
        return direction, image

    def add(self, step: Array, image: Array, change: Array) -> None:
        slot = len(self.slots) if len(self.slots) < _MEMORY else self.slots.pop(0)
        self.slots.append(slot)
        n, last = len(step), len(self.slots)
        for kept, new in ((self.steps, step), (self.images, image), (self.changes, change)):
            kept[:, slot] = new.reshape(n, -1)
        self.products[:, slot, :last] = np.matmul(
            self.changes[:, :last], self.images[:, slot, :, None]
        )[..., 0]
        self.products[:, :last, slot] = np.matmul(
            self.images[:, :last], self.changes[:, slot, :, None]
        )[..., 0]
        bent = self.products[:, slot, slot]
        length = np.vecdot(self.steps[:, slot], self.images[:, slot])
        small = ~(bent > 1e-12 * length)
        self.per[:, slot] = np.where(small, 0, 1 / np.where(small, 1, bent))
        self.per[length == 0] = 0  # what was learned led nowhere

    def keep(self, which: NDArray[np.intp]) -> None:
        self.shape = (len(which), *self.shape[1:])
        for name in ("steps", "images", "changes", "products", "per"):
            setattr(self, name, getattr(self, name)[which])
