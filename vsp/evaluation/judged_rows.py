"""Scores of saved probes on the rows of a target that they were not fitted on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vsp.errors import ProbeError
from vsp.evaluation.column_table import (
    ColumnTable,
    Interval,
    TestedRows,
    column_intervals,
    differences,
)
from vsp.evaluation.judges import FINAL, judging_design
from vsp.evaluation.metrics import label_shares, log_shares
from vsp.evaluation.own_rows import Beside, Draws, OwnRows
from vsp.evaluation.peak import Recall, recall_by_column
from vsp.evaluation.scores import Floats, are_numbers
from vsp.evaluation.statistics import Folds, GroupBootstrap
from vsp.evaluation.target_states import TargetStates
from vsp.evaluation.tested_rows import losses_of_scores
from vsp.evaluation.trained_probes import TrainedProbes
from vsp.utils.progress import progress
from vsp.utils.text import format_count

_CHANCE = "chance"


@dataclass(frozen=True, slots=True)
class LayerFigures:
    """The score of one layer's probe on the target, and beside the run's own test rows."""

    layer: int  # of the results
    score: float
    low: float
    high: float
    accuracy: float | None  # share of right rows; None for numbers
    recall: Recall  # by class; None for numbers
    own: float | None  # score on the run's own test rows; None: not kept for this metric
    difference: float | None  # `score` minus `own`, and its interval
    difference_low: float | None
    difference_high: float | None


class JudgedRows:
    """The rows of a target that a probe judges."""

    def __init__(
        self,
        trained: TrainedProbes,
        target: TargetStates,
        rows: NDArray[np.intp],
        y: NDArray[Any],
        judge: NDArray[np.intp],
    ) -> None:
        """`rows` of the target, their class index or number `y` [row] and `judge` [repeat, row]."""
        self.trained, self.target, self.rows, self.y, self.judge = trained, target, rows, y, judge
        self.design = judging_design(judge)
        self.test = TestedRows(y, target.group[rows], self.design)
        self._judges = [int(judge[one.repeat, one.test[0]]) for one in self.design.outer]

    def figures(self, pairs: Sequence[tuple[int, int]], draws: Draws) -> dict[str, Any]:
        """The figures of each layer, the score of chance, and whether differences are paired.

        `pairs`: layers of the results with the target's entries.
        """
        loss, base = self._losses(self._chance_scores(), "softmax")
        table = ColumnTable(self.test, base, self.trained.metric, folds=Folds())
        table.add(_CHANCE, loss)
        predicted = []
        with progress(f"evaluate {self.trained.name}", "layers", len(pairs)) as advance:
            for layer, entry in pairs:
                scores = self.scores(layer, entry)
                table.add(layer, self._losses(scores, self.trained.link)[0])
                predicted.append(self.predicted(scores))
                advance(1)
        own = OwnRows(self.trained, draws)
        place = own.place_of(self.target.identity.take(self.rows), self.test.tested)
        if place is not None:
            for layer, _ in pairs:
                table.add(f"own {layer}", own.losses(layer, place))
        bootstrap = table.bootstrap(*draws)
        intervals = column_intervals(bootstrap)
        recall = recall_by_column(self.test, np.stack(predicted), self.trained.classes, *draws)
        layers = []
        for (layer, _), said, of_layer in zip(pairs, predicted, recall, strict=True):
            k = table.column[layer]
            if place is None:
                beside = own.beside(layer, intervals[k])
            else:
                beside = _paired(bootstrap, k, table.column[f"own {layer}"], intervals)
            layers.append(self._layer_figures(layer, intervals[k], said, of_layer, beside))
        return {
            "layers": tuple(layers),
            "chance": intervals[table.column[_CHANCE]]["score"],
            "paired": place is not None,
            "n_groups": self.test.n_groups,
        }

    def scores(self, layer: int, entry: int) -> list[NDArray[Any]]:
        """Scores [class, row] of the rows of each split of the design."""
        probes = self.trained.probes(layer, folds=bool((self.judge > FINAL).any()))
        states = self.target.read_layer(entry)
        return [
            probes[judge].scores(states[self.rows[one.test]]).T
            for judge, one in zip(self._judges, self.design.outer, strict=True)
        ]

    def _chance_scores(self) -> list[NDArray[Any]]:
        """Scores of the target's most frequent label, or of its mean."""
        shares = label_shares(self.y, np.ones(len(self.y), dtype=np.bool_))
        n_classes = max(1, len(self.trained.classes))
        of_all = np.zeros(n_classes)
        of_all[: len(shares)] = shares
        column = of_all if are_numbers(self.y) else log_shares(of_all)
        return [np.tile(column[:, None], (1, len(one.test))) for one in self.design.outer]

    def _losses(self, scores: Sequence[NDArray[Any]], link: str) -> tuple[Floats, Floats]:
        """Loss and base [repeat, row]."""
        trained = self.trained
        priors = map(trained.prior, self._judges)
        loss, base = losses_of_scores(trained.metric, self.y, self.design, scores, priors, link)
        if np.isnan(loss).any() or not base.any(axis=1).all():
            raise ProbeError(
                f"{trained.name} on {self.target.name}: {trained.metric.statistic} needs "
                f"two different labels among the {format_count(len(self.y), 'row')} that count; use "
                "another --metric"
            )
        return loss, base

    def _layer_figures(
        self,
        layer: int,
        interval: Interval,
        predicted: NDArray[Any],
        recall: Recall,
        beside: Beside,
    ) -> LayerFigures:
        accuracy = (
            None if are_numbers(self.y) else float((predicted == self.y)[self.test.tested].mean())
        )
        return LayerFigures(
            layer,
            interval["score"],
            interval["low"],
            interval["high"],
            accuracy,
            recall,
            beside.own,
            beside.difference,
            beside.low,
            beside.high,
        )

    def predicted(self, scores: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """Class index or number [repeat, row]."""
        predicted = np.zeros(self.judge.shape, dtype=self.y.dtype)
        for one, of_split in zip(self.design.outer, scores, strict=True):
            said = of_split[0] if are_numbers(self.y) else of_split.argmax(axis=0)
            predicted[one.repeat, one.test] = said
        return predicted


def _paired(
    bootstrap: GroupBootstrap, column: int, own: int, intervals: Sequence[Interval]
) -> Beside:
    """The own score on the same rows, and the difference to it."""
    (one,) = differences(bootstrap, [column], own)
    assert one is not None
    return Beside(intervals[own]["score"], one["difference"], one["low"], one["high"])
