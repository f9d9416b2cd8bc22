"""Rows, splits and estimator of a probe run, prepared before any layer is fitted."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy
import sklearn
from numpy.typing import NDArray

from vsp import __version__
from vsp.errors import ProbeError, RunError
from vsp.evaluation.controls import control_labels, permuted_labels
from vsp.evaluation.design import make_design, training_portions
from vsp.evaluation.equal_states import count_equal_states
from vsp.evaluation.fit_cache import FitCache
from vsp.evaluation.layer_fits import LayerTasks
from vsp.evaluation.probe_settings import NO_FIT_SETTINGS, ProbeSettings
from vsp.probes import PROBES
from vsp.probes.base import ProbeBase, check_scale
from vsp.storage.ledger import BatchEffect, Ledger, failure_of_all, largest_batch_effect
from vsp.storage.manifest import Sample
from vsp.storage.npz import MAX_ARRAYS
from vsp.storage.run import Run

_log = logging.getLogger(__name__)

_CACHE_FORMAT = 3  # increase it if the arrays of a layer change for the same rows and settings
_MIN_LIMIT = 1 << 28  # bytes of a fitted layer, however few rows there are
_N_REASONS = 10  # reasons of failed rows in the summary


@dataclass(frozen=True, slots=True)
class ProbedRows:
    """The rows that take part, each array [row]."""

    row: NDArray[np.intp]  # in the store
    id: NDArray[np.str_]
    label: NDArray[np.str_]
    group: NDArray[np.str_]
    prompt: NDArray[np.str_]
    split: NDArray[np.str_]


@dataclass(frozen=True, slots=True)
class ProbeWork:
    """Everything that is fitted, and the cache of the fits."""

    run: Run
    settings: ProbeSettings
    probe: ProbeBase
    counts: dict[str, int]  # rows planned, done, failed and missing
    dropped_labels: dict[str, int]  # rows left out by their label
    failed_reasons: dict[str, int]  # the most common first
    batching: BatchEffect | None
    rows: ProbedRows
    names: tuple[str, ...]  # of the classes; empty if the target is a number
    tasks: LayerTasks
    cache: FitCache
    n_equal_states: int  # test rows with the states of a training row about another image


def prepare(run: Run, settings: ProbeSettings, partial: bool) -> ProbeWork:
    """Read labels and journals, make the splits, and configure the estimator.

    Raises RunError if rows are missing or failed and `partial` is false, ProbeError if the rows
    cannot be split.
    """
    ledgers = run.ledgers()
    counts = _row_counts(run, ledgers, partial)
    probe = _estimator(settings)
    done = np.concatenate([ledger.rows_done for ledger in ledgers])
    samples = run.all_samples()
    kept, dropped = _without_labels(samples, done, settings.drop_labels)
    rows = _probed_rows(samples, done[kept])
    tasks, names = _layer_tasks(rows, settings, probe)
    run.store.check()
    crc32 = np.concatenate([ledger.crc32_done for ledger in ledgers])[kept]
    folder = _cache_home(run) / "probe" / fits_key(run, settings, rows, crc32)
    cache = FitCache(folder, _most_bytes(run.plan.hidden_size, tasks, len(names)))
    n_equal = count_equal_states(run, samples, rows.row, crc32, tasks.design)
    return ProbeWork(
        run, settings, probe, counts, dropped, _failed_reasons(ledgers), largest_batch_effect(ledgers), rows, names, tasks,
        cache, n_equal,
    )  # fmt: skip


def fits_key(run: Run, settings: ProbeSettings, rows: ProbedRows, crc32: NDArray[np.uint32]) -> str:
    """Hash of everything that influences a fit: states, labels, groups, settings, versions."""
    values = {
        "format": _CACHE_FORMAT,
        "versions": [__version__, sklearn.__version__, np.__version__, scipy.__version__],
        "plan": run.plan.id,
        "settings": {k: v for k, v in asdict(settings).items() if k not in NO_FIT_SETTINGS},
    }
    digest = hashlib.sha256(json.dumps(values).encode())
    arrays: list[NDArray[Any]] = [rows.row, crc32, rows.label, rows.group, rows.prompt, rows.split]
    for array in arrays:
        digest.update(f"{array.dtype.str} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).view(np.uint8).data)
    return digest.hexdigest()[:16]


def _most_bytes(hidden_size: int, tasks: LayerTasks, n_classes: int) -> int:
    """Far more bytes than the file of a fitted layer takes."""
    predictions = tasks.design.test_split.size * (n_classes + 2)  # index, probabilities
    estimates = len(tasks.permuted) + len(tasks.control) + len(tasks.portions)
    values = predictions + hidden_size * (n_classes + 2) + estimates * (n_classes + 2)
    return min(MAX_ARRAYS, _MIN_LIMIT + 64 * values)


def _estimator(settings: ProbeSettings) -> ProbeBase:
    probe: ProbeBase = PROBES.load(settings.probe)()
    if settings.strengths and not probe.strength_name:
        raise ProbeError(f"probe {settings.probe} has no strength to choose; leave out --grid")
    return probe.configure(settings.treatment, settings.tolerance, settings.max_iter, settings.seed)


def _without_labels(
    samples: Sequence[Sample], done: NDArray[np.intp], labels: Sequence[str]
) -> tuple[NDArray[np.bool_], dict[str, int]]:
    """A mask [row done] of the rows without these labels, and the number of rows of each label.

    Raises ProbeError if no row has one of the labels, or if no row is left.
    """
    if not labels or not len(done):
        return np.ones(len(done), dtype=np.bool_), {}
    of_row = np.array([samples[row].label for row in done.tolist()])
    dropped = {label: int((of_row == label).sum()) for label in dict.fromkeys(labels)}
    unused = [label for label, n in dropped.items() if not n]
    if unused:
        known = ", ".join(dict.fromkeys(of_row.tolist()))
        raise ProbeError(f"--drop-label {unused[0]}: no row has this label; the labels are {known}")
    kept = ~np.isin(of_row, labels)
    if not kept.any():
        raise ProbeError(f"--drop-label leaves none of {len(done)} rows; leave out fewer labels")
    return kept, dropped


def _probed_rows(samples: Sequence[Sample], done: NDArray[np.intp]) -> ProbedRows:
    if not len(done):
        raise ProbeError(f"none of {len(samples)} rows is extracted; run `vsp extract` first")
    chosen = [samples[row] for row in done.tolist()]
    fields = ("id", "label", "group", "prompt", "split")
    return ProbedRows(
        np.asarray(done, np.intp), *(np.array([getattr(s, f) for s in chosen]) for f in fields)
    )


def _layer_tasks(
    rows: ProbedRows, settings: ProbeSettings, probe: ProbeBase
) -> tuple[LayerTasks, tuple[str, ...]]:
    """The targets and splits, and the names of the classes."""
    y, names = _targets(rows, probe)
    design = make_design(
        y, rows.group, rows.split, settings.folds, settings.repeats, settings.seed, names
    )
    permuted, _ = permuted_labels(
        y, rows.group, design.blocks, settings.permutations, settings.seed
    )
    control = control_labels(rows.prompt, y, settings.controls, settings.seed)
    if control is None:
        control = np.empty((0, len(y)), y.dtype)
    portions: Sequence[NDArray[np.bool_]] = ()
    if settings.curve:
        train = design.train_sets[design.outer[0].train_set]
        portions = training_portions(y, rows.group, train, settings.seed)
    strengths: tuple[float, ...] = ()
    if probe.strength_name:
        strengths = tuple(sorted({*(settings.strengths or probe.default_grid)}))
    return LayerTasks(y, design, strengths, permuted, control, tuple(portions)), names


def _targets(rows: ProbedRows, probe: ProbeBase) -> tuple[NDArray[Any], tuple[str, ...]]:
    """Class indices and the class names, or numbers."""
    if probe.target == "number":
        return _numbers(rows), ()
    names, y = np.unique(rows.label, return_inverse=True)
    return y, tuple(map(str, names))


def _numbers(rows: ProbedRows) -> NDArray[np.float64]:
    for label in np.unique(rows.label).tolist():
        try:
            float(label)
        except ValueError:
            raise ProbeError(
                f"label {label!r} is not a number, which this probe needs; use --probe logistic"
            ) from None
    numbers = rows.label.astype(np.float64)
    if np.isfinite(numbers).all():  # others are counted when folds are made
        check_scale(numbers)
    return numbers


def _cache_home(run: Run) -> Path:
    """The run's folder, or its results folder if the run is read-only."""
    if os.access(run.folder, os.W_OK):
        return run.folder
    _log.info("%s is read-only; fitted layers are kept in %s", run.folder, run.results)
    return run.results


def _row_counts(run: Run, ledgers: Sequence[Ledger], partial: bool) -> dict[str, int]:
    counts = {
        "planned": run.plan.n_samples,
        "done": sum(ledger.n_done for ledger in ledgers),
        "failed": sum(ledger.n_failed for ledger in ledgers),
        "missing": sum(ledger.n_missing for ledger in ledgers),
    }
    assert counts["planned"] == counts["done"] + counts["failed"] + counts["missing"], counts
    failure = failure_of_all(ledgers)
    if failure:
        raise RunError(f"run {run.name}: {failure}")
    if counts["done"] < counts["planned"] and not partial:
        raise RunError(
            f"run {run.name}: {counts['missing']} rows are missing and {counts['failed']} failed "
            f"of {counts['planned']}; extract them, or leave them out with --partial"
        )
    return counts


def _failed_reasons(ledgers: Sequence[Ledger]) -> dict[str, int]:
    """The most common reasons of failed rows, with the number of rows, most common first."""
    counts = Counter(reason for ledger in ledgers for reason in ledger.failed.values())
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:_N_REASONS])
