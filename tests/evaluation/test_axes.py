"""Planted relation axes are found, and states without them show none."""

import shutil

import numpy as np
import pytest
from helpers.twin_runs import direction, planted, twin_runs, twins_of
from scipy.stats import kstest

from vsp.errors import RunError
from vsp.evaluation.axes import AxesSettings, interval, relation_axes
from vsp.evaluation.axis_draws import Draws, draw_layer, flip_p
from vsp.evaluation.axis_sums import layer_sums
from vsp.storage.axes import axes_file, read_axes, stored_axes

QUICK = AxesSettings(resamples=300, flips=199)
THREE = {
    "left_of": direction(),
    "above": direction(np.pi / 2),
    "in_front_of": direction(-np.pi / 6),
}


def _expected(signal, noise=1.0, size=48, n=20_000):
    """Squared mean length of a unit difference with this signal: its coherence."""
    rng = np.random.default_rng(1)
    drawn = rng.normal(size=(n, size)) * noise / np.sqrt(size)
    drawn[:, 0] += signal
    return float((drawn[:, 0] / np.linalg.norm(drawn, axis=1)).mean() ** 2)


def test_planted_directions_have_the_planted_coherence_and_cosines(work):
    signal = (0.0, 0.5, 2.0)
    axes, was_stored = relation_axes(
        *twin_runs(work, planted(THREE, signal, n_rows=600)), settings=QUICK
    )
    assert not was_stored and [axis.name for axis in axes.axes] == [
        "left_of/right_of", "above/below", "in_front_of/behind",
    ]  # fmt: skip
    for entry, one in enumerate(signal):
        assert axes.coherence[entry] == pytest.approx(_expected(one) if one else 0.0, abs=0.03)
    for entry in (1, 2):
        assert (axes.coherence_low[entry] < axes.coherence[entry]).all()
        assert (axes.p_corrected[entry] < 0.05).all()
        assert axes.cosine[entry, 0, 1] == pytest.approx(0.0, abs=0.1)
        assert axes.cosine[entry, 0, 2] == pytest.approx(np.cos(np.pi / 6), abs=0.05)
        assert axes.cosine[entry, 1, 2] == pytest.approx(-0.5, abs=0.1)
        assert (axes.cosine_low[entry] <= axes.cosine[entry]).all()
        assert (axes.cosine[entry] <= axes.cosine_high[entry]).all()
    assert (axes.p_corrected[0] > 0.05).all()


def test_the_cosine_of_two_axes_does_not_shrink_with_noise(work):
    """A weak signal of 60 rows: the mean directions themselves have a far smaller cosine."""
    cosines = []
    for seed in range(8):
        both = planted(THREE, (0.5,), n_rows=120, per_group=1, seed=seed)
        runs = twin_runs(work, both, (f"one{seed}", f"twin{seed}"))
        cosines.append(
            relation_axes(*runs, settings=AxesSettings(resamples=20, flips=19))[0].cosine[0, 0, 2]
        )
    assert np.mean(cosines) == pytest.approx(np.cos(np.pi / 6), abs=0.03)


def test_both_labels_of_an_axis_point_the_same_way(work):
    axes, _ = relation_axes(*twin_runs(work, planted(THREE, (3.0,))), settings=QUICK)
    assert (axes.between_labels > 0.7).all()


def test_a_change_that_only_follows_the_order_of_words_shows_between_labels(work):
    """All rows move the same way, whatever their label: most rows have one label."""
    one, twin = planted({"left_of": direction()}, (0.0,), n_rows=200)
    one["label"] = np.where(np.arange(200) % 10, "left_of", "right_of")
    twin["label"] = np.where(np.arange(200) % 10, "right_of", "left_of")
    one["states"] = one["states"] + 3 * direction()
    axes, _ = relation_axes(*twin_runs(work, (one, twin)), settings=QUICK)
    assert axes.coherence[0, 0] > 0.4 and axes.between_labels[0, 0] < -0.7


def test_a_twin_named_first_gives_the_same_coherence(work):
    runs = twin_runs(work, planted(THREE, (1.0,)))
    one, _ = relation_axes(*runs, settings=QUICK)
    other, _ = relation_axes(*reversed(runs), settings=QUICK)
    assert one.coherence == pytest.approx(other.coherence, abs=1e-12)
    assert one.cosine == pytest.approx(other.cosine, abs=1e-12)


