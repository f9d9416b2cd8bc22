"""Whether the label of a row is the one that its names or its boxes suggest.

Rows of which they suggest another label are counter-intuitive: a model that follows the usual relation
of two things, or a simple cue of the picture, is wrong there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vsp.datasets import questions
from vsp.datasets.relations import INVERSE
from vsp.datasets.splitting import integer_codes
from vsp.evaluation.study_rows import Texts

CONSISTENT, COUNTER = "consistent", "counter-intuitive"
USUAL_LABEL, BOX_CUE = "usual-label", "box-cue"  # names that --by takes besides the fields
MEANING = {
    USUAL_LABEL: "the label is the most frequent one of the same two names, in order, in the training "
    "rows of the split that tests the row",
    BOX_CUE: "the label is the one that a rule of boxes gives: centres for left, right, above, below, on "
    "and under, the lower edge for in front and behind (lower is nearer), the area for larger and smaller",
}
_LEAST_ROWS = 2  # training rows of a pair of names from which a usual label is read
_BY_CENTRE_X, _BY_CENTRE_Y = ("left_of", "right_of"), (("above", "below"), ("on", "under"))
_NEARER, _LARGER = ("in_front_of", "behind"), ("larger", "smaller")


def usual_label_strata(
    names: Sequence[tuple[str, str] | None],
    label: Texts,
    split: NDArray[np.intp],
    fitted: NDArray[np.bool_],
) -> list[str | None]:
    """The stratum of each row by its names; None without a usual label.

    `split` [row] is the outer split that tests a row, or -1, and `fitted` [outer, row] the training
    rows of each split. A usual label needs two training rows of the pair, and no other label as often.
    """
    known = np.array([one is not None for one in names])
    pair = integer_codes(np.array(["\n".join(one) if one else "" for one in names]))
    code = integer_codes(label)
    n_labels = int(code.max()) + 1
    strata: list[str | None] = [None] * len(label)
    for one in np.unique(split[split >= 0]).tolist():
        counts = np.zeros((int(pair.max()) + 1, n_labels), np.intp)
        training = np.flatnonzero(fitted[one] & known)
        np.add.at(counts, (pair[training], code[training]), 1)
        for row in np.flatnonzero((split == one) & known).tolist():
            of_pair = counts[pair[row]]
            best = of_pair.max()
            if of_pair.sum() >= _LEAST_ROWS and (of_pair == best).sum() == 1:
                strata[row] = CONSISTENT if of_pair.argmax() == code[row] else COUNTER
    return strata


def names_of(record: Mapping[str, Any]) -> tuple[str, str] | None:
    """Subject and reference of a record; None if it lacks one."""
    fields = questions.fields_of(dict(record)) or record
    subject, reference = fields.get("subject"), fields.get("reference")
    return (str(subject), str(reference)) if subject and reference else None


def boxes_of(record: Mapping[str, Any]) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """The boxes of subject and reference; None if the record lacks one."""
    boxes = [record.get(f"{part}_box") for part in questions.PARTS]
    if not all(isinstance(one, list | tuple) and len(one) == 4 for one in boxes):
        return None
    try:
        subject, reference = (tuple(map(float, one or ())) for one in boxes)
    except (TypeError, ValueError):
        return None
    return subject, reference


def box_cue_stratum(
    boxes: tuple[tuple[float, ...], tuple[float, ...]] | None, label: str
) -> str | None:
    """The stratum by the boxes; None without boxes, without a rule for the label, or for a tie."""
    suggested = None if boxes is None else _suggested(*boxes, label.replace(" ", "_"))
    if suggested is None:
        return None
    return CONSISTENT if suggested == label.replace(" ", "_") else COUNTER


def _suggested(subject: tuple[float, ...], reference: tuple[float, ...], label: str) -> str | None:
    """Of the label and its inverse, the one that the boxes suggest."""
    if label not in INVERSE:
        return None
    left, top, right, bottom = (a - b for a, b in zip(subject, reference, strict=True))
    if label in _BY_CENTRE_X:
        return _first_if(left + right, _BY_CENTRE_X)
    for pair in _BY_CENTRE_Y:
        if label in pair:
            return _first_if(top + bottom, pair)
    if label in _NEARER:  # y grows downwards
        return _first_if(-bottom, _NEARER)
    if label in _LARGER:
        return _first_if(_area(reference) - _area(subject), _LARGER)
    return None


def _first_if(difference: float, pair: tuple[str, str]) -> str | None:
    """The first label if the difference is negative, the second if positive, None if it is 0."""
    if not difference:
        return None
    return pair[0] if difference < 0 else pair[1]


def _area(box: tuple[float, ...]) -> float:
    return max(box[2] - box[0], 0) * max(box[3] - box[1], 0)
