"""Scores are scikit-learn's, and losses of rows have their variance."""

import numpy as np
import pytest
from scipy.special import log_expit, log_softmax, logsumexp
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    log_loss,
    r2_score,
    roc_auc_score,
)

from vsp.evaluation.metrics import (
    METRICS,
    R_SQUARED,
    _log_odds,
    label_shares,
    metric_of,
    normalised_losses,
    row_losses,
    score_of_sums,
)
from vsp.evaluation.statistics import Folds, GroupSums, SampleSize, bootstrap_groups
from vsp.probes.names import METRIC_NAMES


def _rows(n_classes=3, n=200, seed=0):
    """Labels, scores [class, row] that know something, and shares of unequal labels."""
    rng = np.random.default_rng(seed)
    shares = np.arange(1, n_classes + 1) / (n_classes * (n_classes + 1) / 2)
    y = rng.choice(n_classes, n, p=shares)
    scores = rng.standard_normal((n_classes, n)) + 1.2 * np.eye(n_classes)[y].T
    return y, scores, shares


def _score(name, y, scores, shares, link="softmax"):
    return float(score_of_sums(METRICS[name].sums(y, scores, shares, link)))


@pytest.mark.parametrize("n_classes", [2, 3, 7])
def test_scores_are_scikit_learns(n_classes):
    y, scores, shares = _rows(n_classes)
    said, share = scores.argmax(axis=0), np.exp(log_softmax(scores, axis=0)).T
    assert _score("accuracy", y, scores, shares) == pytest.approx(accuracy_score(y, said))
    assert _score("balanced", y, scores, shares) == pytest.approx(balanced_accuracy_score(y, said))
    auc = roc_auc_score(y, share[:, 1] if n_classes == 2 else share, multi_class="ovr")
    assert _score("auc", y, scores, shares) == pytest.approx(auc)
    constant = np.tile(shares, (len(y), 1))
    explained = 1 - log_loss(y, share) / log_loss(y, constant)
    assert _score("log-loss", y, scores, shares) == pytest.approx(explained)


def test_r2_is_scikit_learns_if_the_mean_is_that_of_the_rows():
    rng = np.random.default_rng(0)
    y = rng.standard_normal(50)
    said = y + rng.standard_normal(50)
    sums = R_SQUARED.sums(y, said[None], np.array([y.mean()]))
    assert float(score_of_sums(sums)) == pytest.approx(r2_score(y, said))


def test_ties_are_half_a_pair_and_probabilities_near_one_are_told_apart():
    y = np.array([0, 0, 1, 1])
    assert _score("auc", y, np.zeros((2, 4)), np.array([0.5, 0.5])) == 0.5
    # Both probabilities of class 1 round to 1 in float32.
    scores = np.array([[0.0, 0, 0, 0], [40, 41, 42, 43]])
    assert _score("auc", y, scores, np.array([0.5, 0.5])) == 1
    assert _score("auc", y, -scores, np.array([0.5, 0.5])) == 0


@pytest.mark.parametrize("link", ["sigmoid", "softmax"])
def test_odds_of_all_labels_are_exact(link):
    scores = 40 * np.random.default_rng(0).standard_normal((2, 7, 300)).astype(np.float32)
    scores[0, 3], scores[1, :, 0] = -np.inf, 0  # a label without training rows, and ties
    odds = _log_odds(scores, link)
    exact = scores.astype(float)
    share = log_expit(exact) if link == "sigmoid" else exact
    for label in range(7):
        others = logsumexp(np.delete(share, label, axis=1), axis=1)
        assert odds[:, label] == pytest.approx(share[:, label] - others, rel=1e-9, abs=1e-9)


def test_pairs_of_rows_of_different_splits_are_not_compared():
    """Scores of two fits can differ by a constant."""
    y, scores, shares = _rows(2)
    shift = np.where(np.arange(200) < 100, 0, 50)
    whole = METRICS["auc"].sums(y, scores + [[0], [1]] * shift, shares, "softmax")
    halves = sum(
        METRICS["auc"].sums(y[s], (scores + [[0], [1]] * shift)[:, s], shares, "softmax")
        for s in (slice(100), slice(100, None))
    )
    plain = _score("auc", y, scores, shares)
    assert float(score_of_sums(halves)) == pytest.approx(plain, abs=0.03)
    assert float(score_of_sums(whole)) < plain - 0.1


