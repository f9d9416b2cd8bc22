"""L2-regularised logistic regression, exact to a certified duality gap, many tasks at once.

A problem is ½‖w‖² + C Σᵢ log(1 + exp(−yᵢ(xᵢ·w + b))) for each class against the rest, scikit-learn's
`OneVsRestClassifier(LogisticRegression(C))`, or the multinomial loss of all classes together,
scikit-learn's `LogisticRegression(C)`. The intercept is free, so that centring changes nothing but
the speed: tasks on any rows share the products of all rows. Standardising is learned from the
training rows of each task and shared by tasks with the same rows alone.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning

from vsp.errors import ProbeError
from vsp.probes.base import LabelProbe, LinearReadout, Task, TaskFit, readable
from vsp.probes.solver.kernel import KernelSpace
from vsp.probes.solver.lbfgs import certify, solve
from vsp.probes.solver.losses import OneVsRest, Softmax
from vsp.probes.solver.primal import PrimalSpace
from vsp.probes.solver.problems import Loss, Problems, Solutions
from vsp.probes.treatment import Array, Treatment, learn

_TOGETHER = 128  # scores of a row that are searched for at once …
_VALUES = 4_000_000  # … if they are no more than this for all rows


class Logistic(LinearReadout, LabelProbe):
    """One class against the rest.

    `tol` is the relative duality gap, certified in float64 from the states themselves for `fit`,
    from their products for tasks. gap_ and n_iter_ [problem] tell what was reached.
    """

    grid = "C"
    default_grid = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
    grid_size = 1e5
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
    ) -> None:
        self.C = C
        self.treatment = treatment
        self.tol = tol
        self.max_iter = max_iter

    def fit(self, states: Array, y: NDArray[Any]) -> Self:
        """Fit on `states` [sample, hidden] and labels `y` [sample].

        Raises ProbeError if there is one class only or a value is not finite.
        """
        states = self._checked(states, reset=True)
        codes = self._coded(y, len(states))
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

    def prepare(self, states: Array, train: NDArray[np.bool_]) -> _Prepared:
        """The products of the rows that are in some of `train` [set, row], once they are needed."""
        return _Prepared(states, train, self.treatment)

    def fit_prepared(self, prepared: _Prepared, tasks: Sequence[Task]) -> Iterator[TaskFit]:
        """Fit every task on what was prepared; what comes of it, in the order of `tasks`.

        Raises ProbeError where a task has one class only.
        """
        _check_strengths([self.C, *(one for task in tasks for one in task.strengths)])
        for ground, same in prepared.grounds(tasks):
            labels = [_Labels.of(task) for task in same]
            for some in _chunks(labels, self.multinomial, len(ground.rows)):
                yield from self._fit_chunk(ground, some)

    def _fit_chunk(self, ground: _Ground, chunk: Sequence[_Labels]) -> Iterator[TaskFit]:
        """All problems of some tasks, strength by strength, each from where the last one ended."""
        paths = [one.task.strengths or (float(self.C),) for one in chunk]
        found: list[list[Solutions]] = [[] for _ in chunk]
        for strength in sorted({one for path in paths for one in path}):
            which = [i for i, path in enumerate(paths) if strength in path]
            problems = [ground.problems(chunk[i], strength, self.multinomial) for i in which]
            starts = [found[i][-1].coordinates for i in which if found[i]]
            start = np.concatenate(starts) if len(starts) == len(which) else None
            solved = solve(
                ground.space,
                self._loss(),
                Problems.concatenate(problems),
                self.tol,
                self.max_iter,
                start,
            )
            for i, one in zip(which, _parts(solved, problems), strict=True):
                found[i].append(one)
        self._certify(ground, chunk, paths, found)
        for labels, path, of_task in zip(chunk, paths, found, strict=True):
            yield ground.fit(labels, path, of_task)

    def _loss(self) -> Loss:
        return Softmax() if self.multinomial else OneVsRest()

    def _certify(
        self,
        ground: _Ground,
        chunk: Sequence[_Labels],
        paths: Sequence[Sequence[float]],
        found: Sequence[list[Solutions]],
    ) -> None:
        """Fits that are kept have their gaps from the states themselves, not their products."""
        kept = [
            (i, j) for i, one in enumerate(chunk) if one.task.keep for j in range(len(paths[i]))
        ]
        if not kept:
            return
        problems = [ground.problems(chunk[i], paths[i][j], self.multinomial) for i, j in kept]
        ends = Solutions.concatenate([found[i][j] for i, j in kept])
        sure = certify(
            ground.space,
            self._loss(),
            Problems.concatenate(problems),
            ends,
            self.tol,
            self.max_iter,
        )
        for (i, j), one in zip(kept, _parts(sure, problems), strict=True):
            found[i][j] = one


class Multinomial(Logistic):
    """All classes together. Of two classes each has weights: scikit-learn's binary fit at 2C."""

    link = "softmax"
    multinomial = True


