"""Losses of the tested rows of all outer splits."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vsp.evaluation.design import Design, OuterSplit
from vsp.evaluation.metrics import Metric, label_shares, normalised_losses, row_losses
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


def losses_of_labels(
    metric: Metric, y: NDArray[Any], design: Design, predicted: NDArray[np.intp]
) -> Floats:
    """Losses [repeat, row] of predicted labels [repeat, row], for a metric that reads only them."""
    cells = []
    for outer in design.outer:
        shares = label_shares(y, design.train_sets[outer.train_set])
        scores = np.eye(len(shares))[:, predicted[outer.repeat, outer.test]]
        cells.append((outer, list(metric.cells(y[outer.test], scores, shares, ""))))
    return split_losses(metric, design, cells)[0]


def chance_losses(metric: Metric, y: NDArray[Any], design: Design) -> tuple[Floats, Floats]:
    """As `split_losses`, of a prediction without states: label shares, or the training rows' mean.

    The shares are those of the final training set. The shares of each fold's own training set are
    not used: if two labels are about equally common, the more common label of the training set is
    the rarer label of the test fold, and the score would be far below one half.
    """
    of_all = label_shares(y, design.train_sets[design.final])
    cells = []
    for outer in design.outer:
        own = label_shares(y, design.train_sets[outer.train_set])
        scores = own if are_numbers(y) else np.log(np.maximum(of_all, np.finfo(float).tiny))
        of_rows = np.tile(scores[:, None], (1, len(outer.test)))
        cells.append((outer, list(metric.cells(y[outer.test], of_rows, own, "softmax"))))
    return split_losses(metric, design, cells)


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
