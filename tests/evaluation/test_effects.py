"""A direction that the planted model reads is found, and one more random direction is not."""

from dataclasses import replace

import numpy as np
import pytest
from benchmarks.effects_simulation import judged
from helpers.planted_effects import (
    QUICK,
    EffectWorld,
    drawn_effects,
    effect_rows,
    erasing,
    found_effects,
    patched,
    steering,
)

from vsp.evaluation.effects import (
    EffectRows,
    EffectSettings,
    changes,
    effect_figures,
    flips,
    usable_rows,
)
from vsp.evaluation.random_controls import corrected_over_layers, random_ranks
from vsp.storage.found_effects import ERASE, PATCH, STEER, FoundSetting

RISEN = EffectWorld((0.0, 0.0, 0.4, 0.4))


def _main(found):
    return [i for i, one in enumerate(found.settings) if one.name == "direction"]


def test_a_used_direction_is_found_in_its_layers_and_in_no_other():
    found = found_effects(RISEN)
    passed = found.passed()
    assert found.is_used and passed.any(axis=1).tolist() == [False, False, True, True]
    assert (found.figures.rank[2:, _main(found)] == 1).all()
    controls = [i for i, one in enumerate(found.settings) if one.is_control]
    assert not passed[:, controls].any()


def test_one_more_random_direction_is_called_used_at_the_level_of_the_test():
    """The rank is exact: 1 of 21 at most; the test over groups alone would often call it used."""
    settings, n = steering((1.0, 2.0)), 200
    main = [i for i, one in enumerate(settings) if one.name == "direction"]
    called = 0
    for seed in range(n):
        world = EffectWorld((0.5, 1.0, 0.2), is_null=True, n_groups=30, per_group=1)
        rows, _ = drawn_effects(world, settings, seed)
        change = np.stack([changes(v.astype(float), rows, STEER).mean(axis=1) for v in rows.values])
        called += (corrected_over_layers(change, settings)[:, main] < 0.05).any()
    assert called / n < 0.05 + 2.5 * (0.05 * 0.95 / n) ** 0.5


def test_a_test_over_groups_alone_would_call_a_random_direction_used():
    world = EffectWorld((1.0, 1.0), is_null=True, n_groups=60)
    of_runs = [judged(world, steering((1.0,)), seed, QUICK) for seed in range(8)]
    by_rank, by_groups, both = np.mean(of_runs, axis=0)[:3]
    assert by_groups > 0.3 and both <= by_rank < 0.4


def _three_rows():
    """Two options, three rows; one layer; settings none, direction and one random direction."""
    values = np.log(
        np.array([
            [[0.8, 0.2], [0.4, 0.6], [0.7, 0.3]],
            [[0.3, 0.7], [0.1, 0.9], [0.6, 0.4]],
            [[0.8, 0.2], [0.5, 0.5], [0.7, 0.3]],
        ])
    )[None]  # fmt: skip
    zero, one = np.zeros(3, np.intp), np.ones(3, np.intp)
    return EffectRows(values, zero, one, np.array(["a", "b", "c"]))


def test_changes_and_flips_equal_a_calculation_by_hand():
    rows = _three_rows()
    settings = [FoundSetting("direction", 1.0), FoundSetting("random-1", 1.0)]
    found = effect_figures(rows, STEER, settings, QUICK)
    odds = lambda p: np.log((1 - p) / p)  # noqa: E731
    by_row = np.array([odds(0.3) - odds(0.8), odds(0.1) - odds(0.4), odds(0.6) - odds(0.7)])
    random = np.array([0.0, odds(0.5) - odds(0.4), 0.0])
    assert found.change[0] == pytest.approx([by_row.mean(), random.mean()])
    assert found.excess[0, 0] == pytest.approx((by_row - random).mean())
    assert found.n_open[0, 0] == 2  # the second row is answered with the target already
    assert found.flip[0] == pytest.approx([1 / 2, 0.0])
    assert found.rank[0, 0] == 1 and found.p_random[0, 0] == 1 / 2


def test_the_flips_and_changes_of_an_erasure_are_away_from_the_label():
    rows = _three_rows()
    is_open, flipped = flips(rows.values[0], rows, ERASE)
    assert is_open.tolist() == [True, False, True]
    assert flipped[0].tolist() == [True, True, False]
    assert changes(rows.values[0], rows, ERASE)[0] == pytest.approx(
        changes(rows.values[0], rows, STEER)[0]  # with two options
    )


