"""Erasers remove the subspace that they name; LEACE equals the package of its authors."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from concept_erasure import LeaceFitter

from vsp.errors import ConfigError
from vsp.probes.base import Task
from vsp.probes.erasure.folded import folded, without_rounding_errors
from vsp.probes.erasure.methods import Erasure, check_erasure, concept_of
from vsp.probes.logistic import Logistic

LEACE, INLP, RANDOM = (Erasure(method, 0, 0, 3) for method in ("leace", "inlp", "random"))


def _rows(n=240, hidden=20, n_classes=3, seed=0, signal=1.5):
    """States with correlated dimensions of different sizes, and labels that they show."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % n_classes
    states = rng.normal(size=(n, hidden)) + signal * rng.normal(size=(n_classes, hidden))[y]
    return states @ rng.normal(size=(hidden, hidden)) + 10 * rng.normal(size=hidden), y


@pytest.mark.parametrize(
    ("n", "hidden", "n_classes", "copied"),
    [(300, 20, 3, 0), (40, 90, 4, 0), (200, 60, 2, 25), (30, 31, 3, 5)],
)
def test_leace_is_that_of_the_package_concept_erasure(n, hidden, n_classes, copied):
    states, y = _rows(n, hidden, n_classes)
    states[:, :copied] = states[:, copied : 2 * copied]  # dimensions that say the same
    eraser = LEACE.fit(states, y)
    theirs = LeaceFitter.fit(
        torch.tensor(states), torch.tensor(concept_of(y)),
        shrinkage=False, constrain_cov_trace=False, svd_tol=1e-7,
    ).eraser  # fmt: skip
    other = 3 * _rows(50, hidden, n_classes, seed=1)[0]
    other[:, :copied] = other[:, copied : 2 * copied]
    for one in (states, other):
        np.testing.assert_allclose(eraser.apply(one), theirs(torch.tensor(one)).numpy(), atol=1e-5)
    assert eraser.rank == n_classes - 1


def test_leace_of_a_number_is_that_of_the_package():
    states, y = _rows()
    number = y + np.random.default_rng(5).normal(size=len(y))
    theirs = LeaceFitter.fit(
        torch.tensor(states), torch.tensor(number), shrinkage=False, constrain_cov_trace=False,
        svd_tol=1e-7,
    ).eraser  # fmt: skip
    ours = LEACE.fit(states, number).apply(states)
    np.testing.assert_allclose(ours, theirs(torch.tensor(states)).numpy(), atol=1e-5)


@pytest.mark.parametrize(("n", "hidden"), [(240, 20), (60, 100)])
def test_after_leace_states_have_no_covariance_with_the_labels(n, hidden):
    states, y = _rows(n, hidden)
    erased = LEACE.fit(states, y).apply(states)
    concept = concept_of(y)
    covariance = (erased - erased.mean(axis=0)).T @ (concept - concept.mean(axis=0)) / n
    assert np.abs(covariance).max() < 1e-10
    np.testing.assert_allclose(erased.mean(axis=0), states.mean(axis=0), atol=1e-9)


