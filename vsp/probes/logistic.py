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
from vsp.probes.descent import Loss, Problems, Solved, Space, certify, solve
from vsp.probes.losses import OneVsRest, Softmax
from vsp.probes.spaces import Kernel
from vsp.probes.treatment import Array, Treatment, learn

_TOGETHER = 128  # scores of a row that are searched for at once


class Logistic(LinearReadout, LabelProbe):
    """One class against the rest.

    `tol` is the relative duality gap, certified in float64 from the states themselves for `fit`,
    from their products for tasks. gap_ and n_iter_ [problem] tell what was reached.
    """

    grid = "C"
    default_grid = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
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

    def fit(self, states: Array, labels: NDArray[Any]) -> Self:
        """Fit on `states` [sample, hidden] and `labels` [sample].

        Raises ProbeError if there is one class only or a value is not finite.
        """
        states = self._checked(states, reset=True)
        codes = self._coded(labels, len(states))
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
            for some in _chunks([_Labels.of(task) for task in same], self.multinomial):
                yield from self._fit_chunk(ground, some)

    def _fit_chunk(self, ground: _Ground, chunk: Sequence[_Labels]) -> Iterator[TaskFit]:
        """All problems of some tasks, strength by strength, each from where the last one ended."""
        loss: Loss = Softmax() if self.multinomial else OneVsRest()
        paths = [one.task.strengths or (float(self.C),) for one in chunk]
        starts: list[Array | None] = [None] * len(chunk)
        found: list[list[_Found]] = [[] for _ in chunk]
        for strength in sorted({one for path in paths for one in path}):
            which = [i for i, path in enumerate(paths) if strength in path]
            solved = self._solve(ground, loss, [chunk[i] for i in which], strength,
                                 [starts[i] for i in which])  # fmt: skip
            for i, one in zip(which, solved, strict=True):
                starts[i] = one.coordinates
                found[i].append(ground.found(one, chunk[i], strength))
        for labels, of_task in zip(chunk, found, strict=True):
            yield TaskFit(
                np.stack([one.scores for one in of_task]),
                np.stack([one.gap for one in of_task]),
                np.stack([one.n_steps for one in of_task]),
                tuple(one.probe for one in of_task) if labels.task.keep else (),
            )

    def _solve(
        self,
        ground: _Ground,
        loss: Loss,
        chunk: Sequence[_Labels],
        strength: float,
        starts: Sequence[Array | None],
    ) -> Iterator[Solved]:
        """What solves each task, at one strength."""
        sizes = [one.n_problems(self.multinomial) for one in chunk]
        problems = _problems(ground, chunk, strength, self.multinomial)
        known = [start for start in starts if start is not None]
        start = np.concatenate(known) if len(known) == len(chunk) else None
        solved = solve(ground.space, loss, problems, self.tol, self.max_iter, start)
        kept = np.repeat([one.task.keep for one in chunk], sizes)
        if kept.any():
            certify(ground.space, loss, problems, solved, np.flatnonzero(kept), self.tol,
                    self.max_iter)  # fmt: skip
        stops = np.cumsum(sizes)
        for size, stop in zip(sizes, stops, strict=True):
            some = slice(stop - size, stop)
            yield Solved(solved.coordinates[some], solved.gap[some], solved.n_steps[some])


class Multinomial(Logistic):
    """All classes together."""

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
            names = ", ".join(map(str, classes))
            raise ProbeError(
                f"class {names} alone on {len(codes)} training rows; a probe needs two classes"
            )
        return cls(task, classes, codes)

    def n_problems(self, multinomial: bool) -> int:
        return 1 if multinomial or len(self.classes) == 2 else len(self.classes)

    def n_scores(self, multinomial: bool) -> int:
        return len(self.classes) if multinomial or len(self.classes) > 2 else 1

    def targets(self, multinomial: bool) -> NDArray[np.float32]:
        """[problem, score, training row]: 1 and −1, or 1 and 0 for the multinomial loss."""
        member = self.codes == np.arange(len(self.classes))[:, None]
        if multinomial:
            return member[None].astype(np.float32)
        if len(self.classes) == 2:
            member = member[1:]
        return np.where(member, np.float32(1), np.float32(-1))[:, None]


