"""Sums of signed unit differences of a layer, from which all figures of relation axes follow.

The mean cosine of all pairs of rows of different groups needs no pair: with unit vectors u and their
sum s_g over each group g, it is (‖Σ s_g‖² - Σ ‖s_g‖²) / (n² - Σ n_g²). The second sums leave out all
pairs of rows of one group, which depend on each other.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from vsp.errors import ProbeError
from vsp.evaluation.scores import Floats
from vsp.evaluation.twins import Twins

Indices = NDArray[np.intp]
_ROWS_AT_ONCE = 512  # whose differences are in memory


@dataclass(frozen=True, slots=True)
class LayerSums:
    """Sums of signed unit differences; a kind is a label, an axis has two kinds."""

    total: Floats  # [kind, hidden]
    within: Floats  # [kind, kind], products of the sums of two kinds within groups, over all groups
    by_group: Floats  # [group, axis, axis], products of the sums of two axes within a group
    n: Floats  # [group, kind], rows with a difference
    units: tuple[NDArray[np.float32], ...]  # of each axis: sums by group [group of it, hidden]

    @property
    def products(self) -> Floats:
        """Sum of the cosines of all pairs of rows of different groups [kind, kind]."""
        return np.asarray(self.total @ self.total.T - self.within)

    @property
    def n_pairs(self) -> Floats:
        """Number of these pairs [kind, kind]; a pair of one kind counts in both orders."""
        n = self.n.sum(axis=0)
        return np.asarray(np.outer(n, n) - self.n.T @ self.n)


def axis_groups(twins: Twins) -> list[Indices]:
    """The groups that have rows of each axis, ascending."""
    axis = twins.kind // 2
    return [np.unique(twins.group[axis == i]) for i in range(len(twins.axes))]


def layer_sums(
    states: NDArray[np.floating], others: NDArray[np.floating], twins: Twins, layer: int
) -> LayerSums:
    """The sums of a layer; `states` and `others` [row, hidden] are those of both runs.

    Raises ProbeError if a value is not finite.
    """
    n_axes, size = len(twins.axes), states.shape[1]
    n_kinds, groups = 2 * n_axes, axis_groups(twins)
    total, within = np.zeros((n_kinds, size)), np.zeros(n_kinds**2)
    by_group = np.zeros((twins.n_groups, n_axes, n_axes))
    n = np.zeros((twins.n_groups, n_kinds))
    units = tuple(np.zeros((len(one), size), np.float32) for one in groups)
    for block in _blocks(twins.group):
        kind, group = twins.kind[block], twins.group[block]
        difference = states[twins.row[block]].astype(np.float64)
        difference -= others[twins.other[block]]
        scale = _signed_scale(difference, kind % 2 == 1, layer)
        np.add.at(n, (group, kind), scale != 0)
        starts = np.flatnonzero(np.diff(group * n_kinds + kind, prepend=-1))
        sums = _sums(difference, scale, starts)
        kind, group = kind[starts], group[starts]
        total += (np.arange(n_kinds)[:, None] == kind).astype(np.float64) @ sums
        _add_products(sums, kind, group, within, by_group)
        starts = np.flatnonzero(np.diff(group * n_axes + kind // 2, prepend=-1))
        sums = _sums(sums, np.ones(len(sums)), starts)
        axis, group = kind[starts] // 2, group[starts]
        for i in range(n_axes):
            units[i][np.searchsorted(groups[i], group[axis == i])] = sums[axis == i]
    return LayerSums(total, within.reshape(n_kinds, n_kinds), by_group, n, units)


def _blocks(group: Indices) -> Iterator[slice]:
    """Slices of rows that do not cut a group."""
    starts = np.flatnonzero(np.diff(group, prepend=-1))
    first = 0
    for start in starts[1:].tolist():
        if start - first >= _ROWS_AT_ONCE:
            yield slice(first, start)
            first = start
    yield slice(first, len(group))


def _signed_scale(difference: Floats, is_second: NDArray[np.bool_], layer: int) -> Floats:
    """Factors [row] that give differences [row, hidden] length 1 and the sign of their label.

    0 where the states are equal.
    """
    length = np.sqrt(np.einsum("rh,rh->r", difference, difference))
    if not np.isfinite(length).all():
        raise ProbeError(
            f"layer {layer} has values that are not finite, so a store is damaged; "
            "find the rows with `vsp verify --repair`"
        )
    sign = np.where(is_second, -1.0, 1.0)
    scale: Floats = np.divide(sign, length, out=np.zeros_like(length), where=length > 0)
    return scale


def _sums(rows: Floats, scale: Floats, starts: Indices) -> Floats:
    """Sums of scaled rows from each start to the next; np.add.reduceat is several times slower."""
    ends = np.append(starts, len(rows))
    weights: Any = csr_array((scale, np.arange(len(rows)), ends), (len(starts), len(rows)))
    return np.asarray(weights @ rows, np.float64)


def _add_products(
    sums: Floats, kind: Indices, group: Indices, within: Floats, by_group: Floats
) -> None:
    """Add the products of the sums [kind of a group, hidden] of each group with each other."""
    n_axes = by_group.shape[1]
    n_kinds, flat = 2 * n_axes, by_group.reshape(-1)
    for shift in range(min(n_kinds, len(sums))):
        upper, lower = slice(shift, None), slice(0, len(sums) - shift)
        same = np.flatnonzero(group[upper] == group[lower])
        if not len(same):
            return  # kinds of one group lie next to each other
        dots = np.einsum("ch,ch->c", sums[upper][same], sums[lower][same])
        pairs = (kind[upper][same], kind[lower][same]), (kind[lower][same], kind[upper][same])
        of_group = group[upper][same]
        for one, other in pairs if shift else pairs[:1]:
            within += np.bincount(one * n_kinds + other, dots, n_kinds**2)
            place = (of_group * n_axes + one // 2) * n_axes + other // 2
            np.add.at(flat, place, dots)
