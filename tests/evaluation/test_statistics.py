from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from vsp.evaluation.statistics import (
    Folds,
    GroupSums,
    SampleSize,
    bootstrap_groups,
    fold_factor,
    permutation_p,
)

_OWN_SPLIT = Folds(1, 1)


def _bootstrap(loss, size=None, inner_excess=None, folds=_OWN_SPLIT, is_proportion=True, **changes):
    """Bootstrap of `loss` [column, repeat, group], summed over groups of `size` rows."""
    loss = np.asarray(loss, dtype=float)
    n_columns, n_repeats, n_groups = loss.shape
    base = np.ones((n_repeats, n_groups)) if size is None else np.tile(size, (n_repeats, 1))
    if inner_excess is None:
        inner_excess = np.zeros((folds.n * folds.n_repeats, n_columns))
    settings = {"confidence": 0.95, "resamples": 2000, "seed": 0, **changes}
    n_rows = int(base[0].sum())
    size = SampleSize.of([n_rows], [n_groups])
    sums = GroupSums(loss, base.astype(float), size, is_proportion, inner_excess, folds)
    return bootstrap_groups(sums, **settings)


def _wrong(n_groups=200, share=0.3, n_columns=1, seed=0):
    rng = np.random.default_rng(seed)
    return (rng.random((n_columns, 1, n_groups)) < share).astype(float)


@pytest.mark.parametrize(("n", "wrong"), [(400, 3), (400, 60), (400, 200), (400, 399)])
def test_of_single_rows_the_interval_is_wilsons(n, wrong):
    loss = (np.arange(n) < wrong).astype(float)[None, None]
    bootstrap = _bootstrap(loss)
    (low,), (high,) = bootstrap.intervals()
    known = binomtest(n - wrong, n).proportion_ci(method="wilson")
    np.testing.assert_allclose((low, high), (known.low, known.high), atol=0.004)
    assert bootstrap.value == 1 - wrong / n


def test_rows_that_repeat_each_other_in_a_group_tell_no_more_than_one():
    loss = _wrong()
    one, four = _bootstrap(loss), _bootstrap(4 * loss, size=np.full(200, 4))
    np.testing.assert_allclose(one.intervals(), four.intervals(), atol=0.002)
    as_rows = _bootstrap(np.repeat(loss, 4, axis=2))
    width = np.ptp(np.array(as_rows.intervals()), axis=0)
    assert width < 0.6 * np.ptp(np.array(four.intervals()), axis=0)


def test_repeats_that_say_the_same_tell_no_more_than_one():
    loss = _wrong()
    one, two = _bootstrap(loss), _bootstrap(np.repeat(loss, 2, axis=1))
    np.testing.assert_allclose(one.intervals(), two.intervals(), atol=1e-9)


def test_repeats_that_differ_tell_no_more_than_one():
    """Repeats split the same rows again; their mean varies less without more information."""
    rng = np.random.default_rng(0)
    four = np.full(200, 4)
    bootstrap = _bootstrap(4.0 * (rng.random((1, 8, 200)) < 0.3), four)
    one = _bootstrap(4 * _wrong(200, 0.3), four)
    widths = [float(np.ptp(np.array(each.intervals()))) for each in (bootstrap, one)]
    assert widths[0] == pytest.approx(widths[1], rel=0.1)


@pytest.mark.parametrize("last", [1, 2])
def test_groups_make_the_interval_not_less_wide_than_independent_rows_would(last):
    """By chance the variance over few groups can be tiny: here each has one of four rows wrong."""
    loss = np.ones((1, 1, 10))
    loss[..., -1] = last
    (low,), (high,) = _bootstrap(loss, size=np.full(10, 4)).intervals()
    known = binomtest(31 - last, 40).proportion_ci(method="wilson")
    assert low < known.low and high > known.high


@pytest.mark.parametrize("n_groups", [1, 5, 50])
def test_where_no_row_is_judged_wrongly_a_group_counts_as_a_row(n_groups):
    bootstrap = _bootstrap(np.zeros((1, 1, n_groups)), size=np.full(n_groups, 8))
    (low,), (high,) = bootstrap.intervals()
    known = binomtest(n_groups, n_groups).proportion_ci(method="wilson")
    assert high == 1 and 0 <= low <= known.low + 1e-9
    (low,), (high,) = _bootstrap(np.full((1, 1, n_groups), 8), np.full(n_groups, 8)).intervals()
    assert low == 0 and high >= 1 - known.low - 1e-9


