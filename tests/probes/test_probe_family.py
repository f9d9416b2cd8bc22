"""The contract of every probe in the table, and the definition of each probe."""

from __future__ import annotations

import io
import subprocess
import sys
import tracemalloc
import warnings
from dataclasses import fields
from unittest import SkipTest

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.linear_model import Ridge as SklearnRidge
from sklearn.multiclass import OneVsRestClassifier
from sklearn.neighbors import NearestCentroid
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from vsp import probes
from vsp.errors import ProbeError, RunError
from vsp.probes import PROBES
from vsp.probes.base import Task
from vsp.probes.links import probabilities
from vsp.probes.names import TREATMENTS
from vsp.storage.layer_score import LayerScore
from vsp.storage.results import Results

NAMES = PROBES.names()
CLASSES = {name: PROBES.load(name) for name in NAMES}
OF_LABELS = [name for name in NAMES if CLASSES[name].target == "label"]
OF_NUMBERS = [name for name in NAMES if CLASSES[name].target == "number"]
LINEAR = [name for name in NAMES if name != "mlp"]


def _states(n=120, d=12, n_classes=3, seed=0, dtype=np.float64, apart=1.0):
    """States like stored ones, and class indices; the first rows have one class each."""
    rng = np.random.default_rng(seed)
    codes = np.concatenate([np.arange(n_classes), rng.integers(0, n_classes, n - n_classes)])
    states = rng.normal(size=(n, d)) + apart * rng.normal(size=(n_classes, d))[codes]
    return (states * np.geomspace(0.1, 30, d) + 5).astype(dtype), codes


def _y(name, codes, seed=0):
    """The target of that probe: class names, or numbers that correlate with the classes."""
    if name in OF_LABELS:
        return np.array(["left", "right", "under", "above"])[codes]
    return codes + np.random.default_rng(seed).normal(size=len(codes)) / 4


def _task(name, codes, train, **changes):
    y = codes if name in OF_LABELS else _y(name, codes)
    return Task(y, train, CLASSES[name].default_grid[:2], **changes)


def _through_a_file(arrays):
    """Save and read arrays without pickle."""
    file = io.BytesIO()
    np.savez(file, allow_pickle=False, **arrays)
    file.seek(0)
    with np.load(file, allow_pickle=False) as read:
        return dict(read)


# The contract of every probe.


@parametrize_with_checks([cls() for cls in CLASSES.values()])
def test_scikit_learns_own_checks(estimator, check, monkeypatch):
    """Probes promise arrays and what numpy turns into one, but no data frames."""
    monkeypatch.setenv("SCIPY_ARRAY_API", "1")  # otherwise its checks of array types are skipped
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        try:
            check(estimator)
        except SkipTest as skipped:
            # The check was done with lists and array-likes; data frames come last and need pandas.
            assert "pandas is not installed" in str(skipped)


