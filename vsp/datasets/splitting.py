"""Assign whole groups to folds, or to train, val and test, with even shares of labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array


def assign_folds(
    stratum: NDArray[np.intp], group: NDArray[np.intp], folds: int, rng: np.random.Generator
) -> NDArray[np.intp]:
    """The fold [row] of each row. Groups stay whole, and each stratum is spread evenly.

    Groups with equal counts per stratum are spread over the folds in equal numbers, in one vector
    operation. The remaining groups, the largest first, each go to the fold that has the smallest
    share of their strata. StratifiedGroupKFold instead loops over folds × groups × labels.
    """
    group_index = integer_codes(group)
    counts = _count_rows(stratum, group_index)
    n_groups = counts.shape[0]
    shuffled = rng.permutation(n_groups)
    # Groups with equal counts have the same product with a random vector, to the last bit.
    kind = np.unique(counts @ rng.random(counts.shape[1]), return_inverse=True)[1]
    order = shuffled[np.argsort(kind[shuffled], kind="stable")]
    n_of_kind = np.bincount(kind)
    place = np.arange(n_groups) - np.repeat(np.cumsum(n_of_kind) - n_of_kind, n_of_kind)
    even = place < np.repeat(n_of_kind // folds * folds, n_of_kind)
    fold = np.full(n_groups, -1)
    fold[order[even]] = place[even] % folds
    _place_one_by_one(order[~even], counts, fold, folds)
    return fold[group_index]


def assign_splits(
    stratum: NDArray[np.intp], group: NDArray[Any], shares: Sequence[float], seed: int
) -> NDArray[np.intp]:
    """The split [row] of each row, an index of `shares`. Groups stay whole; each split gets its
    share of every stratum's rows, as closely as the groups allow."""
    group_index = integer_codes(group)
    counts = _count_rows(stratum, group_index)
    split = np.full(counts.shape[0], -1)
    shuffled = np.random.default_rng(seed).permutation(counts.shape[0])
    _place_one_by_one(shuffled, counts, split, len(shares), np.asarray(shares))
    return split[group_index]


def _count_rows(stratum: NDArray[np.intp], group: NDArray[np.intp]) -> csr_array:
    """The number of rows [group, stratum] of each group in each stratum."""
    column = integer_codes(stratum)
    shape = (group.max() + 1, column.max() + 1)
    counts = csr_array((np.ones(len(column)), (group, column)), shape=shape)
    counts.sum_duplicates()
    return counts


def integer_codes(names: NDArray[Any]) -> NDArray[np.intp]:
    """The index of each name among the sorted distinct names."""
    return np.unique(names, return_inverse=True)[1]


def _place_one_by_one(
    groups: NDArray[np.intp],
    counts: csr_array,
    fold: NDArray[np.intp],
    folds: int,
    weights: NDArray[np.float64] | None = None,
) -> None:
    """Put each group into the fold with the smallest share of its strata; on a tie, into the fold
    with the fewest rows.

    `fold` [group] is filled in. A fold's target size is proportional to its weight.
    """
    room = np.ones(folds) if weights is None else weights
    sizes = counts.sum(axis=1)
    shares = np.zeros((folds, counts.shape[1]))  # of each stratum's rows that are placed already
    n_rows, total = np.zeros(folds), counts.sum(axis=0)
    for one in groups[np.argsort(-sizes[groups], kind="stable")]:
        span = slice(counts.indptr[one], counts.indptr[one + 1])
        strata = counts.indices[span]
        share = counts.data[span] / total[strata]
        k = np.lexsort((n_rows, np.round(shares[:, strata] @ share, 12)))[0]
        fold[one] = k
        shares[k, strata] += share / room[k]
        n_rows[k] += sizes[one] / room[k]
