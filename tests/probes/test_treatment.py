import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.preprocessing import Normalizer, StandardScaler

from vsp.errors import ProbeError
from vsp.probes.names import TREATMENTS
from vsp.probes.treatment import learn, moments, row_slices


def _states(n=300, d=50, dtype=np.float32, seed=0):
    """States like hidden states: large means, and dimensions of very different size."""
    rng = np.random.default_rng(seed)
    states = rng.normal(size=(n, d)) * np.geomspace(0.01, 300, d) + rng.normal(size=d) * 100
    return states.astype(dtype)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_it_is_scikit_learns_scaling_in_float64(dtype):
    states = _states(dtype=dtype)
    exact = states.astype(np.float64)
    standard = StandardScaler().fit_transform(exact)
    np.testing.assert_allclose(learn("standardize", states).apply(states), standard, atol=1e-9)
    centred = exact - exact.mean(axis=0)
    np.testing.assert_allclose(learn("center", states).apply(states), centred, atol=1e-10)
    unit = Normalizer().fit_transform(exact)
    np.testing.assert_allclose(learn("unit-norm", states).apply(states), unit, atol=1e-12)
    assert (learn("none", states).apply(states) == exact).all()


@pytest.mark.parametrize("name", TREATMENTS)
def test_states_are_not_written_to(name):
    states = _states(dtype=np.float64)
    before = states.copy()
    learn(name, states).apply(states)
    assert (states == before).all()


def test_moments_of_many_blocks_are_those_of_one():
    """More rows than a block, sorted so that the blocks differ."""
    states = np.sort(_states(n=30_000, d=100, dtype=np.float16), axis=0)
    assert len(list(row_slices(states))) > 2
    exact = states.astype(np.float64)
    mean, deviation = moments(states)
    np.testing.assert_allclose(mean, exact.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(deviation, exact.std(axis=0), rtol=1e-12)


def test_a_large_mean_does_not_drown_the_deviation():
    states = np.random.default_rng(0).normal(size=(1000, 3)) + 1e8
    np.testing.assert_allclose(moments(states)[1], (states - 1e8).std(axis=0), rtol=1e-6)


def test_weights_are_repetitions():
    states, times = _states(), np.random.default_rng(1).integers(0, 4, 300)
    mean, deviation = moments(states, times)
    repeated = states.astype(np.float64).repeat(times, axis=0)
    np.testing.assert_allclose(mean, repeated.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(deviation, repeated.std(axis=0), rtol=1e-12)


@pytest.mark.parametrize("name", TREATMENTS)
def test_rows_of_weight_0_have_no_part_whatever_they_hold(name):
    states, weights = _states(), np.ones(300)
    weights[[0, 7, 299]] = 0
    expected = learn(name, states[weights > 0])
    states[weights == 0] = np.nan
    learned = learn(name, states, weights)
    np.testing.assert_allclose(learned.mean, expected.mean, rtol=1e-12)
    np.testing.assert_allclose(learned.scale, expected.scale, rtol=1e-12)


@pytest.mark.parametrize("value", [0, 7.1, -65504, 1e-7])
def test_a_dimension_that_never_changes_is_divided_by_1(value):
    states = _states(n=2400, dtype=np.float64)
    states[:, 3] = value
    learned = learn("standardize", states)
    assert learned.scale[3] == 1
    assert (learned.apply(states)[:, 3] == 0).all()


def test_a_row_of_zeros_stays_one():
    states = _states()
    states[5] = 0
    treated = learn("unit-norm", states).apply(states)
    assert (treated[5] == 0).all()
    np.testing.assert_allclose(np.linalg.norm(np.delete(treated, 5, 0), axis=1), 1)


def test_the_largest_float16_values_do_not_overflow():
    states = np.full((40, 8), 65504, dtype=np.float16)
    states[::2] *= -1
    for name in TREATMENTS:
        assert np.isfinite(learn(name, states).apply(states)).all()
    np.testing.assert_allclose(learn("standardize", states).scale, 65504)


def test_no_float64_copy_of_a_layer_is_made():
    states = np.ones((40_000, 256), dtype=np.float16)  # 20 MB; 82 MB in float64
    tracemalloc.start()
    learn("standardize", states)
    for _ in learn("unit-norm", states).blocks(states):
        pass
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 50e6


@given(
    hnp.arrays(
        st.sampled_from([np.float16, np.float32]),
        hnp.array_shapes(min_dims=2, max_dims=2, max_side=6),
        elements=st.floats(-60000, 60000, width=16),
    ),
    st.sampled_from(TREATMENTS),
)
def test_whatever_is_finite_is_treated(states, name):
    treated = learn(name, states).apply(states)
    assert treated.dtype == np.float64 and np.isfinite(treated).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("whiten", np.ones((2, 2))), "treatment 'whiten' is not known; known: none, center"),
        (("center", np.ones((3, 2)), np.zeros(3)), "none of 3 rows has a weight"),
        (("standardize", np.array([[0, 1e200], [0, -1e200]])), "dimension 1 is too large"),
    ],
)
def test_what_cannot_be_learned_is_said(arguments, message):
    with pytest.raises(ProbeError, match=message):
        learn(*arguments)
