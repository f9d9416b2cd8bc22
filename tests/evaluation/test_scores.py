"""Scores of classes and probabilities agree with scikit-learn or with their definition."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import (
    balanced_accuracy_score,
    confusion_matrix,
    f1_score,
    precision_score,
    recall_score,
)

from vsp.evaluation.scores import brier_score, calibration_error, class_scores, confusion


@given(st.integers(2, 6), st.integers(1, 60), st.integers(0, 2**32))
@settings(max_examples=100, deadline=None)
def test_scores_of_classes_are_scikit_learns(n_classes, n_rows, seed):
    rng = np.random.default_rng(seed)
    true, predicted = rng.integers(n_classes, size=(2, n_rows))
    counts, labels = confusion(true, predicted, n_classes), range(n_classes)
    assert (counts == confusion_matrix(true, predicted, labels=labels)).all()
    scores = class_scores(counts)
    settings = {"labels": labels, "average": None, "zero_division": 0.0}
    np.testing.assert_allclose(scores.recall, recall_score(true, predicted, **settings))
    np.testing.assert_allclose(scores.precision, precision_score(true, predicted, **settings))
    macro = f1_score(true, predicted, average="macro", zero_division=0.0)
    assert scores.macro_f1 == pytest.approx(macro)
    if len(set(true)) > 1 and set(predicted) <= set(true):
        assert scores.balanced_accuracy == pytest.approx(balanced_accuracy_score(true, predicted))


@given(st.integers(2, 5), st.integers(1, 60), st.integers(0, 2**32))
@settings(max_examples=100, deadline=None)
def test_calibration_is_what_its_definition_gives(n_classes, n_rows, seed):
    rng = np.random.default_rng(seed)
    probability = rng.dirichlet(np.full(n_classes, 0.5), n_rows).astype(np.float32)
    true = rng.integers(n_classes, size=n_rows)
    sure, right = probability.max(axis=1), probability.argmax(axis=1) == true
    error = 0.0
    for k in range(15):
        inside = (sure > k / 15) & (sure <= (k + 1) / 15)
        if inside.any():
            error += inside.mean() * abs(right[inside].mean() - sure[inside].mean(dtype=float))
    said = probability.argmax(axis=1)
    assert calibration_error(probability, said, true) == pytest.approx(error, abs=1e-6)
    squares = (probability - np.eye(n_classes)[true]) ** 2
    assert brier_score(probability, true) == pytest.approx(squares.sum(axis=1).mean(), abs=1e-6)


def test_a_probe_that_is_sure_and_right_is_calibrated_and_one_that_is_sure_and_wrong_is_not():
    probability, true = np.eye(3)[[0, 1, 2, 0]], np.array([0, 1, 2, 0])
    assert calibration_error(probability, true, true) == brier_score(probability, true) == 0
    assert calibration_error(probability, true, (true + 1) % 3) == 1
    assert brier_score(probability, (true + 1) % 3) == 2


def test_of_classes_that_are_as_likely_the_predicted_one_is_calibrated():
    probability, said = np.full((4, 2), 0.5), np.array([1, 1, 1, 1])
    assert calibration_error(probability, said, np.array([1, 1, 1, 1])) == 0.5
    assert calibration_error(probability, said, np.array([0, 0, 1, 1])) == 0
