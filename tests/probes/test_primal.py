"""Problems with more rows than dimensions: exact, and in little memory for any size."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from benchmarks.solver_speed import RealisticStates
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from vsp.probes.names import TREATMENTS
from vsp.probes.solver.kernel import KernelSpace
from vsp.probes.solver.lbfgs import solve
from vsp.probes.solver.losses import OneVsRest, Softmax
from vsp.probes.solver.primal import PrimalSpace
from vsp.probes.solver.problems import Problems, Solutions
from vsp.probes.solver.row_blocks import RowBlocks, from_half
from vsp.probes.treatment import Treatment, learn


def _random(n: int, hidden: int, n_classes: int, seed: int = 0) -> tuple[NDArray, NDArray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(n_classes, size=n)
    centres = 0.4 * rng.standard_normal((n_classes, hidden))
    return (rng.standard_normal((n, hidden)) + centres[labels]).astype(np.float32), labels


def _one_vs_rest(labels: NDArray, C: float, weights: NDArray | None = None) -> Problems:
    n_classes = int(labels.max()) + 1
    target = np.where(labels == np.arange(n_classes)[:, None], 1, -1).astype(np.float32)[:, None]
    weight = C * (np.ones(len(labels)) if weights is None else weights)
    shape = n_classes, 1, len(labels)
    return Problems(
        target,
        np.broadcast_to(weight.astype(np.float32), shape),
        np.zeros(n_classes, np.intp),
    )


def _every(n: int) -> NDArray[np.bool_]:
    return np.ones((1, n), dtype=bool)


def _solve(
    space: PrimalSpace | KernelSpace, problems: Problems, tolerance: float = 1e-9
) -> Solutions:
    solved = solve(space, OneVsRest(), problems, tolerance, 1000)
    assert (solved.gap <= tolerance).all()
    return solved


def _objective(w: NDArray, b: NDArray, treated: NDArray, problems: Problems) -> NDArray:
    """Objectives [problem] at weights w [problem, 1, hidden], by definition and in float64."""
    margin = problems.target * (w @ treated.T + b[..., None])
    losses = (problems.weight.astype(float) * np.logaddexp(0, -margin)).sum((1, 2))
    return 0.5 * (w * w).sum((1, 2)) + losses


def _weights_and_intercepts(
    space: PrimalSpace | KernelSpace, solved: Solutions
) -> tuple[NDArray, NDArray]:
    w, b = space.weights(solved.coordinates.astype(np.float64))
    return w, b - w @ space.centre


@pytest.mark.parametrize("treatment", TREATMENTS)
def test_agrees_with_the_kernel_where_rows_are_about_as_many_as_dimensions(treatment):
    states, labels = RealisticStates(120, 3, 0.7).draw(130)
    learned = learn(treatment, states)
    problems = _one_vs_rest(labels, 0.5)
    objectives, scores = [], []
    for kind in (PrimalSpace, KernelSpace):
        space = kind.of(states, learned, _every(len(states)))
        w, b = _weights_and_intercepts(space, _solve(space, problems))
        treated = learned.apply(states)
        objectives.append(_objective(w, b, treated, problems))
        scores.append((w @ treated.T + b[..., None])[:, 0])
    np.testing.assert_allclose(*objectives, rtol=1e-7)
    np.testing.assert_array_equal(*(one.argmax(axis=0) for one in scores))


@pytest.mark.parametrize("C", [1e-3, 1.0, 30.0])
@pytest.mark.parametrize("kind", ["random", "realistic"])
def test_finds_the_optimum_that_scikit_learn_finds_when_it_is_made_to(kind, C):
    states, labels = (
        _random(400, 30, 3) if kind == "random" else RealisticStates(48, 3, 0.7).draw(500)
    )
    treated = states.astype(np.float64)
    problems = _one_vs_rest(labels, C)
    space = PrimalSpace.of(states, learn("none", states), _every(len(states)))
    w, b = _weights_and_intercepts(space, _solve(space, problems))
    ours = _objective(w, b, treated, problems)
    for k, value in enumerate(ours):
        reference = LogisticRegression(C=C, solver="newton-cholesky", tol=1e-10, max_iter=1000)
        reference.fit(treated, labels == k)
        one = Problems(problems.target[[k]], problems.weight[[k]], problems.sets[[k]])
        theirs = _objective(reference.coef_[None], reference.intercept_[None], treated, one)
        assert value == pytest.approx(float(theirs[0]), rel=1e-8)
        same = ((w[k] @ treated.T + b[k, :, None])[0] > 0) == reference.predict(treated)
        assert same.all()


def test_the_multinomial_loss_has_scikit_learns_optimum_too():
    states, labels = _random(300, 20, 4)
    target = (labels == np.arange(4)[:, None]).astype(np.float32)[None]
    problems = Problems(target, np.full((1, 1, 300), 0.3, np.float32), np.zeros(1, np.intp))
    space = PrimalSpace.of(states, learn("center", states), _every(300))
    solved = solve(space, Softmax(), problems, 1e-9, 1000)
    assert solved.gap[0] <= 1e-9
    exact = states.astype(np.float64)
    reference = LogisticRegression(C=0.3, tol=1e-10, max_iter=1000).fit(exact, labels)
    scores = space.scores(solved.coordinates, solved.coordinates)[0]
    scores -= scores.mean(axis=0)
    theirs = reference.decision_function(exact).T
    np.testing.assert_allclose(scores, theirs - theirs.mean(axis=0), atol=2e-3)


@pytest.mark.parametrize("memory", [0, 1 << 30])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_products_with_the_rows_are_what_their_words_say(dtype, memory):
    rng = np.random.default_rng(0)
    states = RealisticStates(1024, 2, 0.5).draw(2500)[0]
    space = PrimalSpace.of(states, learn("standardize", states), _every(2500), memory=memory)
    x = RowBlocks(states, learn("standardize", states)).kept.astype(np.float64)
    at = rng.standard_normal((2, 3, 1025)).astype(dtype)
    residuals = rng.standard_normal((2, 3, 2500)).astype(dtype)
    scores = at[..., :-1] @ x.T + at[..., -1:]
    gathered = residuals @ x
    close = {"rtol": 0, "atol": 1e-3 if dtype == np.float32 else 1e-10}
    np.testing.assert_allclose(space.scores(at, at), scores, **close)
    pulled = space.combine_rows(residuals)
    assert pulled.dtype == dtype
    np.testing.assert_allclose(pulled[..., :-1], gathered, **close)
    np.testing.assert_allclose(pulled[..., -1], residuals.sum(-1, dtype=float), **close)
    if dtype == np.float64:
        exact, norm, _ = space.evaluate_exactly(at)
        np.testing.assert_allclose(exact, scores, **close)
        np.testing.assert_allclose(norm, (at[..., :-1] ** 2).sum((1, 2)))
        off = space.squared_distance_exactly(at, residuals)
        np.testing.assert_allclose(off, ((at[..., :-1] - gathered) ** 2).sum((1, 2)))


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("treatment", TREATMENTS)
def test_what_is_streamed_from_a_map_is_to_the_bit_what_is_kept_in_memory(
    tmp_path: Path, dtype, treatment
):
    states = RealisticStates(1024, 2, 0.5).draw(2500)[0].astype(dtype)  # more than two blocks
    np.save(tmp_path / "states.npy", states)
    index = np.delete(np.arange(2500), [3, 4, 1700])
    learned = learn(treatment, states[index])
    kept = RowBlocks(states, learned, index)
    streamed = RowBlocks(np.load(tmp_path / "states.npy", mmap_mode="r"), learned, index, memory=0)
    assert kept.kept is not None
    assert streamed.kept is None
    rows, blocks = zip(*((rows, block.copy()) for rows, block in streamed.blocks()), strict=True)
    assert len(rows) > 2
    np.testing.assert_array_equal(np.concatenate(blocks), kept.kept)
    few = np.array([0, 5, 6, 2000])
    np.testing.assert_array_equal(streamed.take(few), kept.kept[few])


@pytest.mark.parametrize("treatment", TREATMENTS)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_rows_are_what_the_treatment_says_less_their_centre(dtype, treatment):
    states = RealisticStates(40, 2, 0.5).draw(300)[0].astype(dtype)
    learned = learn(treatment, states)
    rows = RowBlocks(states, learned)
    expected = learned.apply(states)
    np.testing.assert_allclose(rows.kept + rows.centre, expected, rtol=1e-5, atol=1e-5)
    assert np.abs(rows.kept.mean(axis=0)).max() <= 1e-3 * np.abs(rows.kept).max()


def test_a_far_mean_in_float64_costs_no_digits():
    states = np.random.default_rng(0).standard_normal((50, 4))
    rows = RowBlocks(1e9 + states, learn("center", 1e9 + states))
    np.testing.assert_allclose(rows.kept, states - states.mean(axis=0), atol=1e-6)


def test_states_that_are_as_they_should_be_are_not_copied():
    states = np.ones((5, 3), np.float32)
    assert RowBlocks(states).kept is states


def test_the_optimum_streamed_is_the_optimum_in_memory(tmp_path: Path):
    states, labels = RealisticStates(512, 3, 0.7).draw(3000)
    np.save(tmp_path / "states.npy", states)
    learned = learn("standardize", states)
    problems = _one_vs_rest(labels, 0.1)
    objectives = []
    for place, memory in ((states, 1 << 30), (np.load(tmp_path / "states.npy", "r"), 0)):
        space = PrimalSpace.of(place, learned, _every(3000), memory=memory)
        w, b = _weights_and_intercepts(space, _solve(space, problems, 1e-7))
        objectives.append(_objective(w, b, learned.apply(states), problems))
    np.testing.assert_allclose(*objectives, rtol=1e-9)


def test_every_half_becomes_the_same_number():
    halves = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    halves = halves[np.isfinite(halves)]
    out = np.empty(halves.shape, np.float32)
    from_half(halves, out)
    np.testing.assert_array_equal(out.view(np.int32), halves.astype(np.float32).view(np.int32))


def test_a_training_set_counts_as_if_the_other_rows_were_not_there():
    states, labels = _random(300, 25, 3)
    train = np.ones((2, 300), dtype=bool)
    train[0, ::5] = False
    train[1, 200:] = False
    every = _one_vs_rest(labels, 1.0)
    problems = Problems(
        np.concatenate([every.target] * 2),
        np.repeat(train, 3, axis=0)[:, None].astype(np.float32),
        np.repeat([0, 1], 3),
    )
    learned = learn("none", states)
    together = PrimalSpace.of(states, learned, train)
    w, b = _weights_and_intercepts(together, _solve(together, problems))
    for i, mask in enumerate(train):
        alone = PrimalSpace.of(states[mask], learned, _every(mask.sum()))
        w_alone, b_alone = _weights_and_intercepts(
            alone, _solve(alone, _one_vs_rest(labels[mask], 1.0))
        )
        np.testing.assert_allclose(w[3 * i : 3 * i + 3], w_alone, atol=1e-4)
        np.testing.assert_allclose(b[3 * i : 3 * i + 3], b_alone, atol=1e-4)


def test_a_row_of_weight_two_is_a_row_twice():
    states, labels = _random(200, 15, 2)
    weights = np.where(np.arange(200) < 50, 2.0, 1.0)
    twice = np.sort(np.concatenate([np.arange(200), np.arange(50)]))
    weighted = PrimalSpace.of(states, learn("none", states), _every(200))
    doubled = PrimalSpace.of(states[twice], learn("none", states), _every(250))
    one = _weights_and_intercepts(weighted, _solve(weighted, _one_vs_rest(labels, 0.2, weights)))
    two = _weights_and_intercepts(doubled, _solve(doubled, _one_vs_rest(labels[twice], 0.2)))
    np.testing.assert_allclose(one[0], two[0], atol=1e-4)
    np.testing.assert_allclose(one[1], two[1], atol=1e-4)


def test_other_rows_get_the_scores_that_the_probe_gives_them():
    states, labels = _random(260, 20, 3)
    learned = learn("unit-norm", states[:200])
    space = PrimalSpace.of(states, learned, _every(200), index=np.arange(200))
    solved = _solve(space, _one_vs_rest(labels[:200], 5.0))
    w, b = _weights_and_intercepts(space, solved)
    expected = w @ learned.apply(states).T + b[..., None]
    np.testing.assert_allclose(
        space.scores(solved.coordinates, solved.coordinates),
        expected[..., :200],
        rtol=1e-4,
        atol=1e-5,
    )
    centred = space.weights(solved.coordinates)
    np.testing.assert_allclose(
        space.score_others(states, *centred, index=np.arange(200, 260)),
        expected[..., 200:],
        rtol=1e-4,
        atol=1e-5,
    )


def test_dimensions_that_say_the_same_on_wild_scales_are_no_obstacle():
    states, labels = _random(300, 10, 2)
    scales = np.float32(10.0) ** np.arange(-3, 5)
    states = np.hstack([states * scale for scale in scales])
    space = PrimalSpace.of(states, learn("none", states), _every(300))
    _solve(space, _one_vs_rest(labels, 1.0), 1e-6)


def test_memory_does_not_grow_with_the_rows(tmp_path: Path):
    hidden, n_rows = 256, 120_000  # 61 MB on disk, 123 MB in float32
    path = tmp_path / "states.npy"
    states = np.lib.format.open_memmap(path, "w+", np.float16, (n_rows, hidden))
    labels = np.empty(n_rows, np.intp)
    some, of_some = RealisticStates(hidden, 2, 0.5).draw(10_000)
    for start in range(0, n_rows, len(some)):
        rows = slice(start, start + len(some))
        states[rows], labels[rows] = some, of_some
    states.flush()
    del states
    target = np.where(labels, 1, -1).astype(np.float32)[None, None]
    problems = Problems(target, np.ones_like(target), np.zeros(1, np.intp))
    learned = Treatment("none", np.zeros(hidden), np.ones(hidden))
    streamed = np.load(path, mmap_mode="r")
    mapped = _mapped()
    tracemalloc.start()
    try:
        space = PrimalSpace.of(streamed, learned, _every(n_rows), memory=0)
        solved = solve(space, OneVsRest(), problems, 1e-5, 200)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert solved.gap[0] <= 1e-5
    assert peak < 30e6, "scores and the like of 120,000 rows take 10 MB"
    assert _mapped() - mapped < 10e6, "pages of the map are handed back"


def test_a_map_with_changes_that_are_not_on_the_disk_keeps_them(tmp_path: Path):
    np.save(tmp_path / "states.npy", np.zeros((10, 4), np.float16))
    states = np.load(tmp_path / "states.npy", mmap_mode="c")
    states[3] = 7
    for _ in range(2):
        ((_, block),) = RowBlocks(states, memory=0).blocks()
    assert (block[3] == 7).all()


def _mapped() -> int:
    """Bytes of mapped files in the memory of this process."""
    status = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in status if line.startswith("RssFile:"))
