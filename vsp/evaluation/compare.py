"""`vsp compare`: what one run scores more than another on the same rows, layer by layer.

Rows are matched by sample id, and the group is what is independent: its rows stay together in the
intervals and in the test, where the runs of a group change places (sign flips) and the largest
difference of all layers corrects p. Runs with as many layers are compared layer by layer, others
at the same relative depth: the embedding output with the embedding output, the last layer with
the last.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from vsp.datasets import VARIANTS
from vsp.errors import ConfigError, RunError
from vsp.evaluation.statistics import Folds, estimate, fold_factor, preferred
from vsp.storage.results import Results

_DRAWN = 4_000_000  # flips of groups drawn at once
_EQUAL = 1e-9  # sums in another order differ in the last digits

Floats = NDArray[np.float64]
Places = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Settings:
    """How sure a difference is to be, and by how many draws."""

    confidence: float = 0.95
    resamples: int = 2000
    flips: int = 1999  # every one there is, where they are not more than that
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Difference:
    """A layer of each run on the same rows."""

    first_layer: int
    other_layer: int
    first_score: float
    other_score: float
    difference: float  # the other's score less the first's
    low: float
    high: float
    p: float
    p_corrected: float  # over all layers


@dataclass(frozen=True, slots=True)
class Pair:
    """Another run against the first."""

    first: str
    other: str
    first_probe: str  # what read the states, and their treatment
    other_probe: str
    statistic: str
    confidence: float
    n_rows: int  # judged in both
    n_only_first: int
    n_only_other: int
    n_groups: int
    n_relabelled: (
        int  # rows whose label a variant of the dataset turns: left in the mirror is right
    )
    n_repeats: int  # the fewer of both runs
    n_flips: int
    same_splits: bool  # if not, intervals allow for as much as splits can matter
    by_depth: bool  # layers of equal relative depth, as one run has more of them
    layers: tuple[Difference, ...]
    peak: Difference  # each run's own peak layer; p is that of one test
    peak_unseen: bool  # chosen, in both, by other rows than those it is judged on


@dataclass(frozen=True, slots=True)
class _Judged:
    """What a run said of the rows that it judged."""

    name: str
    probe: str  # and its treatment
    statistic: str
    by_label: bool  # a label is predicted, else a number
    n_layers: int  # of the model
    best_layer: int
    layers: Places
    variants: tuple[str, ...]  # that the dataset is of another
    id: NDArray[np.str_]
    group: NDArray[np.str_]
    label: NDArray[Any]
    truth: NDArray[Any]  # [row], in the terms of `predicted`
    predicted: NDArray[Any]  # [layer, repeat, row]
    base: Floats  # [repeat, row]
    outer: Places  # [repeat, row]: the split that judged it
    inner: Floats | None  # [layer, split]: score of the rows that choose for it

    def of(self, rows: Places, n_repeats: int) -> _Judged:
        """The same of these rows and the first repeats."""
        return replace(
            self,
            id=self.id[rows],
            group=self.group[rows],
            label=self.label[rows],
            truth=self.truth[rows],
            predicted=self.predicted[:, :n_repeats, rows],
            base=self.base[:n_repeats, rows],
            outer=self.outer[:n_repeats, rows],
        )

    def column(self, place: int) -> _Column:
        inner = None if self.inner is None else self.inner[place]
        return _Column(int(self.layers[place]), self._loss(self.predicted[place]), inner)

    def peak(self) -> _Column:
        """Of each split the layer that its choosing rows prefer; else the best layer."""
        if self.inner is None:
            return self.column(int(np.flatnonzero(self.layers == self.best_layer)[0]))
        chosen = preferred(self.inner)
        place = chosen[self.outer]
        repeat, row = np.indices(place.shape)
        loss = self._loss(self.predicted[place, repeat, row])
        return _Column(self.best_layer, loss, self.inner[chosen, np.arange(len(chosen))])

    def _loss(self, predicted: NDArray[Any]) -> NDArray[Any]:
        """[repeat, row]: wrong, or the squared error."""
        if self.by_label:
            return np.asarray(predicted != self.truth)
        return np.asarray((predicted - self.truth) ** 2)


@dataclass(frozen=True, slots=True)
class _Column:
    """A layer of a run, or its peak."""

    layer: int
    loss: NDArray[Any]  # [repeat, row]
    inner: Floats | None  # [split]


def compare(runs: Sequence[tuple[str, Results]], settings: Settings) -> list[Pair]:
    """The first run against each of the others, by the names given.

    Raises RunError if results cannot be read, or two runs have no rows or layers in common or
    read different things from them.
    """
    if len(runs) < 2:
        raise ConfigError(f"{len(runs)} run to compare; name two or more")
    first, *others = (_judged(name, results) for name, results in runs)
    return [_compare(first, other, settings) for other in others]


def _judged(name: str, results: Results) -> _Judged:
    summary = results.summary()
    names = ("id", "group", "label", "layers", "classes", "predicted", "base", "outer")
    arrays = results.arrays("predictions", names)
    inner = results.arrays("estimates", ("inner",)).get("inner")
    label, predicted, outer = arrays["label"], arrays["predicted"], arrays["outer"]
    by_label = summary["probe"]["target"] == "label"
    run = _Judged(
        name=name,
        probe=f"{summary['probe']['probe']}, treatment {summary['probe']['treatment']}",
        statistic=summary["statistic"],
        by_label=by_label,
        n_layers=summary["plan"]["n_layers"],
        best_layer=summary["best_layer"],
        layers=arrays["layers"],
        variants=tuple(summary["plan"].get("variants", ())),
        id=arrays["id"],
        group=arrays["group"],
        label=label,
        truth=np.searchsorted(arrays["classes"], label) if by_label else label,
        predicted=predicted,
        base=np.ones(outer.shape) if by_label else arrays["base"],
        outer=outer.astype(np.intp),
        inner=None if inner is None else np.fmax.reduce(inner, axis=2),
    )
    run = run.of(np.flatnonzero((outer >= 0).all(axis=0)), len(outer))
    n_alike = len(run.id) - len(np.unique(run.id))
    if n_alike:
        raise RunError(
            f"{results.folder}: {n_alike} of {len(run.id)} rows have the id of another, so rows "
            "cannot be matched; give samples ids of their own and plan the run again"
        )
    return run


def _compare(first: _Judged, other: _Judged, settings: Settings) -> Pair:
    layers = _common_layers(first, other)
    in_first, in_other = _common_rows(first, other)
    n_repeats = min(len(first.outer), len(other.outer))
    group = _joint_groups(first.group[in_first], other.group[in_other])
    pair = _Matched(
        first.of(in_first, n_repeats), other.of(in_other, n_repeats), group, int(group.max()) + 1
    )
    found = pair.differences(layers, settings)
    return Pair(
        first=first.name,
        other=other.name,
        first_probe=first.probe,
        other_probe=other.probe,
        statistic=first.statistic,
        confidence=settings.confidence,
        n_rows=len(group),
        n_only_first=len(first.id) - len(group),
        n_only_other=len(other.id) - len(group),
        n_groups=pair.n_groups,
        n_relabelled=int((first.label[in_first] != other.label[in_other]).sum()),
        n_repeats=n_repeats,
        n_flips=_n_flips(pair.n_groups, settings),
        same_splits=pair.same_splits,
        by_depth=first.n_layers != other.n_layers,
        layers=tuple(found[:-1]),
        peak=found[-1],
        peak_unseen=first.inner is not None and other.inner is not None,
    )


def _common_rows(first: _Judged, other: _Judged) -> tuple[Places, Places]:
    """Rows of each run, in one order. Raises RunError unless they are there and mean the same."""
    both = f"{first.name} and {other.name}"
    if first.statistic != other.statistic:
        raise RunError(
            f"{both}: one is judged by {first.statistic}, one by {other.statistic}; compare "
            "probes of the same target"
        )
    _, in_first, in_other = np.intersect1d(
        first.id, other.id, assume_unique=True, return_indices=True
    )
    if not len(in_first):
        raise RunError(
            f"{both}: none of {len(first.id)} and {len(other.id)} judged rows is in both; compare "
            "runs of the same dataset"
        )
    unlike = np.flatnonzero(_source_labels(first)[in_first] != _source_labels(other)[in_other])
    if len(unlike):
        row, twin = in_first[unlike[0]], in_other[unlike[0]]
        raise RunError(
            f"{both}: {len(unlike)} of {len(in_first)} rows have another label, "
            f"{str(first.id[row])!r} is {str(first.label[row])!r} and {str(other.label[twin])!r}; "
            "compare runs of the same dataset"
        )
    if not first.by_label and np.ptp(first.label[in_first]) == 0:
        raise RunError(
            f"{both}: the {len(in_first)} rows in both all have the same number, so there is no "
            f"{first.statistic}; compare runs that share more rows"
        )
    return in_first, in_other


def _source_labels(run: _Judged) -> NDArray[Any]:
    """Labels as the dataset has them that the run's is a variant of."""
    if not (run.by_label and run.variants):
        return run.label
    names, place = np.unique(run.label, return_inverse=True)
    labels = [str(name) for name in names]
    for variant in reversed(run.variants):
        turn = VARIANTS.load(variant).label
        labels = [turn(label) or label for label in labels]
    return np.array(labels)[place]


