"""The solver: gaps bound the distance to the optimum, and the optimum is correct."""

from __future__ import annotations

import numpy as np
import pytest
from benchmarks.solver_speed import RealisticStates
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import logsumexp

from vsp.probes.solver.kernel import KernelSpace
from vsp.probes.solver.lbfgs import certify, solve
from vsp.probes.solver.losses import OneVsRest, Softmax, curvatures
from vsp.probes.solver.primal import PrimalSpace
from vsp.probes.solver.problems import Loss, Problems, Solutions
from vsp.probes.treatment import learn

LOSSES: dict[str, Loss] = {"one-vs-rest": OneVsRest(), "softmax": Softmax()}
SPACES = {"kernel": KernelSpace, "primal": PrimalSpace}


def _states(n: int, d: int, spread: float = 30.0, seed: int = 0) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    states = rng.normal(size=(n, d)) * np.geomspace(spread / 30, spread, d) + 5
    return states.astype(np.float32)


def _problems(
    codes: NDArray[np.intp], loss: str, strength: float, train: NDArray[np.bool_] | None = None
) -> Problems:
    """Problems for class indices [row]: those of each training set in `train` [set, row] in turn."""
    train = np.ones((1, len(codes)), bool) if train is None else train
    member = codes == np.arange(codes.max() + 1)[:, None]
    one = member[None] if loss == "softmax" else np.where(member, 1, -1)[:, None]
    target = np.concatenate([one] * len(train)).astype(np.float32)
    sets = np.repeat(np.arange(len(train)), len(one))
    return Problems(target, (train[sets][:, None] * strength).astype(np.float32), sets)


def _space(
    kind: str, states: NDArray, train: NDArray[np.bool_] | None = None
) -> KernelSpace | PrimalSpace:
    train = np.ones((1, len(states)), bool) if train is None else train
    return SPACES[kind].of(states, learn("center", states), train)


def _scores(space: KernelSpace | PrimalSpace, solved: Solutions) -> NDArray:
    """Scores in float64, from the weights and the rows of the space."""
    w, b = space.weights(solved.coordinates.astype(np.float64))
    scores: NDArray = w @ space.rows.kept.astype(float).T + b[..., None]
    return scores


def _value(
    space: KernelSpace | PrimalSpace, loss: str, problems: Problems, solved: Solutions
) -> NDArray:
    """Objectives [problem] by their definition."""
    w, _ = space.weights(solved.coordinates.astype(np.float64))
    scores, weight = _scores(space, solved), problems.weight.astype(float)
    if loss == "softmax":
        each = (logsumexp(scores, axis=1) - (problems.target * scores).sum(1))[:, None]
    else:
        each = np.logaddexp(0, -problems.target * scores)
    value: NDArray = 0.5 * (w * w).sum((1, 2)) + (weight * each).sum((1, 2))
    return value


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("kind", SPACES)
@settings(max_examples=25, deadline=None)
@given(
    n=st.integers(6, 60),
    d=st.integers(2, 60),
    strength=st.sampled_from([1e-4, 1e-2, 1.0]),
    tolerance=st.sampled_from([1e-2, 1e-4, 1e-6]),
    spread=st.sampled_from([1.0, 100.0]),
    seed=st.integers(0, 999),
)
def test_the_gap_bounds_the_distance_to_the_optimum(
    kind, loss, n, d, strength, tolerance, spread, seed
):
    space, problems, least = _with_optimum(kind, loss, n, d, strength, spread, seed)
    solved = solve(space, LOSSES[loss], problems, tolerance, 2000)
    assert (solved.gap <= tolerance).all()
    value = _value(space, loss, problems, solved)
    assert (value - least <= (solved.gap + 1e-6) * value).all()  # the gap is computed in float32
    seen = certify(space, LOSSES[loss], problems, solved, tolerance, 2000)
    value = _value(space, loss, problems, seen)
    assert (seen.gap <= tolerance).all()
    assert (value - least <= (seen.gap * (1 + 1e-6) + 1e-9) * value).all()


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("kind", SPACES)
@settings(max_examples=4, deadline=None)
@given(
    n=st.integers(6, 40),
    d=st.integers(2, 40),
    strength=st.sampled_from([1.0, 100.0]),
    spread=st.sampled_from([300.0, 3000.0]),
    seed=st.integers(0, 999),
)
# The dual point of the softmax has to sum to 0 over classes, in spite of rounding.
@example(n=6, d=24, strength=1.0, spread=3000.0, seed=6)
def test_where_rounding_spoils_everything_the_gap_still_bounds_the_distance(
    kind, loss, n, d, strength, spread, seed
):
    space, problems, least = _with_optimum(kind, loss, n, d, strength, spread, seed)
    solved = solve(space, LOSSES[loss], problems, 1e-3, 300)
    value = _value(space, loss, problems, solved)
    assert (value - least <= (solved.gap + 1e-6) * value).all()


