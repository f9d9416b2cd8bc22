"""Effects between predictions of the same rows: differences and shares, with intervals and p values.

An effect is a weighted sum of means over cells of rows: the mean of one cell for a share of rows,
of a cell for each label for a balanced score, of two cells with weights 1 and -1 for a contrast. All
effects of a table share their bootstrap resamples of groups and their sign flips.

As in `vsp.evaluation.statistics`, the variance is that of one repeat, times the largest factor by
which folds increase it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

from vsp.evaluation.scores import Floats
from vsp.evaluation.sign_flips import sign_flip_p
from vsp.evaluation.statistics import (
    Folds,
    GroupSums,
    SampleSize,
    bootstrap_groups,
    fold_factor,
    proportion_interval,
)

Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Cell:
    """Rows whose mean counts in an effect with this weight."""

    rows: Mask  # [row]
    values: Floats  # [repeat, row]
    weight: float = 1.0


@dataclass(frozen=True, eq=False)
class Effect:
    """The mean over cells; a share of rows if `is_share`, otherwise a difference."""

    cells: tuple[Cell, ...]
    is_share: bool = False


@dataclass(frozen=True, slots=True)
class Estimate:
    """An effect with its interval and p values."""

    value: float
    low: float
    high: float
    p: float | None  # two-sided, that a difference is 0; None for a share
    p_margin: float  # one-sided, that it is the margin or more
    n_rows: int
    n_groups: int


@dataclass(frozen=True, slots=True)
class EffectDraws:
    """How effects are estimated."""

    margin: float
    confidence: float
    resamples: int
    flips: int
    seed: int


def estimate_effects(
    effects: Sequence[Effect], group: NDArray[np.str_], folds: Folds, draws: EffectDraws
) -> list[Estimate]:
    """Estimate all effects; `group` is [row]. Every cell must have a row."""
    if not effects:
        return []
    code = np.unique(group, return_inverse=True)[1]
    influence, gained = (_group_sums(effects, code, centred) for centred in (True, False))
    n_rows = np.bincount(code).astype(np.float64)
    base = np.broadcast_to(n_rows, influence.shape[1:])
    nothing_known = np.full((max(folds.n * folds.n_repeats, 1), len(effects)), np.nan)
    size = SampleSize.of([len(code)], [len(n_rows)])
    # The loss of a group is minus its influence, so that a resample's statistic is 1 + its effect.
    sums = GroupSums(-influence * len(code), base, size, True, nothing_known, folds)
    bootstrap = bootstrap_groups(sums, draws.confidence, draws.resamples, draws.seed)
    variance = bootstrap.draws.var(axis=0).mean(axis=0)
    variance = variance * fold_factor(nothing_known, variance, folds)
    p = _p_values([one.is_share for one in effects], gained, folds, draws)
    return [
        _estimate(one, code, float(of_one), of_p, draws)
        for one, of_one, of_p in zip(effects, variance, p, strict=True)
    ]


def _p_values(
    is_share: Sequence[bool], gained: Floats, folds: Folds, draws: EffectDraws
) -> list[float | None]:
    """p value of each difference by sign flips of groups; None for a share."""
    tested = np.flatnonzero(~np.array(is_share))
    p: list[float | None] = [None] * len(is_share)
    if not len(tested):
        return p
    nothing_known = np.full((max(folds.n * folds.n_repeats, 1), len(tested)), np.nan)
    alone = sign_flip_p(gained[tested], nothing_known, folds, draws.flips, draws.seed)[0]
    for place, value in zip(tested.tolist(), alone.tolist(), strict=True):
        p[place] = value
    return p


def _group_sums(effects: Sequence[Effect], code: NDArray[np.intp], centred: bool) -> Floats:
    """Contributions [effect, repeat, group] to each effect.

    `centred`: minus the mean of their cell, the influence of a group on the effect.
    """
    n_groups = int(code.max()) + 1
    n_repeats = max(len(cell.values) for effect in effects for cell in effect.cells)
    result = np.zeros((len(effects), n_repeats, n_groups))
    for k, effect in enumerate(effects):
        for cell in effect.cells:
            rows = np.flatnonzero(cell.rows)
            values = cell.values[:, rows]
            if centred:
                values = values - values.mean(axis=1, keepdims=True)
            values = values * (cell.weight / len(rows))
            for repeat in range(n_repeats):  # an effect with fewer repeats has each several times
                of_repeat = values[repeat % len(values)]
                result[k, repeat] += np.bincount(code[rows], of_repeat, n_groups)
    return result


def _estimate(
    effect: Effect, code: NDArray[np.intp], variance: float, p: float | None, draws: EffectDraws
) -> Estimate:
    rows = [np.flatnonzero(cell.rows) for cell in effect.cells]
    groups = [np.unique(code[one]) for one in rows]
    size = SampleSize.of([len(one) for one in rows], [len(one) for one in groups])
    weight = float(sum(abs(cell.weight) for cell in effect.cells))
    value = float(
        sum(cell.weight * cell.values[:, one].mean() for cell, one in zip(effect.cells, rows, strict=True))
    )  # fmt: skip
    t = float(student.ppf((1 + draws.confidence) / 2, max(size.degrees, 1)))
    variance *= size.factor
    if effect.is_share:
        low, high, z = _share(value, variance, size, t, draws.margin)
    else:
        # One pseudo-group with another outcome is added, as in `GroupBootstrap.differences`.
        error = float(np.sqrt(variance + (weight / (size.n_groups + 1)) ** 2))
        low, high = max(value - t * error, -1.0), min(value + t * error, 1.0)
        z = (value - draws.margin) / error
    return Estimate(
        value,
        low,
        high,
        p,
        float(student.cdf(z, max(size.degrees, 1))),
        len(np.unique(np.concatenate(rows))),
        len(np.unique(np.concatenate(groups))),
    )


def _share(
    value: float, variance: float, size: SampleSize, t: float, margin: float
) -> tuple[float, float, float]:
    """Wilson's interval of a share, and its distance to the margin in standard errors."""
    binomial = value * (1 - value)
    variance = max(variance, binomial / size.n_rows)
    n = binomial / variance if binomial > 0 else size.n_groups
    low, high = proportion_interval(np.array([value]), np.array([n]), t)
    z = (value - margin) / np.sqrt(margin * (1 - margin) / n)
    return float(low[0]), float(high[0]), float(z)


def holm(p: Sequence[float]) -> list[float]:
    """p values corrected by Holm's method for their number."""
    values = np.asarray(p, np.float64)
    order = np.argsort(values, kind="stable")
    raised = np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1))
    corrected = np.empty(len(values))
    corrected[order] = np.minimum(raised, 1.0)
    return [float(one) for one in corrected]
