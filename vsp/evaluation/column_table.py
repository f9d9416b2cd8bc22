"""Losses of layers, of the peak and of baselines, summed over groups and resampled together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vsp.evaluation.design import Design
from vsp.evaluation.metrics import Metric
from vsp.evaluation.scores import Floats
from vsp.evaluation.statistics import Folds, GroupBootstrap, GroupSums, SampleSize, bootstrap_groups

Difference = dict[str, float | None]  # difference, low, high
Interval = dict[str, Any]  # score, low, high


class TestedRows:
    """The tested rows and their groups."""

    __test__ = False  # not a test, in spite of its name

    def __init__(self, y: NDArray[np.generic], group: NDArray[np.str_], design: Design) -> None:
        self.y, self.design = y, design
        self.tested = design.test_split >= 0  # [repeat, row]
        ever = self.tested.any(axis=0)
        self.group = np.zeros(len(y), dtype=np.intp)  # [row]; 0 for rows that are never tested
        self.group[ever] = np.unique(group[ever], return_inverse=True)[1]
        self.n_groups = int(self.group.max()) + 1

    def counts(self, rows: NDArray[np.bool_]) -> tuple[float, float]:
        """Rows and groups among `rows` [repeat, row], on average over repeats."""
        groups = [len(np.unique(self.group[of_repeat])) for of_repeat in rows]
        return float(rows.sum(axis=1).mean()), float(np.mean(groups))

    def group_sums(self, values: Floats) -> Floats:
        """Sums [repeat, group] of `values` [repeat, row], which are 0 for rows that are not tested."""
        return np.stack([np.bincount(self.group, one, self.n_groups) for one in values])

    def size(self, rows: NDArray[np.bool_]) -> SampleSize:
        """The size of a sample of `rows` [repeat, row], each of the same weight."""
        n_rows, n_groups = self.counts(rows)
        return SampleSize.of([n_rows], [n_groups])

    def size_for(self, metric: Metric) -> SampleSize:
        """The size of the tested rows; the rarest label decides it if all weigh the same."""
        if not metric.balances:
            return self.size(self.tested)
        labels = np.unique(self.y[self.tested.any(axis=0)])
        of_labels = [self.counts(self.tested & (self.y == label)) for label in labels]
        n_rows, n_groups = zip(*of_labels, strict=True)
        return SampleSize.of(n_rows, n_groups)


class ColumnTable:
    """Losses summed over groups: one column for each layer, for the peak and for each baseline."""

    def __init__(
        self,
        test: TestedRows,
        base: Floats,
        metric: Metric,
        is_normalised: bool = False,
        folds: Folds | None = None,
    ) -> None:
        """`base` [repeat, row] of all columns; normalised scores can exceed 1 in a difference.

        `folds` decide by how much intervals are wider for other training rows; None: those of the
        design. Intervals for the fitted probes alone have `Folds()`.
        """
        design = test.design
        self.folds = folds or Folds(design.n_folds, design.n_repeats)
        self.test, self.base, self.metric, self.is_normalised = test, base, metric, is_normalised
        self.column: dict[str | int, int] = {}  # number of each column, by layer index or name
        self._loss: list[Floats] = []
        self._inner_excess: list[Floats] = []

    def add(self, name: str | int, loss: Floats, excess: Floats | None = None) -> None:
        """Add losses [repeat, row].

        `excess` [outer]: inner validation score minus test score, if there is an inner score.
        """
        self.column[name] = len(self.column)
        self._loss.append(self.test.group_sums(loss))
        n_outer = len(self.test.design.outer)
        self._inner_excess.append(np.zeros(n_outer) if excess is None else excess)

    def bootstrap(self, confidence: float, resamples: int, seed: int) -> GroupBootstrap:
        sums = GroupSums(
            np.stack(self._loss),
            self.test.group_sums(self.base),
            size=self.test.size_for(self.metric),
            is_proportion=self.metric.is_proportion,
            inner_excess=np.stack(self._inner_excess, axis=1),
            folds=self.folds,
            is_normalised=self.is_normalised,
        )
        return bootstrap_groups(sums, confidence, resamples, seed)


def differences(
    bootstrap: GroupBootstrap, columns: Sequence[int], reference: int, errors: float | None = None
) -> list[Difference | None]:
    """Difference of each column to the reference; None for the reference itself."""
    figures = zip(columns, *bootstrap.differences(columns, reference, errors), strict=True)
    return [
        None
        if k == reference
        else {"difference": float(difference), "low": float(low), "high": float(high)}
        for k, difference, low, high in figures
    ]


def column_intervals(bootstrap: GroupBootstrap) -> list[Interval]:
    """Score and interval of every column."""
    return [
        {"score": float(value), "low": float(low), "high": float(high)}
        for value, low, high in zip(bootstrap.value, *bootstrap.intervals(), strict=True)
    ]
