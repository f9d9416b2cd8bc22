"""The online code length is near the true entropy, and never depends on labels not sent yet."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vsp.evaluation.design import make_design
from vsp.evaluation.layer_fits import LayerFitter, LayerTasks, Piece, StrengthChoice
from vsp.evaluation.metrics import METRICS
from vsp.evaluation.online_code import (
    OnlineCode,
    Portions,
    Target,
    mean_and_error,
    mixture_bits,
    portion_fits,
)
from vsp.probes.logistic import Logistic
from vsp.probes.treatment import mean_squared_norm

NONE = np.empty(0, np.intp)


def _gaussians(n, hidden, apart, seed):
    """Two classes whose means are ± `apart` in one of `hidden` directions of unit variance."""
    rng = np.random.default_rng(seed)
    y = rng.integers(2, size=n)
    states = rng.standard_normal((n, hidden))
    states[:, 0] += apart * (2 * y - 1)
    return states.astype(np.float32), y


def _true_bits(states, y, apart):
    """Code length of the true posterior."""
    return float(np.logaddexp(0, -2 * apart * states[:, 0] * (2 * y - 1)).sum() / np.log(2))


def _code(states, y, n_orders=3, seed=0, group=None, probe=None):
    """Bits [order], and the code."""
    probe = probe or Logistic()
    every = np.ones(len(y), bool)
    group = np.arange(len(y)).astype(str) if group is None else group
    portions = Portions.draw(group, every, seed, n_orders)
    norm = mean_squared_norm("center", states, every)
    target = Target(y, probe.code_grid_for(norm))
    code = OnlineCode(target, portions, probe.link)
    for one in portion_fits(states, probe, portions, {"code": target}, NONE):
        code.add(one)
    return code.bits(), code


@pytest.mark.parametrize(
    ("n", "hidden", "apart", "truth", "least"),
    # An online code also pays for what it learns, the more the more dimensions there are.
    [(1600, 16, 2.72, 74, 0.4), (800, 16, 0.68, 1.37, 0.9), (480, 64, 0.68, 1.37, 0.75)],
)
def test_compression_of_planted_worlds_is_near_that_of_the_true_posterior(
    n, hidden, apart, truth, least
):
    worlds = [_gaussians(n, hidden, apart, seed) for seed in range(4)]
    true = sum(_true_bits(*world, apart) for world in worlds)
    assert 4 * n / true == pytest.approx(truth, rel=0.3)
    bits = sum(_code(*world)[0].mean() for world in worlds)
    assert least < true / bits < 1


def test_a_code_of_random_labels_is_at_most_three_bits_longer_than_the_uniform_code():
    for seed in range(4):
        rng = np.random.default_rng(seed)
        states, y = rng.standard_normal((300, 40)), rng.integers(4, size=300)
        bits, code = _code(states, y, seed=seed)
        assert code.uniform_bits == 600
        assert (bits <= 600 + np.log2(5) + 1e-6).all() and bits.mean() > 590


def test_no_label_has_an_influence_before_it_is_sent():
    states, y = _gaussians(200, 8, 0.8, 0)
    portions = Portions.draw(np.arange(200).astype(str), np.ones(200, bool), 0, 1)
    last = portions.block(0, portions.n_portions - 2)
    flipped = np.where(last, 1 - y, y)
    target = [Target(labels, (0.01, 1.0)) for labels in (y, flipped)]
    fits = [list(portion_fits(states, Logistic(), portions, {"code": one}, NONE)) for one in target]
    for one, other in zip(*fits, strict=True):
        assert np.array_equal(one.fit.scores, other.fit.scores)


def test_the_code_is_that_of_plain_loops():
    """Labels can be decoded: probabilities of each row sum to 1, and the bits are theirs."""
    rng = np.random.default_rng(3)
    states, y = rng.standard_normal((60, 5)), rng.integers(3, size=60)
    y[rng.random(60) < 0.8] = 0  # portions without some labels
    states[:, 0] += 2 * y
    grid = (0.01, 1.0)
    portions = Portions.draw(np.arange(60).astype(str), np.ones(60, bool), 1, 2)
    target = Target(y, grid)
    code = OnlineCode(target, portions, "sigmoid")
    for one in portion_fits(states, Logistic(), portions, {"code": target}, NONE):
        code.add(one)
    expected = []
    for order in range(2):
        first = portions.mask(order, 0).sum() * np.log2(3)
        total = np.zeros(3)
        for k in range(portions.n_portions - 1):
            mask, block = portions.mask(order, k), portions.block(order, k)
            known = np.unique(y[mask])
            for s, strength in enumerate(grid):
                share = np.zeros((block.sum(), 3))
                if len(known) == 1:
                    share[:, known] = 1
                else:
                    fitted = Logistic(C=strength).fit(states[mask], y[mask])
                    share[:, known] = fitted.predict_proba(states[block])
                share *= mask.sum() / (mask.sum() + 3 - len(known))
                share[:, np.setdiff1d(range(3), known)] = 1 / (mask.sum() + 3 - len(known))
                assert share.sum(axis=1) == pytest.approx(1)
                total[s] -= np.log2(share[np.arange(len(share)), y[block]]).sum()
            total[2] += block.sum() * np.log2(3)
        expected.append(first - np.log2(np.mean(2.0**-total)))
    assert code.bits() == pytest.approx(expected, rel=1e-4)


def test_a_mixture_is_at_most_its_size_longer_than_the_shortest_code():
    bits = np.random.default_rng(0).uniform(0, 5000, size=(50, 5))
    mixed = mixture_bits(bits)
    assert (mixed >= bits.min(axis=1)).all() and (mixed <= bits.min(axis=1) + np.log2(5)).all()
    assert mixture_bits(np.array([[3.0, 3.0, 3.0]])) == pytest.approx(3)


def test_the_standard_error_covers_the_difference_of_orders():
    """The mean of 3 orders misses that of 40 by as much as its standard error says."""
    states, y = _gaussians(200, 8, 0.8, 0)
    bits, _ = _code(states, y, n_orders=42)
    means, errors = mean_and_error(bits.reshape(3, 14))
    assert errors.mean() == pytest.approx(bits.std() / np.sqrt(3), rel=0.3)
    assert 0.5 < np.std(means) / np.sqrt(np.mean(errors**2)) < 1.6
    mean, error = mean_and_error(np.array([[1.0, np.nan], [3.0, 2.0], [np.nan, np.nan]]))
    assert mean.tolist() == [2, 2] and error[0] == pytest.approx(1) and np.isnan(error[1])


@given(st.lists(st.integers(1, 30), min_size=2, max_size=80), st.integers(0, 9), st.integers(1, 3))
def test_portions_are_nested_whole_groups_up_to_all_training_rows(sizes, seed, n_orders):
    group = np.repeat(np.arange(len(sizes)), sizes).astype(str)
    train = group != "0"
    portions = Portions.draw(group, train, seed, n_orders)
    for order in range(n_orders):
        masks = [portions.mask(order, k) for k in range(portions.n_portions)]
        assert np.array_equal(masks[-1], train)
        for k, (mask, larger) in enumerate(pairwise(masks)):
            assert (mask <= larger).all() and np.array_equal(
                larger & ~mask, portions.block(order, k)
            )
            assert not set(group[mask]) & set(group[~mask])
        assert portions.n_rows[order].tolist() == [mask.sum() for mask in masks]


def test_portions_are_those_of_voita_and_titov():
    portions = Portions.draw(np.arange(20_000).astype(str), np.ones(20_000, bool), 0, 2)
    sizes = [20, 40, 80, 160, 320, 625, 1250, 2500, 5000, 10_000, 20_000]
    assert portions.n_rows.tolist() == [sizes, sizes]


def _tasks(y, controls, probe, states):
    group = np.arange(len(y)).astype(str)
    split = np.where(np.arange(len(y)) % 4 == 0, "test", "train")
    design = make_design(y, group, split)
    train = design.train_sets[design.final]
    return LayerTasks(
        y, design, METRICS["accuracy"], (0.01,), NONE.reshape(0, 0), NONE.reshape(0, 0),
        np.arange(len(y)), controls, Portions.draw(group, train, 0),
        probe.code_grid_for(mean_squared_norm("center", states, train)),
    )  # fmt: skip


def _of_layer(probe, states, y, controls):
    tasks = _tasks(y, controls, probe, states)
    choice = StrengthChoice(np.zeros((1, 1)), np.zeros(1, int), np.zeros(1, int), 0)
    return tasks, LayerFitter(states, probe, tasks).run(Piece("curve"), choice)


def test_the_control_of_a_layer_is_coded_in_the_same_orders():
    states, y = _gaussians(320, 8, 2.0, 0)
    random = np.random.default_rng(1).integers(2, size=len(y))
    tasks, arrays = _of_layer(Logistic(), states, y, {"prompt": random[None]})
    assert arrays["code_bits"].shape == arrays["control_code_bits"].shape == (3,)
    assert arrays["uniform_bits"] == arrays["control_uniform_bits"] == 240
    assert 240 / arrays["code_bits"].mean() > 5
    assert 0.95 < 240 / arrays["control_code_bits"].mean() < 1.05
    assert arrays["curve"].shape == (3, tasks.portions.n_portions - 1)
    assert arrays["curve"][:, -1].min() > 0.9


def test_class_weights_change_the_curve_and_not_the_code():
    states, y = _gaussians(320, 8, 0.7, 0)
    rare = np.where(np.arange(320) % 4 == 1, y, 0)
    plain, weighted = (
        _of_layer(Logistic(weighting=one), states, rare, {})[1] for one in ("none", "balanced")
    )
    assert weighted["code_bits"] == pytest.approx(plain["code_bits"], rel=1e-6)
    assert not np.allclose(weighted["curve"], plain["curve"])