def test_equal_states_have_no_direction_and_are_counted(work):
    one, twin = planted(THREE, (1.0, 1.0))
    twin["states"][0] = one["states"][0]
    twin["states"][1, :6] = one["states"][1, :6]
    axes, _ = relation_axes(*twin_runs(work, (one, twin)), settings=QUICK)
    assert np.isnan(axes.coherence[0]).all() and np.isnan(axes.p_corrected[0]).all()
    assert axes.n_equal.tolist() == [[80, 80, 80], [2, 2, 2]]
    assert (axes.coherence[1] > 0.2).all() and (axes.p_corrected[1] < 0.05).all()


def _random_p(n_layers, seed, flips=99, size=16):
    """p [layer, axis] of random states with large differences between groups."""
    rng = np.random.default_rng(seed)
    group = rng.integers(25, size=100)
    twins, groups = twins_of(rng.integers(4, size=100), group)
    draws = Draws.of(groups, twins.n_groups, 1, flips, seed)
    drawn = []
    for layer in range(n_layers):
        states = rng.normal(size=(100, size)) + rng.normal(size=(25, size))[group]
        drawn.append(draw_layer(layer_sums(states, np.zeros_like(states), twins, layer), draws))
    return flip_p(drawn, is_exact=False)


def test_p_of_random_states_is_uniform():
    p = np.concatenate([_random_p(20, seed)[0][:, 0] for seed in range(20)])
    assert len(p) == 400 and kstest(p, "uniform").pvalue > 0.01
    assert (p <= 0.05).mean() < 0.08


def test_the_corrected_p_holds_its_level_over_all_layers_and_axes():
    found = [_random_p(6, seed) for seed in range(100)]
    alone, corrected = (np.array([one[i].min() for one in found]) for i in (0, 1))
    assert (corrected <= 0.05).mean() <= 0.1
    assert (alone <= 0.05).mean() > 0.2  # what the correction is for


def test_intervals_are_wider_than_quantiles_with_few_groups_and_stay_in_range():
    draws = np.linspace(0.2, 0.8, 1001)[:, None]
    few, many = (interval(np.array([0.5]), draws, np.array([n]), 0.95) for n in (8, 10_000))
    assert few[0] < many[0] < 0.5 < many[1] < few[1]
    assert many[0] == pytest.approx(0.215, abs=0.001)
    assert interval(np.array([0.99]), draws + 0.4, np.array([3]), 0.95)[1] == 1.0


def test_a_cosine_that_many_resamples_do_not_have_has_a_wide_interval():
    draws = np.where(np.arange(100) % 2, np.nan, 0.5)[:, None]
    low, high = interval(np.array([0.5]), draws, np.array([1000]), 0.95)
    assert low[0] == -1.0 and high[0] == 1.0


def test_axes_are_kept_and_read_again_until_states_or_settings_change(work):
    both = planted(THREE, (0.0, 1.0))
    runs = twin_runs(work, both)
    axes, _ = relation_axes(*runs, settings=QUICK)
    path = axes_file(runs[0].results, "twin")
    assert stored_axes(runs[0].results) == [("twin", "last")] and path.exists()
    again, was_stored = relation_axes(*runs, settings=QUICK)
    assert was_stored and again.axes == axes.axes and again.left_out == axes.left_out
    for name in ("coherence", "cosine", "cosine_low", "p", "p_corrected", "n_equal"):
        np.testing.assert_array_equal(getattr(again, name), getattr(axes, name))
    assert not relation_axes(*runs, settings=AxesSettings(resamples=200, flips=199))[1]
    assert relation_axes(*runs, settings=AxesSettings(resamples=200, flips=199))[1]
    path.write_text(path.read_text().replace('"n_rows": 240', '"n_rows": 241'))
    with pytest.raises(RunError, match="was edited; run `vsp axes` again"):
        read_axes(runs[0].results, "twin")
    assert not relation_axes(*runs, settings=QUICK)[1]


def test_axes_of_other_states_are_computed_again(work):
    first = twin_runs(work, planted(THREE, (1.0,)))
    relation_axes(*first, settings=QUICK)
    shutil.rmtree(work / "scratch/twin")
    one, twin = planted(THREE, (1.0,), seed=0)
    twin["states"] = twin["states"] + 0.25
    changed = twin_runs(work, (one, twin), ("unused", "twin"))
    assert not relation_axes(first[0], changed[1], settings=QUICK)[1]


def test_the_same_call_gives_the_same_bytes(work):
    runs = twin_runs(work, planted(THREE, (0.5,)))
    path = axes_file(runs[0].results, "twin")
    relation_axes(*runs, settings=QUICK)
    before = path.read_bytes()
    path.unlink()
    relation_axes(*runs, settings=QUICK)
    assert path.read_bytes() == before
