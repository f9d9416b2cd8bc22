"""Turns tasks into optimisation problems, and solutions into fits, for `logistic`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vsp.probes.base import Task, TaskFit, encode_classes, fitted_rows
from vsp.probes.linear_probe import Readout, readout_arrays
from vsp.probes.solver.kernel import KernelSpace
from vsp.probes.solver.primal import PrimalSpace
from vsp.probes.solver.problems import Problems, Solutions
from vsp.probes.treatment import Array, Treatment, learn

# Limits of the problems that are solved together.
_MOST_SCORES = 128  # per row
_MOST_VALUES = 4_000_000  # scores of all rows


@dataclass(frozen=True, slots=True)
class TaskClasses:
    """A task with the classes of its training rows."""

    task: Task
    classes: NDArray[np.intp]  # [class]: index in the task
    codes: NDArray[np.intp]  # [training row]: index into `classes`

    @classmethod
    def of(cls, task: Task) -> TaskClasses:
        """Raises ProbeError if the training rows have one class only."""
        return cls(task, *encode_classes(task.y[task.train]))

    def n_scores(self, multinomial: bool) -> int:
        """Scores per row of all problems of the task."""
        return len(self.classes) if multinomial or len(self.classes) > 2 else 1

    def targets(self, multinomial: bool) -> NDArray[np.float32]:
        """[problem, score, training row]: 1 and −1, or 1 and 0 for the multinomial loss."""
        member: NDArray[np.bool_] = self.codes == np.arange(len(self.classes))[:, None]
        if multinomial:
            return np.asarray(member[None], dtype=np.float32)
        if len(self.classes) == 2:
            member = member[1:]
        return np.where(member, 1, -1).astype(np.float32)[:, None]

    def weights(self, multinomial: bool, balanced: bool) -> NDArray[np.float32]:
        """Weights of the training rows [problem or 1, 1, training row].

        A row weighs as often as it counts. `balanced`: the sides of each problem have the same
        weight in all, as with `class_weight="balanced"` of scikit-learn.
        """
        train, counts = self.task.train, self.task.counts
        once = np.ones(len(self.codes)) if counts is None else counts[train].astype(np.float64)
        if not balanced:
            return np.asarray(once[None, None], np.float32)
        if multinomial:
            of_class = np.bincount(self.codes, once)
            share = once.sum() / (len(of_class) * of_class)
            return np.asarray((once * share[self.codes])[None, None], np.float32)
        member = self.targets(multinomial)[:, 0] > 0
        n_inside = (member * once).sum(axis=1, keepdims=True)
        size = np.where(member, n_inside, once.sum() - n_inside)
        return np.asarray((once * once.sum() / (2 * size))[:, None], np.float32)


class PreparedStates:
    """The states of a layer, with one space for all tasks or one per training set."""

    def __init__(self, states: Array, train: NDArray[np.bool_], treatment: str) -> None:
        self.states, self.train, self.treatment = states, train, treatment

    def spaces(self, tasks: Sequence[Task]) -> Iterator[tuple[TaskSpace, list[Task]]]:
        """Each space that is needed, with its tasks, in the order of `tasks`."""
        if self.treatment == "standardize":  # learned from the training rows of each task
            for _, same in groupby(tasks, key=lambda task: fitted_rows(task).tobytes()):
                same_rows = list(same)
                train, counts = same_rows[0].train[None], same_rows[0].counts
                yield TaskSpace.of(self.states, train, self.treatment, counts), same_rows
        elif tasks:
            yield self._shared, list(tasks)

    @cached_property
    def _shared(self) -> TaskSpace:
        return TaskSpace.of(self.states, self.train, self.treatment)


@dataclass(frozen=True, slots=True)
class TaskSpace:
    """The space of the solver for tasks on the same treated states."""

    states: Array  # [row, hidden]
    treatment: Treatment
    rows: NDArray[np.intp]  # rows that are in a training set
    others: NDArray[np.intp]  # the other rows
    space: KernelSpace | PrimalSpace
    sets: dict[bytes, int]  # mask over `rows` → index of the training set

    @classmethod
    def of(
        cls,
        states: Array,
        train: NDArray[np.bool_],
        treatment_name: str,
        counts: NDArray[np.intp] | None = None,
    ) -> TaskSpace:
        """`train` [set, row]: the training sets. `counts` [row]: as in a task, for the treatment."""
        used = train.any(axis=0)
        rows, others = np.flatnonzero(used), np.flatnonzero(~used)
        weight = np.asarray(used if counts is None else counts, np.float64)
        treatment = learn(treatment_name, states, weight)
        masks = train[:, rows]
        sets = {mask.tobytes(): i for i, mask in enumerate(masks)}
        space_class = KernelSpace if len(rows) <= states.shape[1] else PrimalSpace
        space = space_class.of(states, treatment, masks, rows if len(others) else None)
        return cls(states, treatment, rows, others, space, sets)

    def problems(
        self, labels: TaskClasses, strength: float, multinomial: bool, balanced: bool
    ) -> Problems:
        """The problems of a task at one strength."""
        train = labels.task.train[self.rows]
        of_train = labels.targets(multinomial)
        target = np.ones((*of_train.shape[:2], len(train)), np.float32)
        target[..., train] = of_train
        of_rows = labels.weights(multinomial, balanced) * np.float32(strength)
        weight = np.zeros((len(of_rows), 1, len(train)), np.float32)
        weight[..., train] = of_rows
        weight = np.broadcast_to(weight, (len(target), 1, len(train)))
        return Problems(target, weight, np.full(len(target), self.sets[train.tobytes()]))

    def task_fit(
        self, labels: TaskClasses, strengths: Sequence[float], solutions: Sequence[Solutions]
    ) -> TaskFit:
        """The fit of a task from its solutions [strength]."""
        scores = self._scores(solutions)
        shape = len(strengths), labels.task.n_columns, len(self.states)
        expanded = np.full(shape, -np.inf, dtype=np.float32)
        expanded[:, labels.classes] = scores if scores.shape[1] > 1 else _add_first_class(scores)
        probes = tuple(self._probe_arrays(labels, strengths, solutions)) if labels.task.keep else ()
        gap = np.stack([one.gap for one in solutions]).astype(np.float32)
        return TaskFit(expanded, gap, np.stack([one.n_steps for one in solutions]), probes)

    def _scores(self, solutions: Sequence[Solutions]) -> Array:
        """[strength, score, row], all rows."""
        of_rows = np.stack([one.scores.reshape(-1, len(self.rows)) for one in solutions])
        if not len(self.others):
            return of_rows
        scores = np.empty((*of_rows.shape[:2], len(self.states)), np.float32)
        scores[..., self.rows] = of_rows
        coordinates = np.stack([one.coordinates for one in solutions])
        weights, intercepts = self.space.weights(
            coordinates.reshape(*of_rows.shape[:2], -1).astype(np.float32)
        )
        scores[..., self.others] = self.space.score_others(
            self.states, weights, intercepts, self.others
        )
        return scores

    def _probe_arrays(
        self, labels: TaskClasses, strengths: Sequence[float], solutions: Sequence[Solutions]
    ) -> Iterator[dict[str, NDArray[Any]]]:
        coordinates = np.stack([one.coordinates for one in solutions]).astype(np.float64)
        weights, intercepts = self.space.weights(
            coordinates.reshape(len(strengths), -1, coordinates.shape[-1])
        )
        intercepts = (intercepts - weights @ self.space.centre)[..., None]
        if weights.shape[1] == 1:
            weights, intercepts = _add_first_class(weights), _add_first_class(intercepts)
        for strength, coef, intercept in zip(strengths, weights, intercepts[..., 0], strict=True):
            readout = Readout(coef, intercept)
            yield readout_arrays(labels.classes, self.treatment, readout, strength)


def batches(
    labels: Sequence[TaskClasses], multinomial: bool, n_rows: int
) -> Iterator[list[TaskClasses]]:
    """Split tasks into batches that are solved together; all tasks of a batch have the same shape."""
    n_scores_most = min(_MOST_SCORES, _MOST_VALUES // n_rows)
    for n_scores, same in groupby(labels, key=lambda one: one.n_scores(multinomial)):
        same_shape = list(same)
        n = len(same_shape)
        n_batches = -(-n // max(1, n_scores_most // n_scores))
        for k in range(n_batches):  # nearly equal batches
            yield same_shape[n * k // n_batches : n * (k + 1) // n_batches]


def split_solutions(solutions: Solutions, problems: Sequence[Problems]) -> Iterator[Solutions]:
    """Split solutions of concatenated problems into those of each part."""
    stop = 0
    for one in problems:
        start, stop = stop, stop + len(one)
        yield solutions.take(slice(start, stop))


def _add_first_class(of_second: Array) -> Array:
    """Values of both classes [.., class, row] from those of the second: they are opposite."""
    return np.concatenate([-of_second, of_second], axis=1)
