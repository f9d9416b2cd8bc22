"""Inference about probe scores: group bootstrap, confidence intervals and permutation p values.

A statistic is accuracy or R², 1 − Σ loss / Σ base loss (see `scores`). Rows of a group are
dependent and groups are independent, so the bootstrap resamples groups, not rows. All columns
(layers and baselines) share the same resamples, which makes their differences paired.

The intervals were chosen by simulation (`tests/benchmarks/estimate_simulation.py`). Plain
percentile intervals cover the true value far too rarely in two cases: few groups have wrong
predictions, or scores come from cross-validation, where fits that share training rows have
correlated errors.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtrit

from vsp.evaluation.scores import Floats

_DRAWS_IN_MEMORY = 1 << 16  # of groups, from which counts are made; few fit into the cache
_COUNTS_IN_MEMORY = 1 << 22  # entries of the resampling counts that are computed at once
_EQUAL = 1e-7  # statistics within this distance are equal, the precision of float32


@dataclass(frozen=True, slots=True)
class Folds:
    """Number of outer folds and repeats; the split of a dataset counts as one fold, once."""

    n: int = 1
    n_repeats: int = 1


@dataclass(frozen=True, slots=True)
class SampleSize:
    """How many rows and groups decide the precision of a score, and of its variance."""

    n_rows: float  # tested in each repeat; fewer where rare labels decide the precision
    n_groups: float  # the same of groups
    degrees: float  # of freedom of the variance
    factor: float  # by which the bootstrap underestimates the variance

    @classmethod
    def of(cls, n_rows: Sequence[float], n_groups: Sequence[float]) -> SampleSize:
        """From the rows and groups of each label, if every label weighs the same [label].

        One item for a score of which every row weighs the same. The variance of a mean over labels
        is Σ 1/n. Its degrees of freedom are those of Satterthwaite, "An approximate distribution of
        estimates of variance components", 1946, if the labels are equally hard.
        """
        rows, groups = np.asarray(n_rows, np.float64), np.asarray(n_groups, np.float64)
        parts, others = 1 / groups, np.maximum(groups - 1, 1)
        return cls(
            n_rows=len(rows) ** 2 / float((1 / rows).sum()),
            n_groups=len(groups) ** 2 / float(parts.sum()),
            degrees=float(parts.sum() ** 2 / (parts**2 / others).sum()),
            factor=float((1 / others).sum() / parts.sum()),
        )


@dataclass(frozen=True, slots=True)
class GroupSums:
    """Losses summed over the rows of each group, and how they were obtained."""

    loss: Floats  # [column, repeat, group]
    base: Floats  # [repeat, group]
    size: SampleSize
    is_proportion: bool  # a proportion of rows or pairs; otherwise a share of a loss, as R²
    inner_excess: Floats  # [outer split, column]: inner validation score minus outer test score
    folds: Folds
    is_normalised: bool = False  # by chance, so that differences can exceed 1


@dataclass(frozen=True, slots=True)
class GroupBootstrap:
    """Statistics of all columns, and their values in resamples of the groups."""

    value: Floats  # [column], over all repeats
    draws: Floats  # [resample, repeat, column], each repeat on its own
    inner_excess: Floats  # [outer split, column], as in GroupSums
    size: SampleSize
    folds: Folds
    is_proportion: bool
    is_normalised: bool
    confidence: float

    def intervals(self, of_training: Floats | None = None) -> tuple[Floats, Floats]:
        """Lower and upper bounds [column].

        `of_training` [column] is the variance of the score over refits on resampled training rows,
        which is added to that over test rows.
        """
        extra = np.zeros(len(self.value)) if of_training is None else of_training
        variance = _variance(self.draws) * self.size.factor
        if not self.is_proportion:
            factor = fold_factor(self.inner_excess, variance, self.folds)
            with np.errstate(divide="ignore", invalid="ignore"):
                factor = factor + np.where(variance > 0, extra / variance, 0.0)
            return _ratio_interval(self.value, self.draws, self.size.factor * factor, self._t)
        binomial = self.value * (1 - self.value)
        # At least the variance of independent rows: with few groups the estimate is uncertain.
        variance = np.maximum(variance, binomial / self.size.n_rows)
        factor = fold_factor(self.inner_excess, variance, self.folds)
        factor = factor + np.where(variance > 0, extra / np.where(variance > 0, variance, 1.0), 0.0)
        # If all predictions are right, or all wrong, the variance is unknown. Then a group counts
        # as one row.
        n = np.where(
            binomial > 0, binomial / np.where(variance > 0, variance, 1.0), self.size.n_groups
        )
        return proportion_interval(self.value, n / factor, self._t)

    def differences(
        self,
        columns: Sequence[int],
        reference: int,
        errors: float | None = None,
        of_training: Floats | float = 0.0,
    ) -> tuple[Floats, Floats, Floats]:
        """Difference of each of `columns` to the reference column, lower and upper bound.

        The interval extends `errors` standard errors to either side: `simultaneous_errors` for
        many differences, by default the quantile of Student's t for one. `of_training` is the
        variance of the differences over refits, as in `intervals`.
        """
        chosen = list(columns)
        difference = self.value[chosen] - self.value[reference]
        draws = self.draws[:, :, chosen] - self.draws[:, :, [reference]]
        variance = _variance(draws) * self.size.factor
        if self.is_proportion:
            # One pseudo-group with a different outcome is added, since the variance is
            # underestimated if few groups differ. Compare Bonett & Price, "Adjusted Wald confidence
            # interval for a difference of binomial proportions based on paired data", 2012.
            variance = variance + 1 / (self.size.n_groups + 1) ** 2
        with np.errstate(invalid="ignore"):
            inner_excess = self.inner_excess[:, chosen] - self.inner_excess[:, [reference]]
        error = np.sqrt(variance * fold_factor(inner_excess, variance, self.folds) + of_training)
        half = error * (self._t if errors is None else errors)
        largest = 1.0 if self.is_proportion and not self.is_normalised else np.inf
        return (
            difference,
            np.maximum(difference - half, -largest),
            np.minimum(difference + half, largest),
        )

    def simultaneous_errors(self, columns: Sequence[int], references: Sequence[int]) -> float:
        """Standard errors for intervals that cover all differences simultaneously.

        The differences are those of all `columns` to all `references`. The result is the quantile
        of the maximum standardised difference in a resample, with Student's t in place of the
        normal distribution.
        """
        draws = self.draws.mean(axis=1)
        largest = np.zeros(len(draws))
        for reference in references:
            centred = draws[:, list(columns)] - draws[:, [reference]]
            centred -= centred.mean(axis=0)
            spread = centred.std(axis=0)
            known = spread > 1e-12
            if known.any():
                standardised = np.abs(centred[:, known] / spread[known])
                largest = np.maximum(largest, standardised.max(axis=1))
        normal = float(ndtri((1 + self.confidence) / 2))
        return max(float(np.quantile(largest, self.confidence)), normal) * self._t / normal

    @property
    def _t(self) -> float:
        return float(stdtrit(max(self.size.degrees, 1), (1 + self.confidence) / 2))


def bootstrap_groups(
    sums: GroupSums, confidence: float, resamples: int, seed: int
) -> GroupBootstrap:
    """Resample groups with replacement and compute the statistic of every column."""
    n_columns, n_repeats, n_groups = sums.loss.shape
    flat, parts = sums.loss.reshape(-1, n_groups), []
    for counts in group_counts(n_groups, resamples, seed):
        loss = (counts @ flat.T).reshape(-1, n_columns, n_repeats).swapaxes(1, 2)
        parts.append((loss, counts @ sums.base.T))
    losses, bases = (np.concatenate(part) for part in zip(*parts, strict=True))
    with np.errstate(divide="ignore", invalid="ignore"):
        value = 1 - sums.loss.sum(axis=(1, 2)) / sums.base.sum()
        draws = 1 - losses / bases[:, :, None]
    # A resample can have no base loss; the statistic is then undefined.
    draws = np.where(np.isfinite(draws), draws, value)
    return GroupBootstrap(
        value, draws, sums.inner_excess, sums.size, sums.folds, sums.is_proportion,
        sums.is_normalised, confidence,
    )  # fmt: skip


def group_counts(n_groups: int, resamples: int, seed: int) -> Iterator[Floats]:
    """How often each group occurs in each resample [resample, group], in blocks of resamples."""
    rng = np.random.default_rng(seed)
    at_once = max(_COUNTS_IN_MEMORY // n_groups, 1)
    for start in range(0, resamples, at_once):
        counts = np.empty((min(at_once, resamples - start), n_groups))
        n_together = max(_DRAWS_IN_MEMORY // n_groups, 1)
        for first in range(0, len(counts), n_together):
            some = counts[first : first + n_together]
            drawn = rng.integers(n_groups, size=some.shape)
            drawn += n_groups * np.arange(len(some))[:, None]
            some[:] = np.bincount(drawn.reshape(-1), minlength=some.size).reshape(some.shape)
        yield counts


def _variance(draws: Floats) -> Floats:
    """Variance of the statistic of one repeat [column]; `draws` is [resample, repeat, column].

    Not of the mean over repeats: repeats split the same rows again and do not add information.
    """
    return np.asarray(draws.var(axis=0).mean(axis=0))


def fold_factor(inner_excess: Floats, variance: Floats, folds: Folds) -> Floats:
    """Factor [column] by which cross-validation increases the variance of a statistic.

    `variance` [column] is the bootstrap variance, `inner_excess` [outer split, column] as in
    GroupSums. Nested cross-validation (Bates, Hastie & Tibshirani, "Cross-validation: what does it
    estimate and how well does it do it?", 2024) estimates the mean squared error as the mean
    squared excess minus the variance of the statistic of one fold. With few outer splits this
    estimate is imprecise. It is therefore clipped to the range of the factor of Nadeau & Bengio,
    "Inference for the generalization error", 2003: at most its value for the given number of
    repeats, at least its limit for infinitely many. A dataset's own split is tested by one fit;
    its factor is 1.
    """
    if folds.n == 1:
        return np.ones(len(variance))
    lowest = folds.n / (folds.n - 1)
    highest = lowest + 1 / folds.n_repeats
    with np.errstate(divide="ignore", invalid="ignore"):
        factor = ((inner_excess**2).mean(axis=0) - folds.n * variance) / (lowest * variance)
    return np.clip(np.where(np.isfinite(factor), factor, highest), lowest, highest)


def proportion_interval(proportion: Floats, n: Floats, t: float) -> tuple[Floats, Floats]:
    """Wilson's interval of a proportion with effective sample size `n` [column] and Student's t.

    Source: Dean & Pagano, "Evaluating confidence interval methods for binomial proportions in
    clustered surveys", 2015. The effective sample size is the number of independent rows that
    would give the same variance.
    """
    middle = (proportion + t**2 / (2 * n)) / (1 + t**2 / n)
    half = t / (1 + t**2 / n) * np.sqrt(proportion * (1 - proportion) / n + t**2 / (4 * n**2))
    return np.clip(middle - half, 0, proportion), np.clip(middle + half, proportion, 1)


def _ratio_interval(
    value: Floats, draws: Floats, factor: Floats, t: float
) -> tuple[Floats, Floats]:
    """Interval of R², symmetric in log(Σ loss / Σ base loss), whose variance is times `factor`."""
    with np.errstate(divide="ignore", invalid="ignore"):
        logs, log_value = np.log(1 - draws), np.log(1 - value)
    fallback = np.where(np.isfinite(log_value), log_value, 0.0)
    logs = np.where(np.isfinite(logs), logs, fallback)
    half = t * np.sqrt(_variance(logs) * factor)
    return 1 - (1 - value) * np.exp(half), 1 - (1 - value) * np.exp(-half)


def first_best(statistics: Floats, axis: int = 0) -> NDArray[np.intp]:
    """Index of the first maximum along an axis; values that are not finite are ignored.

    Values are rounded to 12 digits: equal statistics can differ in the last bit by the order of
    summation.
    """
    rounded = np.where(np.isfinite(statistics), np.round(statistics, 12), -np.inf)
    index: NDArray[np.intp] = rounded.argmax(axis=axis)
    return index


def permutation_p(observed: Floats, null: Floats) -> tuple[Floats, Floats]:
    """p value of each layer and p value corrected over layers.

    `observed` is [layer], `null` [layer, permutation]. The correction uses the maximum statistic
    over layers of each permutation (Westfall & Young, "Resampling-Based Multiple Testing", 1993).
    The observed labels count as one permutation.
    """
    n = 1 + null.shape[1]
    null = np.where(np.isnan(null), np.inf, null)  # an undefined score counts as large
    n_as_large = (null >= observed[:, None] - _EQUAL).sum(axis=1)
    maximum = null.max(axis=0)
    n_maxima = (maximum[None] >= observed[:, None] - _EQUAL).sum(axis=1)
    return (1 + n_as_large) / n, (1 + n_maxima) / n