@given(
    st.integers(1, 40), st.integers(0, 2**32), st.sampled_from([0.0, 0.1, 0.5, 1.0]),
    st.sampled_from([(1, 1), (5, 1), (5, 2)]), st.booleans(),
)  # fmt: skip
@settings(max_examples=100, deadline=None)
def test_an_interval_holds_its_estimate_whatever_the_losses(
    n_groups, seed, share, folds, is_proportion
):
    rng, folds = np.random.default_rng(seed), Folds(*folds)
    size = rng.integers(1, 5, n_groups)
    loss = rng.binomial(size, share, (3, folds.n_repeats, n_groups)).astype(float)
    inner_excess = rng.choice([0.0, 0.3, -np.inf, np.nan], (folds.n * folds.n_repeats, 3))
    bootstrap = _bootstrap(loss, size, inner_excess, folds, is_proportion, resamples=50)
    low, high = bootstrap.intervals()
    assert (low <= bootstrap.value).all() and (bootstrap.value <= high).all()
    if is_proportion:
        assert (low >= 0).all() and (high <= 1).all()
    for errors in (None, bootstrap.simultaneous_errors(range(3), range(3))):
        difference, low, high = bootstrap.differences([0, 1, 2], 1, errors)
        np.testing.assert_allclose(difference, bootstrap.value - bootstrap.value[1])
        assert (low <= difference).all() and (difference <= high).all()
        assert np.isfinite([low, high]).all()
        if is_proportion:
            assert (low >= -1).all() and (high <= 1).all()


def test_more_confidence_and_fewer_groups_make_wider_intervals():
    def width(n_groups, confidence):
        bootstrap = _bootstrap(_wrong(n_groups, 0.3), confidence=confidence)
        return float(np.ptp(np.array(bootstrap.intervals())))

    assert width(200, 0.8) < width(200, 0.95) < width(200, 0.99)
    assert width(800, 0.95) < width(200, 0.95) < width(20, 0.95)


def test_resamples_are_the_same_for_all_columns_and_for_the_same_seed():
    loss = np.repeat(_wrong(), 2, axis=0)
    bootstrap = _bootstrap(loss)
    assert (bootstrap.draws[:, :, 0] == bootstrap.draws[:, :, 1]).all()
    assert (bootstrap.draws == _bootstrap(loss).draws).all()
    assert (bootstrap.draws != _bootstrap(loss, seed=1).draws).any()


def test_resamples_do_not_depend_on_how_many_are_drawn_at_once(monkeypatch):
    loss = _wrong(n_groups=50, n_columns=3)
    whole = _bootstrap(loss).draws
    monkeypatch.setattr("vsp.evaluation.statistics._COUNTS_IN_MEMORY", 700)
    assert (_bootstrap(loss).draws == whole).all()


def test_the_resamples_spread_is_that_of_a_ratio_of_sums_over_groups():
    rng = np.random.default_rng(0)
    size = rng.integers(1, 9, 300)
    loss = rng.binomial(size, np.where(rng.random(300) < 0.5, 0.1, 0.6))[None, None]
    bootstrap = _bootstrap(loss, size, resamples=20_000)
    rest = loss[0, 0] - loss.sum() / size.sum() * size
    assert bootstrap.draws.std() == pytest.approx((rest**2).sum() ** 0.5 / size.sum(), rel=0.03)


def test_differences_of_paired_columns_are_narrower_than_of_unpaired_ones():
    rng = np.random.default_rng(0)
    hard = rng.random(400)
    loss = np.stack([hard < 0.3, hard < 0.35, rng.random(400) < 0.35])[:, None].astype(float)
    difference, low, high = _bootstrap(loss).differences([1, 2], reference=0)
    assert difference[0] == pytest.approx(-(((hard >= 0.3) & (hard < 0.35)).mean()))
    width = high - low
    assert width[0] < 0.6 * width[1] and high[0] < 0


def test_columns_that_do_not_differ_might_still():
    bootstrap = _bootstrap(np.repeat(_wrong(50), 2, axis=0))
    difference, low, high = bootstrap.differences([1], reference=0)
    assert difference == 0 and 0.01 < high[0] < 0.1 and low[0] == -high[0]


