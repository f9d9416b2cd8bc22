"""Arrays that a fitted layer has, from its predictions alone."""

from __future__ import annotations

import numpy as np

from vsp.evaluation.metrics import METRICS, R_SQUARED, label_shares, score_of_sums
from vsp.evaluation.tested_rows import split_losses


def metric_for(y):
    """Accuracy for labels, R² for numbers."""
    return R_SQUARED if y.dtype.kind == "f" else METRICS["accuracy"]


def losses(y, design, predicted):
    """`loss` and `base` [repeat, row] and `outer_score` [outer] of `predicted` [repeat, row]."""
    if y.dtype.kind != "f":  # accuracy, without the detour over scores
        base = (design.test_split >= 0).astype(float)
        loss = base * (predicted != y)
        tests = [(outer.repeat, outer.test) for outer in design.outer]
        of_split = np.array([1 - loss[rows].mean() for rows in tests])
        return {"loss": loss, "base": base, "outer_score": of_split}
    metric, cells, scores = metric_for(y), [], []
    for outer in design.outer:
        said = predicted[outer.repeat, outer.test]
        shares = label_shares(y, design.train_sets[outer.train_set])
        rows = said[None].astype(float)
        cells.append((outer, list(metric.cells(y[outer.test], rows, shares, ""))))
        scores.append(score_of_sums(metric.sums(y[outer.test], rows, shares)))
    loss, base = split_losses(metric, design, cells)
    return {"loss": loss, "base": base, "outer_score": np.array(scores)}
