"""The peak: in each outer split, the candidate with the best inner validation score.

The candidates are the layers of a model, or the baselines that read the words. Figures of the peak
use the test rows of each split at the candidate that its own inner folds chose, so they are not
biased by the choice. Figures of the layer that is best on all rows are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vsp.evaluation.column_table import Interval, TestedRows, column_intervals
from vsp.evaluation.design import Design
from vsp.evaluation.metrics import Metric
from vsp.evaluation.scores import Floats, are_numbers
from vsp.evaluation.statistics import Folds, GroupSums, bootstrap_groups, first_best
from vsp.evaluation.tested_rows import losses_of_labels

_OF_ROWS = ("predicted", "probability", "loss")  # arrays [repeat, row, …] of a fit
_CONTROL_LOSS = ("control.", ".loss")
Recall = dict[str, dict[str, float] | None] | None  # label → score, low, high and n, or None


@dataclass(slots=True)
class Selection:
    """Arrays [repeat, row, …] of the candidate that each outer split chose."""

    design: Design
    inner: Floats  # inner validation score at the chosen strength [candidate, outer]
    arrays: dict[str, NDArray[Any]] = field(default_factory=dict)
    outer_score: Floats = field(init=False)  # test score [outer]

    def __post_init__(self) -> None:
        self.outer_score = np.zeros(len(self.design.outer))

    @property
    def chosen(self) -> NDArray[np.intp]:
        """The candidate with the best inner score [outer]."""
        return first_best(self.inner)

    @property
    def excess(self) -> Floats:
        """Inner validation score minus test score of the chosen candidate [outer]."""
        return np.asarray(self.inner.max(axis=0) - self.outer_score)

    def take(self, k: int, fit: Mapping[str, NDArray[Any]]) -> None:
        """Take the test rows of the splits that chose candidate `k`."""
        for i in np.flatnonzero(self.chosen == k):
            split = self.design.outer[i]
            self.outer_score[i] = fit["outer_score"][i]
            for name in fit:
                if name in _OF_ROWS or is_control_loss(name):
                    taken = self.arrays.setdefault(name, _empty_like(fit[name]))
                    taken[split.repeat, split.test] = fit[name][split.repeat, split.test]

    def losses(self, metric: Metric, y: NDArray[Any]) -> Floats:
        """Losses [repeat, row] of the chosen candidates.

        Balanced accuracy is computed again from the joined predictions, since the loss of a row
        depends on all rows. The losses of AUC are those of each candidate.
        """
        if metric.balances and metric.reads_labels:
            return losses_of_labels(metric, y, self.design, self.arrays["predicted"])
        return self.arrays["loss"]

    def counts(self, names: Sequence[int]) -> dict[str, int]:
        """How many splits chose each candidate, in the order of `names`."""
        times = Counter(self.chosen.tolist())
        return {str(names[k]): times[k] for k in sorted(times)}


def _empty_like(array: NDArray[Any]) -> NDArray[Any]:
    """Values that mark rows that are not tested: 0 for losses, -1 for classes, otherwise nan."""
    if array.dtype.kind != "f":
        return np.full_like(array, -1)
    return np.full_like(array, np.nan if array.dtype == np.float32 else 0.0)


def is_control_loss(name: str) -> bool:
    """Whether an array of a fit holds the losses of a control task."""
    return name.startswith(_CONTROL_LOSS[0]) and name.endswith(_CONTROL_LOSS[1])


def inner_scores(fit: Mapping[str, NDArray[Any]]) -> Floats:
    """Inner validation scores [outer] at the chosen strength; -inf if undefined, never the best."""
    inner = fit["inner"][np.arange(len(fit["inner"])), fit["chosen"]].astype(np.float64)
    return np.where(np.isfinite(inner), inner, -np.inf)


def recall_intervals(
    test: TestedRows, predicted: NDArray[Any], names: Sequence[str], confidence: float,
    resamples: int, seed: int,
) -> Recall:  # fmt: skip
    """Recall of each label with its interval, from the test rows of the label.

    The interval is about other test rows, for the fitted probes. Other training rows can move many
    predictions from one label to another, which the folds of one dataset do not show. `predicted`
    is [repeat, row]. None for numbers; a label without test rows has None.
    """
    return recall_by_column(test, predicted[None], names, confidence, resamples, seed)[0]


def recall_by_column(
    test: TestedRows, predicted: NDArray[Any], names: Sequence[str], confidence: float,
    resamples: int, seed: int,
) -> list[Recall]:  # fmt: skip
    """As `recall_intervals`, for predictions [column, repeat, row] that share their resamples."""
    if are_numbers(test.y):
        return [None] * len(predicted)
    right = predicted == test.y
    recall: list[dict[str, dict[str, float] | None]] = [{} for _ in predicted]
    for label, name in enumerate(names):
        rows = test.tested & (test.y == label)
        if not rows.any():
            for of_column in recall:
                of_column[name] = None
            continue
        n_rows = round(test.counts(rows)[0])
        shares = _shares_right(test, right, rows, Folds(), confidence, resamples, seed)
        for of_column, share in zip(recall, shares, strict=True):
            of_column[name] = {**share, "n": n_rows}
    return [*recall]


def share_right(
    test: TestedRows,
    right: NDArray[np.bool_],
    rows: NDArray[np.bool_],
    folds: Folds,
    confidence: float,
    resamples: int,
    seed: int,
) -> Interval:
    """Share of right predictions among `rows` [repeat, row], resampled over their groups.

    `folds`: the folds whose largest effect on the variance is assumed; one fold has none.
    """
    return _shares_right(test, right[None], rows, folds, confidence, resamples, seed)[0]


def _shares_right(
    test: TestedRows,
    right: NDArray[np.bool_],
    rows: NDArray[np.bool_],
    folds: Folds,
    confidence: float,
    resamples: int,
    seed: int,
) -> list[Interval]:
    """As `share_right`, of each column of `right` [column, repeat, row], in the same resamples."""
    ever = np.flatnonzero(rows.any(axis=0))
    group = np.zeros(rows.shape[1], dtype=np.intp)
    group[ever] = np.unique(test.group[ever], return_inverse=True)[1]
    n_groups = int(group.max()) + 1

    def group_sums(chosen: NDArray[np.bool_]) -> Floats:
        return np.stack([np.bincount(group, one, n_groups) for one in chosen]).astype(np.float64)

    # Inner scores of these rows are not kept; without them the largest effect is assumed.
    excess = np.full((len(test.design.outer), len(right)), np.nan)
    loss = np.stack([group_sums(rows & ~of_column) for of_column in right])
    sums = GroupSums(loss, group_sums(rows), test.size(rows), True, excess, folds)
    return column_intervals(bootstrap_groups(sums, confidence, resamples, seed))
