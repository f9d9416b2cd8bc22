"""Linear probes with a closed form; tasks on the same training rows share the work."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vsp.probes.base import Task, TaskFit, encode_classes, expand_classes, fitted_rows
from vsp.probes.linear_probe import LinearProbe, Readout, linear_scores, readout_arrays
from vsp.probes.treatment import Array, Treatment, learn

if TYPE_CHECKING:
    from typing import Self

_COLUMNS = 512  # scores computed in one pass over the states


class ClosedForm(LinearProbe):
    """A linear probe that implements `solve`."""

    def solve(
        self, treated: Array, ys: Sequence[NDArray[Any]], strengths: Sequence[float]
    ) -> Iterator[list[Readout]]:
        """The readouts [strength] for each of `ys`: class indices from 0 on, or numbers [row].

        `treated` [row, hidden] may be overwritten. `strengths` is empty for a probe without a
        strength parameter; it returns one readout.
        """
        raise NotImplementedError

    def fit(self, states: Array, y: NDArray[Any]) -> Self:
        """Fit on `states` [sample, hidden] and `y` [sample].

        Raises ProbeError if there is one class only or a value is not finite.
        """
        probe: Any = self  # also a LabelProbe or a NumberProbe
        states = self.check_states(states, reset=True)
        check = probe.check_labels if self.target == "label" else probe.check_numbers
        y = check(y, len(states))
        self.treatment_ = learn(self.treatment, states)
        strengths = (getattr(self, self.strength_name),) if self.strength_name else ()
        (readouts,) = self.solve(self.treatment_.apply(states), [y], strengths)
        self.coef_, self.intercept_ = readouts[0]
        return self

    def fit_prepared(self, prepared: Any, tasks: Sequence[Task]) -> Iterator[TaskFit]:
        """Like ProbeBase.fit_prepared; consecutive tasks with the same training rows share work."""
        states: Array = prepared
        for (_, strengths), same in groupby(
            tasks, key=lambda task: (fitted_rows(task).tobytes(), task.strengths)
        ):
            yield from self._fit_same_rows(states, list(same), strengths)

    def _fit_same_rows(
        self, states: Array, tasks: Sequence[Task], strengths: Sequence[float]
    ) -> Iterator[TaskFit]:
        rows = states[fitted_rows(tasks[0])]
        treatment = learn(self.treatment, rows)
        encoded = [_encode_task(task) for task in tasks]
        if not self.strength_name:
            strengths = ()
        elif not strengths:
            strengths = (getattr(self, self.strength_name),)
        solved = self.solve(treatment.apply(rows), [y for _, y in encoded], strengths)
        n_columns = max(1, len(strengths)) * max(task.n_columns for task in tasks)
        n_together = max(1, _COLUMNS // n_columns)
        for start in range(0, len(tasks), n_together):
            batch = slice(start, start + n_together)
            classes = [one for one, _ in encoded[batch]]
            readouts = [next(solved) for _ in tasks[batch]]
            yield from _score(states, treatment, tasks[batch], classes, readouts, strengths)


def class_means(treated: Array, codes: NDArray[np.intp]) -> tuple[Array, NDArray[np.intp]]:
    """Mean [class, hidden] and number [class] of the rows of each class."""
    counts = np.bincount(codes)
    member = (codes == np.arange(len(counts))[:, None]).astype(np.float64)
    return member @ treated / counts[:, None], counts


def _encode_task(task: Task) -> tuple[NDArray[Any] | None, NDArray[Any]]:
    """Classes and class indices of the training rows, or None and the numbers."""
    y = task.y[fitted_rows(task)]
    return (None, y) if np.issubdtype(y.dtype, np.floating) else encode_classes(y)


def _score(
    states: Array,
    treatment: Treatment,
    tasks: Sequence[Task],
    classes: Sequence[NDArray[Any] | None],
    readouts: Sequence[Sequence[Readout]],
    strengths: Sequence[float],
) -> Iterator[TaskFit]:
    """The fits of tasks with the same training rows, scored in one pass over `states`.

    `readouts` [task][strength]; `classes` [task] of the training rows.
    """
    flat = [readout for of_task in readouts for readout in of_task]
    stacked = Readout(
        np.concatenate([readout.coef for readout in flat]),
        np.concatenate([readout.intercept for readout in flat]),
    )
    scores = linear_scores(states, treatment, stacked).T
    recorded: Sequence[float | None] = strengths or [None]
    start = 0
    for task, known, of_task in zip(tasks, classes, readouts, strict=True):
        shape = (len(of_task), len(of_task[0].coef), len(states))
        stop = start + shape[0] * shape[1]
        by_strength = scores[start:stop].reshape(shape)
        start = stop
        probes = [
            readout_arrays(known, treatment, readout, strength)
            for readout, strength in zip(of_task, recorded, strict=True)
            if task.keep
        ]
        yield TaskFit(
            np.stack([expand_classes(one, known, task.n_columns) for one in by_strength]),
            np.full((len(of_task), 1), np.nan, dtype=np.float32),
            np.zeros((len(of_task), 1), dtype=np.int32),
            tuple(probes),
        )
