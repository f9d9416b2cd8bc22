"""Losses of the tested rows of all outer splits."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vsp.evaluation.design import Design, OuterSplit
from vsp.evaluation.metrics import (
    Metric,
    label_shares,
    log_shares,
    normalised_losses,
    row_losses,
    score_of_sums,
    sum_cells,
)
from vsp.evaluation.scores import Floats, are_numbers

Cells = list[tuple[Floats, Floats]]  # loss [row] and base [row] of each cell, on the test rows


def split_losses(
    metric: Metric, design: Design, cells: Iterable[tuple[OuterSplit, Cells]]
) -> tuple[Floats, Floats]:
    """Loss and base [repeat, row] from the cells of the outer splits, in the order of repeats.

    The score of a repeat is 1 − Σ loss / Σ base. Both are 0 for rows that are not tested.
    """
    shape = design.n_repeats, design.train_sets.shape[1]
    loss, base = np.zeros(shape), np.zeros(shape)
    for repeat, of_repeat in groupby(cells, key=lambda one: one[0].repeat):
        splits = list(of_repeat)
        rows = np.concatenate([outer.test for outer, _ in splits])
        joined = [
            (np.concatenate([cell[0] for cell in same]), np.concatenate([cell[1] for cell in same]))
            for same in zip(*(one for _, one in splits), strict=True)
        ]
        loss[repeat, rows], base[repeat, rows] = row_losses(metric, joined)
    return loss, base


def losses_of_scores(
    metric: Metric,
    y: NDArray[Any],
    design: Design,
    scores: Iterable[NDArray[Any]],
    priors: Iterable[Floats],
    link: str,
) -> tuple[Floats, Floats]:
    """Loss and base [repeat, row] as `split_losses`.

    `scores` and `priors` have, for each outer split, those of its test rows [class, row] and the label
    shares [class], or the mean [1], of the rows that were fitted for it. `link` is of `scores`.
    """
    cells = (
        (outer, list(metric.cells(y[outer.test], of_outer, prior, link)))
        for outer, of_outer, prior in zip(design.outer, scores, priors, strict=True)
    )
    return split_losses(metric, design, cells)


def score_splits(
    metric: Metric, y: NDArray[Any], design: Design, scores: Iterable[NDArray[Any]], link: str
) -> tuple[Floats, Floats, Floats]:
    """Loss and base [repeat, row] as `split_losses`, and the score of each outer split.

    `scores` has, for each outer split, those of its test rows [class, row]. `link` is of `scores`.
    """
    cells, of_split = [], []
    for outer, of_outer in zip(design.outer, scores, strict=True):
        shares = label_shares(y, design.train_sets[outer.train_set])
        of_cells = list(metric.cells(y[outer.test], of_outer, shares, link))
        cells.append((outer, of_cells))
        of_split.append(score_of_sums(sum_cells(of_cells)))
    return *split_losses(metric, design, cells), np.array(of_split)


def losses_of_labels(
    metric: Metric, y: NDArray[Any], design: Design, predicted: NDArray[np.intp]
) -> Floats:
    """Losses [repeat, row] of predicted labels [repeat, row], for a metric that reads only them.

    A prediction can be a label that no row has.
    """
    one_hot = np.eye(max(int(y.max()), int(predicted.max())) + 1)
    scores = (one_hot[:, predicted[outer.repeat, outer.test]] for outer in design.outer)
    return score_splits(metric, y, design, scores, "")[0]


def chance_losses(metric: Metric, y: NDArray[Any], design: Design) -> tuple[Floats, Floats]:
    """As `split_losses`, of a prediction without states: label shares, or the training rows' mean.

    The shares are those of the final training set. The shares of each fold's own training set are
    not used: if two labels are about equally common, the more common label of the training set is
    the rarer label of the test fold, and the score would be far below one half.
    """
    of_all = log_shares(label_shares(y, design.train_sets[design.final]))
    scores = []
    for outer in design.outer:
        own = label_shares(y, design.train_sets[outer.train_set])
        one = own if are_numbers(y) else of_all
        scores.append(np.tile(one[:, None], (1, len(outer.test))))
    return score_splits(metric, y, design, scores, "softmax")[:2]


def normalised_on_tested(
    design: Design, loss: tuple[Floats, Floats], chance: tuple[Floats, Floats]
) -> Floats:
    """`normalised_losses` [repeat, row] of the tested rows alone; 0 for the other rows.

    Rows that are not tested have no influence on a score, so they must not count in its mean.
    """
    tested = design.test_split >= 0
    result = np.zeros(tested.shape)
    of_score, of_chance = ((one[0][tested], one[1][tested]) for one in (loss, chance))
    result[tested] = normalised_losses(of_score, of_chance)
    return result
