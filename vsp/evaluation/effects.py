"""Effects of interventions on the answers: mean changes, flips, and tests against random directions.

Rows of a group depend on each other, so intervals are from resamples of groups and tests flip the signs
of groups, as for scores (`vsp.evaluation.statistics`). A direction is compared with random ones of equal
norm: any fixed direction moves the answers somewhat, so a test over rows alone would find an effect of
every one (`vsp.evaluation.random_controls`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vsp.evaluation.random_controls import corrected_over_layers, random_ranks
from vsp.evaluation.scores import Floats
from vsp.evaluation.sign_flips import sign_flip_p
from vsp.evaluation.statistics import Folds, GroupSums, SampleSize, bootstrap_groups
from vsp.storage.found_effects import ERASE, PATCH, UNRELATED, EffectFigures, FoundSetting

Indices = NDArray[np.intp]
Mask = NDArray[np.bool_]
Three = tuple[Floats, Floats, Floats]  # figures, lower and upper bounds


@dataclass(frozen=True, eq=False)
class EffectRows:
    """Log-likelihoods of the options under all settings, and what a row's answer should become."""

    values: NDArray[
        np.floating
    ]  # [layer, setting, row, option]; setting 0 changes nothing; NaN: no option
    label: Indices  # [row], option of the own label; -1: none
    target: Indices  # [row], option that the change should favour; -1: none; not read for erasures
    group: NDArray[np.str_]  # [row]


@dataclass(frozen=True, slots=True)
class EffectSettings:
    """Confidence, level of the tests, and the number of random draws."""

    confidence: float = 0.95
    level: float = 0.05  # of corrected p values
    resamples: int = 2000  # of groups
    flips: int = 1999  # random sign vectors; if there are not more than that, all are used
    seed: int = 0


def usable_rows(rows: EffectRows, kind: str) -> tuple[Mask, dict[str, int]]:
    """The rows [row] that can show an effect, and how many cannot, by reason."""
    reasons = {
        "the label is none of the options": rows.label < 0,
        "a log-likelihood is missing": ~_is_finite(rows, rows.label),
    }
    if kind == ERASE:
        n_options = (~np.isnan(rows.values[0, 0])).sum(axis=1)
        reasons["there is no other option"] = n_options < 2
    else:
        reasons |= {
            "the row has no target": rows.target < 0,
            "the target is the row's own label": rows.target == rows.label,
            "a log-likelihood of the target is missing": ~_is_finite(rows, rows.target),
        }
    used, left_out = np.ones(len(rows.label), np.bool_), {}
    for reason, failed in reasons.items():
        n = int((used & failed).sum())
        if n:
            left_out[reason] = n
        used &= ~failed
    return used, left_out


def _is_finite(rows: EffectRows, option: Indices) -> Mask:
    """Mask [row]: the option of the row has a finite log-likelihood in all layers and settings."""
    chosen = np.take_along_axis(rows.values, np.maximum(option, 0)[None, None, :, None], axis=3)
    return np.asarray(np.isfinite(chosen[..., 0]).all(axis=(0, 1)))


def take_rows(rows: EffectRows, used: Mask) -> EffectRows:
    """These rows alone."""
    return EffectRows(
        rows.values[:, :, used], rows.label[used], rows.target[used], rows.group[used]
    )


def changes(values: Floats, rows: EffectRows, kind: str) -> Floats:
    """The change of each row under each setting [setting, row], from one layer's values.

    `values` is [setting, row, option] with no intervention first, which the result leaves out.
    """
    own = _of_option(values, rows.label)
    if kind == ERASE:
        towards = _log_sum_of_others(values, rows.label) - own
    else:
        towards = _of_option(values, rows.target) - own
    return np.asarray(towards[1:] - towards[0])


def flips(values: Floats, rows: EffectRows, kind: str) -> tuple[Mask, Mask]:
    """The open rows [row], and whether each setting flips a row [setting, row], in one layer.

    Open: the best option is not the target yet; a setting flips it if the target becomes better than
    all other options. Of an erasure: the own label is the best option, and another becomes better. A
    tie is no flip.
    """
    option = rows.label if kind == ERASE else rows.target
    chosen, others = _of_option(values, option), _best_of_others(values, option)
    if kind == ERASE:
        return chosen[0] > others[0], np.asarray(others[1:] > chosen[1:])
    return ~(chosen[0] > others[0]), np.asarray(chosen[1:] > others[1:])