@dataclass(frozen=True, slots=True)
class _Labels:
    """A task's classes, without those that no training row has."""

    task: Task
    classes: NDArray[np.intp]  # [class] that is there
    codes: NDArray[np.intp]  # [training row]

    @classmethod
    def of(cls, task: Task) -> _Labels:
        classes, codes = np.unique(task.y[task.train], return_inverse=True)
        if len(classes) < 2:
            names = ", ".join(repr(str(one)) for one in classes)
            raise ProbeError(f"one class, {names}, on {len(codes)} rows; a probe needs two")
        return cls(task, classes, codes)

    def n_problems(self, multinomial: bool) -> int:
        return 1 if multinomial or len(self.classes) == 2 else len(self.classes)

    def n_scores(self, multinomial: bool) -> int:
        return len(self.classes) if multinomial or len(self.classes) > 2 else 1

    def targets(self, multinomial: bool) -> NDArray[np.float32]:
        """[problem, score, training row]: 1 and −1, or 1 and 0 for the multinomial loss."""
        member: NDArray[np.bool_] = self.codes == np.arange(len(self.classes))[:, None]
        if multinomial:
            return np.asarray(member[None], dtype=np.float32)
        if len(self.classes) == 2:
            member = member[1:]
        return np.where(member, 1, -1).astype(np.float32)[:, None]


class _Prepared:
    """The grounds of tasks: one for all, or one for each training set that standardises."""

    def __init__(self, states: Array, train: NDArray[np.bool_], treatment: str) -> None:
        self.states, self.train, self.treatment = states, train, treatment
        self._shared: _Ground | None = None

    def grounds(self, tasks: Sequence[Task]) -> Iterator[tuple[_Ground, list[Task]]]:
        if self.treatment == "standardize":  # differs by the rows it is learned from
            for _, same in groupby(tasks, key=lambda task: task.train.tobytes()):
                alike = list(same)
                yield _Ground.of(self.states, alike[0].train[None], self.treatment), alike
        elif tasks:
            if self._shared is None:
                self._shared = _Ground.of(self.states, self.train, self.treatment)
            yield self._shared, list(tasks)