def test_importing_the_family_imports_no_scikit_learn():
    code = (
        "import sys, vsp.probes; "
        "print([m for m in ('numpy', 'sklearn', 'scipy') if m in sys.modules])"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert answer.stdout == "[]\n", answer


@pytest.mark.parametrize("name", NAMES)
def test_it_says_what_it_is(name):
    cls = CLASSES[name]
    assert cls.target in ("label", "number") and cls.link in ("", "sigmoid", "softmax")
    assert list(cls.default_grid) == sorted(set(cls.default_grid))
    assert (
        (cls.strength_name in cls().get_params())
        == bool(cls.strength_name)
        == bool(cls.default_grid)
    )
    assert cls().treatment in TREATMENTS


@pytest.mark.parametrize("name", NAMES)
def test_it_reads_what_is_there(name):
    states, codes = _states(n=400, apart=3)
    probe = CLASSES[name]().fit(states[:300], _y(name, codes[:300]))
    assert probe.score(states[300:], _y(name, codes)[300:]) > 0.8


@pytest.mark.parametrize("treatment", TREATMENTS)
@pytest.mark.parametrize("name", NAMES)
def test_every_treatment_is_learned_from_the_rows_given_and_recorded(name, treatment):
    states, codes = _states()
    probe = CLASSES[name](treatment=treatment).fit(states, _y(name, codes))
    assert np.isfinite(probe.scores(states)).all()
    arrays = probe.arrays()
    assert str(arrays["treatment"]) == treatment
    expected = states.mean(axis=0) if treatment in ("center", "standardize") else 0
    np.testing.assert_allclose(arrays["mean"], np.broadcast_to(expected, 12), rtol=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_it_can_be_cloned(name):
    changed = {
        "treatment": "center",
        **({CLASSES[name].strength_name: 0.5} if CLASSES[name].strength_name else {}),
    }
    copy = clone(CLASSES[name](**changed))
    assert copy.get_params() == {**CLASSES[name]().get_params(), **changed}


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("name", OF_LABELS)
def test_scores_have_a_column_for_each_class_and_the_largest_wins(name, n_classes):
    states, codes = _states(n_classes=n_classes)
    probe = CLASSES[name]().fit(states, _y(name, codes))
    scores = probe.scores(states)
    assert scores.shape == (120, n_classes)
    assert (probe.predict(states) == probe.classes_[scores.argmax(axis=1)]).all()
    decided = probe.decision_function(states)
    if n_classes == 2:
        assert decided.shape == (120,)
        assert (probe.predict(states) == probe.classes_[(decided > 0).astype(int)]).all()
    else:
        assert (decided == scores).all()


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("name", OF_LABELS)
def test_probabilities_are_of_the_scores_where_there_is_a_link(name, n_classes):
    states, codes = _states(n_classes=n_classes)
    probe = CLASSES[name]().fit(states, _y(name, codes))
    assert hasattr(probe, "predict_proba") == bool(probe.link)
    if probe.link:
        shares = probe.predict_proba(states)
        np.testing.assert_allclose(shares.sum(axis=1), 1)
        assert (shares.argmax(axis=1) == probe.scores(states).argmax(axis=1)).all()


@pytest.mark.parametrize("name", OF_NUMBERS)
def test_a_number_is_its_own_score(name):
    states, codes = _states()
    probe = CLASSES[name]().fit(states, _y(name, codes))
    assert probe.scores(states).shape == (120, 1)
    assert (probe.predict(states) == probe.scores(states)[:, 0]).all()


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("name", NAMES)
def test_states_as_they_are_stored_are_read_as_float64(name, dtype):
    """A read-only array gives the same scores as its float64 copy."""
    states, codes = _states(dtype=dtype)
    states.flags.writeable = False
    y = _y(name, codes)
    stored = CLASSES[name]().fit(states, y).scores(states)
    exact = states.astype(np.float64)
    copied = CLASSES[name]().fit(exact, y).scores(exact)
    np.testing.assert_allclose(stored, copied, rtol=1e-5, atol=1e-5 * np.abs(copied).max())


@pytest.mark.parametrize("n_classes", [2, 4])
@pytest.mark.parametrize("name", NAMES)
def test_its_arrays_are_all_there_is_to_it(name, n_classes):
    states, codes = _states(n_classes=n_classes)
    probe = CLASSES[name](treatment="unit-norm").fit(states, _y(name, codes).astype(object))
    again = CLASSES[name].from_arrays(_through_a_file(probe.arrays()))
    assert again.treatment == "unit-norm"
    assert (again.predict(states) == probe.predict(states)).all()
    assert (again.scores(states) == probe.scores(states)).all()
    assert set(probe.arrays()) <= set(probe.array_meanings)
    with pytest.raises(ValueError, match="features"):
        again.predict(states[:, 1:])


@pytest.mark.parametrize("name", LINEAR)
def test_a_linear_probe_is_its_readout(name):
    """The described arrays are enough to compute scores without this package."""
    states, codes = _states()
    probe = CLASSES[name](treatment="standardize").fit(states, _y(name, codes))
    arrays = probe.arrays()
    by_hand = (states - arrays["mean"]) / arrays["scale"] @ arrays["coef"].T + arrays["intercept"]
    np.testing.assert_allclose(probe.scores(states), by_hand, rtol=1e-9, atol=1e-9)


# Many tasks at once.


def _near(name):
    """Tolerance of scores, relative to the largest: a fit within a gap is not the exact optimum."""
    return 5e-3 if CLASSES[name].strength_name and "tol" in CLASSES[name]().get_params() else 1e-5


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("name", NAMES)
def test_tasks_come_out_as_fits_of_their_own(name, n_classes):
    """Tasks with the same and with other training rows, with several strengths and with one."""
    states, codes = _states(n_classes=n_classes, dtype=np.float32)
    early, late = np.arange(120) < 90, np.arange(120) > 20
    shuffled = np.random.default_rng(1).permutation(codes)
    tasks = [
        _task(name, codes, early, keep=True),
        _task(name, shuffled, early),
        Task(_task(name, shuffled, early).y, early, CLASSES[name].default_grid[1:2]),
        _task(name, codes, late),
        Task(_task(name, codes, late).y, late),
    ]
    fits = list(CLASSES[name]().fit_tasks(states, tasks))
    assert len(fits) == len(tasks)
    for task, fit in zip(tasks, fits, strict=True):
        parameters = [{CLASSES[name].strength_name: one} for one in task.strengths] or [{}]
        assert fit.scores.dtype == np.float32
        assert fit.scores.shape == (len(parameters), 1 if name in OF_NUMBERS else n_classes, 120)
        for one, scores in zip(parameters, fit.scores, strict=True):
            own = CLASSES[name](**one).fit(states[task.train], task.y[task.train]).scores(states)
            np.testing.assert_allclose(
                scores.T, own, rtol=2e-5, atol=_near(name) * np.abs(own).max()
            )
        assert fit.gap.shape == fit.iterations.shape and len(fit.gap) == len(parameters)
        assert fit.gap.dtype == np.float32 and fit.iterations.dtype == np.int32
        assert len(fit.probes) == (len(parameters) if task.keep else 0)
    for arrays, scores in zip(fits[0].probes, fits[0].scores, strict=True):
        kept = CLASSES[name].from_arrays(_through_a_file(arrays))
        np.testing.assert_allclose(kept.scores(states), scores.T, rtol=2e-5, atol=1e-4)
    assert [len(fit.probes) for fit in CLASSES[name]().fit_tasks(states, [])] == []


@pytest.mark.parametrize("treatment", ["center", "standardize"])
@pytest.mark.parametrize("name", NAMES)
def test_rows_that_count_several_times_are_fitted_as_often(name, treatment):
    states, codes = _states()
    counts = np.random.default_rng(0).multinomial(120, np.full(120, 1 / 120))
    y = _task(name, codes, counts > 0).y
    strengths = CLASSES[name].default_grid[1:2]
    probe = CLASSES[name](treatment=treatment)
    (fit,) = probe.fit_tasks(states, [Task(y, counts > 0, strengths, counts=counts)])
    rows = np.repeat(np.arange(120), counts)
    chosen = {CLASSES[name].strength_name: strengths[0]} if strengths else {}
    expected = clone(probe).set_params(**chosen).fit(states[rows], y[rows]).scores(states)
    np.testing.assert_allclose(
        fit.scores[0].T, expected, rtol=1e-4, atol=_near(name) * np.abs(expected).max()
    )


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("name", ["logistic", "multinomial", "sklearn"])
def test_balanced_weights_are_those_of_scikit_learn(name, n_classes):
    states, _ = _states(300, n_classes=n_classes)
    codes = np.random.default_rng(1).choice(n_classes, 300, p=[0.85, 0.15] if n_classes == 2 else [0.7, 0.2, 0.1])  # fmt: skip
    states[:, 0] += codes
    changed = {"treatment": "center", "weighting": "balanced", "C": 0.1}
    probe = CLASSES[name](**changed, tol=1e-7).fit(states, codes)
    plain = LogisticRegression(C=0.1, class_weight="balanced", tol=1e-9, max_iter=5000)
    if name == "multinomial" and n_classes == 2:
        plain.set_params(C=0.2)  # each of two classes has weights
    wanted = plain if name == "multinomial" else OneVsRestClassifier(plain)
    shares = wanted.fit(states - states.mean(axis=0), codes).predict_proba(states - states.mean(axis=0))  # fmt: skip
    assert probe.predict_proba(states) == pytest.approx(shares, abs=2e-3)
    unweighted = CLASSES[name](**{**changed, "weighting": "none"}).fit(states, codes)
    assert np.abs(unweighted.predict_proba(states) - shares).max() > 0.05


def test_the_default_grid_is_moved_by_powers_of_ten_to_the_size_of_rows():
    probe = CLASSES["logistic"]()
    assert probe.grid_for(45_000) == probe.default_grid == (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
    assert probe.grid_for(0.5) == (10.0, 100.0, 1e3, 1e4, 1e5)
    assert probe.grid_for(2e9) == (1e-8, 1e-7, 1e-6, 1e-5, 1e-4)
    assert probe.grid_for(0.0) == probe.grid_for(np.inf) == probe.default_grid
    assert CLASSES["ridge"]().grid_for(1e9) == CLASSES["ridge"].default_grid


@pytest.mark.parametrize("name", [name for name in NAMES if not CLASSES[name].strength_name])
def test_a_probe_without_a_grid_has_no_strengths(name):
    states, codes = _states()
    y = _task(name, codes, codes).y
    (fit,) = CLASSES[name]().fit_tasks(states, [Task(y, codes >= 0, (np.nan,), keep=True)])
    assert len(fit.scores) == len(fit.probes) == 1 and "strength" not in fit.probes[0]


@pytest.mark.parametrize("name", sorted({*NAMES} - {"mlp", "sklearn"}))
def test_hundreds_of_tasks_keep_their_order(name):
    states, codes = _states(n=40, d=5)
    rng, train = np.random.default_rng(3), np.arange(40) < 30
    tasks = [Task(rng.permutation(_task(name, codes, train).y), train) for _ in range(600)]
    fits = list(CLASSES[name]().fit_tasks(states, tasks))
    assert len(fits) == 600
    for i in (0, 299, 599):
        own = CLASSES[name]().fit(states[train], tasks[i].y[train]).scores(states)
        np.testing.assert_allclose(fits[i].scores[0].T, own, rtol=1e-4, atol=_near(name))


@pytest.mark.parametrize("name", NAMES)
def test_rows_that_do_not_train_have_no_influence(name):
    states, codes = _states(dtype=np.float32)
    train = np.arange(120) % 3 > 0
    (before,) = CLASSES[name](treatment="standardize").fit_tasks(
        states, [_task(name, codes, train)]
    )
    states[~train] = 1e4 * np.random.default_rng(2).normal(size=((~train).sum(), 12))
    codes[~train] = 2 - codes[~train]
    (after,) = CLASSES[name](treatment="standardize").fit_tasks(states, [_task(name, codes, train)])
    assert (before.scores[:, :, train] == after.scores[:, :, train]).all()
    assert (before.scores[:, :, ~train] != after.scores[:, :, ~train]).any()


@pytest.mark.parametrize("name", OF_LABELS)
def test_a_class_of_no_training_row_is_never_read(name):
    states, codes = _states(n_classes=4)
    (fit,) = CLASSES[name]().fit_tasks(states, [_task(name, codes, codes != 1)])
    assert fit.scores.shape[1] == 4
    assert (fit.scores[:, 1] == -np.inf).all() and np.isfinite(fit.scores[:, [0, 2, 3]]).all()
    if CLASSES[name].link:
        shares = probabilities(fit.scores, CLASSES[name].link, axis=1)
        assert (shares[:, 1] == 0).all()
        np.testing.assert_allclose(shares.sum(axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize("name", OF_LABELS)
def test_a_task_of_one_class_is_refused(name):
    states, codes = _states()
    with pytest.raises(ProbeError, match=r"one class, '1', on \d+ rows; a probe needs two"):
        list(CLASSES[name]().fit_tasks(states, [_task(name, codes, codes == 1)]))


# Bad input.


def _refused(probe, states, y, match):
    with pytest.raises(ValueError, match=match) as caught:
        probe.fit(states, y)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", OF_LABELS)
def test_one_class_only_is_refused(name):
    states, _ = _states()
    _refused(CLASSES[name](), states, ["left"] * 120, "one class, 'left', on 120 rows")
    _refused(CLASSES[name](), states[:1], ["left"], "one class, 'left', on 1 rows")


@pytest.mark.parametrize("name", NAMES)
def test_values_that_are_not_finite_are_refused_where_they_are(name):
    states, codes = _states()
    y = _y(name, codes)
    probe = CLASSES[name]().fit(states, y)
    states[70, 3] = np.inf
    states[80, 1] = np.nan
    _refused(CLASSES[name](), states, y, "NaN or inf in row 70, dimension 3 of the states")
    with pytest.raises(ProbeError, match="NaN or inf in row 0, dimension 1 of the states"):
        probe.predict(states[80:])


def test_a_value_that_is_not_finite_is_found_far_down():
    states = np.zeros((40_000, 50), dtype=np.float16)
    states[39_999, 49] = np.nan
    _refused(CLASSES["centroid"](), states, np.arange(40_000) % 2, "row 39999, dimension 49 of")


@pytest.mark.parametrize("name", OF_NUMBERS)
def test_a_number_that_is_not_finite_is_refused(name):
    states, codes = _states()
    y = _y(name, codes)
    y[7] = np.nan
    _refused(CLASSES[name](), states, y, "NaN or inf as the number of row 7")


@pytest.mark.parametrize("name", OF_NUMBERS)
@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ((-1e308, 1e308), r"numbers from -1e\+308 to 1e\+308; their size must lie .*: scale them$"),
        ((0, 1e39), r"numbers from 0 to 1e\+39; their size must lie"),
        ((0, 1e-200), r"numbers from 0 to 1e-200; their size must lie"),
        ((1.7e9, 1.7e9 + 60), r"numbers from 1700000000 to 1700000060 differ too little.*mean$"),
    ],
)
def test_numbers_for_which_float32_is_too_coarse_are_refused(name, numbers, message):
    states, codes = _states()
    _refused(CLASSES[name](), states, np.choose(codes % 2, numbers), message)


@pytest.mark.parametrize("numbers", [(-1e29, 1e29), (0, 1e-29), (5, 5), (0, 0), (1990, 2026)])
def test_numbers_of_other_sizes_are_read_with_their_precision(numbers):
    states, codes = _states()
    y = np.choose(codes % 2, numbers).astype(np.float64)
    found = CLASSES["ridge"](alpha=1e-9).fit(states, y).predict(states).astype(np.float32)
    reference = CLASSES["ridge"](alpha=1e-9).fit(states, codes % 2).predict(states)
    expected = numbers[0] + (numbers[1] - numbers[0]) * reference
    assert np.allclose(found, expected, rtol=1e-5, atol=1e-4 * abs(numbers[1] - numbers[0]))


@pytest.mark.parametrize("name", NAMES)
def test_a_treatment_that_is_not_known_is_refused(name):
    states, codes = _states()
    _refused(
        CLASSES[name](treatment="pca"), states, _y(name, codes), "treatment 'pca' is not known"
    )


@pytest.mark.parametrize("name", NAMES)
def test_rows_and_labels_must_agree(name):
    states, codes = _states()
    _refused(CLASSES[name](), states, _y(name, codes)[1:], "120 rows of states and 119")


@pytest.mark.parametrize("name", OF_NUMBERS)
def test_one_number_is_what_is_always_read(name):
    states, _ = _states()
    for n in (1, 50):
        probe = CLASSES[name]().fit(states[:n], np.full(n, 2.5))
        np.testing.assert_allclose(probe.predict(states), 2.5)


@pytest.mark.parametrize("treatment", TREATMENTS)
@pytest.mark.parametrize("name", NAMES)
def test_dimensions_that_never_change_do_no_harm(name, treatment):
    states, codes = _states()
    states[:, 2], states[:, 5], states[:4] = 0, 7.7, 0
    probe = CLASSES[name](treatment=treatment).fit(states, _y(name, codes))
    assert np.isfinite(probe.scores(states)).all()


@pytest.mark.parametrize("name", NAMES)
def test_states_without_any_variation_say_nothing(name):
    states, y = np.zeros((30, 5)), _y(name, np.arange(30) % 3 // 2)
    scores = CLASSES[name]().fit(states, y).scores(states)
    assert np.isfinite(scores).all() and np.ptp(scores, axis=0).max() == 0


@pytest.mark.parametrize("name", OF_LABELS)
def test_identical_rows_may_have_different_labels(name):
    states, codes = _states(n_classes=2)
    twice = np.concatenate([states, states])
    probe = CLASSES[name]().fit(twice, _y(name, np.concatenate([codes, 1 - codes])))
    assert np.isfinite(probe.scores(states)).all()
    assert np.abs(probe.decision_function(states)).max() < 1  # probabilities from 27 to 73 %


@pytest.mark.parametrize("name", sorted({*OF_LABELS} - {"lda"}))
def test_every_row_may_be_a_class_of_its_own(name):
    states, _ = _states(n=4, d=9, n_classes=4, apart=5)
    names = np.array(list("abcd"))
    probe = CLASSES[name]().fit(states, names)
    assert (probe.predict(states) == names).all()


def test_lda_needs_rows_within_a_class():
    states, _ = _states(n=4)
    _refused(CLASSES["lda"](), states, list("abcd"), "4 classes on 4 rows leave no variance")


# Fits that rounding keeps from the optimum warn and are counted.
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("name", sorted({*NAMES} - {"mlp"}))
@settings(deadline=None, max_examples=15)
@given(data=st.data())
def test_any_finite_rows_give_finite_scores_or_one_line(name, data):
    n, d = data.draw(st.integers(1, 7)), data.draw(st.integers(1, 5))
    value = st.sampled_from([0.0, 1.0, -1.0, 0.1, 6e4, -6e4, 6e-8])
    cells = data.draw(st.lists(value, min_size=n * d, max_size=n * d))
    codes = np.array(data.draw(st.lists(st.integers(0, 3), min_size=n, max_size=n)))
    states = np.array(cells, dtype=np.float16).reshape(n, d)
    treatment = data.draw(st.sampled_from(TREATMENTS))
    few = {"max_iter": 100} if "max_iter" in CLASSES[name]().get_params() else {}
    try:
        probe = CLASSES[name](treatment=treatment, **few).fit(states, _y(name, codes))
    except ProbeError as error:
        assert "\n" not in str(error)
    else:
        assert np.isfinite(probe.scores(states)).all()


# The definition of each probe.


def test_sklearn_is_its_own_pipeline():
    for n_classes in (2, 3):
        states, codes = _states(n_classes=n_classes)
        probe = CLASSES["sklearn"](C=0.3).fit(states[:90], codes[:90])
        reference = make_pipeline(
            StandardScaler(), OneVsRestClassifier(LogisticRegression(C=0.3, max_iter=1000))
        ).fit(states[:90], codes[:90])
        np.testing.assert_allclose(
            probe.decision_function(states), reference.decision_function(states), rtol=1e-6
        )
        np.testing.assert_allclose(
            probe.predict_proba(states), reference.predict_proba(states), rtol=1e-6
        )


def test_sklearn_counts_fits_that_stop_early_and_does_not_warn():
    states, codes = _states()
    stopped = CLASSES["sklearn"](max_iter=1, C=1e4, tol=1e-9)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert (stopped.fit(states, codes).gap_ == [np.inf] * 3).all()
        assert np.isnan(CLASSES["sklearn"]().fit(states, codes).gap_).all()
        (fit,) = stopped.fit_tasks(states, [Task(codes, np.full(120, True))])
    assert (fit.gap == np.inf).all() and (fit.iterations == 1).all() and fit.gap.shape == (1, 3)


def test_mass_mean_of_two_classes_is_the_direction_between_their_means():
    states, codes = _states(n_classes=2)
    probe = CLASSES["mass-mean"]().fit(states, codes)
    first, second = states[codes == 0].mean(axis=0), states[codes == 1].mean(axis=0)
    np.testing.assert_allclose(probe.coef_[1], second - first, rtol=1e-9)
    midpoint = (first + second)[None] / 2
    np.testing.assert_allclose(probe.scores(midpoint), 0, atol=1e-9)


def test_mass_mean_of_several_classes_is_each_against_the_rest():
    states, codes = _states(n_classes=4)
    scores = CLASSES["mass-mean"]().fit(states, codes).scores(states)
    for one in range(4):
        binary = CLASSES["mass-mean"]().fit(states, codes == one)
        np.testing.assert_allclose(scores[:, one], binary.scores(states)[:, 1], rtol=1e-8)


@pytest.mark.parametrize("n_classes", [2, 4])
def test_centroid_is_scikit_learns(n_classes):
    states, codes = _states(n_classes=n_classes, apart=0.3)
    probe = CLASSES["centroid"]().fit(states[:60], codes[:60])
    reference = NearestCentroid().fit(states[:60], codes[:60])
    assert (probe.predict(states) == reference.predict(states)).all()
    distances = ((states[:, None] - reference.centroids_) ** 2).sum(axis=2) / -2
    scores = probe.scores(states)
    np.testing.assert_allclose(
        scores - scores[:, :1], distances - distances[:, :1], rtol=1e-8, atol=1e-8
    )


@pytest.mark.parametrize("shrinkage", ["auto", 0.1, 1.0])
@pytest.mark.parametrize(("n", "d"), [(60, 200), (200, 60), (150, 150), (100, 1)])
@pytest.mark.parametrize("n_classes", [2, 4])
def test_lda_is_scikit_learns_on_either_side(n, d, n_classes, shrinkage):
    states, codes = _states(n=n, d=d, n_classes=n_classes, apart=0.3)
    probe = CLASSES["lda"](shrinkage=shrinkage).fit(states, codes)
    reference = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=shrinkage).fit(states, codes)
    np.testing.assert_allclose(
        probe.decision_function(states) - probe.decision_function(states)[..., :1]
        if n_classes > 2
        else probe.decision_function(states),
        reference.decision_function(states) - reference.decision_function(states)[..., :1]
        if n_classes > 2
        else reference.decision_function(states),
        rtol=1e-6,
        atol=1e-6,
    )
    np.testing.assert_allclose(
        probe.predict_proba(states), reference.predict_proba(states), atol=1e-7
    )


@pytest.mark.parametrize("n_classes", [2, 4])
def test_lda_may_be_left_without_shrinkage(n_classes):
    states, codes = _states(n=200, d=20, n_classes=n_classes, apart=0.3)
    probe = CLASSES["lda"](shrinkage=0, treatment="standardize").fit(states, codes)
    reference = LinearDiscriminantAnalysis(solver="lsqr").fit(states, codes)
    np.testing.assert_allclose(
        probe.predict_proba(states), reference.predict_proba(states), atol=1e-6
    )


def test_lda_of_classes_of_one_and_two_rows():
    """The Ledoit–Wolf shrinkage of two rows is 0, so their covariance has no inverse."""
    states, _ = _states(n=5, d=40, n_classes=3, apart=3)
    codes = np.array([0, 0, 1, 1, 2])
    assert (CLASSES["lda"]().fit(states, codes).predict(states) == codes).all()


@pytest.mark.parametrize("shrinkage", ["some", -0.1, 1.5])
def test_lda_refuses_a_shrinkage_it_does_not_know(shrinkage):
    states, codes = _states()
    _refused(CLASSES["lda"](shrinkage=shrinkage), states, codes, "shrinkage .* is not known")


@pytest.mark.parametrize(("n", "d"), [(40, 100), (100, 40), (60, 60)])
@pytest.mark.parametrize("treatment", ["none", "standardize"])
def test_ridge_is_scikit_learns_on_either_side(n, d, treatment):
    states, codes = _states(n=n, d=d)
    y = _y("ridge", codes)
    for alpha in (0.5, 1000.0):
        probe = CLASSES["ridge"](alpha=alpha, treatment=treatment).fit(states, y)
        reference = SklearnRidge(alpha=alpha, solver="svd")
        if treatment == "standardize":
            reference = make_pipeline(StandardScaler(), reference)
        np.testing.assert_allclose(
            probe.predict(states), reference.fit(states, y).predict(states), rtol=1e-7, atol=1e-9
        )


@pytest.mark.parametrize(("n", "d"), [(40, 100), (12_000, 5), (5, 12_000)])
@pytest.mark.parametrize("name", ["lda", "ridge"])
def test_the_square_of_the_longer_side_is_never_formed(name, n, d):
    states, codes = _states(n=n, d=d, n_classes=2)
    tracemalloc.start()
    CLASSES[name]().fit(states, _y(name, codes))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 20e6  # bytes; a matrix of one class's rows, 6000 × 6000, takes 288 MB


@pytest.mark.parametrize(("n", "d"), [(10, 40), (100, 4)])
@pytest.mark.parametrize("alpha", [0.0, -1.0])
def test_ridge_without_a_penalty_is_refused(alpha, n, d):
    states, codes = _states(n=n, d=d)
    _refused(CLASSES["ridge"](alpha=alpha), states, _y("ridge", codes), "is too small")


def test_ridge_with_a_penalty_that_drowns_is_refused():
    states, codes = _states(n=10, d=40)
    states[5:] = states[:5]
    _refused(CLASSES["ridge"](alpha=1e-30), states, _y("ridge", codes), "is too small")


@pytest.mark.parametrize(("n", "d"), [(40, 100), (100, 40), (60, 60)])
def test_linear_is_scikit_learns_and_of_least_norm(n, d):
    states, codes = _states(n=n, d=d)
    y = _y("linear", codes)
    probe = CLASSES["linear"](treatment="none").fit(states, y)
    reference = LinearRegression().fit(states, y)
    np.testing.assert_allclose(probe.coef_[0], reference.coef_, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(probe.intercept_, reference.intercept_, rtol=1e-6)
    if n < d:
        least = np.linalg.pinv(states - states.mean(axis=0)) @ (y - y.mean())
        np.testing.assert_allclose(probe.coef_[0], least, rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(probe.predict(states), y, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_the_forward_pass_of_mlp_is_scikit_learns(n_classes):
    states, codes = _states(n_classes=n_classes, dtype=np.float32)
    probe = CLASSES["mlp"](width=9, alpha=0.3, max_iter=20, treatment="none").fit(states, codes)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        reference = MLPClassifier((9,), alpha=0.3, max_iter=20, random_state=0).fit(states, codes)
    np.testing.assert_allclose(
        probe.predict_proba(states), reference.predict_proba(states), rtol=1e-4, atol=1e-6
    )
    assert probe.gap_ == np.inf


def test_mlp_is_the_same_for_the_same_seed():
    states, codes = _states()
    first, again, other = (
        CLASSES["mlp"](random_state=seed).fit(states, codes).scores(states) for seed in (0, 0, 1)
    )
    assert (first == again).all() and (first != other).any()


def test_mlp_reads_what_no_linear_probe_reads():
    rng = np.random.default_rng(0)
    states = rng.choice([-1.0, 1.0], (400, 2)) + rng.normal(size=(400, 2)) / 5
    codes = (states[:, 0] * states[:, 1] > 0).astype(int)
    mlp = CLASSES["mlp"](max_iter=500).fit(states[:300], codes[:300])
    linear = CLASSES["sklearn"]().fit(states[:300], codes[:300])
    assert mlp.score(states[300:], codes[300:]) > 0.95 > 0.7 > linear.score(states, codes)


# Probes loaded from a results folder.


def _score(layer):
    return LayerScore(**{field.name: None for field in fields(LayerScore)} | {"layer": layer})


def _written(folder, name, fits, classes, **changes):
    probe = fits[0]
    card = probes.describe_probe(name, probe, probe.n_features_in_, classes, []) | changes
    Results(folder, folder.parent).write(
        {"probe": card}, [_score(3 * i) for i in range(len(fits))], {}, {},
        [fit.arrays() for fit in fits],
    )  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_saved_probe_predicts_names_as_the_fitted_one(name, tmp_path):
    states, codes = _states()
    names, y = ["left", "right", "under"], _y(name, codes)
    fitted_on = codes if name in OF_LABELS else y
    parameters = [{"treatment": "center"} for _ in range(2)]
    for one, strength in zip(parameters, CLASSES[name].default_grid, strict=False):
        one[CLASSES[name].strength_name] = strength
    other = {"max_iter": 300} if "max_iter" in CLASSES[name]().get_params() else {}
    parts = [states, -2 * states]
    fits = [
        CLASSES[name](**one, **other).fit(part, fitted_on)
        for one, part in zip(parameters, parts, strict=True)
    ]
    _written(tmp_path, name, fits, names if name in OF_LABELS else None)
    for layer, one, part in zip((0, 3), parameters, parts, strict=True):
        expected = CLASSES[name](**one, **other).fit(part, y)
        loaded = probes.load(tmp_path, layer)
        assert (loaded.predict(part) == expected.predict(part)).all()
        assert loaded.get_params() == expected.get_params()


@pytest.mark.parametrize("name", ["logistic", "mlp"])
def test_a_saved_probe_with_text_in_place_of_numbers_is_refused(name, tmp_path):
    states, codes = _states()
    probe = CLASSES[name]().fit(states, codes)
    arrays = probe.arrays()
    for one in arrays.keys() - {"classes", "treatment"}:
        probe.arrays = lambda one=one: {**arrays, one: arrays[one].astype(str)}
        _written(tmp_path, name, [probe], ["a", "b", "c"])
        with pytest.raises(ProbeError, match="of layer 0 is not what vsp writes; run `vsp probe`"):
            probes.load(tmp_path, 0)


def test_what_is_no_saved_probe_is_refused(tmp_path):
    with pytest.raises(RunError):
        probes.load(tmp_path, 0)
    states, codes = _states()
    fits = [CLASSES["centroid"]().fit(states, codes)]
    _written(tmp_path, "centroid", fits, ["a", "b", "c"])
    with pytest.raises(ProbeError, match="no probe of layer 9"):
        probes.load(str(tmp_path), 9)
    _written(tmp_path, "centroid", fits, ["a", "b", "c"], format=7)
    with pytest.raises(ProbeError, match="format 7, this vsp reads 1"):
        probes.load(tmp_path, 0)
