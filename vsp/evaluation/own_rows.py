"""Scores of a run's layers on its own test rows, beside which those on a target are shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from math import hypot
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vsp.evaluation.column_table import ColumnTable, Interval, TestedRows, column_intervals
from vsp.evaluation.design import Design
from vsp.evaluation.judges import NONE, judging_design
from vsp.evaluation.row_identity import RowIdentity
from vsp.evaluation.scores import Floats
from vsp.evaluation.statistics import Folds
from vsp.evaluation.tested_rows import losses_of_scores
from vsp.evaluation.trained_probes import TrainedProbes

Draws = tuple[float, int, int]  # confidence, resamples and seed


class Beside(NamedTuple):
    """The own score, and the difference of another score to it with its interval; None: not known."""

    own: float | None = None
    difference: float | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, eq=False)
class OwnRows:
    """The rows that a run itself tests."""

    trained: TrainedProbes
    draws: Draws

    def place_of(self, rows: RowIdentity, judged: NDArray[np.bool_]) -> NDArray[np.intp] | None:
        """The own row of the same key [row]; None unless losses on just these rows are known.

        The losses are known if the run tests each row in exactly the repeats of `judged` [repeat, row]. A
        metric that compares rows with each other needs all own test rows.
        """
        metric, place = self.trained.metric, self.trained.fitted.place_of(rows)
        tested = self.trained.fitted.outer >= 0
        if not metric.is_proportion or (place < 0).any() or (tested[:, place] != judged).any():
            return None
        is_all = len(np.unique(place)) == len(place) == int(tested.any(axis=0).sum())
        known = metric.reads_labels or (is_all and self._has_losses)
        return place if known else None

    def losses(self, layer: int, place: NDArray[np.intp]) -> Floats:
        """Losses [repeat, row] of the own rows `place`."""
        k = self.trained.layers.index(layer)
        if not self.trained.metric.reads_labels:
            return np.asarray(self.trained.arrays["loss"][k][:, place], np.float64)
        design = self._design(place)
        predicted = self.trained.arrays["predicted"][k][:, place]
        return self._label_losses(design, self.trained.y[place], predicted)[0]

    def beside(self, layer: int, interval: Interval) -> Beside:
        """The own score, and the difference of the score of independent rows to it.

        Source of its interval: Newcombe, "Interval estimation for the difference between independent
        proportions: comparison of eleven methods", 1998, method 10, which needs only the interval of
        each score.
        """
        own = self._intervals.get(layer)
        if own is None:
            return Beside()
        difference = interval["score"] - own["score"]
        below = hypot(interval["score"] - interval["low"], own["high"] - own["score"])
        above = hypot(interval["high"] - interval["score"], own["score"] - own["low"])
        return Beside(own["score"], difference, difference - below, difference + above)

    def _design(self, rows: NDArray[np.intp]) -> Design:
        outer = self.trained.fitted.outer[:, rows]
        return judging_design(np.where(outer < 0, NONE, outer))

    @property
    def _has_losses(self) -> bool:
        """Whether the stored losses are of the metric."""
        return self.trained.metric.statistic == self.trained.statistic

    @cached_property
    def _intervals(self) -> Mapping[int, Interval]:
        """Score and interval of each layer; empty if they are not known for the metric."""
        trained = self.trained
        if not self._has_losses and not trained.metric.reads_labels:
            return {}
        design = self._design(np.arange(len(trained.y)))
        test = TestedRows(trained.y, trained.arrays["group"], design)
        table, base = None, trained.arrays["base"].astype(np.float64)
        for k, layer in enumerate(trained.layers):
            loss = trained.arrays["loss"][k].astype(np.float64)
            if not self._has_losses:
                loss, base = self._label_losses(design, trained.y, trained.arrays["predicted"][k])
            table = table or ColumnTable(test, base, trained.metric, folds=Folds())
            table.add(layer, loss)
        assert table is not None
        return dict(
            zip(trained.layers, column_intervals(table.bootstrap(*self.draws)), strict=True)
        )

    def _label_losses(
        self, design: Design, y: NDArray[Any], predicted: NDArray[Any]
    ) -> tuple[Floats, Floats]:
        """Loss and base [repeat, row] of predicted labels [repeat, row]."""
        one_hot = np.eye(len(self.trained.classes))
        prior = np.full(len(one_hot), 1 / len(one_hot))  # not read by such a metric
        scores = (one_hot[:, predicted[one.repeat, one.test]] for one in design.outer)
        return losses_of_scores(
            self.trained.metric, y, design, scores, [prior] * len(design.outer), ""
        )