def _with_optimum(kind, loss, n, d, strength, spread, seed):
    """A space, problems, and the smallest objectives that the solver finds [problem]."""
    rng = np.random.default_rng(seed)
    states = _states(n, d, spread, seed)
    codes = np.concatenate([np.arange(3), rng.integers(0, 3, n - 3)])
    space, problems = _space(kind, states), _problems(codes, loss, strength)
    best = solve(space, LOSSES[loss], problems, 1e-10, 2000)
    return space, problems, _value(space, loss, problems, best)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("kind", SPACES)
def test_a_gap_that_is_not_reached_still_bounds_the_distance(kind, loss):
    states, codes = _states(50, 20), np.arange(50) % 3
    space, problems = _space(kind, states), _problems(codes, loss, 1.0)
    best = solve(space, LOSSES[loss], problems, 1e-10, 3000)
    least = _value(space, loss, problems, best)
    for n_steps in (0, 1, 2, 4, 8):
        solved = solve(space, LOSSES[loss], problems, 1e-12, n_steps)
        value = _value(space, loss, problems, solved)
        if n_steps:
            assert (solved.gap > 1e-12).all() and np.isfinite(solved.gap).all()
        assert (value - least <= (solved.gap + 1e-9) * value).all()


@pytest.mark.parametrize("loss", LOSSES)
def test_both_spaces_have_the_same_optimum_on_any_training_rows(loss):
    """Several training sets: the kernel form corrects the metric of all rows for each."""
    states, codes = _states(60, 70, 300), np.random.default_rng(1).integers(0, 4, 60)
    train = np.array([np.ones(60), np.arange(60) % 5 != 0, np.arange(60) > 20], bool)
    problems = _problems(codes, loss, 0.05, train)
    scores = {}
    for kind in SPACES:
        space = _space(kind, states, train)
        solved = solve(space, LOSSES[loss], problems, 1e-10, 3000)
        assert (solved.gap <= 1e-10).all()
        assert solved.n_steps.max() < 300
        scores[kind] = _scores(space, solved)
        np.testing.assert_allclose(solved.scores, scores[kind], rtol=1e-4, atol=1e-4)
    scale = np.abs(scores["primal"]).max()
    np.testing.assert_allclose(scores["kernel"], scores["primal"], rtol=0, atol=2e-5 * scale)


@pytest.mark.parametrize("strength", [1e-4, 1e-2, 0.1])
def test_float32_certifies_what_is_seen_from_the_states_themselves(strength):
    """On states with outlier dimensions, like those of models; also on folds."""
    states, codes = RealisticStates(512, 4, 0.5, seed=3).draw(400)
    train = np.array([np.ones(400), np.arange(400) % 5 != 2], bool)
    space, problems = (
        _space("kernel", states, train),
        _problems(codes, "one-vs-rest", strength, train),
    )
    solved = solve(space, OneVsRest(), problems, 1e-6, 1000)
    assert solved.coordinates.dtype == np.float32 and (solved.gap <= 1e-6).all()
    seen = certify(space, OneVsRest(), problems, solved, 1e-6, 0)
    assert (seen.gap <= 1.5e-6).all()
    assert (np.abs(seen.gap - solved.gap) < 5e-7).all()
    sure = certify(space, OneVsRest(), problems, solved, 1e-9, 1000)
    assert (sure.gap <= 1e-9).all()


def test_small_problems_among_hundreds_end_where_they_end_alone():
    """Permuted labels side by side; finished problems keep their solution while others go on."""
    states = _states(40, 50)
    rng = np.random.default_rng(2)
    space = _space("kernel", states)
    each = [_problems(rng.permutation(np.arange(40) % 3), "one-vs-rest", 0.1) for _ in range(50)]
    together = solve(space, OneVsRest(), Problems.concatenate(each), 1e-9, 1000)
    assert (together.gap <= 1e-9).all()
    for i in (0, 17, 49):
        alone = solve(space, OneVsRest(), each[i], 1e-9, 1000)
        some = slice(3 * i, 3 * i + 3)
        np.testing.assert_allclose(together.scores[some], alone.scores, rtol=1e-3, atol=2e-4)


