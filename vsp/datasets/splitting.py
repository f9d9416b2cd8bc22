"""Whole groups dealt out to folds, or to train, validation and test, with even shares of labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array


def assign_folds(
    stratum: NDArray[np.intp], group: NDArray[np.intp], folds: int, rng: np.random.Generator
) -> NDArray[np.intp]:
    """The fold [row] of each row: whole groups, every stratum spread evenly.

    Groups that hold the same are dealt out in equal numbers. What remains goes, the largest
    first, where the folds have least of what it holds. So the time does not grow with folds ×
    groups × labels in Python, as that of StratifiedGroupKFold does.
    """
    number = integer_codes(group)
    held = _held(stratum, number)
    n_groups = held.shape[0]
    shuffled = rng.permutation(n_groups)
    # Groups that hold the same have the same product with a vector, to the last bit.
    kind = np.unique(held @ rng.random(held.shape[1]), return_inverse=True)[1]
    order = shuffled[np.argsort(kind[shuffled], kind="stable")]
    n_of_kind = np.bincount(kind)
    place = np.arange(n_groups) - np.repeat(np.cumsum(n_of_kind) - n_of_kind, n_of_kind)
    even = place < np.repeat(n_of_kind // folds * folds, n_of_kind)
    fold = np.full(n_groups, -1)
    fold[order[even]] = place[even] % folds
    _place_one_by_one(order[~even], held, fold, folds)
    return fold[number]


def assign_splits(
    stratum: NDArray[np.intp], group: NDArray[Any], shares: Sequence[float], seed: int
) -> NDArray[np.intp]:
    """The side [row] of each row: whole groups, sides with these shares of every stratum's rows,
    as nearly as groups allow."""
    number = integer_codes(group)
    held = _held(stratum, number)
    side = np.full(held.shape[0], -1)
    shuffled = np.random.default_rng(seed).permutation(held.shape[0])
    _place_one_by_one(shuffled, held, side, len(shares), np.asarray(shares))
    return side[number]


def _held(stratum: NDArray[np.intp], group: NDArray[np.intp]) -> csr_array:
    """How many rows [group, stratum] a group has."""
    code = integer_codes(stratum)
    held = csr_array((np.ones(len(code)), (group, code)), shape=(group.max() + 1, code.max() + 1))
    held.sum_duplicates()
    return held


def integer_codes(names: NDArray[Any]) -> NDArray[np.intp]:
    """A number from 0 on for each name, in the order of names."""
    return np.unique(names, return_inverse=True)[1]


def _place_one_by_one(
    groups: NDArray[np.intp],
    held: csr_array,
    fold: NDArray[np.intp],
    folds: int,
    weights: NDArray[np.float64] | None = None,
) -> None:
    """Put each group where the shares of what it holds are smallest; of equals, the fewest rows.

    A fold of twice the weight takes twice as much.
    """
    room = np.ones(folds) if weights is None else weights
    sizes = held.sum(axis=1)
    shares = np.zeros((folds, held.shape[1]))  # of a stratum's rows, in what was put so far
    n_rows, total = np.zeros(folds), held.sum(axis=0)
    for one in groups[np.argsort(-sizes[groups], kind="stable")]:
        span = slice(held.indptr[one], held.indptr[one + 1])
        strata = held.indices[span]
        share = held.data[span] / total[strata]
        k = np.lexsort((n_rows, np.round(shares[:, strata] @ share, 12)))[0]
        fold[one] = k
        shares[k, strata] += share / room[k]
        n_rows[k] += sizes[one] / room[k]
