"""The sums of relation axes equal the mean over all pairs of rows, computed pair by pair."""

import numpy as np
import pytest
from helpers.twin_runs import twins_of

from vsp.errors import ProbeError
from vsp.evaluation.axis_draws import Draws, draw_layer, flip_p
from vsp.evaluation.axis_sums import layer_sums

SIGN = np.array([1.0, -1.0])


def _rows(n=160, n_axes=3, n_groups=40, size=9, seed=0):
    """Differences, kinds and groups of different sizes; some differences are 0."""
    rng = np.random.default_rng(seed)
    kind, group = rng.integers(2 * n_axes, size=n), rng.integers(n_groups, size=n)
    difference = rng.normal(size=(n, size)) + 0.8 * rng.normal(size=(n_groups, size))[group]
    difference[rng.random(n) < 0.05] = 0.0
    return difference, kind, group


def _cosines(difference, kind):
    """Cosines of all signed differences [row, row]; nan where one is 0."""
    length = np.linalg.norm(difference, axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        unit = difference * (SIGN[kind % 2] / length)[:, None]
    return unit @ unit.T


def _naive_mean(cosine, ours, theirs, group, weight=None):
    """Mean over all pairs of rows of different groups, one pair after the other."""
    total, n = 0.0, 0.0
    for i in np.flatnonzero(ours):
        for j in np.flatnonzero(theirs):
            if group[i] != group[j] and not np.isnan(cosine[i, j]):
                w = 1.0 if weight is None else weight[group[i]] * weight[group[j]]
                total, n = total + w * cosine[i, j], n + w
    return total / n


def _sums(difference, kind, group):
    twins, groups = twins_of(kind, group)
    base = np.random.default_rng(9).normal(size=difference.shape)
    base = np.where((difference == 0).all(axis=1)[:, None], 1.0, base)
    other = base - difference
    return layer_sums(base, other, twins, 0), twins, groups, _cosines(base - other, kind)


def test_mean_cosines_equal_those_over_all_pairs_of_different_groups():
    difference, kind, group = _rows()
    sums, *_, cosine = _sums(difference, kind, group)
    mean = sums.products / sums.n_pairs
    for i in range(6):
        for j in range(6):
            expected = _naive_mean(cosine, kind == i, kind == j, group)
            assert abs(mean[i, j] - expected) < 1e-10
    of_axes = sums.products.reshape(3, 2, 3, 2).sum(axis=(1, 3))
    of_axes /= sums.n_pairs.reshape(3, 2, 3, 2).sum(axis=(1, 3))
    for i in range(3):
        for j in range(3):
            expected = _naive_mean(cosine, kind // 2 == i, kind // 2 == j, group)
            assert abs(of_axes[i, j] - expected) < 1e-10


def test_pairs_within_a_group_do_not_count_at_all():
    """Rows of a group are equal and all groups are orthogonal: no pair that counts has a cosine."""
    group = np.repeat(np.arange(6), 5)
    difference = np.eye(6)[group]
    sums, *_ = _sums(difference, np.zeros(30, int), group)
    assert abs(sums.products[0, 0]) < 1e-12 and sums.n_pairs[0, 0] == 30 * 25


def test_a_large_group_is_not_cut():
    rng = np.random.default_rng(3)
    group = np.sort(np.minimum(rng.integers(40, size=3000), 20))  # one group has half of the rows
    kind, difference = rng.integers(2, size=3000), rng.normal(size=(3000, 4)) + 0.3
    sums, *_, cosine = _sums(difference, kind, group)
    apart = group[:, None] != group
    assert abs(sums.products.sum() / sums.n_pairs.sum() - cosine[apart].mean()) < 1e-10


def test_a_resample_leaves_out_pairs_of_copies_of_one_group():
    difference, kind, group = _rows(n_groups=12)
    sums, twins, groups, cosine = _sums(difference, kind, group)
    draws = Draws.of(groups, twins.n_groups, resamples=4, flips=5, seed=1)
    drawn = draw_layer(sums, draws)
    for weight, found in zip(draws.counts, drawn.resampled, strict=True):
        for i, j in ((0, 0), (1, 1), (0, 2)):
            expected = _naive_mean(cosine, kind // 2 == i, kind // 2 == j, group, weight)
            assert found[i, j] == pytest.approx(expected, abs=2e-6)


def test_a_flip_changes_the_sign_of_all_rows_of_a_group():
    difference, kind, group = _rows(n_groups=12)
    sums, twins, groups, cosine = _sums(difference, kind, group)
    draws = Draws.of(groups, twins.n_groups, resamples=1, flips=5, seed=1)
    assert set(np.unique(draws.signs)) == {-1, 1}
    drawn = draw_layer(sums, draws)
    apart = (group[:, None] != group) & ~np.isnan(cosine)
    for signs, found in zip(draws.signs, drawn.flipped, strict=True):
        both = np.where(apart, cosine * signs[group][:, None] * signs[group], 0.0)
        for i in range(3):
            of_axis = kind // 2 == i
            assert found[i] == pytest.approx(both[of_axis][:, of_axis].sum(), abs=1e-4)


def test_with_few_groups_all_flips_are_used_and_p_is_exact():
    rng = np.random.default_rng(0)
    group = np.arange(6)
    difference = rng.normal(size=(6, 5)) + np.array([3, 0, 0, 0, 0])
    sums, twins, groups, _ = _sums(difference, np.zeros(6, int), group)
    draws = Draws.of(groups, twins.n_groups, resamples=2, flips=100, seed=0)
    assert len(draws.signs) == 64 == len(np.unique(draws.signs, axis=0))
    alone, corrected = flip_p([draw_layer(sums, draws)], is_exact=True)
    assert alone[0, 0] == corrected[0, 0] == 2 / 64  # all signs equal: the observed ones, and both


def test_states_that_are_not_finite_are_refused_with_the_layer():
    twins, _ = twins_of([0, 0], [0, 1])
    states = np.ones((2, 3))
    states[1, 2] = np.inf
    with pytest.raises(ProbeError, match="layer 7 has values that are not finite"):
        layer_sums(states, np.zeros((2, 3)), twins, 7)
