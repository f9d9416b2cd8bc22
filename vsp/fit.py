"""`vsp probe`: a probe for each layer, in parallel, scored on rows it was not fitted on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import joblib
import numpy as np
from joblib import Parallel, delayed
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, f1_score, recall_score
from sklearn.model_selection import StratifiedGroupKFold
from threadpoolctl import threadpool_limits

from vsp.errors import ProbeError, RunError
from vsp.journal import Ledger, Worst, worst
from vsp.manifest import Sample
from vsp.probes import PROBES, LinearProbe
from vsp.progress import progress
from vsp.results import LayerScore, Results, best_layer
from vsp.run import Run
from vsp.store import Store


@dataclass(frozen=True, slots=True)
class Settings:
    """How probes are fitted: part of a result's identity."""

    probe: str = "logistic"
    C: float = 1.0  # inverse strength of the L2 penalty
    max_iter: int = 1000
    folds: int = 5  # inside the training rows, to choose the best layer
    test_fraction: float = 0.2  # where the dataset has no split of its own
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows that take part, each array [row]; `train` and `test` index into them."""

    row: NDArray[np.intp]  # in the store
    label: NDArray[np.str_]
    group: NDArray[np.str_]
    train: NDArray[np.intp]
    test: NDArray[np.intp]
    folds: tuple[tuple[NDArray[np.intp], NDArray[np.intp]], ...]  # (fit, judge) pairs of `train`
    split: str  # where train and test come from, in words


@dataclass(frozen=True, slots=True)
class LayerFit:
    score: LayerScore
    probe: LinearProbe
    predicted: NDArray[np.str_]  # [test row]


def probe_run(run: Run, settings: Settings, n_jobs: int, partial: bool = False) -> Results:
    """Fit and score every layer of the run and write `results/RUN/`.

    Raises RunError if rows are missing or failed, unless `partial` leaves them out; ProbeError if
    the rows that remain cannot be split or fitted.
    """
    ledgers = run.ledgers()
    counts, usable = _usable(run, ledgers, partial)
    rows = split_rows(list(run.manifest.rows()), usable, settings)
    run.store.check()
    fits = _fit_layers(run, rows, settings, n_jobs)
    results = Results(run.results)
    results.write(
        _summary(run, settings, counts, worst(ledgers), rows, [fit.score for fit in fits]),
        [fit.score for fit in fits],
        _probe_arrays(fits),
        {
            "rows": rows.row[rows.test],
            "label": rows.label[rows.test],
            "predicted": np.stack([fit.predicted for fit in fits]),
        },
    )
    return results


def usable_jobs(asked: int) -> int:
    """As many workers as were asked for and this host has cores."""
    return max(1, min(asked, int(joblib.cpu_count())))


def split_rows(samples: Sequence[Sample], usable: Sequence[int], settings: Settings) -> Rows:
    """Choose training and test rows so that no group has rows in both.

    The dataset's own split where it has one (test, else val, is held out), else a stratified
    split by group. Raises ProbeError where that cannot be done.
    """
    chosen = [samples[row] for row in usable]
    label = np.array([sample.label for sample in chosen])
    group = np.array([sample.group for sample in chosen])
    split = np.array([sample.split for sample in chosen])
    if (split == "").all():
        n_folds = round(1 / settings.test_fraction)
        train, test = group_folds(label, group, n_folds, settings.seed)[0]
        words = f"{1 - settings.test_fraction:.0%}/{settings.test_fraction:.0%} by group"
    else:
        train, test, words = _own_split(split, group)
    _check_labels(label, train, test)
    folds = group_folds(label[train], group[train], settings.folds, settings.seed)
    return Rows(np.asarray(usable, dtype=np.intp), label, group, train, test, tuple(folds), words)


def group_folds(
    label: NDArray[np.str_], group: NDArray[np.str_], n_folds: int, seed: int
) -> list[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """(fit, judge) index pairs, stratified by label; a group is on one side of each pair."""
    smallest = min((len(set(group[label == one])), one) for one in sorted(set(label)))
    if smallest[0] < n_folds:
        raise ProbeError(
            f"label {str(smallest[1])!r} has {smallest[0]} groups, too few for {n_folds} folds; "
            "use more samples or fewer --folds"
        )
    folds = StratifiedGroupKFold(n_folds, shuffle=True, random_state=seed)
    return list(folds.split(np.zeros(len(label)), label, group))


def fit_layer(store: Store, layer: int, rows: Rows, settings: Settings) -> LayerFit:
    """Fit one layer's probe on the training rows and score it on the test rows.

    Inner threads are held to one: workers share the cores, and results do not depend on n_jobs.
    """
    with threadpool_limits(1):
        states = np.asarray(store.layer(layer)[rows.row], dtype=np.float64)
        if not np.isfinite(states).all():
            raise ProbeError(f"layer {layer} holds values that are not finite; extract it again")
        train, test = states[rows.train], states[rows.test]
        label_train, label_test = rows.label[rows.train], rows.label[rows.test]
        judged, n_not_converged = _judge_folds(train, label_train, rows, settings)
        probe = _new_probe(settings).fit(train, label_train)
        predicted = probe.predict(test)
    n_binary = len(probe.classes_) if len(probe.classes_) > 2 else 1
    score = LayerScore(
        layer=layer,
        accuracy=float(accuracy_score(label_test, predicted)),
        macro_f1=float(f1_score(label_test, predicted, average="macro", zero_division=0.0)),
        chance=_chance(label_train, label_test),
        cv_accuracy=judged,
        per_class=_per_class(label_test, predicted),
        n_train=len(train),
        n_test=len(test),
        n_fits=n_binary * (1 + len(rows.folds)),
        n_not_converged=n_not_converged + probe.n_not_converged_,
    )
    return LayerFit(score, probe, predicted)


def load_probe(results: Path, layer: int) -> LinearProbe:
    """The saved probe of one layer: `load_probe(folder, 12).predict(states [sample, hidden])`.

    Raises RunError if there are no results, ProbeError if they hold no such layer.
    """
    settings = Results(results).summary()["settings"]
    arrays = Results(results).arrays("probes")
    found = np.flatnonzero(arrays["layers"] == layer)
    if not len(found):
        raise ProbeError(f"{results}: holds no layer {layer}; it has {len(arrays['layers'])}")
    probe: LinearProbe = PROBES.load(settings["probe"])()
    probe.classes_ = arrays["classes"]
    for name in ("mean", "scale", "coef", "intercept"):
        setattr(probe, f"{name}_", arrays[name][found[0]])
    return probe


def _fit_layers(run: Run, rows: Rows, settings: Settings, n_jobs: int) -> list[LayerFit]:
    n_layers = run.plan.n_layers
    fits: list[LayerFit] = []
    with progress(f"probe {run.name}", "layers", n_layers) as advance:
        for fit in Parallel(n_jobs=n_jobs, return_as="generator")(
            delayed(fit_layer)(run.store, layer, rows, settings) for layer in range(n_layers)
        ):
            fits.append(fit)
            advance(1)
    return fits


def _usable(run: Run, ledgers: Sequence[Ledger], partial: bool) -> tuple[dict[str, int], list[int]]:
    counts = {
        "planned": run.plan.n_samples,
        "done": sum(len(ledger.done) for ledger in ledgers),
        "failed": sum(len(ledger.failed) for ledger in ledgers),
        "missing": sum(ledger.n_missing for ledger in ledgers),
    }
    if counts["done"] < counts["planned"] and not partial:
        raise RunError(
            f"run {run.name}: {counts['missing']} rows are missing and {counts['failed']} failed "
            f"of {counts['planned']}; extract them, or leave them out with --partial"
        )
    return counts, sorted(row for ledger in ledgers for row in ledger.done)


def _own_split(
    split: NDArray[np.str_], group: NDArray[np.str_]
) -> tuple[NDArray[np.intp], NDArray[np.intp], str]:
    if (split == "").any():
        raise ProbeError(
            f"{int((split == '').sum())} of {len(split)} rows have no split; "
            "give every record of the dataset a `split`, or none"
        )
    held_out = "test" if (split == "test").any() else "val"
    train, test = np.flatnonzero(split != held_out), np.flatnonzero(split == held_out)
    straddling = set(group[train]) & set(group[test])
    if straddling:
        raise ProbeError(
            f"{len(straddling)} groups have rows in train and in {held_out}, {str(min(straddling))!r} "
            "among them; mend the dataset's `split`"
        )
    return train, test, f"the dataset's own, {held_out} held out"


def _check_labels(label: NDArray[np.str_], train: NDArray[np.intp], test: NDArray[np.intp]) -> None:
    if not len(train) or not len(test):
        raise ProbeError(f"{len(train)} training and {len(test)} test rows; a probe needs both")
    if len(set(label[train])) < 2:
        raise ProbeError(
            f"the training rows have one label, {str(label[train][0])!r}; a probe needs two"
        )
    unseen = set(label[test]) - set(label[train])
    if unseen:
        raise ProbeError(f"test label {str(min(unseen))!r} is on no training row; mend the split")


def _new_probe(settings: Settings) -> LinearProbe:
    probe: LinearProbe = PROBES.load(settings.probe)(C=settings.C, max_iter=settings.max_iter)
    return probe


def _judge_folds(
    states: NDArray[np.floating], label: NDArray[np.str_], rows: Rows, settings: Settings
) -> tuple[float, int]:
    """Mean accuracy over the folds of the training rows, and how many fits did not converge."""
    accuracies, n_not_converged = [], 0
    for fit, judge in rows.folds:
        probe = _new_probe(settings).fit(states[fit], label[fit])
        accuracies.append(accuracy_score(label[judge], probe.predict(states[judge])))
        n_not_converged += probe.n_not_converged_
    return float(np.mean(accuracies)), n_not_converged


def _chance(train: NDArray[np.str_], test: NDArray[np.str_]) -> float:
    commonest = Counter(train.tolist()).most_common(1)[0][0]
    return float(np.mean(test == commonest))


def _per_class(label: NDArray[np.str_], predicted: NDArray[np.str_]) -> dict[str, float]:
    names = sorted(set(label.tolist()))
    shares = recall_score(label, predicted, labels=names, average=None, zero_division=0.0)
    return dict(zip(names, map(float, shares), strict=True))


def _probe_arrays(fits: Sequence[LayerFit]) -> dict[str, NDArray[Any]]:
    stacked = {
        name: np.stack([getattr(fit.probe, f"{name}_") for fit in fits])
        for name in ("mean", "scale", "coef", "intercept")
    }
    layers = np.array([fit.score.layer for fit in fits])
    return {"classes": fits[0].probe.classes_, "layers": layers, **stacked}


def _summary(
    run: Run,
    settings: Settings,
    counts: dict[str, int],
    batching: Worst | None,
    rows: Rows,
    scores: Sequence[LayerScore],
) -> dict[str, Any]:
    best = best_layer(scores)
    return {
        "run": run.name,
        "plan": run.plan.model_dump(mode="json"),
        "rows": {**counts, "used": len(rows.row), "train": len(rows.train), "test": len(rows.test)},
        "batching": None if batching is None else asdict(batching),
        "split": rows.split,
        "settings": asdict(settings),
        "chance": best.chance,
        "best_layer": best.layer,
        "best_layer_accuracy": best.accuracy,
        "n_fits": sum(score.n_fits for score in scores),
        "n_not_converged": sum(score.n_not_converged for score in scores),
    }
