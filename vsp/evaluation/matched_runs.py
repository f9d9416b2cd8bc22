"""Predictions of two runs on the rows that both have tested, in the same order."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from vsp.datasets import VARIANTS
from vsp.errors import RunError
from vsp.evaluation.design import is_constant
from vsp.evaluation.metrics import Metric, metric_of
from vsp.evaluation.scores import Floats
from vsp.evaluation.statistics import Folds, SampleSize, first_best
from vsp.storage.results import Results
from vsp.storage.summary import ComparedSummary

Indices = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Column:
    """Losses of one layer of a run, or of its peak."""

    layer: int
    loss: Floats  # [repeat, row]
    inner: Floats | None  # inner validation score [outer split]
    refit: Floats | None = None  # score [resample] of refits on resampled training rows


@dataclass(frozen=True, slots=True)
class TestedRun:
    """Predictions of a run for the rows that it tests in every repeat."""

    name: str
    probe: str  # names of probe and treatment
    statistic: str
    is_proportion: bool  # a share of rows or pairs; otherwise a share of a loss
    is_label: bool  # the target is a label; otherwise a number
    n_layers: int  # number of layers of the model
    best_layer: int
    layers: Indices
    variants: tuple[str, ...]  # applied to the original dataset, in order
    id: NDArray[np.str_]
    group: NDArray[np.str_]
    label: NDArray[Any]
    loss: Floats  # [layer, repeat, row]
    base: Floats  # [repeat, row]
    outer: Indices  # [repeat, row], outer split that tests it
    inner: Floats | None  # best inner validation score [layer, outer split]
    refit: Floats | None  # score [layer, resample]; None: `vsp probe` made no refits
    trained: str  # digest of what decides the resamples: ids and groups not tested, and the seed

    def select(self, rows: Indices, n_repeats: int) -> TestedRun:
        """The same run with these rows and the first repeats."""
        return replace(
            self,
            id=self.id[rows],
            group=self.group[rows],
            label=self.label[rows],
            loss=self.loss[:, :n_repeats, rows],
            base=self.base[:n_repeats, rows],
            outer=self.outer[:n_repeats, rows],
        )

    def column(self, index: int) -> Column:
        """The layer at an index of `layers`."""
        inner = None if self.inner is None else self.inner[index]
        refit = None if self.refit is None else self.refit[index]
        return Column(int(self.layers[index]), self.loss[index], inner, refit)

    def peak(self) -> Column:
        """The layer with the best inner score of each outer split; without such scores, the best layer."""
        if self.inner is None:
            return self.column(int(np.flatnonzero(self.layers == self.best_layer)[0]))
        chosen = first_best(self.inner)
        layer = chosen[self.outer]
        repeat, row = np.indices(layer.shape)
        loss = self.loss[layer, repeat, row]
        refit = None if self.refit is None else self.refit[chosen[0]]
        return Column(self.best_layer, loss, self.inner[chosen, np.arange(len(chosen))], refit)


@dataclass(frozen=True, slots=True)
class MatchedRuns:
    """Two runs on the same rows, in the same order."""

    first: TestedRun
    other: TestedRun
    group: Indices  # [row], a number from 0
    n_groups: int

    @property
    def same_splits(self) -> bool:
        return bool((self.first.outer == self.other.outer).all())

    @property
    def folds(self) -> Folds:
        n = max(len(np.unique(run.outer[0])) for run in (self.first, self.other))
        return Folds(n, len(self.first.outer))

    @property
    def size(self) -> SampleSize:
        """Rows and groups; the rarest label decides them if all labels weigh the same."""
        if not metric_of(self.first.statistic).balances:
            return SampleSize.of([len(self.group)], [self.n_groups])
        labels = np.unique(self.first.label)
        of_labels = [self.group[self.first.label == label] for label in labels]
        return SampleSize.of(
            [len(group) for group in of_labels], [len(np.unique(group)) for group in of_labels]
        )

    def group_sums(self, values: NDArray[Any]) -> Floats:
        """Sums [repeat, group] of `values` [repeat, row]."""
        return np.stack([np.bincount(self.group, one, self.n_groups) for one in values])

    def inner_excess(self, run: TestedRun, column: Column) -> Floats:
        """Inner validation score minus outer test score [outer split].

        nan if the splits of the runs differ, or if there are no inner scores.
        """
        splits, place = np.unique(run.outer, return_inverse=True)
        if not self.same_splits or column.inner is None:
            return np.full(len(np.unique(self.first.outer)), np.nan)
        loss = np.bincount(place.ravel(), column.loss.ravel())
        base = np.bincount(place.ravel(), run.base.ravel())
        share = np.divide(loss, base, out=np.full(len(loss), np.nan), where=base > 0)
        return np.asarray(column.inner[splits] - 1 + share)


def read_tested_run(name: str, results: Results) -> TestedRun:
    """Read the predictions of a run. Raises RunError if they are damaged or ids are not unique."""
    summary = results.summary(ComparedSummary)
    names = ("id", "group", "label", "layers", "loss", "base", "outer")
    arrays = results.arrays("predictions", names)
    estimates = results.arrays("estimates", ("inner", "refit"))
    inner, refit = estimates.get("inner"), estimates.get("refit")
    _check_arrays(results, summary, arrays, inner)
    if refit is not None and not (
        refit.ndim == 2
        and refit.shape[:1] == arrays["layers"].shape
        and refit.dtype.kind == "f"
        and np.isfinite(refit).all()
    ):
        raise _not_arrays(results, "refit")
    label, outer, probe = arrays["label"], arrays["outer"], summary["probe"]
    metric = _metric(results, summary["statistic"])
    is_label = probe["target"] == "label"
    run = TestedRun(
        name=name,
        probe=f"{probe['probe']}, treatment {probe['treatment']}",
        statistic=summary["statistic"],
        is_proportion=metric.is_proportion,
        is_label=is_label,
        n_layers=summary["n_layers"],
        best_layer=summary["best_layer"],
        layers=arrays["layers"],
        variants=tuple(summary["plan"].get("variants", ())),
        id=arrays["id"],
        group=arrays["group"],
        label=label,
        loss=arrays["loss"],
        base=arrays["base"],
        outer=outer.astype(np.intp),
        inner=None if inner is None else np.fmax.reduce(inner, axis=2),
        refit=refit,
        trained=_trained(arrays, summary.get("settings", {}).get("seed", 0)),
    )
    run = run.select(np.flatnonzero(_tested(outer)), len(outer))
    n_duplicates = len(run.id) - len(np.unique(run.id))
    if n_duplicates:
        raise RunError(
            f"{results.folder}: {n_duplicates} of {len(run.id)} rows have the id of another row, "
            "so rows cannot be matched; give every sample a unique id and plan the run again"
        )
    return run


def _metric(results: Results, statistic: str) -> Metric:
    try:
        return metric_of(statistic)
    except KeyError:
        raise RunError(
            f"{results.folder}: {statistic!r} is not a statistic of this version of vsp; run "
            "`vsp probe` again"
        ) from None


def _trained(arrays: Mapping[str, NDArray[Any]], seed: int) -> str:
    """Digest of the rows that are not tested, with their groups, and of the seed."""
    rows = np.flatnonzero(~_tested(arrays["outer"]))
    names = np.char.add(np.char.add(arrays["id"][rows], "\n"), arrays["group"][rows])
    return hashlib.sha256("\n".join([str(seed), *sorted(names.tolist())]).encode()).hexdigest()


def _check_arrays(
    results: Results,
    summary: Mapping[str, Any],
    arrays: Mapping[str, NDArray[Any]],
    inner: NDArray[Any] | None,
) -> None:
    """Raise RunError unless the arrays have the shapes and values that `vsp probe` writes."""
    loss = arrays.get("loss")
    if loss is None or loss.ndim != 3 or not loss.size:
        raise _not_arrays(results, "loss")
    n_layers, n_repeats, n_rows = loss.shape
    is_label = summary["probe"]["target"] == "label"
    expected: dict[str, tuple[tuple[int, ...], str]] = {
        "id": ((n_rows,), "U"),
        "group": ((n_rows,), "U"),
        "label": ((n_rows,), "U" if is_label else "fiu"),
        "layers": ((n_layers,), "iu"),
        "outer": ((n_repeats, n_rows), "iu"),
        "loss": (loss.shape, "f"),
        "base": ((n_repeats, n_rows), "f"),
    }
    for name, (shape, kinds) in expected.items():
        array = arrays.get(name)
        if array is None or array.shape != shape or array.dtype.kind not in kinds:
            raise _not_arrays(results, name)
    layers, outer = arrays["layers"], arrays["outer"]
    has_best = inner is not None or summary["best_layer"] in layers.tolist()
    if not has_best or layers.min() < 0 or layers.max() >= summary["n_layers"]:
        raise _not_arrays(results, "layers")
    if not -1 <= outer.min() <= outer.max() < n_repeats * n_rows:
        raise _not_arrays(results, "outer")
    if not np.isfinite(loss).all():
        raise _not_arrays(results, "loss")
    base = np.where(outer >= 0, arrays["base"], 0.0)
    untested = (outer < 0).all(axis=1)
    if not np.isfinite(base).all() or base.min() < 0 or not (base.any(axis=1) | untested).all():
        raise _not_arrays(results, "base")
    if inner is not None and not (
        inner.dtype.kind == "f"
        and inner.ndim == 3
        and inner.shape[:2] == (n_layers, outer.max() + 1)
        and inner.shape[2]
    ):
        raise _not_arrays(results, "inner")


def _tested(outer: NDArray[Any]) -> NDArray[np.bool_]:
    """Rows that are tested in every repeat."""
    return np.asarray((outer >= 0).all(axis=0), np.bool_)


def _not_arrays(results: Results, name: str) -> RunError:
    return RunError(
        f"{results.folder}: the array {name} is not what vsp writes; run `vsp probe` again"
    )


def match_rows(first: TestedRun, other: TestedRun) -> tuple[Indices, Indices]:
    """Indices of the common rows in each run, in the same order.

    Raises RunError if there are none, or if their targets or labels differ.
    """
    both = f"{first.name} and {other.name}"
    if first.statistic != other.statistic:
        raise RunError(
            f"{both}: one has the statistic {first.statistic}, the other {other.statistic}; "
            "compare probes of the same target with the same `vsp probe --metric`"
        )
    _, in_first, in_other = np.intersect1d(
        first.id, other.id, assume_unique=True, return_indices=True
    )
    if not len(in_first):
        raise RunError(
            f"{both}: none of {len(first.id)} and {len(other.id)} test rows is in both; compare "
            "runs of the same dataset"
        )
    different = np.flatnonzero(_source_labels(first)[in_first] != _source_labels(other)[in_other])
    if len(different):
        row, twin = in_first[different[0]], in_other[different[0]]
        raise RunError(
            f"{both}: {len(different)} of {len(in_first)} rows have different labels, for example "
            f"{str(first.id[row])!r}: {str(first.label[row])!r} and {str(other.label[twin])!r}; "
            "compare runs of the same dataset"
        )
    if not first.is_label and is_constant(first.label[in_first]):
        raise RunError(
            f"{both}: the {len(in_first)} common rows have the same number, so "
            f"{first.statistic} is undefined; compare runs that share more rows"
        )
    _check_same_rows(first, other, len(in_first))
    return in_first, in_other


def _check_same_rows(first: TestedRun, other: TestedRun, n_common: int) -> None:
    """Raise RunError if the losses of rows belong to a score of all rows, and the rows differ."""
    metric = metric_of(first.statistic)
    n_rows = {len(first.id), len(other.id), n_common}
    if metric.balances and len(n_rows) > 1:
        raise RunError(
            f"{first.name} and {other.name}: {len(first.id)} and {len(other.id)} test rows, of which "
            f"{n_common} are in both; {metric.statistic} is compared on the same rows only; run "
            "`vsp probe --metric accuracy` on both"
        )


def _source_labels(run: TestedRun) -> NDArray[Any]:
    """Labels of the dataset before its variants were applied."""
    if not (run.is_label and run.variants):
        return run.label
    names, place = np.unique(run.label, return_inverse=True)
    labels = [str(name) for name in names]
    for variant in reversed(run.variants):
        invert = VARIANTS.load(variant).change_label
        labels = [invert(label) or label for label in labels]
    return np.array(labels)[place]


def match_layers(first: TestedRun, other: TestedRun) -> list[tuple[int, int]]:
    """Pairs of indices into `layers` of each run: same layer, or nearest relative depth.

    A layer of the model with fewer layers is omitted if the other run has none within half of its
    step in relative depth. Raises RunError if there is no pair.
    """
    shallow, deep = sorted((first, other), key=lambda run: run.n_layers)
    step = 1 / max(shallow.n_layers - 1, 1)
    depths = deep.layers / max(deep.n_layers - 1, 1)
    allowed = step / 2 if first.n_layers != other.n_layers else 1e-9
    pairs = []
    for index, layer in enumerate(shallow.layers):
        distance = np.abs(depths - layer * step)
        nearest = int(distance.argmin())
        if distance[nearest] <= allowed:
            pairs.append((index, nearest) if shallow is first else (nearest, index))
    if not pairs:
        raise RunError(f"{first.name} and {other.name}: no common layer; probe the same layers")
    return pairs


def joint_groups(first: NDArray[np.str_], other: NDArray[np.str_]) -> Indices:
    """Group numbers [row]; rows are in the same group if they share a group in either run."""
    in_first, in_other = (np.unique(group, return_inverse=True)[1] for group in (first, other))
    n_first, n_all = int(in_first.max()) + 1, int(in_first.max() + in_other.max()) + 2
    edges = (np.ones(len(in_first)), (in_first, n_first + in_other))
    component = connected_components(coo_matrix(edges, (n_all, n_all)), directed=False)[1]
    numbers: Indices = np.unique(component[in_first], return_inverse=True)[1]
    return numbers
