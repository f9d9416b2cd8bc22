"""The saved probes of a run, what they were fitted on, and their scores on the run's own test rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vsp import probes
from vsp.config import parse
from vsp.errors import ConfigError, RunError
from vsp.evaluation.judges import FINAL, FittedRows
from vsp.evaluation.matched_runs import read_tested_run
from vsp.evaluation.metrics import METRICS, Metric, label_shares, metric_of
from vsp.evaluation.scores import Floats
from vsp.storage.convention import LayerConvention
from vsp.storage.plan import Plan
from vsp.storage.results import Results
from vsp.storage.sealed_summary import SUMMARY
from vsp.storage.summary import TransferredSummary

_ARRAYS = ("key", "image", "image_name", "outer", "fitted", "outer_fitted", "label", "loss", "base", "predicted",
           "group", "layers")  # fmt: skip


@dataclass(frozen=True, eq=False)
class TrainedProbes:
    """The saved probes of a run; read by `read_trained`."""

    name: str
    results: Results
    position: str  # of the states that the probes read
    classes: tuple[str, ...]  # empty: the probes read a number
    link: str
    metric: Metric
    statistic: str  # of the results; `metric` may be another one
    probe: str  # names of probe and treatment
    selected: int  # the layer that the training rows select
    convention: LayerConvention  # what the layers of the run are
    hidden_size: int
    fitted: FittedRows
    y: NDArray[Any]  # [row], class index or number
    arrays: Mapping[str, NDArray[Any]]  # of predictions.npz

    @property
    def layers(self) -> list[int]:
        """The layers that have a probe."""
        return [int(layer) for layer in self.arrays["layers"]]

    def prior(self, judge: int) -> Floats:
        """Label shares [class], or mean [1], of the rows that a judge was fitted on."""
        fitted = self.fitted.fitted if judge == FINAL else self.fitted.outer_fitted[judge]
        return label_shares(self.y, fitted)

    def probes(self, layer: int, folds: bool) -> dict[int, Any]:
        """The probe of each judge, with those of the outer splits if `folds`.

        Raises RunError or ProbeError if they are damaged or not saved.
        """
        found = {FINAL: probes.load(self.results.folder, layer)}
        if folds:
            of_folds = probes.load_folds(self.results.folder, layer)
            if len(of_folds) != len(self.fitted.outer_fitted):
                raise RunError(
                    f"{self.results.folder}: {len(of_folds)} of {len(self.fitted.outer_fitted)} probes "
                    f"of folds are saved in layer {layer}; run `vsp probe` again"
                )
            found |= dict(enumerate(of_folds))
        for probe in found.values():
            self._check_probe(layer, probe)
        return found

    def _check_probe(self, layer: int, probe: Any) -> None:
        """Raise RunError if a saved probe does not read such states, or has not these classes."""
        try:
            shape = probe.scores(np.zeros((1, self.hidden_size))).shape
        except ValueError:  # arrays of other shapes
            shape = ()
        if shape != (1, max(1, len(self.classes))):
            raise RunError(
                f"{self.results.folder}: a probe of layer {layer} is not what vsp writes; run "
                "`vsp probe` again"
            )


def read_trained(name: str, results: Results, metric: str = "") -> TrainedProbes:
    """Read the saved probes of a run and the rows that they were fitted on.

    `metric` is a name in METRICS; empty: the metric of the results. Raises RunError if the results
    are damaged or were written by a vsp that did not keep the fitted rows, ConfigError for a metric
    that does not suit the probe.
    """
    summary = results.summary(TransferredSummary)
    arrays = results.arrays("predictions", _ARRAYS)
    if any(one not in arrays for one in _ARRAYS):
        raise RunError(
            f"{results.folder}: was written by an older vsp, which did not keep the rows that probes "
            f"were fitted on; run `vsp probe --run {results.name}` again"
        )
    read_tested_run(name, results)  # raises if an array is not what vsp writes
    probe = summary["probe"]
    if probe.get("not_saved"):
        raise RunError(
            f"{results.folder}: probes of {probe['probe']} are not saved, because it has no coef_ "
            "and intercept_ that give its predictions; run `vsp probe` with a class that has them, or with "
            "a probe of vsp"
        )
    classes = tuple(probe["classes"] or ())
    _check_arrays(results, arrays, classes)
    plan = parse(Plan, summary["plan"], str(results.folder / SUMMARY))
    return TrainedProbes(
        name,
        results,
        summary["position"],
        classes,
        probe["link"],
        _metric(name, metric, summary["statistic"], probe),
        summary["statistic"],
        f"{probe['probe']}, treatment {probe['treatment']}",
        summary["best_layer"],
        plan.convention(summary["position"]),
        summary["hidden_size"],
        FittedRows.of(arrays),
        _own_values(results, arrays["label"], classes),
        arrays,
    )


def _metric(name: str, asked: str, statistic: str, probe: Mapping[str, Any]) -> Metric:
    if not asked:
        return metric_of(statistic)
    if not probe["classes"]:
        raise ConfigError(f"--metric {asked}: {name} reads numbers; leave it out for R²")
    is_weighted = probe.get("parameters", {}).get("weighting") == "balanced"
    if asked == "log-loss" and (is_weighted or not probe["link"]):
        why = (
            "has class weights, so no probabilities of labels"
            if is_weighted
            else "has no probabilities"
        )
        raise ConfigError(f"--metric {asked}: the probe of {name} {why}; use another")
    return METRICS[asked]


def _own_values(results: Results, label: NDArray[Any], classes: tuple[str, ...]) -> NDArray[Any]:
    if not classes:
        return label.astype(np.float64)
    names, place = np.unique(label, return_inverse=True)
    if names.tolist() != list(classes):
        raise RunError(
            f"{results.folder}: labels are not those of the probe; run `vsp probe` again"
        )
    return np.asarray(place, np.intp)


def _check_arrays(
    results: Results, arrays: Mapping[str, NDArray[Any]], classes: Sequence[str]
) -> None:
    """Raise RunError unless the arrays that only `vsp evaluate` reads are what `vsp probe` writes."""
    n_layers, n_repeats, n_rows = arrays["loss"].shape
    n_outer = int(arrays["outer"].max()) + 1
    n_classes = len(classes)
    expected: dict[str, tuple[tuple[int, ...], str]] = {
        "key": ((n_rows,), "uint64"),
        "image": ((n_rows,), "uint64"),
        "image_name": ((n_rows,), "uint64"),
        "fitted": ((n_rows,), "bool"),
        "outer_fitted": ((n_outer, n_rows), "bool"),
        "predicted": ((n_layers, n_repeats, n_rows), "int16" if n_classes else "float32"),
    }
    for name, (shape, dtype) in expected.items():
        if arrays[name].shape != shape or arrays[name].dtype != dtype:
            raise _not_array(results, name)
    said = np.moveaxis(arrays["predicted"], 0, -1)[arrays["outer"] >= 0]
    if not np.isfinite(said).all() or (n_classes and not 0 <= said.min() <= said.max() < n_classes):
        raise _not_array(results, "predicted")
    if not arrays["fitted"].any() or not arrays["outer_fitted"].any(axis=1).all():
        raise RunError(f"{results.folder}: a probe was fitted on no row; run `vsp probe` again")


def _not_array(results: Results, name: str) -> RunError:
    return RunError(
        f"{results.folder}: the array {name} is not what vsp writes; run `vsp probe` again"
    )