@pytest.mark.parametrize(("n", "hidden", "C"), [(240, 20, 1.0), (60, 100, 100.0), (90, 30, 1e-3)])
@pytest.mark.parametrize("weighting", ["none", "balanced"])
def test_after_leace_a_probe_is_at_chance_on_the_fitted_rows(n, hidden, C, weighting):
    """The same score for each row, so that each has the same label: that is right for one label."""
    states, y = _rows(n, hidden)
    assert (Logistic(C=C).fit(states, y).predict(states) == y).mean() > 0.6
    y = np.where(np.arange(n) < n // 4, 0, y)  # one label is more frequent
    erased = LEACE.fit(states, y).apply(states)
    task = Task(y, np.ones(n, bool), (C,))
    (fit,) = Logistic(weighting=weighting).fit_tasks(erased, [task])
    said = without_rounding_errors(fit, y, np.arange(n)).scores[0].argmax(axis=0)
    assert len(np.unique(said)) == 1
    assert (said == y).mean() <= np.bincount(y).max() / n


def test_leace_of_labels_that_no_state_shows_erases_nothing():
    states = np.full((30, 5), 0.1)
    eraser = LEACE.fit(states, np.arange(30) % 3)
    assert eraser.rank == 0 and np.array_equal(eraser.apply(states), states)


def test_inlp_takes_out_what_its_classifiers_read():
    states, y = _rows(n=300, hidden=12)
    eraser = INLP.fit(states, y)
    left = eraser.left
    np.testing.assert_allclose(left @ left.T, np.eye(eraser.rank), atol=1e-10)
    np.testing.assert_allclose(eraser.right, left.T)
    scores = [
        (Logistic().fit(one, y).predict(one) == y).mean()
        for one in (
            states,
            *(Erasure("inlp", rank, 0, 0).fit(states, y).apply(states) for rank in (3, 9)),
        )
    ]
    assert scores[0] > 0.9 and scores[1] <= scores[0] and scores[2] < scores[0] - 0.2
    assert Erasure("inlp", 9, 0, 0).fit(states, y).rank == 9


def test_inlp_ends_where_a_classifier_is_at_chance():
    rng = np.random.default_rng(0)
    y = np.arange(400) % 2
    states = np.zeros((400, 10))
    states[:, 0] = 2 * y - 1
    states[:, 1:] = np.repeat(rng.normal(size=(200, 9)), 2, axis=0)  # the same for both labels
    eraser = INLP.fit(states, y)
    assert eraser.rank == 1 and abs(eraser.left[0, 0]) > 0.999


def test_random_erasure_takes_out_a_subspace_of_as_many_dimensions_as_leace():
    states, y = _rows()
    eraser = RANDOM.fit(states, y)
    assert eraser.rank == LEACE.fit(states, y).rank == 2
    erased = eraser.apply(states) - eraser.mean
    np.testing.assert_allclose(erased @ eraser.right, 0, atol=1e-9)
    np.testing.assert_allclose(eraser.apply(eraser.apply(states)), eraser.apply(states), atol=1e-9)
    other = Erasure("random", 0, 0, 4).fit(states, y)
    assert np.abs(eraser.left @ other.right).max() < 0.99  # another layer has another subspace


@pytest.mark.parametrize(
    "erasure", [LEACE, Erasure("inlp", 4, 0, 0), RANDOM], ids=lambda one: one.method
)
@pytest.mark.parametrize("treatment", ["none", "center", "standardize"])
def test_a_saved_probe_of_erased_states_reads_the_states_themselves(erasure, treatment):
    states, y = _rows()
    eraser = erasure.fit(states, y)
    other = _rows(seed=1)[0]
    task = Task(y, np.ones(len(y), bool), (0.01,), keep=True)
    (fit,) = Logistic(treatment=treatment).fit_tasks(eraser.apply(states), [task])
    on_erased = Logistic.from_arrays(fit.probes[0]).scores(eraser.apply(other))
    on_states = Logistic.from_arrays(folded(fit.probes[0], eraser)).scores(other)
    np.testing.assert_allclose(on_states, on_erased, atol=1e-8)


def test_a_probe_that_is_not_linear_in_the_states_is_not_folded():
    states, y = _rows()
    arrays = Logistic(treatment="unit-norm").fit(states, y).arrays()
    assert folded(arrays, LEACE.fit(states, y)) == {}


@pytest.mark.parametrize(
    ("method", "rank", "numbers", "said"),
    [
        ("", 3, False, "--erase-rank 3 needs --erase inlp or --erase random"),
        ("leace", 3, False, "leace removes as many dimensions as the labels need; leave it out"),
        ("inlp", 0, True, "--erase inlp needs labels, not numbers"),
    ],
)
def test_a_rank_or_target_that_a_method_does_not_take_is_refused(method, rank, numbers, said):
    with pytest.raises(ConfigError, match=said):
        check_erasure(method, rank, numbers)


def test_a_rank_above_the_dimensions_of_the_states_is_refused():
    with pytest.raises(ConfigError, match="--erase-rank 21: states of layer 3 have 20 dimensions"):
        Erasure("random", 21, 0, 3).fit(*_rows())