def _common_layers(first: _Judged, other: _Judged) -> list[tuple[int, int]]:
    """Places in `layers` of each run: the same layer, or the nearest in relative depth.

    A layer of the model with fewer is left out where the other run has none within half a step.
    """
    shallow, deep = sorted((first, other), key=lambda one: one.n_layers)
    step = 1 / max(shallow.n_layers - 1, 1)
    depths = deep.layers / max(deep.n_layers - 1, 1)
    allowed = step / 2 if first.n_layers != other.n_layers else 1e-9
    pairs = []
    for place, layer in enumerate(shallow.layers):
        off = np.abs(depths - layer * step)
        nearest = int(off.argmin())
        if off[nearest] <= allowed:
            pairs.append((place, nearest) if shallow is first else (nearest, place))
    if not pairs:
        raise RunError(
            f"{first.name} and {other.name}: have no layer in common; probe the same layers"
        )
    return pairs


def _joint_groups(one: NDArray[np.str_], other: NDArray[np.str_]) -> Places:
    """A number for each row [row]; rows have the same if they share a group in either run."""
    ones, others = (np.unique(group, return_inverse=True)[1] for group in (one, other))
    n_ones, n_all = int(ones.max()) + 1, int(ones.max() + others.max()) + 2
    shared = (np.ones(len(ones)), (ones, n_ones + others))
    joined = connected_components(coo_matrix(shared, (n_all, n_all)), directed=False)[1]
    numbers: Places = np.unique(joined[ones], return_inverse=True)[1]
    return numbers


