"""What judged rows say about a probe: intervals, differences, corrections, scores of classes.

A statistic is 1 − Σ loss / Σ base. Accuracy has loss 1 where the prediction is wrong and base 1;
R² has the squared error as loss and, as base, the squared distance from the training rows' mean.
Rows of a group depend on each other, groups do not: so groups are resampled, never rows, and the
same resamples serve every column (layer, baseline), which makes differences paired.

How intervals are made of the resamples was chosen by simulation (`tests/estimates_sim.py`). Plain
percentiles miss the truth far too often where few groups are judged wrongly, and wherever folds
judge, because fits that share training rows err together.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm
from scipy.stats import t as student

Floats = NDArray[np.float64]

_COUNTED = 1 << 22  # entries of resample counts that are in memory at a time
_BINS = 15  # of the calibration error
_EQUAL = 1e-7  # statistics that differ by less are equal; float32 knows no more


@dataclass(frozen=True, slots=True)
class Folds:
    """How rows were judged: an own split is one fold, once."""

    n: int = 1
    n_repeats: int = 1


@dataclass(frozen=True, slots=True)
class Estimates:
    """Statistics of all columns, and what they are in resamples of the groups."""

    value: Floats  # [column], over all repeats
    draws: Floats  # [resample, repeat, column], of each repeat apart
    surprise: Floats  # [outer, column]: what inner folds gave less what the outer rows gave
    n_groups: int
    n_rows: int
    folds: Folds
    shares: bool  # of rows, as accuracy is; else R²
    confidence: float

    def intervals(self) -> tuple[Floats, Floats]:
        """Low and high [column]."""
        spread = _variance(self.draws) * self._few
        if not self.shares:
            factor = fold_factor(self.surprise, spread, self.folds)
            return _ratio_interval(self.value, self.draws, self._few * factor, self._t)
        own = self.value * (1 - self.value)
        # No less than if all rows were independent; of few groups, the spread is uncertain.
        spread = np.maximum(spread, own / self.n_rows)
        factor = fold_factor(self.surprise, spread, self.folds)
        # Where all rows are judged alike nothing is known of how they vary: a group is one row.
        n = np.where(own > 0, own / np.where(spread > 0, spread, 1.0), self.n_groups)
        return _share_interval(self.value, n / factor, self._t)

    def differences(
        self, columns: Sequence[int], to: int, errors: float | None = None
    ) -> tuple[Floats, Floats, Floats]:
        """Difference of each of `columns` to one, low and high [one of columns].

        To either side `errors` standard errors: `simultaneous` of many, else Student's t of one.
        """
        chosen = list(columns)
        difference = self.value[chosen] - self.value[to]
        spread = _variance(self.draws[:, :, chosen] - self.draws[:, :, [to]]) * self._few
        if self.shares:
            # As if one group more had been judged differently: of few that are, or none, the
            # spread says too little (compare Bonett & Price, "Adjusted Wald confidence interval
            # for a difference of binomial proportions based on paired data", 2012).
            spread = spread + 1 / (self.n_groups + 1) ** 2
        with np.errstate(invalid="ignore"):
            surprise = self.surprise[:, chosen] - self.surprise[:, [to]]
        error = np.sqrt(spread * fold_factor(surprise, spread, self.folds))
        half = error * (self._t if errors is None else errors)
        most = 1.0 if self.shares else np.inf  # that two shares can differ by
        return (
            difference,
            np.maximum(difference - half, -most),
            np.minimum(difference + half, most),
        )

    def simultaneous(self, columns: Sequence[int], to: Sequence[int]) -> float:
        """Standard errors that hold for the differences of all `columns` to all of `to` at once.

        The quantile of the largest standardised difference in a resample, for Student's t in
        place of the normal.
        """
        draws = self.draws.mean(axis=1)
        largest = np.zeros(len(draws))
        for one in to:
            moved = draws[:, list(columns)] - draws[:, [one]]
            moved -= moved.mean(axis=0)
            spread = moved.std(axis=0)
            known = spread > 1e-12
            if known.any():
                largest = np.maximum(largest, np.abs(moved[:, known] / spread[known]).max(axis=1))
        normal = float(norm.ppf((1 + self.confidence) / 2))
        return max(float(np.quantile(largest, self.confidence)), normal) * self._t / normal

    @property
    def _t(self) -> float:
        return float(student.ppf((1 + self.confidence) / 2, max(self.n_groups - 1, 1)))

    @property
    def _few(self) -> float:
        """By how much few groups make the variance of resamples too small."""
        return self.n_groups / max(self.n_groups - 1, 1)


def estimate(
    loss: Floats,
    base: Floats,
    n_rows: int,
    shares: bool,
    surprise: Floats,
    folds: Folds,
    confidence: float,
    resamples: int,
    seed: int,
) -> Estimates:
    """`loss` [column, repeat, group] and `base` [repeat, group] are sums over groups' rows.

    `n_rows` are judged a repeat; `surprise` as in Estimates.
    """
    n_columns, n_repeats, n_groups = loss.shape
    flat, parts = loss.reshape(-1, n_groups), []
    for counts in _counts(n_groups, resamples, seed):
        lost = (counts @ flat.T).reshape(-1, n_columns, n_repeats).swapaxes(1, 2)
        parts.append((lost, counts @ base.T))
    lost, bases = (np.concatenate(part) for part in zip(*parts, strict=True))
    with np.errstate(divide="ignore", invalid="ignore"):
        value = 1 - loss.sum(axis=(1, 2)) / base.sum()
        draws = 1 - lost / bases[:, :, None]
    draws = np.where(np.isfinite(draws), draws, value)  # resamples of groups without any base
    return Estimates(value, draws, surprise, n_groups, n_rows, folds, shares, confidence)


def _counts(n_groups: int, resamples: int, seed: int) -> Iterator[Floats]:
    """How often each group is in each resample [resample, group], some resamples at a time."""
    rng = np.random.default_rng(seed)
    at_once = max(_COUNTED // n_groups, 1)
    for start in range(0, resamples, at_once):
        counts = np.empty((min(at_once, resamples - start), n_groups))
        for one in counts:
            one[:] = np.bincount(rng.integers(n_groups, size=n_groups), minlength=n_groups)
        yield counts


def _variance(draws: Floats) -> Floats:
    """Of a statistic of one repeat [column], from `draws` [resample, repeat, column].

    Of one repeat, not of their mean: repeats deal the same rows again and do not make them more.
    """
    return np.asarray(draws.var(axis=0).mean(axis=0))


def fold_factor(surprise: Floats, spread: Floats, folds: Folds) -> Floats:
    """By how much folds make a statistic vary more than its groups do, as a variance [column].

    `spread` [column] is the variance from resampled groups. Nested cross-validation (Bates,
    Hastie & Tibshirani, "Cross-validation: what does it estimate and how well does it do it?",
    2023) takes the mean squared `surprise` [outer, column] less what the rows of one fold vary
    by. Of few outer splits that is a rough figure, so it is held to what Nadeau & Bengio,
    "Inference for the generalization error", 2003, take for any probe: at most their factor for
    these repeats, at least that for any number of them. The rows of a dataset's own split are
    judged by one fit, and nothing is to be added: 1.
    """
    if folds.n == 1:
        return np.ones(len(spread))
    least = folds.n / (folds.n - 1)
    most = least + 1 / folds.n_repeats
    with np.errstate(divide="ignore", invalid="ignore"):
        factor = ((surprise**2).mean(axis=0) - folds.n * spread) / (least * spread)
    return np.clip(np.where(np.isfinite(factor), factor, most), least, most)


def _share_interval(share: Floats, n: Floats, t: float) -> tuple[Floats, Floats]:
    """Wilson's interval of a share of `n` [column] independent rows, with Student's t.

    As Dean & Pagano, "Evaluating confidence interval methods for binomial proportions in
    clustered surveys", 2015: n is the number of independent rows that would vary as much.
    """
    middle = (share + t**2 / (2 * n)) / (1 + t**2 / n)
    half = t / (1 + t**2 / n) * np.sqrt(share * (1 - share) / n + t**2 / (4 * n**2))
    return np.clip(middle - half, 0, share), np.clip(middle + half, share, 1)


def _ratio_interval(
    value: Floats, draws: Floats, factor: Floats, t: float
) -> tuple[Floats, Floats]:
    """Of R², symmetric on the logarithm of Σ loss / Σ base, whose variance is × `factor`."""
    with np.errstate(divide="ignore", invalid="ignore"):
        logs, own = np.log(1 - draws), np.log(1 - value)
    logs = np.where(np.isfinite(logs), logs, np.where(np.isfinite(own), own, 0.0))
    half = t * np.sqrt(_variance(logs) * factor)
    return 1 - (1 - value) * np.exp(half), 1 - (1 - value) * np.exp(-half)


def preferred(inner: Floats, axis: int = 0) -> NDArray[np.intp]:
    """The first of the largest statistics along an axis; what is not defined is never it.

    Means of the same parts may differ in their last bit by the order they were added in.
    """
    known = np.where(np.isfinite(inner), np.round(inner, 12), -np.inf)
    first: NDArray[np.intp] = known.argmax(axis=axis)
    return first


def permutation_p(observed: Floats, null: Floats) -> tuple[Floats, Floats]:
    """p of each layer, and p corrected over layers: `observed` [layer], `null` [layer, permutation].

    Corrected by the largest statistic of all layers under the same permutation of labels
    (Westfall & Young, "Resampling-Based Multiple Testing", 1993). The labels as they are count as
    one permutation.
    """
    n = 1 + null.shape[1]
    alone = (null >= observed[:, None] - _EQUAL).sum(axis=1)
    largest = null.max(axis=0)
    together = (largest[None] >= observed[:, None] - _EQUAL).sum(axis=1)
    return (1 + alone) / n, (1 + together) / n


def confusion(
    true: NDArray[np.intp], predicted: NDArray[np.intp], n_classes: int
) -> NDArray[np.intp]:
    """Rows counted [true class, predicted class]."""
    both = np.bincount(true * n_classes + predicted, minlength=n_classes**2)
    return both.reshape(n_classes, n_classes)


@dataclass(frozen=True, slots=True)
class ClassScores:
    """Scores that count each class alike, however many rows it has."""

    recall: Floats  # [class]; 0 where no row is of the class
    precision: Floats  # [class]; 0 where no row is said to be
    balanced_accuracy: float  # mean recall of the classes that are there
    macro_f1: float  # mean F1 of the classes that are there or are said to be


def class_scores(counts: NDArray[np.intp]) -> ClassScores:
    """Of `counts` [true class, predicted class]."""
    right, true, said = np.diag(counts), counts.sum(axis=1), counts.sum(axis=0)
    recall, precision = right / np.maximum(true, 1), right / np.maximum(said, 1)
    there = true + said > 0
    f1 = 2 * right[there] / (true + said)[there]
    return ClassScores(recall, precision, float(recall[true > 0].mean()), float(f1.mean()))


def calibration_error(
    probability: NDArray[np.floating], predicted: NDArray[np.intp], true: NDArray[np.intp]
) -> float:
    """Expected calibration error of the predicted class; `probability` [row, class].

    Mean distance of how sure the probe is and how often it is right, in 15 equal bins of how sure
    it is, weighted by rows (Guo et al., "On Calibration of Modern Neural Networks", 2017).
    """
    # Of classes that are as likely to the last digit, scores know which one was predicted.
    sure, right = probability[np.arange(len(true)), predicted], predicted == true
    place = np.clip(np.ceil(sure * _BINS).astype(np.intp) - 1, 0, _BINS - 1)
    gap = np.bincount(place, right - sure.astype(np.float64), _BINS)
    return float(np.abs(gap).sum() / len(true))


def brier_score(probability: NDArray[np.floating], true: NDArray[np.intp]) -> float:
    """Mean over rows of Σ (probability − what is)² over classes; `probability` [row, class]."""
    squared = np.einsum("rc,rc->r", probability, probability, dtype=np.float64)
    hit = probability[np.arange(len(true)), true].astype(np.float64)
    return float(np.mean(squared - 2 * hit + 1))