def test_a_label_without_rows_is_left_out_of_the_mean():
    y, scores, shares = _rows(3)
    kept = y != 2
    sums = METRICS["balanced"].sums(y[kept], scores[:, kept], shares)
    recall = [(scores.argmax(axis=0) == y)[y == k].mean() for k in (0, 1)]
    assert float(score_of_sums(sums)) == pytest.approx(np.mean(recall))
    assert np.isnan(score_of_sums(np.zeros((1, 2))))


@pytest.mark.parametrize("name", ["accuracy", "balanced", "auc", "log-loss"])
def test_losses_of_rows_have_the_score_and_its_variance(name):
    """Their variance is that of the score over new samples of the rows."""
    metric, scores, errors = METRICS[name], [], []
    for seed in range(300):
        y, of_rows, shares = _rows(3, 150, seed)
        cells = list(metric.cells(y, of_rows, shares, "softmax"))
        loss, base = row_losses(metric, cells)
        score = _score(name, y, of_rows, shares)
        assert 1 - loss.sum() / base.sum() == pytest.approx(score)
        scores.append(score)
        errors.append(np.std(loss - (1 - score) * base) / base.mean() / 150**0.5)
    assert np.mean(errors) == pytest.approx(np.std(scores), rel=0.12)


def test_balanced_accuracy_of_a_rare_label_is_less_certain_than_accuracy():
    rng = np.random.default_rng(0)
    y = (np.arange(400) < 20).astype(int)
    said = np.where(rng.random(400) < 0.8, y, 1 - y)
    error = {}
    for name in ("accuracy", "balanced"):
        cells = list(METRICS[name].cells(y, np.eye(2)[said].T, np.array([0.95, 0.05]), ""))
        loss, _ = row_losses(METRICS[name], cells)
        error[name] = loss.std()
    assert error["balanced"] > 2 * error["accuracy"]


def test_a_difference_of_balanced_accuracies_is_about_as_certain_as_the_rare_label():
    """Two probes are equally good; 8 of 200 rows have the rare label."""
    metric, n_covered = METRICS["balanced"], 0
    y = (np.arange(200) < 8).astype(int)
    size = SampleSize.of([192, 8], [192, 8])
    assert 7 < size.degrees < 8 and size.n_rows == pytest.approx(4 / (1 / 192 + 1 / 8))
    for seed in range(200):
        right = np.random.default_rng(seed).random((2, 200)) < np.where(y, 0.5, 0.9)
        said = np.eye(2)[np.where(right, y, 1 - y)].swapaxes(1, 2)
        rows = [row_losses(metric, list(metric.cells(y, one, y, ""))) for one in said]
        losses = np.stack([loss for loss, _ in rows])[:, None]
        sums = GroupSums(losses, rows[0][1][None], size, True, np.zeros((1, 2)), Folds())
        _, low, high = bootstrap_groups(sums, 0.95, 200, 0).differences([1], 0)
        n_covered += low[0] <= 0 <= high[0]
    assert n_covered >= 184


def test_a_normalised_loss_is_that_of_the_score_over_chance():
    rng = np.random.default_rng(0)
    loss, chance = (rng.random((2, 50)) < 0.3) * 1.0, (rng.random((2, 50)) < 0.6) * 1.0
    base = np.ones((2, 50))
    normalised = normalised_losses((loss, base), (chance, base))
    score, of_chance = 1 - loss.mean(), 1 - chance.mean()
    assert 1 - normalised.mean() == pytest.approx((score - of_chance) / (1 - of_chance))
    # The first-order change of one row's weight.
    weight = np.ones((2, 50))
    weight[0, 3] += 1e-6
    moved = (weight * loss).sum() / (weight * chance).sum()
    expected = (moved - loss.sum() / chance.sum()) / 1e-6 * 100
    assert normalised[0, 3] - normalised.mean() == pytest.approx(expected, rel=1e-3)
    assert np.isnan(normalised_losses((loss, base), (0 * chance, base))).all()


def test_shares_are_those_of_the_training_rows():
    y = np.array([0, 0, 1, 2, 2, 2])
    train = np.array([True, True, True, True, False, False])
    assert label_shares(y, train).tolist() == [0.5, 0.25, 0.25]
    assert label_shares(y.astype(float), train).tolist() == [0.75]


def test_the_command_line_offers_every_metric():
    assert tuple(METRICS) == METRIC_NAMES


def test_a_metric_is_found_by_its_statistic():
    for metric in (*METRICS.values(), R_SQUARED):
        assert metric_of(metric.statistic) is metric
