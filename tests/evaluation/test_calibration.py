"""The calibration error is judged against that of probabilities that are right."""

import numpy as np
import pytest

from vsp.evaluation.calibration import calibrated_errors, calibration_null, calibration_scores
from vsp.evaluation.controls import permuted_labels
from vsp.evaluation.design import make_design
from vsp.evaluation.layer_fits import LayerFitter, LayerTasks
from vsp.evaluation.merged_fits import choose_strengths, merge_pieces
from vsp.evaluation.metrics import METRICS
from vsp.probes.logistic import Logistic


def _calibrated(n, seed, repeats=1):
    """Probabilities [repeat, row, class], equal in all repeats, and labels drawn from them."""
    rng = np.random.default_rng(seed)
    chance = 1 / (1 + np.exp(-1.5 * rng.standard_normal(n)))
    y = (rng.random(n) < chance).astype(np.intp)
    probability = np.stack([1 - chance, chance], axis=-1).astype(np.float32)
    return np.stack([probability] * repeats), y


@pytest.mark.parametrize("repeats", [1, 2])
def test_calibrated_probabilities_are_above_the_bound_in_about_5_percent_of_worlds(repeats):
    above, errors, nulls = [], [], []
    for seed in range(300):
        probability, y = _calibrated(200, seed, repeats)
        tested = np.ones(probability.shape[:2], bool)
        ece = calibration_scores(probability, y, tested)["ece"]
        null = calibration_null(probability, tested, seed)
        above.append(ece > null["ece_null_high"])
        errors.append(ece)
        nulls.append(null["ece_null"])
    assert 0.02 < np.mean(above) < 0.085  # standard error 0.013
    assert np.mean(errors) == pytest.approx(np.mean(nulls), rel=0.04)
    assert 0.05 < np.mean(errors) < 0.09


def test_overconfident_probabilities_are_above_the_bound():
    probability, y = _calibrated(400, 0)
    odds = (probability[..., 1] / probability[..., 0]) ** 3
    sharp = np.stack([1 / (1 + odds), odds / (1 + odds)], axis=-1)
    tested = np.ones((1, 400), bool)
    ece = calibration_scores(sharp, y, tested)["ece"]
    assert ece > 1.5 * calibration_null(sharp, tested, 0)["ece_null_high"]


def test_rows_that_are_not_tested_have_no_influence():
    probability, y = _calibrated(100, 0, repeats=2)
    tested = np.arange(100) % 2 == np.array([[0], [1]])
    other = np.where(tested[..., None], probability, np.nan)
    assert np.array_equal(*(calibrated_errors(one, tested, 3) for one in (probability, other)))
    assert calibration_scores(other, y, tested) == calibration_scores(probability, y, tested)


def _fitted(metric, states, y):
    group = np.arange(len(y)).astype(str)
    design = make_design(y, group, np.full(len(y), ""), 4, 1)
    permuted, _ = permuted_labels(y, group, design.blocks, 0, 0)
    grid = (1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0)
    tasks = LayerTasks(y, design, METRICS[metric], grid, permuted, permuted, np.arange(len(y)))
    fitter = LayerFitter(states, Logistic(), tasks)
    searched = [fitter.search(sets) for sets in tasks.search_pieces]
    choice = choose_strengths(tasks, searched)
    return merge_pieces(tasks, fitter.probe, searched, choice, [])


def test_probabilities_are_at_the_strength_with_the_best_inner_log_loss():
    """Accuracy is the same at every strength, so the smallest is chosen, which is underconfident."""
    rng = np.random.default_rng(0)
    y = np.arange(160) % 2
    states = rng.normal(size=(160, 3)) * [0.3, 0.1, 0.1]
    states[:, 0] += 2 * y
    by_accuracy = _fitted("accuracy", states, y)
    by_loss = _fitted("log-loss", states, y)
    assert (by_accuracy["chosen"] < by_accuracy["likeliest"]).all()
    assert np.array_equal(by_accuracy["likeliest"], by_loss["chosen"])
    assert np.array_equal(by_accuracy["probability"], by_loss["probability"])
    assert np.array_equal(by_loss["likeliest"], by_loss["chosen"])
    confidence = by_accuracy["probability"].max(axis=-1)
    assert confidence.mean() > 0.95