def test_what_was_solved_before_has_no_influence():
    """A kept metric is used only where the same metric would be computed."""
    states, codes = _states(60, 80), np.arange(60) % 3
    fresh, used = _space("kernel", states), _space("kernel", states)
    for strength in (1e-3, 0.02, 0.7, 5.0):
        solve(used, OneVsRest(), _problems(codes[::-1], "one-vs-rest", strength), 1e-8, 500)
    problems = _problems(codes, "one-vs-rest", 0.1)
    one, other = (solve(space, OneVsRest(), problems, 1e-8, 500) for space in (fresh, used))
    assert one.coordinates.tobytes() == other.coordinates.tobytes()
    assert (one.gap == other.gap).all() and (one.n_steps == other.n_steps).all()


def test_a_start_from_a_smaller_strength_takes_fewer_steps():
    states, codes = RealisticStates(512, 4, 0.5, seed=3).draw(400)
    space = _space("kernel", states)
    first = solve(space, OneVsRest(), _problems(codes, "one-vs-rest", 1e-3), 1e-7, 500)
    problems = _problems(codes, "one-vs-rest", 2e-3)
    cold = solve(space, OneVsRest(), problems, 1e-7, 500)
    warm = solve(space, OneVsRest(), problems, 1e-7, 500, first.coordinates)
    assert (warm.gap <= 1e-7).all() and warm.n_steps.sum() <= cold.n_steps.sum()
    assert warm.n_steps.max() < 30


def test_a_start_from_afar_ends_where_it_says():
    states, codes = _states(100, 120, 3), np.random.default_rng(0).integers(0, 4, 100)
    space = _space("kernel", states)
    far = solve(space, OneVsRest(), _problems(codes, "one-vs-rest", 1e-3), 1e-6, 500)
    problems = _problems(codes, "one-vs-rest", 0.1)
    least = _value(space, "one-vs-rest", problems, solve(space, OneVsRest(), problems, 1e-9, 500))
    solved = solve(space, OneVsRest(), problems, 1e-6, 500, far.coordinates)
    value = _value(space, "one-vs-rest", problems, solved)
    assert (value - least <= (solved.gap + 2e-7) * value).all()


@pytest.mark.parametrize("loss", LOSSES)
def test_intercepts_alone_are_found_where_states_say_nothing(loss):
    codes = np.array([0, 0, 0, 1, 1, 2])
    for kind in SPACES:
        space = _space(kind, np.full((6, 8), 3.0, np.float32))
        problems = _problems(codes, loss, 1.0)
        solved = solve(space, LOSSES[loss], problems, 1e-8, 100)
        assert (solved.gap <= 1e-8).all()
        share = np.array([3, 2, 1]) / 6
        b = solved.coordinates[..., -1].ravel()
        expected = np.log(share) if loss == "softmax" else np.log(share / (1 - share))
        np.testing.assert_allclose(b - (b - expected).mean() * (loss == "softmax"), expected,
                                   atol=1e-4)  # fmt: skip


def test_the_divergence_is_no_less_than_what_the_loss_loses():
    """Compared with the definitions of loss and conjugate; inf outside of the domain."""
    rng = np.random.default_rng(0)
    weight = np.full((5, 1, 30), 0.7)
    weight[:, :, 20:] = 0
    target = np.where(rng.random((5, 1, 30)) < 0.5, 1.0, -1.0)
    scores = rng.normal(size=(5, 1, 30))
    residuals = OneVsRest().residuals(scores, target, weight)
    for size in (1e-3, 0.1, 0.6):
        p = np.clip(residuals * target / 0.7 + size * rng.normal(size=scores.shape), 0.0, 1.0)
        dual = p * target * weight
        t = np.clip(dual * target / 0.7, 1e-300, 1)
        conjugate = weight * (t * np.log(t) + (1 - t) * np.log(np.maximum(1 - t, 1e-300)))
        loss = OneVsRest().value(scores, target, weight)
        lost = loss + (conjugate + dual * scores).sum((1, 2))
        bound = OneVsRest().fenchel_bound(dual, residuals, target, weight)
        assert (bound >= lost * (1 - 1e-9)).all() and (bound <= 2.1 * lost + 1e-12).all()
    dual[3, 0, 4] = -0.01 * target[3, 0, 4]
    outside = OneVsRest().fenchel_bound(dual, residuals, target, weight)
    assert np.isinf(outside[3]) and np.isfinite(outside[[0, 1, 2, 4]]).all()


