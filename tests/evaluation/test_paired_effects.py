"""Effects between paired predictions: values, intervals, p values, and Holm's correction."""

from __future__ import annotations

import time

import numpy as np
import pytest

from vsp.evaluation.paired_effects import Cell, Effect, EffectDraws, estimate_effects, holm
from vsp.evaluation.statistics import Folds

DRAWS = EffectDraws(margin=0.05, confidence=0.95, resamples=1000, flips=999, seed=0)


def _group(n, per_group):
    return np.array([f"g{i // per_group}" for i in range(n)])


def _every(values):
    return Effect((Cell(np.ones(values.shape[1], bool), values),))


def test_the_interval_of_a_mean_is_that_of_its_groups():
    rng = np.random.default_rng(1)
    values = np.repeat(rng.normal(0.3, 0.5, 100), 4)[None]
    (dependent,) = estimate_effects([_every(values)], _group(400, 4), Folds(), DRAWS)
    (alone,) = estimate_effects([_every(values)], _group(400, 1), Folds(), DRAWS)
    assert dependent.value == pytest.approx(values.mean())
    # A hundred groups of four equal rows: the standard error is that of 100 rows, not of 400.
    expected = 1.98 * np.hypot(values[0, ::4].std(ddof=1) / 10, 1 / 101)
    assert dependent.high - dependent.value == pytest.approx(expected, rel=0.1)
    assert alone.high - alone.value < 0.6 * expected
    assert (dependent.n_rows, dependent.n_groups) == (400, 100)


def test_folds_widen_the_interval():
    values = np.random.default_rng(2).normal(0.1, 1, (2, 300))
    (split,) = estimate_effects([_every(values)], _group(300, 1), Folds(), DRAWS)
    (folds,) = estimate_effects([_every(values)], _group(300, 1), Folds(5, 2), DRAWS)
    assert folds.high - folds.low > 1.25 * (split.high - split.low)


def test_an_effect_with_fewer_repeats_than_others_has_the_interval_and_p_that_it_has_alone():
    rng = np.random.default_rng(3)
    values = rng.normal(0.1, 1, 200) + rng.normal(0, 0.1, (10, 200))
    one, all_ = _every(values[:1]), _every(values)
    (alone,) = estimate_effects([one], _group(200, 1), Folds(), DRAWS)
    _, beside = estimate_effects([all_, one], _group(200, 1), Folds(), DRAWS)
    first, _ = estimate_effects([one, all_], _group(200, 1), Folds(), DRAWS)
    for found in (beside, first):
        assert (found.low, found.high) == pytest.approx((alone.low, alone.high), abs=0.02)
        assert found.p == pytest.approx(alone.p, abs=0.05)


def test_a_contrast_is_the_difference_of_the_means_of_its_cells():
    values = np.arange(100.0)[None] / 100
    low, high = values[0] < 0.3, values[0] >= 0.6
    effect = Effect((Cell(high, values), Cell(low, values, -1.0)))
    (found,) = estimate_effects([effect], _group(100, 1), Folds(), DRAWS)
    assert found.value == pytest.approx(values[0, high].mean() - values[0, low].mean())
    assert found.n_rows == int(low.sum() + high.sum())


def test_a_share_near_zero_has_an_interval_inside_zero_and_one():
    values = np.zeros((1, 200))
    share = Effect((Cell(np.ones(200, bool), values),), is_share=True)
    (found,) = estimate_effects([share], _group(200, 1), Folds(), DRAWS)
    assert (found.value, found.low, found.p) == (0.0, 0.0, None)
    assert 0 < found.high < 0.025
    assert found.p_margin < 0.01


def test_p_values_are_uniform_without_a_difference_and_small_with_one():
    rng, n_small = np.random.default_rng(3), 0
    quick = EffectDraws(0.05, 0.95, 100, 199, 0)
    for _ in range(100):
        values = np.repeat(rng.choice([-1.0, 0.0, 1.0], 60), 2)[None]
        (found,) = estimate_effects([_every(values)], _group(120, 2), Folds(), quick)
        n_small += found.p <= 0.05
    assert n_small <= 11  # 5 expected; 12 or more have a probability of 0.004
    (found,) = estimate_effects([_every(values * 0.2 + 0.5)], _group(120, 2), Folds(), quick)
    assert found.p == pytest.approx(1 / 200)
    assert found.p_margin > 0.99


def test_holm_corrects_the_smallest_most_and_keeps_the_order():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    assert holm([]) == []


def test_ten_thousand_rows_with_many_effects_take_seconds():
    values = np.random.default_rng(4).normal(size=(2, 10_000))
    effects = [_every(np.roll(values, k, axis=1)) for k in range(40)]
    start = time.process_time()
    found = estimate_effects(
        effects, _group(10_000, 1), Folds(5, 2), EffectDraws(0.05, 0.95, 2000, 1999, 0)
    )
    assert len(found) == 40
    assert time.process_time() - start < 20
