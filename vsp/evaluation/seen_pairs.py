"""Accuracy on test rows whose name pair is in their training rows, and on those whose pair is not.

The words of a pair that was seen in training may tell its label; those of a new pair tell less.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vsp.evaluation.column_table import TestedRows
from vsp.evaluation.design import Design
from vsp.evaluation.peak import share_right
from vsp.evaluation.scores import are_numbers
from vsp.evaluation.statistics import Folds

_LEAST = 10  # rows on either side


def is_seen(design: Design, kind: NDArray[Any]) -> NDArray[np.bool_]:
    """A mask [repeat, row] of tested rows whose kind occurs in their training rows."""
    seen = np.zeros((design.n_repeats, len(kind)), dtype=bool)
    for split in design.outer:
        known = kind[design.train_sets[split.train_set]]
        seen[split.repeat, split.test] = np.isin(kind[split.test], known)
    return seen


def seen_and_unseen(
    test: TestedRows,
    kind: NDArray[Any],
    predicted: Mapping[str, NDArray[Any]],
    confidence: float,
    resamples: int,
    seed: int,
) -> dict[str, dict[str, Any]] | None:
    """Accuracy of each of `predicted` [repeat, row] on rows of seen and of unseen kinds.

    `kind` [row] is the name pair or the prompt. Each side has `n`, its rows in a repeat, and for
    each name of `predicted` {score, low, high}. None for numbers, or if a side has few rows.
    """
    if are_numbers(test.y):
        return None
    seen = is_seen(test.design, kind)
    sides = {"seen": test.tested & seen, "unseen": test.tested & ~seen}
    n_rows = {name: round(test.counts(rows)[0]) for name, rows in sides.items()}
    if min(n_rows.values()) < _LEAST:
        return None
    folds = Folds(test.design.n_folds, test.design.n_repeats)
    return {
        side: {
            "n": n_rows[side],
            **{
                name: share_right(test, one == test.y, rows, folds, confidence, resamples, seed)
                for name, one in predicted.items()
            },
        }
        for side, rows in sides.items()
    }
