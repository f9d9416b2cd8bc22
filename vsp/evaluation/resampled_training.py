"""Resamples of the training rows, for the part of the uncertainty that fitting adds."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vsp.datasets.splitting import integer_codes
from vsp.errors import ProbeError
from vsp.evaluation.design import is_constant
from vsp.evaluation.scores import are_numbers

N_RESAMPLES = 100
_MAX_DRAWS = 20  # draws for each resample, on average


def group_resamples(
    y: NDArray[Any], group: NDArray[np.str_], train: NDArray[np.bool_], n: int, seed: int
) -> NDArray[np.intp]:
    """How often each training row counts [resample, row]: whole groups drawn with replacement.

    Resamples without one of the labels, or with one number only, are drawn again, since a probe
    cannot be fitted or scored there. Runs with the same groups and labels have the same resamples,
    so their differences are paired. Raises ProbeError if few draws have all labels.
    """
    code, of_train = integer_codes(group[train]), y[train]
    n_groups = int(code.max()) + 1
    rng = np.random.default_rng(seed)
    counts = np.zeros((n, len(group)), dtype=np.intp)
    found = 0
    for _ in range(_MAX_DRAWS * n):
        drawn = np.bincount(rng.integers(n_groups, size=n_groups), minlength=n_groups)[code]
        if _can_be_fitted(of_train, drawn > 0):
            counts[found, train] = drawn
            found += 1
        if found == n:
            return counts
    raise ProbeError(
        f"--over training: {found} of {_MAX_DRAWS * n} resamples of the {n_groups} training groups "
        "have every label, too few; leave out --over, or rare labels with --drop-label"
    )


def _can_be_fitted(y: NDArray[Any], drawn: NDArray[np.bool_]) -> bool:
    """Whether the drawn rows have all labels, or two numbers."""
    if are_numbers(y):
        return not is_constant(y[drawn])
    n = int(y.max()) + 1
    return bool(((np.bincount(y[drawn], minlength=n) > 0) == (np.bincount(y) > 0)).all())