@dataclass(frozen=True, slots=True)
class _Matched:
    """Two runs on the same rows, in the same order."""

    first: _Judged
    other: _Judged
    group: Places  # [row]
    n_groups: int

    @property
    def same_splits(self) -> bool:
        return bool((self.first.outer == self.other.outer).all())

    def differences(
        self, layers: Sequence[tuple[int, int]], settings: Settings
    ) -> list[Difference]:
        """Of each pair of layers; the last is that of the peaks, which corrects nothing."""
        first = [self.first.column(i) for i, _ in layers] + [self.first.peak()]
        other = [self.other.column(j) for _, j in layers] + [self.other.peak()]
        # One measure for both runs, though their training rows may have another mean.
        base = self._sums((self.first.base + self.other.base) / 2)
        losses = np.stack([self._sums(column.loss) for column in first + other])
        surprise = [self._surprise(self.first, one) for one in first]
        surprise += [self._surprise(self.other, one) for one in other]
        stacked, folds, n = np.stack(surprise, axis=1), self._folds(), len(first)
        found = estimate(
            losses, base, len(self.group), self.first.by_label, stacked, folds,
            settings.confidence, settings.resamples, settings.seed,
        )  # fmt: skip
        lost = losses / base.mean(axis=0).sum()
        p = _p_values(lost[:n] - lost[n:], stacked[:, n:] - stacked[:, :n], folds, settings)
        made = []
        for k in range(n):
            figures = (*found.value[[k, n + k]], *np.ravel(found.differences([n + k], to=k)))
            figures = (*figures, p[0][k], p[1][k])
            made.append(Difference(first[k].layer, other[k].layer, *map(float, figures)))
        return made

    def _sums(self, values: NDArray[Any]) -> Floats:
        """[repeat, group] of [repeat, row]."""
        return np.stack([np.bincount(self.group, one, self.n_groups) for one in values])

    def _folds(self) -> Folds:
        n = max(len(np.unique(run.outer[0])) for run in (self.first, self.other))
        return Folds(n, len(self.first.outer))

    def _surprise(self, run: _Judged, column: _Column) -> Floats:
        """[split]: what the rows that choose gave, less what the rows of the split gave.

        Not a number where the splits of the runs are not the same, or nothing was chosen.
        """
        splits, place = np.unique(run.outer, return_inverse=True)
        if not self.same_splits or column.inner is None:
            return np.full(len(np.unique(self.first.outer)), np.nan)
        loss = np.bincount(place.ravel(), column.loss.ravel())
        return column.inner[splits] - 1 + loss / np.bincount(place.ravel(), run.base.ravel())


