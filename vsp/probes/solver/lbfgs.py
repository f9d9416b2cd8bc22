"""L-BFGS for many L2-regularised logistic problems at once, with a certified duality gap.

Each problem minimises ½‖w‖² + Σᵢ sᵢ ℓ(yᵢ, xᵢ·w + b), where sᵢ is C times the weight of the row and
the intercept b is not penalised. All problems take each step of limited-memory BFGS (Liu & Nocedal
1989; Nocedal & Wright 2006, section 7.2) together, so a step is one matrix product for all of them.
The preconditioner is about (I + cXᵀX)⁻¹, with c the mean curvature of the loss.

`docs/solver.md` derives the formulas.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vsp.probes.solver.curvature_pairs import CurvaturePairs, dot
from vsp.probes.solver.duality_gap import relative_gaps
from vsp.probes.solver.iterates import Iterates, per_problem
from vsp.probes.solver.kernel_metric import WideMetric
from vsp.probes.solver.line_search import search_step_size
from vsp.probes.solver.losses import curvatures
from vsp.probes.solver.problems import Loss, Problems, Solutions, Space
from vsp.probes.treatment import Array

_CHECK_EVERY = 4  # steps between gap checks
_RECOMPUTE_EVERY = 12  # steps between recomputations of problems near the optimum
_CURVATURE_EVERY = 5  # steps between updates of the metric
_WIDE_METRIC_AT = frozenset(5 * 2**k for k in range(20))  # steps that update the wide metric
_CURVATURE_FACTOR = 3.0  # the metric changes if the curvature has changed by more than this
_CURVATURE_FACTOR_FEW = 10.0  # for few problems, because a new metric costs more than it saves
_FEW = 16  # problems
_NEAR = 10_000  # tolerances: a smaller estimated distance is near the optimum
_ACTIVE_SHARE = 0.75  # finished problems are dropped once fewer than this share are active
_MOST_STALLS = 3  # a problem ends after this many steps of size 0 in a row
_FLOAT32_GAP = 2e-7  # smallest relative gap that float32 runs to
_FLOAT32_SHARE = 0.7  # float32 runs to this share of the tolerance, so that float64 confirms it
_COARSE = 0.02  # float64 checks the gaps if float32 rounds curvatures by more than this


def solve(
    space: Space,
    loss: Loss,
    problems: Problems,
    tolerance: float,
    max_steps: int,
    start: Array | None = None,
) -> Solutions:
    """Minimise every problem until its relative duality gap is at most `tolerance`.

    Most steps run in float32; problems that need a smaller gap than float32 can certify continue
    in float64. A gap above the tolerance means that `max_steps` were not enough. `start` [problem,
    score, coordinate] is a warm start, for instance the solution at a smaller C.
    """
    cold = start is None
    if start is None:
        start = np.zeros((*problems.target.shape[:2], space.n_coordinates), np.float32)
        start[..., -1] = loss.best_intercepts(problems.target, problems.weight)
    float32_tolerance = max(_FLOAT32_SHARE * tolerance, _FLOAT32_GAP)
    coarse = _Minimizer(space, loss, problems, start.astype(np.float32), float32_tolerance)
    # Rounding may keep float32 from reaching the tolerance: leave half of the steps.
    solutions = coarse.run(-(-max_steps // 2), cold)
    solutions.gap = np.maximum(solutions.gap, np.finfo(np.float32).eps)
    solutions = _refine(space, loss, problems, solutions, tolerance, max_steps)
    # The rest is limited by float32; recheck in float64. For large states the gaps may be wrong.
    largest_weight = problems.weight.max((1, 2))
    rounding = np.finfo(np.float32).eps * largest_weight * space.mean_squared_norm
    solutions.gap[rounding > _COARSE] = np.inf
    return _refine(space, loss, problems, solutions, tolerance, max_steps, exact=True)


def certify(
    space: Space,
    loss: Loss,
    problems: Problems,
    solutions: Solutions,
    tolerance: float,
    max_steps: int,
) -> Solutions:
    """Compute the gaps in float64 from the states themselves; continue where they are too large."""
    solutions = solutions.take(slice(None))
    solutions.gap = np.full(len(problems), np.inf)
    return _refine(space, loss, problems, solutions, tolerance, max_steps, exact=True)


def _refine(
    space: Space,
    loss: Loss,
    problems: Problems,
    solutions: Solutions,
    tolerance: float,
    max_steps: int,
    exact: bool = False,
) -> Solutions:
    """Continue in float64 with the problems whose gap is above the tolerance."""
    open_problems = np.flatnonzero(~(solutions.gap <= tolerance))
    if not len(open_problems):
        return solutions
    steps_left = max_steps - int(solutions.n_steps[open_problems].min())
    if steps_left <= 0 and np.isfinite(solutions.gap[open_problems]).all():
        return solutions
    start = solutions.coordinates[open_problems].astype(np.float64)
    minimizer = _Minimizer(space, loss, problems.take(open_problems), start, tolerance, exact)
    refined = minimizer.run(max(0, steps_left))
    better = refined.gap <= solutions.gap[open_problems]
    merged = Solutions(
        solutions.coordinates.astype(np.float64), solutions.scores, solutions.gap,
        solutions.n_steps,
    )  # fmt: skip
    merged.replace(open_problems[better], refined.take(better))
    merged.n_steps[open_problems[~better]] += refined.n_steps[~better]
    return merged


class _Minimizer:
    """All problems side by side, in the dtype of `start`.

    A finished problem takes part in the steps until enough are finished; then they are dropped.
    """

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
        self.space, self.tolerance, self.exact = space, tolerance, exact
        self.iterates = Iterates(space, loss, problems, start, exact)
        self.pairs = CurvaturePairs(start)
        self.metric_curvature: Array = np.empty(n)
        self.wide_metric: WideMetric | None = None
        self.ids = np.arange(n)
        self.active = np.ones(n, dtype=bool)
        self.check_below = np.full(n, space.check_gap_within * tolerance)  # estimated distance
        self.stalls = np.zeros(n, dtype=np.intp)
        self.best = Solutions(
            start.copy(), np.empty(problems.target.shape, np.float32), np.full(n, np.inf),
            np.zeros(n, np.int32),
        )  # fmt: skip

    def run(self, max_steps: int, cold: bool = False) -> Solutions:
        """Take steps until every problem has ended; return the points with the smallest gaps.

        `cold`: the start has no weights yet.
        """
        # Points that overflow get an infinite gap.
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            self._begin(cold)
            for n_steps in range(1, max_steps + 1):
                self._drop_finished()
                if not len(self.ids):
                    break
                self._step(n_steps, max_steps)
        return self.best

    def _begin(self, cold: bool) -> None:
        n = len(self.ids)
        if self.exact:
            self._check_gaps(np.arange(n), np.full(n, np.inf), n_steps=0, recompute=True)
        elif cold or self.iterates.point.dtype == np.float64:
            self.iterates.recompute(slice(None))
        else:
            self.iterates.recompute(slice(None), self.iterates.stretch())
        self.metric_curvature = self.space.expected_curvature(
            self.iterates.curvature_at_constant(), self.iterates.mean_curvature()
        )
        self._update_wide_metric()

    def _step(self, n_steps: int, max_steps: int) -> None:
        if n_steps % _CURVATURE_EVERY == 0:
            self._update_metric()
        if n_steps in _WIDE_METRIC_AT:
            self._update_wide_metric()
        distance, moved = self._move()
        self.stalls = np.where(moved, 0, self.stalls + 1)
        # A problem that is stuck far from its optimum needs a metric of shorter steps.
        stuck = ~moved & (np.abs(distance) > _NEAR * self.tolerance)
        self.metric_curvature[stuck] *= _CURVATURE_FACTOR_FEW
        which = self._due_for_check(distance, moved, n_steps, max_steps)
        last = n_steps == max_steps
        recompute = n_steps % _RECOMPUTE_EVERY == 0 or last or not moved[which].all()
        self._check_gaps(which, distance, n_steps, recompute)

    def _move(self) -> tuple[Array, NDArray[np.bool_]]:
        """Take one step. Returns the estimated distances to the optimum and which problems moved.

        The distance [problem] is relative to the objective.
        """
        iterates = self.iterates
        direction, image = self.pairs.direction(iterates.gradient, self._precondition)
        if self.exact:
            along, _, image = self.space.evaluate_exactly(direction)
        else:
            along = self.space.scores(direction, image)
        slope = dot(iterates.gradient, image)
        size, scores, residuals = search_step_size(
            iterates, direction, image, slope, along, self.active
        )
        direction *= per_problem(size)
        image *= per_problem(size)
        iterates.point += direction
        iterates.image += image
        gradient = iterates.gradient_at(iterates.point, residuals)
        self.pairs.add(direction, image, gradient - iterates.gradient)
        iterates.gradient, iterates.scores, iterates.residuals = gradient, scores, residuals
        return -slope.astype(float) / 2 / iterates.objective, size > 0

    def _precondition(self, gradient: Array) -> tuple[Array, Array]:
        direction, image = self.space.precondition(
            gradient.astype(np.float32, copy=False),
            self.metric_curvature,
            self.iterates.problems.sets,
            self.wide_metric,
        )
        dtype = gradient.dtype
        return direction.astype(dtype, copy=False), image.astype(dtype, copy=False)

    def _update_metric(self) -> None:
        """Update the metric of problems whose curvature has moved away from it."""
        curvature = self.iterates.mean_curvature()
        factor = _CURVATURE_FACTOR if len(curvature) >= _FEW else _CURVATURE_FACTOR_FEW
        changed = np.abs(np.log(curvature / self.metric_curvature)) > np.log(factor)
        self.metric_curvature = np.where(changed, curvature, self.metric_curvature)

    def _update_wide_metric(self) -> None:
        iterates = self.iterates
        self.wide_metric = self.space.wide_metric(
            curvatures(iterates.residuals, iterates.problems.weight),
            self.metric_curvature,
            iterates.problems.sets,
        )

    def _due_for_check(
        self, distance: Array, moved: NDArray[np.bool_], n_steps: int, max_steps: int
    ) -> NDArray[np.intp]:
        """Problems whose gap is computed now.

        Gap checks cost nearly the same for few problems as for many, so they are batched.
        """
        due = distance <= self.check_below
        if n_steps % _CHECK_EVERY and not due[self.active].all():
            due[:] = False
        if n_steps % _RECOMPUTE_EVERY == 0:
            due |= distance <= _NEAR * self.tolerance
        due |= ~moved | self.exact | (n_steps == max_steps)
        return np.flatnonzero(self.active & due)

    def _check_gaps(
        self, which: NDArray[np.intp], distance: Array, n_steps: int, recompute: bool
    ) -> None:
        """Compute gaps, record the best points, and end problems that are done or cannot move."""
        if not len(which):
            return
        selection = slice(None) if len(which) == len(self.ids) else which
        gap, grown = relative_gaps(
            self.iterates, selection, self.tolerance, recompute or self.exact
        )
        self._record(which, gap, n_steps)
        stalled = self.stalls[which] >= _MOST_STALLS
        self.active[which[grown | stalled | (gap <= self.tolerance)]] = False
        if not n_steps:
            return
        # The ratio of gap and estimated distance differs from problem to problem.
        expected = 1.5 * self.tolerance * distance[which] / np.maximum(gap, 1e-300)
        expected = np.nan_to_num(expected, posinf=np.inf)
        self.check_below[which] = np.minimum(0.7 * distance[which], expected)

    def _record(self, which: NDArray[np.intp], gap: NDArray[np.float64], n_steps: int) -> None:
        """Keep each point whose gap is the smallest so far."""
        ids = self.ids[which]
        better = gap < self.best.gap[ids]
        self.best.gap[ids[better]] = gap[better]
        self.best.coordinates[ids[better]] = self.iterates.point[which[better]]
        self.best.scores[ids[better]] = self.iterates.scores[which[better]]
        self.best.n_steps[ids] = n_steps

    def _drop_finished(self) -> None:
        if self.active.mean() > _ACTIVE_SHARE:
            return
        kept = np.flatnonzero(self.active)
        self.iterates.keep(kept)
        self.pairs.keep(kept)
        for name in ("ids", "active", "check_below", "stalls", "metric_curvature"):
            setattr(self, name, getattr(self, name)[kept])
        if self.wide_metric is not None:
            self.wide_metric = self.wide_metric.take(kept)
