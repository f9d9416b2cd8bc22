"""L2-regularised logistic regression, exact to a certified duality gap, for many tasks at once.

A problem is ½‖w‖² + C Σᵢ log(1 + exp(−yᵢ(xᵢ·w + b))) for each class against the rest, as in
scikit-learn's `OneVsRestClassifier(LogisticRegression(C))`, or the multinomial loss of all classes
together, as in scikit-learn's `LogisticRegression(C)`. The intercept is not penalised, so centring
changes only the speed, and tasks on any rows share the products of all rows. Standardisation is
learned from the training rows of a task, so only tasks with the same training rows share products.
`docs/solver.md` describes the solver.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning

from vsp.errors import ProbeError
from vsp.probes.base import LabelProbe, Task, TaskFit
from vsp.probes.linear_probe import LinearProbe
from vsp.probes.logistic_tasks import (
    PreparedStates,
    TaskClasses,
    TaskSpace,
    batches,
    split_solutions,
)
from vsp.probes.solver.lbfgs import certify, solve
from vsp.probes.solver.losses import OneVsRest, Softmax
from vsp.probes.solver.problems import Loss, Problems, Solutions
from vsp.probes.treatment import Array, Treatment

if TYPE_CHECKING:
    from typing import Self


class Logistic(LinearProbe, LabelProbe):
    """One class against the rest.

    `weighting` "balanced" gives both sides of each problem the same weight in all, as in
    scikit-learn; "none" gives each row the same. `tol` is the relative duality gap: for `fit`
    certified in float64 from the states themselves, for tasks from their products. After `fit`, gap_ and n_iter_ [problem] hold the gaps and steps.
    """

    strength_name = "C"
    default_grid = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
    code_grid = (1e-5, 3e-4, 1e-2, 0.3)  # small training sets need smaller C
    grid_squared_norm = 1e5
    link = "sigmoid"
    multinomial: ClassVar[bool] = False

    gap_: NDArray[np.float64]
    n_iter_: NDArray[np.int32]

    def __init__(
        self,
        C: float = 1.0,
        treatment: str = "center",
        tol: float = 1e-6,
        max_iter: int = 1000,
        weighting: str = "none",
    ) -> None:
        self.C = C
        self.treatment = treatment
        self.tol = tol
        self.max_iter = max_iter
        self.weighting = weighting

    def fit(self, states: Array, y: NDArray[Any]) -> Self:
        """Fit on `states` [sample, hidden] and labels `y` [sample].

        Raises ProbeError if there is one class only or a value is not finite. Warns if the
        tolerance is not reached.
        """
        states = self.check_states(states, reset=True)
        codes = self.check_labels(y, len(states))
        task = Task(codes, np.ones(len(states), dtype=bool), (float(self.C),), keep=True)
        (fit,) = self.fit_tasks(states, [task])
        arrays = fit.probes[0]
        self.treatment_ = Treatment(self.treatment, arrays["mean"], arrays["scale"])
        self.coef_, self.intercept_ = arrays["coef"], arrays["intercept"]
        self.gap_, self.n_iter_ = fit.gap[0].astype(float), fit.iterations[0]
        if not (self.gap_ <= self.tol).all():
            warnings.warn(
                f"a gap of {np.max(self.gap_):.1g} after {self.n_iter_.max()} steps; "
                f"raise max_iter {self.max_iter} or tol {self.tol:g}",
                ConvergenceWarning,
                stacklevel=2,
            )
        return self

    def prepare(self, states: Array, train: NDArray[np.bool_]) -> PreparedStates:
        """The products of the rows that are in some of `train` [set, row], computed when needed."""
        return PreparedStates(states, train, self.treatment)

    def fit_prepared(self, prepared: PreparedStates, tasks: Sequence[Task]) -> Iterator[TaskFit]:
        """Fit every task on the prepared states; fits are in the order of `tasks`.

        Raises ProbeError if the training rows of a task have one class only, or C is not above 0.
        """
        _check_strengths([self.C, *(one for task in tasks for one in task.strengths)])
        for space, same_space in prepared.spaces(tasks):
            labels = [TaskClasses.of(task) for task in same_space]
            for batch in batches(labels, self.multinomial, len(space.rows)):
                yield from self._fit_batch(space, batch)

    def _fit_batch(self, space: TaskSpace, batch: Sequence[TaskClasses]) -> Iterator[TaskFit]:
        """Solve all problems of some tasks, each warm-started from its next smaller strength."""
        grids = [one.task.strengths or (float(self.C),) for one in batch]
        solutions: list[list[Solutions]] = [[] for _ in batch]  # [task][strength]
        for strength in sorted({one for grid in grids for one in grid}):
            which = [i for i, grid in enumerate(grids) if strength in grid]
            problems = [self._problems(space, batch[i], strength) for i in which]
            starts = [solutions[i][-1].coordinates for i in which if solutions[i]]
            solved = solve(
                space.space,
                self._loss(),
                Problems.concatenate(problems),
                self.tol,
                self.max_iter,
                np.concatenate(starts) if len(starts) == len(which) else None,
            )
            for i, one in zip(which, split_solutions(solved, problems), strict=True):
                solutions[i].append(one)
        self._certify_kept(space, batch, grids, solutions)
        for labels, grid, of_task in zip(batch, grids, solutions, strict=True):
            yield space.task_fit(labels, grid, of_task)

    def _problems(self, space: TaskSpace, labels: TaskClasses, strength: float) -> Problems:
        balanced = self.weighting == "balanced"
        return space.problems(labels, strength, self.multinomial, balanced)

    def n_problems(self, n_classes: int) -> int:
        return 1 if self.multinomial or n_classes <= 2 else n_classes

    def _loss(self) -> Loss:
        return Softmax() if self.multinomial else OneVsRest()

    def _certify_kept(
        self,
        space: TaskSpace,
        batch: Sequence[TaskClasses],
        grids: Sequence[Sequence[float]],
        solutions: Sequence[list[Solutions]],
    ) -> None:
        """Replace the solutions that are kept by ones certified from the states themselves."""
        kept = [
            (i, j) for i, one in enumerate(batch) if one.task.keep for j in range(len(grids[i]))
        ]
        if not kept:
            return
        problems = [self._problems(space, batch[i], grids[i][j]) for i, j in kept]
        certified = certify(
            space.space,
            self._loss(),
            Problems.concatenate(problems),
            Solutions.concatenate([solutions[i][j] for i, j in kept]),
            self.tol,
            self.max_iter,
        )
        for (i, j), one in zip(kept, split_solutions(certified, problems), strict=True):
            solutions[i][j] = one


class Multinomial(Logistic):
    """All classes together. Each of two classes has weights: scikit-learn's binary fit at 2C."""

    link = "softmax"
    multinomial = True


def _check_strengths(strengths: Sequence[float]) -> None:
    for one in strengths:
        if not 0 < one < np.inf:
            raise ProbeError(f"C = {one:g}; use a number above 0")
