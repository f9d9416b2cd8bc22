import warnings

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from vsp.probes.logistic import OneVsRestLogistic


def _states(n=200, d=20, n_classes=4, seed=0):
    rng = np.random.default_rng(seed)
    label = rng.integers(0, n_classes, n)
    states = rng.normal(size=(n, d)) + 2 * rng.normal(size=(n_classes, d))[label]
    return states * np.geomspace(0.01, 1000, d) + 50, np.array(["a", "b", "c", "d"])[label]


@pytest.mark.parametrize("n_classes", [2, 3, 4])
def test_it_is_scikit_learns_own_pipeline(n_classes):
    states, label = _states(n_classes=n_classes)
    probe = OneVsRestLogistic(C=0.3).fit(states[:150], label[:150])
    reference = make_pipeline(StandardScaler(), OneVsRestClassifier(LogisticRegression(C=0.3)))
    reference.fit(states[:150], label[:150])
    assert (probe.predict(states[150:]) == reference.predict(states[150:])).all()
    scores = reference.decision_function(states[150:])
    scores = np.stack([-scores, scores], axis=1) if n_classes == 2 else scores
    np.testing.assert_allclose(probe.decision_function(states[150:]), scores, rtol=1e-6, atol=1e-9)


def test_scaling_is_learned_from_the_fitted_rows_only():
    states, label = _states()
    probe = OneVsRestLogistic().fit(states, label)
    np.testing.assert_allclose(probe.mean_, states.mean(axis=0))
    np.testing.assert_allclose(probe.scale_, states.std(axis=0))


def test_fits_that_stop_early_are_counted_and_not_warned_about():
    states, label = _states()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert OneVsRestLogistic(max_iter=1).fit(states, label).n_not_converged_ == 4
        assert OneVsRestLogistic().fit(states, label).n_not_converged_ == 0


def test_a_dimension_that_never_changes_does_no_harm():
    states, label = _states()
    states[:, 3] = 7
    assert np.isfinite(OneVsRestLogistic().fit(states, label).decision_function(states)).all()


def test_it_can_be_cloned():
    assert clone(OneVsRestLogistic(C=3, max_iter=7)).get_params() == {"C": 3, "max_iter": 7}
