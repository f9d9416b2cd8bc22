"""`vsp probe`: a probe for each layer, in parallel, scored on rows it was not fitted on.

A layer is kept as soon as it is fitted (`parts`); results are always merged from what is kept, so
they are the same whether one command fitted all layers, several did, or one that was killed.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import scipy
import sklearn
from joblib import Parallel, delayed
from joblib.externals.loky.process_executor import TerminatedWorkerError
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, f1_score, recall_score
from sklearn.model_selection import StratifiedGroupKFold
from threadpoolctl import threadpool_limits

from vsp import __version__
from vsp.errors import ProbeError, RunError
from vsp.journal import Ledger, Worst, worst
from vsp.manifest import Sample
from vsp.parts import LayerFit, Parts
from vsp.probes import PROBES, LinearProbe
from vsp.progress import progress
from vsp.results import LayerScore, Results, best_layer
from vsp.run import Run
from vsp.store import Store

_PARTS = 1  # raise it when `fit_layer` gives something else for the same rows and settings
_STACKED = ("mean", "scale", "coef", "intercept")  # arrays of a probe that differ by layer
_REASONS = 10  # of failed rows, in the summary


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
class Work:
    """What there is to fit, and where the fits are kept."""

    run: Run
    settings: Settings
    counts: dict[str, int]  # rows planned, done, failed and missing
    failed_reasons: dict[str, int]  # the commonest first
    batching: Worst | None
    rows: Rows
    parts: Parts


def probe_run(run: Run, settings: Settings, n_jobs: int, partial: bool = False) -> Results:
    """Fit and score every layer of the run that is not kept yet, and write `results/RUN/`.

    Raises RunError if rows are missing or failed, unless `partial` leaves them out; ProbeError if
    the rows that remain cannot be split or fitted; DiskError if something cannot be written.
    """
    work = _prepare(run, settings, partial)
    layers = range(run.plan.n_layers)
    _fit_missing(work, layers, n_jobs)
    fits = [_kept(work.parts, layer) for layer in layers]
    results = Results(run.results)
    scores, rows = [fit.score for fit in fits], work.rows
    results.write(
        _summary(work, scores),
        scores,
        _probe_arrays(fits),
        {
            "rows": rows.row[rows.test],
            "label": rows.label[rows.test],
            "predicted": np.stack([fit.predicted for fit in fits]),
        },
    )
    return results


def probe_part(
    run: Run, settings: Settings, n_jobs: int, part: tuple[int, int], partial: bool = False
) -> tuple[range, Path]:
    """Fit the layers of the k-th of n parts that are not kept yet; `probe_run` then finds them.

    Returns the layers and the folder that keeps them. Raises as `probe_run` does.
    """
    layers = part_layers(run.plan.n_layers, *part)
    work = _prepare(run, settings, partial)
    _fit_missing(work, layers, n_jobs)
    return layers, work.parts.folder


def part_layers(n_layers: int, k: int, n: int) -> range:
    """The k-th (from 0) of n contiguous, nearly equal parts of the layers; perhaps none."""
    return range(k * n_layers // n, (k + 1) * n_layers // n)


def usable_jobs(asked: int) -> int:
    """As many workers as were asked for and this host has cores."""
    return max(1, min(asked, int(joblib.cpu_count())))


def split_rows(samples: Sequence[Sample], usable: Sequence[int], settings: Settings) -> Rows:
    """Choose training and test rows so that no group has rows in both.

    The dataset's own split where it has one (test, else val, is held out), else a stratified
    split by group. Raises ProbeError where that cannot be done.
    """
    if not len(usable):
        raise ProbeError(f"none of {len(samples)} rows is done; a probe needs some: extract them")
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
    arrays = {name: getattr(probe, f"{name}_") for name in ("classes", *_STACKED)}
    return LayerFit(score, arrays, predicted)


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
    for name in _STACKED:
        setattr(probe, f"{name}_", arrays[name][found[0]])
    return probe


def _prepare(run: Run, settings: Settings, partial: bool) -> Work:
    ledgers = run.ledgers()
    counts = _counts(run, ledgers, partial)
    usable = np.concatenate([ledger.rows_done for ledger in ledgers])
    rows = split_rows(run.all_samples(), usable.tolist(), settings)
    run.store.check()
    crc32 = np.concatenate([ledger.crc32_done for ledger in ledgers])
    parts = Parts(_home(run) / "probe" / fits_key(run, settings, rows, crc32))
    return Work(run, settings, counts, _reasons(ledgers), worst(ledgers), rows, parts)


def fits_key(run: Run, settings: Settings, rows: Rows, crc32: NDArray[np.uint32]) -> str:
    """Stands for everything that decides a fit: states, labels, splits, settings, versions."""
    decides = {
        "format": _PARTS,
        "versions": [__version__, sklearn.__version__, np.__version__, scipy.__version__],
        "plan": run.plan.id,
        "settings": asdict(settings),
        "split": rows.split,
    }
    digest = hashlib.sha256(json.dumps(decides).encode())
    folds = [side for fold in rows.folds for side in fold]
    arrays: list[NDArray[Any]] = [rows.row, crc32, rows.label, rows.group, rows.train, rows.test]
    for array in (*arrays, *folds):
        digest.update(f"{array.dtype.str} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).view(np.uint8).data)
    return digest.hexdigest()[:16]


def _home(run: Run) -> Path:
    """Where fits are kept: with the run, or with the results where the run is read-only."""
    if os.access(run.folder, os.W_OK):
        return run.folder
    _note(f"{run.folder} is read-only; fitted layers are kept in {run.results}")
    return run.results


def _fit_missing(work: Work, layers: range, n_jobs: int) -> None:
    pending = [layer for layer in layers if not _is_kept(work.parts, layer)]
    if len(pending) < len(layers):
        n_kept = len(layers) - len(pending)
        _note(f"{n_kept} of {len(layers)} layers were fitted before; kept in {work.parts.folder}")
    if not pending:
        return
    fits = Parallel(n_jobs=n_jobs, return_as="generator_unordered")(
        delayed(_fit_and_keep)(work.run.store, layer, work.rows, work.settings, work.parts)
        for layer in pending
    )
    with progress(f"probe {work.run.name}", "layers", len(pending)) as advance:
        try:
            for _ in fits:
                advance(1)
        except TerminatedWorkerError:
            raise RunError(
                f"run {work.run.name}: a worker process was killed, as a rule for want of memory; "
                f"run the same command with fewer than --n-jobs {n_jobs}, fitted layers are kept"
            ) from None


def _fit_and_keep(store: Store, layer: int, rows: Rows, settings: Settings, parts: Parts) -> None:
    parts.write(fit_layer(store, layer, rows, settings))


def _is_kept(parts: Parts, layer: int) -> bool:
    try:
        return parts.read(layer) is not None
    except RunError:
        _note(f"{parts.path(layer)} is damaged; it is removed and the layer fitted again")
        parts.remove(layer)
        return False


def _kept(parts: Parts, layer: int) -> LayerFit:
    fit = parts.read(layer)
    if fit is None:
        raise RunError(f"{parts.path(layer)}: was removed meanwhile; run the same command again")
    return fit


def _note(text: str) -> None:
    print(f"note: {text}", file=sys.stderr, flush=True)


def _counts(run: Run, ledgers: Sequence[Ledger], partial: bool) -> dict[str, int]:
    counts = {
        "planned": run.plan.n_samples,
        "done": sum(ledger.n_done for ledger in ledgers),
        "failed": sum(ledger.n_failed for ledger in ledgers),
        "missing": sum(ledger.n_missing for ledger in ledgers),
    }
    assert counts["planned"] == counts["done"] + counts["failed"] + counts["missing"], counts
    if counts["done"] < counts["planned"] and not partial:
        raise RunError(
            f"run {run.name}: {counts['missing']} rows are missing and {counts['failed']} failed "
            f"of {counts['planned']}; extract them, or leave them out with --partial"
        )
    return counts


def _reasons(ledgers: Sequence[Ledger]) -> dict[str, int]:
    """Why rows failed, and how many of them; the commonest reasons first, and not the rare ones."""
    counted = Counter(why for ledger in ledgers for why in ledger.failed.values())
    return dict(sorted(counted.items(), key=lambda one: (-one[1], one[0]))[:_REASONS])


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
    stacked = {name: np.stack([fit.probe[name] for fit in fits]) for name in _STACKED}
    layers = np.array([fit.score.layer for fit in fits])
    return {"classes": fits[0].probe["classes"], "layers": layers, **stacked}


def _summary(work: Work, scores: Sequence[LayerScore]) -> dict[str, Any]:
    best, rows = best_layer(scores), work.rows
    used = {"used": len(rows.row), "train": len(rows.train), "test": len(rows.test)}
    return {
        "run": work.run.name,
        "plan": work.run.plan.model_dump(mode="json"),
        "rows": {**work.counts, **used},
        "failed_reasons": work.failed_reasons,
        "batching": None if work.batching is None else asdict(work.batching),
        "split": rows.split,
        "settings": asdict(work.settings),
        "chance": best.chance,
        "best_layer": best.layer,
        "best_layer_accuracy": best.accuracy,
        "n_fits": sum(score.n_fits for score in scores),
        "n_not_converged": sum(score.n_not_converged for score in scores),
    }
