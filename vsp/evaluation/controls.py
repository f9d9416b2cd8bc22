"""Labels without information: permuted labels, and labels that depend on the type of a row only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vsp.datasets.splitting import integer_codes
from vsp.evaluation.design import is_constant

_SIZE_TOLERANCE = 0.1  # largest relative size difference of one-label groups that exchange labels


@dataclass(frozen=True, slots=True)
class _Exchange:
    """Strata of groups. Groups of one stratum exchange their labels."""

    group: NDArray[np.intp]  # [row], a number
    stratum: NDArray[np.intp]  # [group]
    start: NDArray[np.intp]  # [group], where its rows begin in `order`
    rank: NDArray[np.intp]  # [row], its place in its group; 0 if all groups have one label
    order: NDArray[np.intp]  # rows, group by group


def permuted_labels(
    y: NDArray[Any],
    group: NDArray[np.str_],
    blocks: NDArray[np.intp],
    n: int,
    seed: int,
) -> tuple[NDArray[Any], int]:
    """Labels [permutation, row] under the null hypothesis that states say nothing about them.

    `blocks` [row] are numbers of exchangeability blocks. Groups of the same block and size exchange
    their labels row by row, so the dependence of rows within groups is preserved, and so is a
    relation of label and group size. If every group has one label, sizes may differ by 10 % and
    the label is given to all rows of the other group.

    Also returns `n_exchangeable_rows`. If it is small, the permutation test has little power.
    """
    exchange = _exchange(y, group, blocks)
    rng = np.random.default_rng(seed)
    home = np.argsort(exchange.stratum, kind="stable")
    permuted = np.empty((n, len(y)), dtype=y.dtype)
    source = np.empty_like(exchange.start)
    for i in range(n):
        drawn = np.lexsort((rng.random(len(home)), exchange.stratum))
        source[home] = exchange.start[drawn]
        permuted[i] = y[exchange.order[source[exchange.group] + exchange.rank]]
    return permuted, _n_exchangeable(y, exchange)


def n_exchangeable_rows(y: NDArray[Any], group: NDArray[np.str_], blocks: NDArray[np.intp]) -> int:
    """Number of rows whose stratum in `permuted_labels` has a group with other labels."""
    return _n_exchangeable(y, _exchange(y, group, blocks))


def _exchange(y: NDArray[Any], group: NDArray[np.str_], blocks: NDArray[np.intp]) -> _Exchange:
    number = integer_codes(group)
    order = np.argsort(number, kind="stable")
    size = np.bincount(number)
    start = np.cumsum(size) - size
    rank = np.empty(len(y), dtype=np.intp)
    rank[order] = np.arange(len(y)) - np.repeat(start, size)
    tolerance = 0.0
    if (y == y[order[start]][number]).all():
        rank[:] = 0
        tolerance = _SIZE_TOLERANCE
    return _Exchange(number, _strata(blocks[order[start]], size, tolerance), start, rank, order)


def _strata(block: NDArray[np.intp], size: NDArray[np.intp], tolerance: float) -> NDArray[np.intp]:
    """Stratum numbers [group]: same block, and sizes that differ by at most `tolerance`."""
    sizes, which = np.unique(size, return_inverse=True)
    size_class, smallest, current = np.empty(len(sizes), dtype=np.intp), 0, -1
    for i, n_rows in enumerate(sizes):
        if n_rows > smallest * (1 + tolerance):
            smallest, current = n_rows, current + 1
        size_class[i] = current
    return integer_codes(block * (current + 1) + size_class[which])


def _n_exchangeable(y: NDArray[Any], exchange: _Exchange) -> int:
    # A random projection of each group's labels: groups with equal labels have equal values.
    weights = np.random.default_rng(0).random(exchange.rank.max() + 1)
    value = np.bincount(exchange.group, y * weights[exchange.rank])
    if not exchange.rank.any():
        value = y[exchange.order[exchange.start]]
    lowest = np.full(exchange.stratum.max() + 1, np.inf)
    highest = -lowest
    np.minimum.at(lowest, exchange.stratum, value)
    np.maximum.at(highest, exchange.stratum, value)
    return int((lowest < highest)[exchange.stratum][exchange.group].sum())


def control_labels(types: NDArray[Any], y: NDArray[Any], n: int, seed: int) -> NDArray[Any] | None:
    """Labels [control task, row] that depend only on the type [row] of a row.

    Labels are drawn so that about as many rows have each label as in `y`, as far as the sizes of the
    types allow; every control task has at least two labels. For numbers, each type gets the number
    of a random row. None if there is only one type or one label. Source: Hewitt &
    Liang, "Designing and Interpreting Probes with Control Tasks", 2019.
    """
    kind = integer_codes(types)
    size = np.bincount(kind)
    if len(size) < 2 or is_constant(y):
        return None
    rng = np.random.default_rng(seed)
    if y.dtype.kind == "f":
        drawn = y[rng.integers(len(y), size=(n, len(size)))]
    else:
        drawn = np.empty((n, len(size)), dtype=y.dtype)
        for labels in drawn:
            labels[:] = _labels_of_types(size, np.bincount(y), rng)
    for labels in drawn:
        if is_constant(labels):
            others = y[y != labels[0]]
            labels[rng.integers(len(size))] = others[rng.integers(len(others))]
    return np.asarray(drawn[:, kind])


def shuffled_labels(y: NDArray[Any], n: int, seed: int) -> NDArray[Any] | None:
    """Labels [draw, row] in random order, each row by itself, whatever its group or type.

    Probes are fitted on them to measure their capacity. None for numbers.
    """
    if y.dtype.kind == "f" or not n:
        return None
    rng = np.random.default_rng(seed)
    return np.stack([rng.permutation(y) for _ in range(n)])


def _labels_of_types(
    size: NDArray[np.intp], counts: NDArray[np.intp], rng: np.random.Generator
) -> NDArray[np.intp]:
    """A random label [type], so that about `counts` [label] rows have each label.

    Types are visited from the largest to the smallest, equal ones in random order. The probability
    of a label is the share of the remaining rows that still need it.
    """
    labels = np.empty(len(size), dtype=np.intp)
    needed = counts.astype(np.float64)
    for one in np.lexsort((rng.random(len(size)), -size)):
        share = np.maximum(needed, 0.0)
        labels[one] = rng.choice(len(counts), p=share / share.sum())
        needed[labels[one]] -= size[one]
    return labels
