"""Sign-flip test of the difference of two runs, corrected over layers."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from vsp.evaluation.scores import Floats
from vsp.evaluation.statistics import Folds, fold_factor

_SIGNS_IN_MEMORY = 4_000_000  # signs of groups drawn at once
_EQUAL = 1e-9  # sums in a different order differ in the last digits


def n_sign_flips(n_groups: int, limit: int) -> int:
    """Number of sign vectors: all 2^n_groups if they are at most `limit` + 1, otherwise `limit`."""
    n_all = 2 ** min(n_groups, 62)
    return n_all if n_all <= limit + 1 else limit


def draw_signs(n_groups: int, n: int, seed: int) -> Iterator[Floats]:
    """Sign vectors [flip, group] in blocks: all of them if there are `n`, otherwise random ones."""
    at_once, rng = max(1, _SIGNS_IN_MEMORY // n_groups), np.random.default_rng(seed)
    for start in range(0, n, at_once):
        numbers = np.arange(start, min(start + at_once, n))[:, None]
        flips = (
            numbers >> np.arange(n_groups) & 1
            if n == 2**n_groups
            else rng.integers(2, size=(len(numbers), n_groups), dtype=np.int8)
        )
        yield np.asarray(1.0 - 2.0 * flips)


def sign_flip_p(
    gained: Floats,
    inner_excess: Floats,
    folds: Folds,
    limit: int,
    seed: int,
    of_training: Floats | float = 0.0,
) -> tuple[Floats, Floats]:
    """Two-sided p value of each column and p value corrected over columns.

    `gained` [column, repeat, group] is the contribution of each group to a difference. Under the
    null hypothesis the two runs are exchangeable within a group, so its contribution can change
    sign. Each difference is first scaled by the variance that folds add (`inner_excess` [outer
    split, column]) and by `of_training` [column], its variance over refits. The correction uses the maximum of the studentised differences, so that a
    column with a large variance does not hide the others. The last column is the peak: it has a p
    value of its own and takes no part in the correction.
    """
    n_groups = gained.shape[2]
    n = n_sign_flips(n_groups, limit)
    share = gained.mean(axis=1)
    error = np.sqrt((share**2).sum(axis=1, keepdims=True))
    share = np.divide(share, error, out=np.zeros_like(share), where=error > 0)
    inflation = np.sqrt(_variance_inflation(gained, inner_excess, folds, of_training))
    observed = np.abs(share.sum(axis=1)) / inflation - _EQUAL
    n_as_large = np.zeros((2, len(gained)))
    exact = n == 2**n_groups
    for signs in draw_signs(n_groups, n, seed):
        drawn = np.abs(signs @ share.T)
        maximum = drawn[:, :-1].max(axis=1, keepdims=True, initial=0.0)
        n_as_large += (drawn >= observed).sum(axis=0), (maximum >= observed).sum(axis=0)
    alone, corrected = n_as_large / n if exact else (1 + n_as_large) / (1 + n)
    corrected[-1] = alone[-1]
    return alone, corrected


def _variance_inflation(
    gained: Floats, inner_excess: Floats, folds: Folds, of_training: Floats | float
) -> Floats:
    """Variance of a difference [column] relative to its variance under sign flips."""
    of_one = (gained**2).sum(axis=2).mean(axis=1)  # of one repeat, as in GroupBootstrap
    of_mean = (gained.mean(axis=1) ** 2).sum(axis=1)
    factor = fold_factor(inner_excess, of_one, folds)
    with np.errstate(divide="ignore", invalid="ignore"):
        factor = factor * np.where(of_mean > 0, of_one / of_mean, 1.0)
        factor = factor + np.where(of_mean > 0, of_training / of_mean, 0.0)
    # The factor of a single column is imprecise; a small one must not produce the maximum.
    return np.asarray(np.maximum(factor, factor.mean()))