def test_the_divergence_of_the_softmax_is_no_less_than_what_it_loses():
    rng = np.random.default_rng(0)
    weight, target = np.full((4, 1, 20), 0.3), np.eye(3)[rng.integers(0, 3, (4, 20))].swapaxes(1, 2)
    scores = rng.normal(size=(4, 3, 20))
    residuals = Softmax().residuals(scores, target, weight)
    for size in (0.01, 0.5):
        share = target - residuals / weight
        moved = share * np.exp(size * rng.normal(size=share.shape))
        moved /= moved.sum(1, keepdims=True)
        lost = (weight * (moved * np.log(moved / share))).sum((1, 2))
        dual = weight * (target - moved)
        bound = Softmax().fenchel_bound(dual, residuals, target, weight)
        assert (bound >= lost * (1 - 1e-9)).all() and (bound <= 2.1 * lost + 1e-12).all()
    dual[1, 0, 3] = weight[1, 0, 3] * (target[1, 0, 3] + 0.01)
    assert np.isinf(Softmax().fenchel_bound(dual, residuals, target, weight)[1])


@pytest.mark.parametrize("n_curved", [5, 80])
def test_a_dual_point_sums_to_nothing_stays_inside_and_is_as_far_as_is_said(n_curved):
    """With curvature on few rows, the part along the wide directions cannot be corrected."""
    rng = np.random.default_rng(0)
    states = _states(100, 120, 30)
    space = _space("kernel", states)
    weight = np.broadcast_to((np.arange(100) < 80).astype(np.float32), (2, 1, 100))
    target = np.where(rng.random((2, 1, 100)) < 0.5, 1, -1).astype(np.float32)
    flat = np.where(np.arange(100) < n_curved, 0, 200)
    scores = (rng.normal(size=(2, 1, 100)) + target * flat).astype(np.float32)
    residuals = OneVsRest().residuals(scores, target, weight)
    second = curvatures(residuals, weight)
    at = space.combine_rows(
        residuals + 1e-3 * second * rng.normal(size=second.shape).astype(np.float32)
    )
    if n_curved == 5:
        at[..., 100:-1] *= 1.5
    gradient = at - space.combine_rows(residuals)
    dual = space.dual_point(at, gradient, residuals, second)
    assert (np.abs(dual.sum(-1)) <= 1e-12 * np.abs(dual).sum(-1)).all()
    assert (dual[..., 80:] == 0).all()
    assert n_curved < 80 or ((dual * target >= 0) & (dual * target <= 1)).all()
    off = space.weights(at.astype(float))[0] - dual @ space.rows.kept.astype(float)
    assert space.squared_distance(at, dual) == pytest.approx((off * off).sum((1, 2)), rel=1e-3)
    assert space.squared_distance_exactly(at.astype(float), dual) == pytest.approx(
        (off * off).sum((1, 2)), rel=1e-6
    )
    along = np.linalg.norm(off @ space.directions, axis=-1)
    assert (along < 1e-3 * np.linalg.norm(off, axis=-1)).all() == (n_curved > 32)


@pytest.mark.parametrize("loss", LOSSES)
def test_rows_may_weigh_differently(loss):
    """A row of weight 3 equals that row three times."""
    states, codes = _states(30, 40), np.arange(30) % 3
    times = np.where(np.arange(30) < 10, 3, 1)
    problems = _problems(codes, loss, 0.1)
    problems.weight = problems.weight * times.astype(np.float32)
    space = _space("kernel", states)
    one = solve(space, LOSSES[loss], problems, 1e-9, 1000)
    again = np.repeat(np.arange(30), times)
    repeated = SPACES["kernel"].of(states[again], learn("center", states), np.ones((1, 50), bool))
    other = solve(repeated, LOSSES[loss], _problems(codes[again], loss, 0.1), 1e-9, 1000)
    assert (one.gap <= 1e-9).all() and (other.gap <= 1e-9).all()
    np.testing.assert_allclose(one.scores[..., again], other.scores, rtol=1e-3, atol=1e-3)


def test_states_whose_products_are_no_numbers_are_refused():
    with pytest.raises(ValueError, match="too large for their products"):
        _space("kernel", np.full((4, 6), 1e30, np.float32) * np.eye(4, 6, dtype=np.float32))
