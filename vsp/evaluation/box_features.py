"""Features of the boxes of subject and reference: what their geometry alone gives."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vsp.evaluation.probed_rows import ProbedRows
from vsp.evaluation.scores import Floats

_SMALL = 1e-6  # added to areas and sizes before a division or logarithm


def has_boxes(rows: ProbedRows) -> NDArray[np.bool_]:
    """A mask [row] of the rows that have both boxes."""
    boxes = np.concatenate([rows.subject_box, rows.reference_box], axis=1)
    return np.asarray(np.isfinite(boxes).all(axis=1))


def box_features(rows: ProbedRows) -> NDArray[np.float32]:
    """Places, sizes, distances and overlap of both boxes, standardised [row, column].

    Rows without boxes have 0, the mean of the other rows.
    """
    known = has_boxes(rows)
    columns = _geometry(rows.subject_box[known], rows.reference_box[known])
    spread = columns.std(axis=0)
    standard = (columns - columns.mean(axis=0)) / np.where(spread > _SMALL, spread, 1.0)
    features = np.zeros((len(known), columns.shape[1]), np.float32)
    features[known] = standard
    return features


def _geometry(subject: Floats, reference: Floats) -> Floats:
    """Features [row, column] of boxes [row, (left, top, right, bottom)], shares of the picture."""
    low, high = (
        np.stack([subject[:, at : at + 2], reference[:, at : at + 2]]) for at in (0, 2)
    )  # [box, row, axis]
    centre, size = (low + high) / 2, np.maximum(high - low, 0)
    area = size.prod(axis=2) + _SMALL  # [box, row]
    apart = centre[0] - centre[1]
    gap = np.concatenate([low[1] - high[0], low[0] - high[1]], axis=1)  # on the four sides
    shared = np.clip(np.minimum(high[0], high[1]) - np.maximum(low[0], low[1]), 0, None)
    overlap = shared.prod(axis=1)
    further = np.abs(apart[:, :1]) > np.abs(apart[:, 1:])  # apart more in width than in height
    parts = [
        *low, *high, *centre, *size, apart, np.abs(apart), np.sign(apart),
        np.sign(apart) * further, np.sign(apart) * ~further,
        high[0] - high[1], low[0] - low[1], np.log((size[0] + _SMALL) / (size[1] + _SMALL)),
        np.log(area).T, np.log(area[0] / area[1])[:, None], gap, gap > 0, shared,
        (overlap / (area.sum(axis=0) - overlap))[:, None], (overlap / area).T,
    ]  # fmt: skip
    return np.concatenate([np.asarray(one, np.float64) for one in parts], axis=1)
