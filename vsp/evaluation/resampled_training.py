"""Resamples of the training rows, for the part of the uncertainty that fitting adds."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vsp.datasets.splitting import integer_codes

N_RESAMPLES = 100


def group_resamples(
    group: NDArray[np.str_], train: NDArray[np.bool_], n: int, seed: int
) -> NDArray[np.intp]:
    """How often each training row counts [resample, row]: whole groups drawn with replacement.

    Runs with the same groups have the same resamples, so their differences are paired.
    """
    code = integer_codes(group[train])
    n_groups = int(code.max()) + 1
    rng = np.random.default_rng(seed)
    counts = np.zeros((n, len(group)), dtype=np.intp)
    for one in counts:
        drawn = np.bincount(rng.integers(n_groups, size=n_groups), minlength=n_groups)
        one[train] = drawn[code]
    return counts