def _p_values(
    gained: Floats, surprise: Floats, folds: Folds, settings: Settings
) -> tuple[Floats, Floats]:
    """Two-sided, of each pair of layers and corrected by the largest difference of all.

    `gained` [pair, repeat, group] is the share of each group in a difference. Where the runs of a
    group change places, its share changes sign: each of the 2^groups ways where they are few,
    else as many as there are to be, at random. A difference is first brought to the measure of
    such changes, as folds make it vary more, and repeats not less. What is corrected for is the
    largest in standard errors, so that a layer that varies much does not hide the others.
    """
    n_groups, n = gained.shape[2], _n_flips(gained.shape[2], settings)
    share = gained.mean(axis=1)
    error = np.sqrt((share**2).sum(axis=1, keepdims=True))
    share = np.divide(share, error, out=np.zeros_like(share), where=error > 0)
    observed = np.abs(share.sum(axis=1)) / np.sqrt(_excess(gained, surprise, folds)) - _EQUAL
    as_large, at_once = np.zeros((2, len(gained))), max(1, _DRAWN // n_groups)
    exact, rng = n == 2**n_groups, np.random.default_rng(settings.seed)
    for start in range(0, n, at_once):
        numbers = np.arange(start, min(start + at_once, n))[:, None]
        flips = (
            numbers >> np.arange(n_groups) & 1
            if exact
            else rng.integers(2, size=(len(numbers), n_groups), dtype=np.int8)
        )
        drawn = np.abs((1.0 - 2.0 * flips) @ share.T)
        largest = drawn[:, :-1].max(axis=1, keepdims=True)
        as_large += (drawn >= observed).sum(axis=0), (largest >= observed).sum(axis=0)
    alone, together = as_large / n if exact else (1 + as_large) / (1 + n)
    together[-1] = alone[-1]
    return alone, together


def _excess(gained: Floats, surprise: Floats, folds: Folds) -> Floats:
    """By how much the variance of a difference [pair] is over that of changes of sign."""
    of_one = (gained**2).sum(axis=2).mean(axis=1)  # repeat, as in Estimates
    of_mean = (gained.mean(axis=1) ** 2).sum(axis=1)
    factor = fold_factor(surprise, of_one, folds)
    with np.errstate(divide="ignore", invalid="ignore"):
        factor = factor * np.where(of_mean > 0, of_one / of_mean, 1.0)
    # Of one pair it is a rough figure: the largest of many may not owe its size to a small one.
    return np.asarray(np.maximum(factor, factor.mean()))


def _n_flips(n_groups: int, settings: Settings) -> int:
    all_of_them = 2 ** min(n_groups, 62)
    return all_of_them if all_of_them <= settings.flips + 1 else settings.flips
