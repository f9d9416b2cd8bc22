"""The fits of a layer whose states are erased: each training set has an eraser of its own.

An eraser is fitted on the training rows of a fit and nothing else, then applied to all rows. So no
label of a validation or test row has an influence. What a linear probe then reads from held-out rows
is what the training rows do not show.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vsp.evaluation.layer_fits import (
    Array,
    Arrays,
    LayerFitter,
    LayerTasks,
    Piece,
    StrengthChoice,
)
from vsp.evaluation.merged_fits import choose_strengths
from vsp.evaluation.metrics import label_shares, log_shares, score_of_sums
from vsp.evaluation.named_fits import name_of_rows, named
from vsp.probes.base import ProbeBase, Task, TaskFit, fitted_rows
from vsp.probes.erasure.folded import folded, without_rounding_errors
from vsp.probes.erasure.methods import Erasure


class ErasedLayerFitter(LayerFitter):
    """As LayerFitter, on erased states."""

    def __init__(
        self, states: Array, probe: ProbeBase, tasks: LayerTasks, erasure: Erasure
    ) -> None:
        super().__init__(states, probe, tasks)
        self.erasure = erasure

    def run(self, piece: Piece, choice: StrengthChoice) -> Arrays:
        """Run a later piece."""
        if piece.kind != "erasure":
            return super().run(piece, choice)
        arrays = {**self._on_training_rows(choice), **self._after_random_erasure()}
        return {**arrays, **self._convergence()}

    def _fit(self, tasks: Sequence[Task]) -> Iterator[TaskFit]:
        """Fits in the order of `tasks`; those with the same training rows share an eraser."""
        same: dict[bytes, list[int]] = {}
        for i, task in enumerate(tasks):
            same.setdefault(fitted_rows(task).tobytes(), []).append(i)
        found: dict[int, TaskFit] = {}
        for i, task in enumerate(tasks):
            if i not in found:
                which = same[fitted_rows(task).tobytes()]
                with named(partial(name_of_rows, self.tasks.design, task.train)):
                    fits = list(self._fits_of_rows([tasks[k] for k in which]))
                found |= zip(which, fits, strict=True)
            self._unreported.append(found[i])
            yield found.pop(i)

    def _fits_of_rows(self, tasks: Sequence[Task]) -> Iterator[TaskFit]:
        """Fits of tasks with the same training rows."""
        rows = fitted_rows(tasks[0])
        eraser = self.erasure.fit(self.states[rows], self.tasks.y[rows])
        fits = self.probe.fit_tasks(eraser.apply(self.states), tasks)
        for task, fit in zip(tasks, fits, strict=True):
            clean = without_rounding_errors(fit, task.y, rows)
            yield replace(clean, probes=tuple(folded(one, eraser) for one in clean.probes))

    def _on_training_rows(self, choice: StrengthChoice) -> Arrays:
        """Score of each outer split's probe on its own training rows [outer], chance, and rank."""
        tasks, scores, chance, rank = self.tasks, [], [], []
        fits = self._fit(self._outer_tasks(choice))
        for outer, fit in zip(tasks.design.outer, fits, strict=True):
            train = tasks.design.train_sets[outer.train_set]
            rows = np.flatnonzero(train)
            scores.append(score_of_sums(self._sums(tasks.y, fit, outer.train_set, rows))[0])
            chance.append(self._chance(train))
            rank.append(self.erasure.fit(self.states[rows], tasks.y[rows]).rank)
        return {
            "erased_train": np.array(scores),
            "erased_chance": np.array(chance),
            "erased_rank": np.array(rank),
        }

    def _chance(self, train: NDArray[np.bool_]) -> float:
        """The score, on training rows, of a prediction that reads no states."""
        y = self.tasks.y[train]
        shares = label_shares(self.tasks.y, train)
        one = shares if self.tasks.are_numbers else log_shares(shares)
        scores = np.tile(one[None, :, None], (1, 1, len(y))).astype(np.float32)
        return float(score_of_sums(self.tasks.metric.sums(y, scores, shares, "softmax"))[0])

    def _after_random_erasure(self) -> Arrays:
        """Test scores [draw] of probes on states without a random subspace of the same rank.

        The strengths are chosen for the first draw, on inner splits.
        """
        train = self.tasks.design.train_sets[self.tasks.design.outer[0].train_set]
        rank = self.erasure.fit(self.states[train], self.tasks.y[train]).rank
        choice, scores = None, []
        for number in range(1, self.tasks.n_erasures + 1):
            states = self.erasure.random(self.states[train], rank, number).apply(self.states)
            if choice is None:
                fitter = LayerFitter(states, self.probe, self.tasks)
                searched = [fitter.search(sets) for sets in self.tasks.search_pieces]
                choice = choose_strengths(self.tasks, searched)
            scores.append(self._test_score(states, choice))
        return {"random_erased": np.array(scores)}

    def _test_score(self, states: Array, choice: StrengthChoice) -> float:
        """The score over all test rows, at the chosen strengths, of probes of other states."""
        tasks = self.tasks
        fits = self.probe.fit_tasks(states, self._outer_tasks(choice))
        by_cell: Any = 0.0
        for outer, fit in zip(tasks.design.outer, fits, strict=True):
            self._unreported.append(fit)
            by_cell = by_cell + self._sums(tasks.y, fit, outer.train_set, outer.test)
        return float(score_of_sums(by_cell)[0])

    def _outer_tasks(self, choice: StrengthChoice) -> list[Task]:
        tasks = self.tasks
        return [
            Task(tasks.y, tasks.design.train_sets[outer.train_set], self._strength(chosen))
            for outer, chosen in zip(tasks.design.outer, choice.chosen, strict=True)
        ]