@dataclass(frozen=True, slots=True)
class _Ground:
    """What tasks on the same states share."""

    states: Array  # [row, hidden]
    treatment: Treatment
    rows: NDArray[np.intp]  # that are in some training set
    others: NDArray[np.intp]  # that are in none
    space: KernelSpace | PrimalSpace
    sets: dict[bytes, int]

    @classmethod
    def of(cls, states: Array, train: NDArray[np.bool_], name: str) -> _Ground:
        """Of all training rows of `train` [set, row]."""
        used = train.any(axis=0)
        rows, others = np.flatnonzero(used), np.flatnonzero(~used)
        treatment = learn(name, states, np.where(used, 1.0, 0.0))
        masks = train[:, rows]
        sets = {mask.tobytes(): i for i, mask in enumerate(masks)}
        kind = KernelSpace if len(rows) <= states.shape[1] else PrimalSpace
        # Without a treatment the states are centred too: the intercept takes it back.
        space = kind.of(states, treatment, masks, rows if len(others) else None)
        return cls(states, treatment, rows, others, space, sets)

    def problems(self, labels: _Labels, strength: float, multinomial: bool) -> Problems:
        """The problems of a task at one strength."""
        train = labels.task.train[self.rows]
        of_rows = labels.targets(multinomial)
        target = np.ones((*of_rows.shape[:2], len(train)), np.float32)
        target[..., train] = of_rows
        weight = np.broadcast_to(train * np.float32(strength), (len(target), 1, len(train)))
        return Problems(target, weight, np.full(len(target), self.sets[train.tobytes()]))

    def fit(self, labels: _Labels, path: Sequence[float], solved: Sequence[Solutions]) -> TaskFit:
        """What came of a task, from what solves it at each strength."""
        scores = self._scores(solved)
        every = np.full(
            (len(path), labels.task.n_columns, len(self.states)), -np.inf, dtype=np.float32
        )
        every[:, labels.classes] = scores if scores.shape[1] > 1 else _both(scores)
        probes = tuple(self._probes(labels, path, solved)) if labels.task.keep else ()
        gap = np.stack([one.gap for one in solved]).astype(np.float32)
        return TaskFit(every, gap, np.stack([one.n_steps for one in solved]), probes)

    def _scores(self, solved: Sequence[Solutions]) -> Array:
        """[strength, score, row], all rows."""
        of_rows = np.stack([one.scores.reshape(-1, len(self.rows)) for one in solved])
        if not len(self.others):
            return of_rows
        scores = np.empty((*of_rows.shape[:2], len(self.states)), np.float32)
        scores[..., self.rows] = of_rows
        ends = np.stack([one.coordinates for one in solved])
        weights, intercepts = self.space.weights(
            ends.reshape(*of_rows.shape[:2], -1).astype(np.float32)
        )
        scores[..., self.others] = self.space.score_others(
            self.states, weights, intercepts, self.others
        )
        return scores

    def _probes(
        self, labels: _Labels, path: Sequence[float], solved: Sequence[Solutions]
    ) -> Iterator[dict[str, NDArray[Any]]]:
        ends = np.stack([one.coordinates for one in solved]).astype(np.float64)
        weights, intercepts = self.space.weights(ends.reshape(len(path), -1, ends.shape[-1]))
        intercepts = (intercepts - weights @ self.space.centre)[..., None]
        if weights.shape[1] == 1:
            weights, intercepts = _both(weights), _both(intercepts)
        for strength, coef, intercept in zip(path, weights, intercepts[..., 0], strict=True):
            yield {
                "classes": readable(labels.classes),
                "treatment": np.array(self.treatment.name),
                "mean": self.treatment.mean,
                "scale": self.treatment.scale,
                "coef": coef,
                "intercept": intercept,
                "strength": np.array(strength),
            }


def _both(of_second: Array) -> Array:
    """Of both classes [.., class, row], from what is there of the second."""
    return np.concatenate([-of_second, of_second], axis=1)


def _parts(solved: Solutions, problems: Sequence[Problems]) -> Iterator[Solutions]:
    """What solves each of the problems that were joined."""
    stop = 0
    for one in problems:
        start, stop = stop, stop + len(one)
        yield solved.take(slice(start, stop))


def _chunks(labels: Sequence[_Labels], multinomial: bool, n_rows: int) -> Iterator[list[_Labels]]:
    """Tasks of the same shape that follow each other, as many as are well searched together."""
    most = min(_TOGETHER, _VALUES // n_rows)
    for n_scores, same in groupby(labels, key=lambda one: one.n_scores(multinomial)):
        alike = list(same)
        n_chunks = -(-len(alike) // max(1, most // n_scores))
        for k in range(n_chunks):  # of about equal size
            yield alike[len(alike) * k // n_chunks : len(alike) * (k + 1) // n_chunks]


def _check_strengths(strengths: Sequence[float]) -> None:
    for one in strengths:
        if not 0 < one < np.inf:
            raise ProbeError(f"C = {one:g}; use a number above 0")