def test_what_holds_for_many_differences_at_once_is_wider_than_for_one():
    bootstrap = _bootstrap(_wrong(400, n_columns=20))
    one = bootstrap.simultaneous_errors([0, 1], [0])
    many, all_pairs = (
        bootstrap.simultaneous_errors(range(20), [0]),
        bootstrap.simultaneous_errors(range(20), range(20)),
    )
    assert one == pytest.approx(1.97, abs=0.08)
    assert 2.5 < many < 3.2 and many < all_pairs < 4
    _, low, high = bootstrap.differences([1], reference=0)
    _, low_of_many, high_of_many = bootstrap.differences([1], reference=0, errors=many)
    assert (high_of_many - low_of_many) / (high - low) == pytest.approx(many / one, rel=0.05)


def test_r2_of_a_perfect_prediction_and_of_none():
    rng = np.random.default_rng(0)
    base = rng.exponential(size=100)
    loss = np.stack([np.zeros(100), base, 0.25 * rng.permutation(base)])[:, None]
    bootstrap = _bootstrap(loss, base, is_proportion=False)
    low, high = bootstrap.intervals()
    np.testing.assert_allclose(bootstrap.value, [1, 0, 0.75])
    np.testing.assert_allclose((low[:2], high[:2]), ([1, 0], [1, 0]), atol=1e-12)
    assert 0.5 < low[2] < 0.75 < high[2] < 0.9
    # Symmetric in the logarithm of the unexplained part.
    assert (1 - low[2]) * (1 - high[2]) == pytest.approx(0.25**2)


def test_groups_without_any_base_do_not_spoil_r2():
    base = np.array([1.0, 0.0, 0.0])
    bootstrap = _bootstrap(0.5 * base[None, None], base, is_proportion=False)
    assert np.isfinite(bootstrap.draws).all() and np.isfinite(bootstrap.intervals()).all()


def test_folds_make_intervals_wider_by_what_inner_folds_did_not_expect():
    spread = np.full(4, 0.01)
    inner_excess = np.zeros((10, 4))
    inner_excess[:, 1] = 0.26  # its square minus 5 × variance is 1.408 × 1.25 × variance
    inner_excess[:, 2] = 1
    inner_excess[0, 3] = np.nan
    found = fold_factor(inner_excess, spread, Folds(5, 2))
    np.testing.assert_allclose(found, [1.25, 1.408, 1.75, 1.75])
    np.testing.assert_allclose(fold_factor(inner_excess[:1], spread, Folds(1, 1)), 1)
    np.testing.assert_allclose(fold_factor(inner_excess[:5], spread, Folds(5, 1))[2:], 2.25)


def test_the_factor_of_folds_widens_intervals_and_differences():
    loss = _wrong(200, n_columns=2)
    plain = _bootstrap(loss)
    folded = replace(plain, folds=Folds(5, 1), inner_excess=np.ones((5, 2)))
    for one, other in ((plain.intervals(), folded.intervals()),
                       (plain.differences([1], 0)[1:], folded.differences([1], 0)[1:])):  # fmt: skip
        ratio = np.ptp(np.array(other), axis=0) / np.ptp(np.array(one), axis=0)
        # An excess that is the same for both columns does not widen their difference.
        assert (ratio > 1.4).all() if len(ratio) == 2 else ratio == pytest.approx(1.25**0.5)


def test_p_counts_the_labels_as_they_are_and_every_permutation_that_does_as_well():
    null = np.array([[0.5, 0.6, 0.5, 0.4], [0.1, 0.2, 0.9, 0.3]])
    p, corrected = permutation_p(np.array([0.6, 0.95]), null)
    assert p.tolist() == [2 / 5, 1 / 5]
    assert corrected.tolist() == [3 / 5, 1 / 5]


def test_statistics_that_are_equal_but_for_the_last_digit_are_equal():
    null = np.full((1, 3), np.float32(0.7)).astype(float)
    assert permutation_p(np.array([0.7]), null)[0] == 1
    assert permutation_p(np.array([0.70001]), null)[0] == 0.25


def test_intervals_of_r2_hold_the_truth_about_as_often_as_they_say():
    """40 groups of 4 rows; loss and base loss are dependent within a group."""
    rng, held = np.random.default_rng(0), []
    for i in range(400):
        shared, own = rng.standard_normal((2, 2, 40, 1)), rng.standard_normal((2, 2, 40, 4))
        explained, error = (0.5**0.5 * (shared[0] + own[0])) * np.array([0.8, 0.6])[:, None, None]
        loss, base = (error**2).sum(axis=1), ((explained + error) ** 2).sum(axis=1)
        bootstrap = _bootstrap(loss[None, None], base, is_proportion=False, resamples=300, seed=i)
        (low,), (high,) = bootstrap.intervals()
        held.append(low <= 0.64 <= high)
    assert 0.9 <= np.mean(held) <= 0.99
