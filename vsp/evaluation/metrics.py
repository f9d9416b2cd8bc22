"""Metrics: what a score measures.

Every score is 1 − the mean over cells of Σ loss / Σ base, summed over the tested rows. Accuracy has
one cell, and balanced accuracy and AUC have one for each class. A metric therefore only says which
loss and base a row has in each cell. The choice of a strength and of a layer, the p values and the
intervals all use the same metric.

A new metric is one class, one line in `METRICS`, and its name in `vsp.probes.names`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_expit, logsumexp
from scipy.stats import rankdata

from vsp.evaluation.scores import Floats
from vsp.probes.links import probabilities

_TINY = float(np.finfo(float).tiny)


class Metric:
    """How predictions are scored; each class documents one metric."""

    statistic: ClassVar[str]  # its name on pages
    is_proportion: ClassVar[bool] = True  # a share of rows or pairs; otherwise a share of a loss
    balances: ClassVar[bool] = False  # every label weighs the same, however rare it is
    reads_labels: ClassVar[bool] = False  # the predicted label decides the loss, not the scores
    degree: ClassVar[int] = 1  # number of rows that a loss compares; 2 for pairs of rows

    def cells(
        self, y: NDArray[Any], scores: NDArray[Any], prior: Floats, link: str
    ) -> Iterator[tuple[Floats, Floats]]:
        """Loss [..., row] and base [row] of each cell.

        `y` [row] and `scores` [..., class, row] are of the test rows of one split. `prior` [class]
        is the share of each label among its training rows, or [1], the mean of the numbers. `link`
        turns scores into probabilities; empty if the probe has none.
        """
        raise NotImplementedError

    def sums(self, y: NDArray[Any], scores: NDArray[Any], prior: Floats, link: str = "") -> Floats:
        """Sums of loss and base over the rows [..., cell, 2]."""
        return sum_cells(self.cells(y, scores, prior, link))


class Accuracy(Metric):
    """Share of rows whose label is predicted."""

    statistic = "accuracy"
    reads_labels = True

    def cells(
        self, y: NDArray[Any], scores: NDArray[Any], prior: Floats, link: str
    ) -> Iterator[tuple[Floats, Floats]]:
        yield (scores.argmax(axis=-2) != y).astype(np.float64), np.ones(len(y))


class BalancedAccuracy(Metric):
    """Mean over labels of the share of its rows that are predicted, the recall."""

    statistic = "balanced accuracy"
    balances = True
    reads_labels = True

    def cells(
        self, y: NDArray[Any], scores: NDArray[Any], prior: Floats, link: str
    ) -> Iterator[tuple[Floats, Floats]]:
        wrong = scores.argmax(axis=-2) != y
        for label in range(scores.shape[-2]):
            member = y == label
            yield (wrong & member).astype(np.float64), member.astype(np.float64)


class AUC(Metric):
    """Mean over labels of the area under the ROC curve of this label against the rest.

    The share of pairs of a row with the label and one without it in which the first has the higher
    score; ties count one half. Only rows of the same split are compared. The loss of a row is the
    number of its pairs in the wrong order (DeLong, DeLong & Clarke-Pearson, "Comparing the areas
    under two or more correlated receiver operating characteristic curves", 1988).
    """

    statistic = "AUC"
    balances = True
    degree = 2

    def cells(
        self, y: NDArray[Any], scores: NDArray[Any], prior: Floats, link: str
    ) -> Iterator[tuple[Floats, Floats]]:
        odds = _log_odds(scores, link) if link else scores
        for label in range(scores.shape[-2]):
            member = y == label
            n = int(member.sum())
            ranked = odds[..., label, :]
            rank = rankdata(ranked, axis=-1)
            below = np.empty_like(rank)  # rows of the other side with a lower score
            for side in (member, ~member):
                below[..., side] = rank[..., side] - rankdata(ranked[..., side], axis=-1)
            n_others = np.where(member, len(y) - n, n).astype(np.float64)
            yield np.where(member, n_others - below, below), n_others


class LogLoss(Metric):
    """Share of the log loss of the training rows' label frequencies that the probe removes.

    0: no better than these frequencies; 1: every label is certain. As `d2_log_loss_score` of
    scikit-learn, which takes the frequencies of the tested rows instead.
    """

    statistic = "D² of log loss"
    is_proportion = False

    def cells(
        self, y: NDArray[Any], scores: NDArray[Any], prior: Floats, link: str
    ) -> Iterator[tuple[Floats, Floats]]:
        index = np.arange(len(y))
        loss = -_log_probabilities(scores, link)[..., y, index]
        yield loss, -log_shares(prior[y])


class RSquared(Metric):
    """Share of the squared distance from the training rows' mean that the probe explains."""

    statistic = "R²"
    is_proportion = False

    def cells(
        self, y: NDArray[Any], scores: NDArray[Any], prior: Floats, link: str
    ) -> Iterator[tuple[Floats, Floats]]:
        yield (scores[..., 0, :].astype(np.float64) - y) ** 2, (y - prior[0]) ** 2


METRICS: dict[str, Metric] = {
    "accuracy": Accuracy(),
    "balanced": BalancedAccuracy(),
    "auc": AUC(),
    "log-loss": LogLoss(),
}
R_SQUARED = RSquared()


def metric_of(name: str) -> Metric:
    """The metric whose statistic has this name. Raises KeyError if there is none."""
    return {one.statistic: one for one in (*METRICS.values(), R_SQUARED)}[name]


def sum_cells(cells: Iterable[tuple[Floats, Floats]]) -> Floats:
    """Sums over the rows [..., cell, 2] of the loss [..., row] and base [row] of each cell."""
    parts = []
    for loss, base in cells:
        summed = loss.sum(axis=-1)
        parts.append(np.stack([summed, np.broadcast_to(base.sum(), summed.shape)], axis=-1))
    return np.stack(parts, axis=-2)


def log_shares(shares: NDArray[Any]) -> Floats:
    """Logarithms of shares; that of 0 is a large negative number."""
    return np.asarray(np.log(np.maximum(shares, _TINY)))


def score_of_sums(sums: Floats) -> Floats:
    """The score [...] from sums [..., cell, 2]; nan if no cell has a base."""
    loss, base = sums[..., 0], sums[..., 1]
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(base > 0, loss / base, np.nan)
        known = ~np.isnan(share)
        mean = np.where(known, share, 0.0).sum(axis=-1) / known.sum(axis=-1)
    return np.asarray(1 - mean)


def row_losses(metric: Metric, cells: list[tuple[Floats, Floats]]) -> tuple[Floats, Floats]:
    """Loss [row] and base [row] with the score 1 − Σ loss / Σ base, from those of each cell [row].

    For several cells, or a loss of pairs, the loss of a row is the mean loss plus the influence of
    the row on it, and the base is 1. The variance of a mean of these losses is then the linearised
    variance of the score (Hampel, "The influence curve and its role in robust estimation", 1974).
    The losses are nan if no cell has a base.
    """
    if metric.degree == 1 and len(cells) == 1:
        return cells[0]
    n_rows = len(cells[0][1])
    known = [(loss, base) for loss, base in cells if base.sum() > 0]
    if not known:
        return np.full(n_rows, np.nan), np.ones(n_rows)
    shares = [float(loss.sum() / base.sum()) for loss, base in known]
    result = np.full(n_rows, np.mean(shares))
    for (loss, base), share in zip(known, shares, strict=True):
        weight = metric.degree * n_rows / (len(known) * base.sum())
        result += weight * (loss - share * base)
    return result, np.ones(n_rows)


def normalised_losses(loss: tuple[Floats, Floats], chance: tuple[Floats, Floats]) -> Floats:
    """Loss [row] whose mean is 1 − (score − chance) / (1 − chance).

    Loss and base of the predictions and of chance are [row], of tested rows only. As in `row_losses`, the loss of a
    row is the mean plus its influence. nan if chance predicts everything.
    """
    of_score, of_chance = (one / base.mean() for one, base in (loss, chance))
    base = loss[1] / loss[1].mean()
    share, share_of_chance = of_score.mean(), of_chance.mean()
    if not share_of_chance:
        return np.full(of_score.shape, np.nan)
    ratio = share / share_of_chance
    own = of_score - share * base
    others = of_chance - share_of_chance * base
    return np.asarray(ratio + (own - ratio * others) / share_of_chance)


def label_shares(y: NDArray[Any], train: NDArray[np.bool_]) -> Floats:
    """Share of each label [class] on the training rows [row]; for numbers their mean [1]."""
    if y.dtype.kind == "f":
        return np.array([y[train].mean()])
    counts = np.bincount(y[train], minlength=int(y.max()) + 1)
    return np.asarray(counts / counts.sum())


def _log_odds(scores: NDArray[Any], link: str) -> Floats:
    """Logarithm of the odds of each label [..., class, row]; it differs where probabilities round to 1."""
    exact = scores.astype(np.float64)
    log_share = log_expit(exact) if link == "sigmoid" else exact
    log_share -= logsumexp(log_share, axis=-2, keepdims=True)
    likeliest = np.expand_dims(log_share.argmax(axis=-2), -2)
    of_likeliest = np.take_along_axis(log_share, likeliest, axis=-2)
    # 1 - p is exact for labels with p up to a half; for the likeliest it is the sum of the others.
    np.put_along_axis(log_share, likeliest, -np.inf, axis=-2)
    of_others = logsumexp(log_share, axis=-2, keepdims=True)
    log_share -= np.log1p(-np.exp(np.minimum(log_share, np.log(0.5))))
    np.put_along_axis(log_share, likeliest, of_likeliest - of_others, axis=-2)
    return np.asarray(log_share)


def _log_probabilities(scores: NDArray[Any], link: str) -> Floats:
    """Logarithms of probabilities [..., class, row]."""
    share = probabilities(scores.astype(np.float64), link, axis=-2)
    return log_shares(share)
