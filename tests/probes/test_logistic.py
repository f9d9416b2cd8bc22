"""Logistic probes compared with scikit-learn's at very small tolerances."""

import numpy as np
import pytest
from benchmarks.solver_speed import RealisticStates
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from vsp.probes.base import Task
from vsp.probes.logistic import Logistic, Multinomial

C = 0.1


def _drawn(n, d, k=3, seed=0, dtype=np.float64):
    rng = np.random.default_rng(seed)
    states = rng.standard_normal((n, d))
    label = (states[:, :k] + rng.standard_normal((n, k))).argmax(axis=1)
    return (states * rng.uniform(0.5, 2, d) + 3).astype(dtype), label


def _data(kind):
    if kind == "realistic":
        states, label = RealisticStates(256, 3, 0.3, 0).draw(160)
        return states, label
    return _drawn(*{"fewer rows": (80, 200), "more rows": (300, 20)}[kind])


def _treated(states, treatment):
    states = np.asarray(states, dtype=np.float64)
    if treatment == "standardize":
        return (states - states.mean(0)) / states.std(0)
    if treatment == "unit-norm":
        return states / np.linalg.norm(states, axis=1, keepdims=True)
    return states - states.mean(0)


def _objective(treated, y, w, b):
    return 0.5 * w @ w + C * np.logaddexp(0, -y * (treated @ w + b)).sum()


def _reference(treated, y):
    """scikit-learn's optimum by Newton's method at a tolerance of 1e-12."""
    reference = LogisticRegression(C=C, solver="newton-cholesky", tol=1e-12, max_iter=1000)
    reference.fit(treated, y)
    return reference.coef_[0], reference.intercept_[0]


@pytest.mark.parametrize("treatment", ["none", "center", "standardize", "unit-norm"])
@pytest.mark.parametrize("kind", ["fewer rows", "more rows", "realistic"])
def test_the_objective_is_scikit_learns_to_1e_8_and_so_are_predictions(kind, treatment):
    states, label = _data(kind)
    treated = _treated(states, treatment)
    probe = Logistic(C, treatment, tol=1e-9).fit(states, label)
    assert (probe.gap_ <= 1e-9).all() and len(probe.gap_) == 3
    theirs = np.empty((len(states), 3))
    for k in range(3):
        y = np.where(label == k, 1.0, -1.0)
        w, b = _reference(treated, y)
        theirs[:, k] = treated @ w + b
        best = _objective(treated, y, w, b)
        # Scores do not depend on whether the mean is in the intercept.
        shift = states.astype(float).mean(0) @ probe.coef_[k] if treatment == "none" else 0.0
        ours = _objective(treated, y, probe.coef_[k], probe.intercept_[k] + shift)
        assert ours <= best * (1 + 1e-8)
        assert ours >= best * (1 - 1e-8)
    assert (probe.predict(states) == theirs.argmax(axis=1)).all()


@pytest.mark.parametrize("kind", ["fewer rows", "more rows"])
def test_the_multinomial_optimum_is_scikit_learns(kind):
    states, label = _data(kind)
    treated = _treated(states, "center")
    probe = Multinomial(C, tol=1e-10).fit(states, label)
    theirs = LogisticRegression(C=C, tol=1e-12, max_iter=10_000).fit(treated, label)
    np.testing.assert_allclose(
        probe.predict_proba(states), theirs.predict_proba(treated), atol=1e-4
    )
    assert (probe.predict(states) == theirs.predict(treated)).all()


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_halves_and_singles_are_read_as_they_are(dtype):
    states, label = _drawn(90, 150, dtype=dtype)
    probe = Logistic(C, tol=1e-9).fit(states, label)
    same = Logistic(C, tol=1e-9).fit(states.astype(np.float64), label)
    np.testing.assert_allclose(probe.coef_, same.coef_, atol=1e-4 * np.abs(same.coef_).max())


def test_the_gap_of_a_task_is_no_smaller_than_its_distance_from_the_optimum():
    states, label = _drawn(120, 200)
    rng, train = np.random.default_rng(0), np.arange(120) < 90
    tasks = [Task(rng.permutation(label), train, (0.01, C, 1.0), keep=True) for _ in range(5)]
    treated = _treated(states[train], "center")
    for task, fit in zip(tasks, Logistic(tol=1e-3).fit_tasks(states, tasks), strict=True):
        assert (fit.gap <= 1e-3).all()
        arrays = fit.probes[1]
        assert arrays["strength"] == C
        for k in range(3):
            y = np.where(task.y[train] == k, 1.0, -1.0)
            w, b = arrays["coef"][k], arrays["intercept"][k]
            b = b + (states[train].mean(0) - arrays["mean"]) @ w
            ours, best = (
                _objective(treated, y, w, b),
                _objective(treated, y, *_reference(treated, y)),
            )
            assert best * (1 - 1e-9) <= ours <= best + fit.gap[1, k] * ours * (1 + 1e-3)


@pytest.mark.parametrize("probe", [Logistic, Multinomial])
@pytest.mark.parametrize("shape", [(300, 400), (500, 100)])
def test_rows_that_are_held_out_are_scored_as_by_a_fit_without_them(shape, probe):
    """Sharing work with fits on all rows does not change the scores that choose C."""
    states, label = _drawn(*shape)
    grid, folds = (1e-3, 1e-2, C, 1.0), [np.arange(len(label)) % 5 != k for k in range(5)]
    tasks = [Task(label, train, grid) for train in (np.ones(len(label), bool), *folds)]
    for task, fit in zip(tasks[1:], list(probe().fit_tasks(states, tasks))[1:], strict=True):
        for strength, scores in zip(grid, fit.scores, strict=True):
            alone = probe(strength, tol=1e-9).fit(states[task.train], label[task.train])
            expected = alone.decision_function(states[~task.train]).T
            within = 0.01 * np.abs(expected).max()
            np.testing.assert_allclose(scores[:, ~task.train], expected, rtol=0, atol=within)


def test_the_same_tasks_give_the_same_bytes():
    states, label = _drawn(100, 150)
    tasks = [Task(label, np.arange(100) % 5 != k, (0.01, 1.0)) for k in range(5)]
    probe = Logistic()
    prepared = probe.prepare(states, np.stack([task.train for task in tasks]))
    first, second = (list(probe.fit_prepared(prepared, tasks)) for _ in range(2))
    again = list(Logistic().fit_tasks(states, tasks))
    for one, two, three in zip(first, second, again, strict=True):
        assert one.scores.tobytes() == two.scores.tobytes() == three.scores.tobytes()
        assert (one.gap == two.gap).all() and (one.iterations == two.iterations).all()


def test_steps_that_run_out_are_warned_about_and_shown_in_the_gap():
    states, label = _drawn(100, 150)
    with pytest.warns(ConvergenceWarning, match="raise max_iter 1 or tol"):
        probe = Logistic(1.0, tol=1e-9, max_iter=1).fit(states, label)
    assert (probe.gap_ > 1e-9).any()
    task = Task(label, np.ones(100, dtype=bool), (1.0,))
    (fit,) = Logistic(tol=1e-9, max_iter=1).fit_tasks(states, [task])
    assert (fit.gap > 1e-9).any()


def test_a_class_that_is_certain_on_all_rows_has_a_metric():
    """Its second derivatives are 0, which made a matrix of the preconditioner singular."""
    states = np.array([[6e4, 0, 0], [0, 0, 0], [1, 0, 0]])
    probe = Multinomial(treatment="none").fit(states, [1, 0, 2])
    assert np.isfinite(probe.scores(states)).all() and probe.gap_.max() <= probe.tol
