"""Bootstrap resamples of groups and sign flips of groups, for the figures of relation axes.

Both are weights of groups: how often a resample has a group, or its sign. For weights w, the sum of
cosines over pairs of different groups is ‖Σ w_g s_g‖² - Σ w_g² ‖s_g‖². Pairs of copies of one group are
thus left out, as pairs of rows of one group are.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vsp.evaluation.axis_sums import Indices, LayerSums
from vsp.evaluation.scores import Floats
from vsp.evaluation.sign_flips import draw_signs, n_sign_flips
from vsp.evaluation.statistics import group_counts

_GROUPS_AT_ONCE, _DRAWS_AT_ONCE = 4096, 256
_EQUAL = 1e-5  # sums in float32 differ in the last digits, relative to the sum of squares


@dataclass(frozen=True, slots=True)
class Draws:
    """Weights of all groups, the same in every layer."""

    counts: NDArray[np.int16]  # [resample, group]
    signs: NDArray[np.int8]  # [flip, group]
    groups: tuple[Indices, ...]  # that each axis has

    @classmethod
    def of(
        cls, groups: list[Indices], n_groups: int, resamples: int, flips: int, seed: int
    ) -> Draws:
        n = n_sign_flips(n_groups, flips)
        counts, signs = group_counts(n_groups, resamples, seed), draw_signs(n_groups, n, seed)
        return cls(
            np.concatenate([one.astype(np.int16) for one in counts]),
            np.concatenate([one.astype(np.int8) for one in signs]),
            tuple(groups),
        )


@dataclass(frozen=True, slots=True)
class LayerDraws:
    """The figures of a layer in all draws."""

    resampled: Floats  # [resample, axis, axis], mean cosine of rows of two axes; NaN if undefined
    flipped: Floats  # [flip, axis], sum of cosines under random signs
    summed: Floats  # [axis], the observed sum
    scale: Floats  # [axis], sum of squares, to which rounding errors are proportional


def draw_layer(sums: LayerSums, draws: Draws) -> LayerDraws:
    """The mean cosines of a layer in all resamples, and their sums under all sign flips."""
    n_axes = len(draws.groups)
    sides = [_weighted_sums(sums.units[i], draws, i) for i in range(n_axes)]
    n_resamples, diagonal = len(draws.counts), np.arange(n_axes)
    resampled = np.empty((n_resamples, n_axes, n_axes))
    for i, j in zip(*np.triu_indices(n_axes), strict=True):
        dots = np.einsum("dh,dh->d", sides[i][:n_resamples], sides[j][:n_resamples])
        resampled[:, i, j] = resampled[:, j, i] = dots
    own = sums.by_group.sum(axis=0)[diagonal, diagonal]
    flipped = np.stack(
        [np.einsum("dh,dh->d", one[n_resamples:], one[n_resamples:]) for one in sides], axis=1
    )
    products = sums.products.reshape(n_axes, 2, n_axes, 2).sum(axis=(1, 3))
    return LayerDraws(
        _mean_cosines(resampled, sums, draws),
        flipped - own,
        products[diagonal, diagonal],
        own,
    )


def _weighted_sums(units: NDArray[np.float32], draws: Draws, axis: int) -> NDArray[np.float32]:
    """The sum of an axis in every resample, then under every sign flip [draw, hidden]."""
    groups, n = draws.groups[axis], len(draws.counts) + len(draws.signs)
    summed = np.zeros((n, units.shape[1]), np.float32)
    for start in range(0, len(groups), _GROUPS_AT_ONCE):
        some = groups[start : start + _GROUPS_AT_ONCE]
        weights = np.concatenate([draws.counts[:, some], draws.signs[:, some]], dtype=np.float32)
        summed += weights @ units[start : start + _GROUPS_AT_ONCE]
    return summed


def _mean_cosines(summed: Floats, sums: LayerSums, draws: Draws) -> Floats:
    """Mean cosines over pairs of rows of different groups, from sums over all pairs."""
    n_groups, n_axes = sums.by_group.shape[:2]
    n = sums.n.reshape(n_groups, n_axes, 2).sum(axis=2)
    of_group = np.stack([sums.by_group, n[:, :, None] * n[:, None, :]], axis=1)
    means = np.full_like(summed, np.nan)
    for start in range(0, len(summed), _DRAWS_AT_ONCE):
        counts = draws.counts[start : start + _DRAWS_AT_ONCE].astype(np.float64)
        own, own_n = np.tensordot(counts**2, of_group, 1).swapaxes(0, 1)
        rows = counts @ n
        pairs = rows[:, :, None] * rows[:, None, :] - own_n
        some = means[start : start + _DRAWS_AT_ONCE]
        np.divide(summed[start : start + _DRAWS_AT_ONCE] - own, pairs, out=some, where=pairs > 0)
    return means


def flip_p(layers: list[LayerDraws], is_exact: bool) -> tuple[Floats, Floats]:
    """One-sided p value [layer, axis] of a coherence above 0, and p corrected over layers and axes.

    Under the null hypothesis, a run and its twin are exchangeable within a group, so that all signed
    differences of a group can change their sign. The correction uses the maximum of the studentised
    sums. NaN where no pair has a difference.
    """
    flipped = np.stack([one.flipped for one in layers])  # [layer, flip, axis]
    error = flipped.std(axis=1)
    known = error > 0
    scale = np.where(known, error, 1.0)
    observed = np.stack([one.summed - _EQUAL * one.scale for one in layers]) / scale
    flipped /= scale[:, None]
    maximum = np.where(known[:, None], flipped, -np.inf).max(axis=(0, 2))
    n_as_large = (flipped >= observed[:, None]).sum(axis=1)
    n_maxima = (maximum[:, None, None] >= observed).sum(axis=0)
    n = flipped.shape[1]
    alone, corrected = (
        np.where(known, one / n if is_exact else (1 + one) / (1 + n), np.nan)
        for one in (n_as_large, n_maxima)
    )
    return alone, corrected
