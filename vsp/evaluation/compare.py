"""`vsp compare`: score differences of two runs on the same rows, layer by layer.

Rows are matched by sample id, and groups are the independent units of intervals and tests.
Differences have group-bootstrap intervals and p values of a sign-flip test, corrected over layers
by the maximum statistic. If the models have different numbers of layers, layers are matched by
relative depth: the embedding output with the embedding output, the last layer with the last.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vsp.errors import ConfigError, RunError
from vsp.evaluation.matched_runs import (
    Column,
    MatchedRuns,
    TestedRun,
    joint_groups,
    match_layers,
    match_rows,
    read_tested_run,
)
from vsp.evaluation.scores import Floats
from vsp.evaluation.sign_flips import n_sign_flips, sign_flip_p
from vsp.evaluation.statistics import GroupSums, bootstrap_groups
from vsp.storage.results import Results


@dataclass(frozen=True, slots=True)
class ComparisonSettings:
    """Confidence level and number of random draws."""

    confidence: float = 0.95
    resamples: int = 2000  # of the group bootstrap
    flips: int = 1999  # random sign vectors; if there are not more than that, all are used
    seed: int = 0
    over_training: bool = False  # also over refits on resampled training rows


@dataclass(frozen=True, slots=True)
class Difference:
    """Scores of a layer of each run on the same rows."""

    first_layer: int
    other_layer: int
    first_score: float
    other_score: float
    difference: float  # score of the other run minus that of the first
    low: float
    high: float
    p: float
    p_corrected: float  # over all layers


@dataclass(frozen=True, slots=True)
class Pair:
    """Comparison of another run with the first."""

    first: str
    other: str
    first_probe: str  # probe and treatment
    other_probe: str
    statistic: str
    confidence: float
    n_rows: int  # tested in both runs
    n_only_first: int
    n_only_other: int
    n_groups: int
    n_relabelled: (
        int  # rows whose label differs because of a dataset variant, as in mirrored images
    )
    n_repeats: int  # the smaller number of both runs
    n_flips: int
    same_splits: bool  # otherwise intervals and p values assume the largest effect of splits
    by_depth: bool  # layers are matched by relative depth
    layers: tuple[Difference, ...]
    peak: Difference  # of the peak layer of each run; p is that of a single test
    over_training: bool  # intervals and p values are also about other training rows
    peak_unseen: bool  # both peaks were chosen on inner splits, not on the tested rows


def compare(runs: Sequence[tuple[str, Results]], settings: ComparisonSettings) -> list[Pair]:
    """Compare the first run with each of the others; `runs` are names and results.

    Raises ConfigError if there is one run only. Raises RunError if results cannot be read, or if
    two runs have no common rows or layers or have different targets, or if refits are asked for and
    a run has none.
    """
    if len(runs) < 2:
        raise ConfigError(f"{len(runs)} run to compare; name two or more")
    first, *others = (read_tested_run(name, results) for name, results in runs)
    return [_compare(first, other, settings) for other in others]


def compare_peaks(first: Results, other: Results, settings: ComparisonSettings) -> Difference:
    """The difference of the peaks of two runs alone, on the rows that both have.

    Raises RunError as `compare` does.
    """
    runs = (read_tested_run(results.name, results) for results in (first, other))
    return _differences(_matched(*runs), (), settings)[0]


def _matched(first: TestedRun, other: TestedRun) -> MatchedRuns:
    """Two runs on the rows and repeats that both have."""
    in_first, in_other = match_rows(first, other)
    n_repeats = min(len(first.outer), len(other.outer))
    group = joint_groups(first.group[in_first], other.group[in_other])
    return MatchedRuns(
        first.select(in_first, n_repeats),
        other.select(in_other, n_repeats),
        group,
        int(group.max()) + 1,
    )


def _compare(first: TestedRun, other: TestedRun, settings: ComparisonSettings) -> Pair:
    layers = match_layers(first, other)
    matched = _matched(first, other)
    n_rows = len(matched.group)
    *differences, peak = _differences(matched, layers, settings)
    return Pair(
        first=first.name,
        other=other.name,
        first_probe=first.probe,
        other_probe=other.probe,
        statistic=first.statistic,
        confidence=settings.confidence,
        n_rows=n_rows,
        n_only_first=len(first.id) - n_rows,
        n_only_other=len(other.id) - n_rows,
        n_groups=matched.n_groups,
        n_relabelled=int((matched.first.label != matched.other.label).sum()),
        n_repeats=len(matched.first.outer),
        n_flips=n_sign_flips(matched.n_groups, settings.flips),
        same_splits=matched.same_splits,
        by_depth=first.n_layers != other.n_layers,
        layers=tuple(differences),
        peak=peak,
        over_training=settings.over_training or matched.folds.n > 1,
        peak_unseen=first.inner is not None and other.inner is not None,
    )


def _differences(
    matched: MatchedRuns, layers: Sequence[tuple[int, int]], settings: ComparisonSettings
) -> list[Difference]:
    """Differences of each pair of layers; the last item is that of the peaks."""
    first = [matched.first.column(i) for i, _ in layers] + [matched.first.peak()]
    other = [matched.other.column(j) for _, j in layers] + [matched.other.peak()]
    # One base loss for both runs, although the means of their training rows can differ.
    base = matched.group_sums((matched.first.base + matched.other.base) / 2)
    losses = np.stack([matched.group_sums(column.loss) for column in first + other])
    excess = [matched.inner_excess(matched.first, column) for column in first]
    excess += [matched.inner_excess(matched.other, column) for column in other]
    inner_excess, folds, n = np.stack(excess, axis=1), matched.folds, len(first)
    sums = GroupSums(
        losses,
        base,
        size=matched.size,
        is_proportion=matched.first.is_proportion,
        inner_excess=inner_excess,
        folds=folds,
    )
    bootstrap = bootstrap_groups(sums, settings.confidence, settings.resamples, settings.seed)
    of_training: Floats | float = 0.0
    if settings.over_training:
        of_training = np.array([
            _refit_variance(matched, *pair) for pair in zip(first, other, strict=True)
        ])  # fmt: skip
    relative = losses / base.mean(axis=0).sum()
    p, p_corrected = sign_flip_p(
        relative[:n] - relative[n:],
        inner_excess[:, n:] - inner_excess[:, :n],
        folds,
        settings.flips,
        settings.seed,
        of_training,
    )
    differences = []
    for k in range(n):
        extra = np.broadcast_to(of_training, n)[k : k + 1]
        interval = np.ravel(bootstrap.differences([n + k], reference=k, of_training=extra))
        figures = (*bootstrap.value[[k, n + k]], *interval, p[k], p_corrected[k])
        differences.append(Difference(first[k].layer, other[k].layer, *map(float, figures)))
    return differences


def _refit_variance(matched: MatchedRuns, first: Column, other: Column) -> float:
    """Variance of the difference of two columns over refits.

    Refits of runs with the same training rows are on the same resamples, so they are paired.
    """
    for run, column in ((matched.first, first), (matched.other, other)):
        if column.refit is None:
            raise RunError(
                f"{run.name}: has no refits on resampled training rows; run `vsp probe --run "
                f"{run.name} --over training` (with folds, leave out --over: they are included)"
            )
    assert first.refit is not None and other.refit is not None
    if matched.first.trained == matched.other.trained and len(first.refit) == len(other.refit):
        return float((other.refit - first.refit).var(ddof=1))
    return float(first.refit.var(ddof=1) + other.refit.var(ddof=1))
