"""A permutation test among rows with the same words: does a score need more than the words?

Labels are exchanged among rows that name the same objects, or have the same prompt. A probe that
reads only the words predicts the same for all of them, so the exchange does not change its score.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vsp.datasets.splitting import integer_codes
from vsp.evaluation.design import Design, is_constant
from vsp.evaluation.scores import Floats

_LEAST = 100  # tested rows whose label can change; fewer give no power


def within_prompts(
    y: NDArray[Any], prompt: NDArray[np.str_], design: Design, n: int, seed: int
) -> tuple[NDArray[Any], int | None]:
    """Labels [permutation, row] exchanged among rows with the same prompt, and how many can change.

    The number is that of tested rows whose label can change; there are no permutations if it is
    under 100. It is None if all rows have one prompt: the test is then that of `permuted_labels`.
    """
    if is_constant(prompt):
        return np.empty((0, len(y)), y.dtype), None
    permuted, can_change = permuted_within(y, prompt, design.blocks, n, seed)
    n_rows = int((can_change & (design.test_split[0] >= 0)).sum())
    return permuted if n_rows >= _LEAST else permuted[:0], n_rows


def permuted_within(
    y: NDArray[Any], words: NDArray[Any], blocks: NDArray[np.intp], n: int, seed: int
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Labels [permutation, row], exchanged among rows of the same block with the same `words`.

    `words` and `blocks` are [row]. Also returns whether the label of a row can change [row].
    """
    kind = integer_codes(words)
    stratum = integer_codes(blocks * (kind.max() + 1) + kind)
    home = np.argsort(stratum, kind="stable")
    rng = np.random.default_rng(seed)
    permuted = np.empty((n, len(y)), dtype=y.dtype)
    for one in permuted:
        one[home] = y[np.lexsort((rng.random(len(y)), stratum))]
    lowest, highest = np.full(stratum.max() + 1, np.inf), np.full(stratum.max() + 1, -np.inf)
    np.minimum.at(lowest, stratum, y)
    np.maximum.at(highest, stratum, y)
    return permuted, np.asarray((lowest < highest)[stratum])


def studentised(observed: Floats, permuted: Floats) -> dict[str, Floats]:
    """Statistics of the true labels and of each permutation, from losses summed over groups.

    `observed` is [group], `permuted` [permutation, group]. The expected loss of a group is the mean
    over all of them. The statistic is the sum of the differences to it, over its standard error
    between groups. Rows of a group can depend on each other although single rows are exchanged;
    the standard error accounts for that (Janssen, "Studentized permutation tests for non-i.i.d.
    hypotheses and the generalized Behrens-Fisher problem", 1997). 0 if nothing differs.
    """
    losses = np.concatenate([observed[None], permuted])
    gain = losses.mean(axis=0) - losses
    gain[np.abs(gain) < 1e-9] = 0.0
    error = np.sqrt((gain**2).sum(axis=1))
    statistics = np.divide(gain.sum(axis=1), error, out=np.zeros(len(gain)), where=error > 0)
    return {"within_observed": np.array(statistics[0]), "within": statistics[1:]}