def _of_option(values: Floats, option: Indices) -> Floats:
    return np.take_along_axis(values, option[None, :, None], axis=2)[..., 0]


def _without(values: Floats, option: Indices) -> Floats:
    others = np.where(np.isnan(values), -np.inf, values)
    np.put_along_axis(others, option[None, :, None], -np.inf, axis=2)
    return others


def _best_of_others(values: Floats, option: Indices) -> Floats:
    return np.asarray(_without(values, option).max(axis=2))


def _log_sum_of_others(values: Floats, option: Indices) -> Floats:
    others = _without(values, option)
    best = others.max(axis=2, keepdims=True)
    return np.asarray(np.log(np.exp(others - best).sum(axis=2)) + best[..., 0])


def effect_figures(
    rows: EffectRows, kind: str, settings: Sequence[FoundSetting], how: EffectSettings
) -> EffectFigures:
    """All figures [layer, setting]; every row must be usable.

    `settings` are those of `rows.values` without the first.
    """
    contrast = _Contrasts.of(kind, settings)
    group = _Groups.of(rows.group)
    layers = [
        _layer(values.astype(np.float64), rows, kind, contrast, group, how)
        for values in rows.values
    ]
    figures = {name: np.stack([one[name] for one in layers]) for name in layers[0]}
    gained = figures.pop("gained")  # [layer, setting, group]
    rank, p_random = random_ranks(figures["change"], settings)
    p, p_corrected = _flip_p(gained, how)
    return EffectFigures(
        **figures,
        rank=rank,
        p_random=p_random,
        p_random_corrected=corrected_over_layers(figures["change"], settings),
        p=p,
        p_corrected=p_corrected,
    )


@dataclass(frozen=True, eq=False)
class _Contrasts:
    """Contrasts of settings: weights [setting, setting] of their changes; a row of NaN: no contrast."""

    excess: Floats
    over_unrelated: Floats
    of_test: Floats  # the contrasts that the sign flips test
    tested: Mask  # [setting]

    @classmethod
    def of(cls, kind: str, settings: Sequence[FoundSetting]) -> _Contrasts:
        n = len(settings)
        excess, over = np.full((n, n), np.nan), np.full((n, n), np.nan)
        for i, one in enumerate(settings):
            equal = [j for j, other in enumerate(settings) if other.scale == one.scale]
            random = [j for j in equal if settings[j].is_random]
            unrelated = [j for j in equal if settings[j].name == UNRELATED]
            if one.is_random or one.scale == 0:
                continue
            if random:
                excess[i] = np.eye(n)[i]
                excess[i, random] = -1 / len(random)
            if unrelated and not one.is_control:
                over[i] = np.eye(n)[i]
                over[i, unrelated[:1]] = -1.0
        of_test = np.eye(n) if kind == PATCH else excess
        is_main = [not one.is_control and one.scale > 0 for one in settings]
        return cls(excess, over, of_test, np.array(is_main) & ~np.isnan(of_test[:, 0]))


@dataclass(frozen=True, eq=False)
class _Groups:
    """The groups of rows, for sums over them."""

    order: Indices  # rows sorted by group
    starts: Indices  # where each group begins in this order
    n_rows: Floats  # [group]

    @classmethod
    def of(cls, group: NDArray[np.str_]) -> _Groups:
        code = np.unique(group, return_inverse=True)[1]
        n_rows = np.bincount(code).astype(np.float64)
        return cls(
            np.argsort(code, kind="stable"), (np.cumsum(n_rows) - n_rows).astype(np.intp), n_rows
        )

    def sums(self, values: Floats) -> Floats:
        """Sums over the rows of each group: [column, row] → [column, group]."""
        return np.asarray(np.add.reduceat(values[:, self.order], self.starts, axis=1))