def test_a_tie_is_no_flip():
    values = np.array([[[0.0, -1.0]], [[-0.5, -0.5]]])
    rows = EffectRows(values[None], np.array([0]), np.array([1]), np.array(["a"]))
    assert not flips(values, rows, STEER)[1].any() and not flips(values, rows, ERASE)[1].any()


def test_p_is_corrected_over_layers_and_scales_by_the_largest_studentised_change():
    settings = [FoundSetting("direction", 1.0), *erasing(4)[1:]]
    change = np.array([[3.0, 0.0, 1.0, 0.0, 1.0], [1.2, 1.0, 0.0, 0.0, 9.0]])
    rank, p = random_ranks(change, settings)
    assert rank[:, 0].tolist() == [1, 2] and p[:, 0] == pytest.approx([1 / 5, 2 / 5])
    # In layer 1 the fourth random direction stands out more than the tested one does in layer 0.
    z = (change - change.mean(axis=1, keepdims=True)) / change.std(axis=1, keepdims=True)
    largest = z[:, 1:].max(axis=0)
    expected = [(1 + (largest >= one).sum()) / 5 for one in z[:, 0]]
    assert corrected_over_layers(change, settings)[:, 0] == pytest.approx(expected)
    assert expected[0] > 1 / 5


def test_equal_changes_of_all_directions_rank_last():
    settings = steering((1.0,))
    rank, p = random_ranks(np.zeros((1, len(settings))), settings)
    assert rank[0, 0] == 21 and p[0, 0] == 1
    assert corrected_over_layers(np.zeros((1, len(settings))), settings)[0, 0] == 1


def test_the_dose_curve_of_a_linear_readout_is_a_line():
    found = found_effects(EffectWorld((0.0, 0.4)))
    dose = found.figures.change[1, _main(found)]
    assert dose == pytest.approx(np.array([0.5, 1.0, 2.0]) * dose[1], rel=1e-5)


def test_too_few_random_directions_or_groups_show_nothing():
    assert not found_effects(RISEN, steering((1.0,), n_random=19)).is_used
    assert found_effects(RISEN, steering((1.0,), n_random=20)).is_used
    few = EffectWorld(RISEN.strength, n_groups=5)
    assert not found_effects(few, steering((1.0,))).is_used
    one = found_effects(EffectWorld(RISEN.strength, n_groups=1, per_group=30), steering((1.0,)))
    assert np.isnan(one.figures.change_low).all() and np.isnan(one.figures.p).all()
    assert not one.is_used


@pytest.mark.parametrize("p", ["p_random_corrected", "p_corrected"])
def test_the_claim_needs_corrected_p_of_both_tests(p):
    """A p value that is below the level before the correction only is not enough."""
    found = found_effects(RISEN, steering((1.0,)))
    assert found.is_used
    above = np.maximum(getattr(found.figures, p), found.level)
    assert not replace(found, figures=replace(found.figures, **{p: above})).is_used


def test_a_negative_scale_is_no_part_of_the_claim():
    found = found_effects(RISEN, steering((-1.0, 1.0)))
    assert [found.settings[i].scale for i in found.tested] == [1.0]
    assert (found.figures.change[2:, 0] < 0).all() and found.is_used


def test_patches_are_tested_over_groups_and_say_nothing_about_use():
    found = found_effects(EffectWorld((0.5, 0.0), PATCH), patched())
    assert found.is_used is None
    assert found.passed().tolist() == [[True] * 4, [False] * 4]


def test_rows_that_cannot_show_an_effect_are_counted_by_reason():
    rows = effect_rows(EffectWorld((0.4,), n_groups=10), steering((1.0,)))
    rows.values[0, 3, 0, rows.label[0]] = np.nan
    rows.target[1] = rows.label[1]
    rows.target[2] = -1
    used, left_out = usable_rows(rows, STEER)
    assert used.sum() == 27 and not used[:3].any()
    assert left_out == {
        "a log-likelihood is missing": 1,
        "the row has no target": 1,
        "the target is the row's own label": 1,
    }
    assert usable_rows(rows, ERASE)[0].sum() == 29


def test_intervals_hold_the_true_mean():
    how = EffectSettings(resamples=200, flips=19)
    holds = [judged(RISEN, steering((1.0,)), seed, how)[3:] for seed in range(40)]
    assert (np.mean(holds, axis=0) > 0.87).all()