@dataclass(frozen=True, slots=True)
class _Found:
    """What was found at one strength of a task."""

    scores: NDArray[np.float32]  # [class, row]
    gap: NDArray[np.float32]  # [problem]
    n_steps: NDArray[np.int32]  # [problem]
    probe: dict[str, NDArray[Any]]


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
    space: Kernel
    sets: dict[bytes, int]

    @classmethod
    def of(cls, states: Array, train: NDArray[np.bool_], name: str) -> _Ground:
        """Of all training rows of `train` [set, row]."""
        rows = np.flatnonzero(train.any(axis=0))
        of_rows = states if len(rows) == len(states) else states[rows]
        # Without a treatment the states are centred too: the intercept takes it back.
        treatment = learn(name, of_rows)
        masks = train[:, rows]
        sets = {mask.tobytes(): i for i, mask in enumerate(masks)}
        return cls(states, treatment, rows, Kernel.of(of_rows, treatment, masks), sets)

    def found(self, solved: Solved, labels: _Labels, strength: float) -> _Found:
        scores = self._scores(solved.coordinates)
        every = np.full((labels.task.n_columns, scores.shape[-1]), -np.inf, dtype=np.float32)
        flat = scores.reshape(-1, scores.shape[-1])
        every[labels.classes] = flat if len(flat) > 1 else np.concatenate([-flat, flat])
        probe = self._probe(solved.coordinates, labels, strength) if labels.task.keep else {}
        return _Found(every, solved.gap.astype("f4"), solved.n_steps, probe)

    def _scores(self, coordinates: Array) -> Array:
        """[problem, score, row], all rows."""
        scores = np.empty((*coordinates.shape[:2], len(self.states)), np.float32)
        scores[..., self.rows] = self.space.fitted(coordinates)
        others = np.ones(len(self.states), dtype=bool)
        others[self.rows] = False
        if others.any():
            weights, intercepts = self.space.weights(coordinates)
            scores[..., others] = self.space.seen(self.states[others], weights, intercepts)
        return scores

    def _probe(
        self, coordinates: Array, labels: _Labels, strength: float
    ) -> dict[str, NDArray[Any]]:
        weights, intercepts = self.space.weights(coordinates.astype(np.float64))
        coef = weights.reshape(-1, weights.shape[-1])
        intercept = (intercepts - weights @ self.space.shift).reshape(-1)
        if len(coef) == 1:
            coef, intercept = np.concatenate([-coef, coef]), np.concatenate([-intercept, intercept])
        return {
            "classes": readable(labels.classes),
            "treatment": np.array(self.treatment.name),
            "mean": self.treatment.mean,
            "scale": self.treatment.scale,
            "coef": coef,
            "intercept": intercept,
            "strength": np.array(strength),
        }


def _problems(
    ground: _Ground, chunk: Sequence[_Labels], strength: float, multinomial: bool
) -> Problems:
    targets, weights, sets = [], [], []
    for one in chunk:
        train = one.task.train[ground.rows]
        of_rows = one.targets(multinomial)
        target = np.ones((*of_rows.shape[:2], len(train)), np.float32)
        target[..., train] = of_rows
        targets.append(target)
        weights.append(np.broadcast_to(train * np.float32(strength), (len(target), 1, len(train))))
        sets += [ground.sets[train.tobytes()]] * len(target)
    return Problems(np.concatenate(targets), np.concatenate(weights), np.array(sets))


def _chunks(labels: Sequence[_Labels], multinomial: bool) -> Iterator[list[_Labels]]:
    """Tasks of the same shape that follow each other, as many as are well searched together."""
    for n_scores, same in groupby(labels, key=lambda one: one.n_scores(multinomial)):
        alike = list(same)
        together = max(1, _TOGETHER // n_scores)
        for start in range(0, len(alike), together):
            yield alike[start : start + together]


def _check_strengths(strengths: Sequence[float]) -> None:
    for one in strengths:
        if not 0 < one < np.inf:
            raise ProbeError(f"C = {one:g}; use a number above 0")