def _layer(
    values: Floats, rows: EffectRows, kind: str, contrast: _Contrasts, group: _Groups,
    how: EffectSettings,
) -> dict[str, Floats]:  # fmt: skip
    """The figures of one layer, each [setting]; `values` is [setting, row, option]."""
    found: dict[str, Floats] = {}
    sums = group.sums(changes(values, rows, kind))
    weights = (np.eye(len(sums)), contrast.excess, contrast.over_unrelated)
    names = ("change", "excess", "over_unrelated")
    for name, (mean, low, high) in zip(
        names, _mean_intervals(sums, weights, group, how), strict=True
    ):
        found |= {name: mean, f"{name}_low": low, f"{name}_high": high}
    is_open, flipped = flips(values, rows, kind)
    share, low, high = _share_intervals(flipped[:, is_open], rows.group[is_open], how)
    found |= {"flip": share, "flip_low": low, "flip_high": high}
    found["n_open"] = np.full(len(sums), is_open.sum() * 1.0)
    found["gained"] = np.where(contrast.tested[:, None], contrast.of_test @ sums, np.nan)
    return found


def _mean_intervals(
    sums: Floats, weights: Sequence[Floats], group: _Groups, how: EffectSettings
) -> list[Three]:
    """Means over rows of weighted sums of columns, with bounds [setting] for each of `weights`.

    `sums` is [setting, group]. NaN where weights are.
    """
    all_weights = np.concatenate(weights)
    known = ~np.isnan(all_weights[:, 0])
    columns = all_weights[known] @ sums
    mean, low, high = (np.full(len(all_weights), np.nan) for _ in range(3))
    mean[known] = columns.sum(axis=1) / group.n_rows.sum()
    if len(group.n_rows) > 1:
        # The statistic is 1 - Σ loss / Σ base; the last column has loss 0; the others are compared with it.
        loss = -np.vstack([columns, np.zeros(len(group.n_rows))])[:, None]
        size = SampleSize.of([group.n_rows.sum()], [len(group.n_rows)])
        of_sums = GroupSums(loss, group.n_rows[None], size, False, _no_excess(len(loss)), Folds())
        bootstrap = bootstrap_groups(of_sums, how.confidence, how.resamples, how.seed)
        _, low[known], high[known] = bootstrap.differences(range(len(columns)), len(columns))
    parts = np.split(np.stack([mean, low, high]), len(weights), axis=1)
    return [(one[0], one[1], one[2]) for one in parts]


def _share_intervals(flipped: Mask, group: NDArray[np.str_], how: EffectSettings) -> Three:
    """Share of rows [setting] and its bounds; `flipped` is [setting, row]. NaN without rows."""
    share, low, high = (np.full(len(flipped), np.nan) for _ in range(3))
    if len(group):
        share = flipped.mean(axis=1)
        groups = _Groups.of(group)
        n_groups = len(groups.n_rows)
        if n_groups > 1:
            loss, size = (
                groups.sums((~flipped).astype(np.float64))[:, None],
                SampleSize.of([len(group)], [n_groups]),
            )
            sums = GroupSums(loss, groups.n_rows[None], size, True, _no_excess(len(loss)), Folds())
            low, high = bootstrap_groups(sums, how.confidence, how.resamples, how.seed).intervals()
    return np.asarray(share), low, high


def _no_excess(n_columns: int) -> Floats:
    """Nothing was fitted in folds."""
    return np.full((1, n_columns), np.nan)


def _flip_p(gained: Floats, how: EffectSettings) -> tuple[Floats, Floats]:
    """p by sign flips of groups, and p corrected over layers and settings [layer, setting].

    `gained` [layer, setting, group] is NaN for a setting that is not tested.
    """
    tested = ~np.isnan(gained).any(axis=2)
    p, corrected = np.full(tested.shape, np.nan), np.full(tested.shape, np.nan)
    if tested.any() and gained.shape[2] > 1:
        # `sign_flip_p` takes the last column for a peak, which has no part in the correction.
        columns = np.vstack([gained[tested], np.zeros(gained.shape[2])])[:, None]
        alone, of_all = sign_flip_p(columns, _no_excess(len(columns)), Folds(), how.flips, how.seed)
        p[tested], corrected[tested] = alone[:-1], of_all[:-1]
    return p, corrected
