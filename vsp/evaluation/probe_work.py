"""Rows, splits and estimator of a probe run, prepared before any layer is fitted."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import scipy
import sklearn
from numpy.typing import NDArray

from vsp import __version__
from vsp.choices import AnswerScore
from vsp.datasets.scarce_labels import why_unused
from vsp.datasets.splitting import integer_codes
from vsp.errors import ProbeError, RunError
from vsp.evaluation.answers import RowOptions
from vsp.evaluation.baseline_features import FEATURES, RANDOM_FEATURES
from vsp.evaluation.configured_probe import configured_probe, plain_probe
from vsp.evaluation.control_tasks import control_tasks
from vsp.evaluation.controls import permuted_labels, shuffled_labels
from vsp.evaluation.design import Design, is_constant, make_design
from vsp.evaluation.equal_states import count_equal_states
from vsp.evaluation.fit_cache import FitCache
from vsp.evaluation.held_out import HeldOut, independent_units
from vsp.evaluation.layer_fits import LayerTasks
from vsp.evaluation.metrics import METRICS, R_SQUARED, Metric, label_shares
from vsp.evaluation.online_code import Portions
from vsp.evaluation.probe_settings import (
    NO_FIT_SETTINGS,
    ProbeSettings,
    setting_name,
    used_settings,
)
from vsp.evaluation.probed_rows import ProbedRows
from vsp.evaluation.resampled_training import N_RESAMPLES, group_resamples
from vsp.evaluation.row_identity import RowIdentity
from vsp.evaluation.run_options import options_of_run
from vsp.evaluation.scores import are_numbers
from vsp.evaluation.within_words import within_prompts
from vsp.probes.base import ProbeBase, check_scale
from vsp.probes.own_code import probe_title
from vsp.storage.array import Store
from vsp.storage.ledger import BatchEffect, Ledger, failure_of_all, largest_batch_effect
from vsp.storage.manifest import Sample
from vsp.storage.npz import MAX_ARRAYS
from vsp.storage.run import Run
from vsp.storage.untrained import find_untrained

_log = logging.getLogger(__name__)

_CACHE_FORMAT = 6  # increase it if the arrays of a layer change for the same rows and settings
_MIN_LIMIT = 1 << 28  # bytes of a fitted layer, however few rows there are
_N_REASONS = 10  # reasons of failed rows in the summary
_N_ERASURES = 5  # random subspaces beside erased states
_RARE = 0.5  # of its share among equally common labels; a rarer label asks for balanced accuracy


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
    facts: dict[str, Any]  # of the tasks, for the summary
    n_equal_states: int  # test rows with the states of a training row about another image
    untrained: str  # name of the results of the untrained model; empty if there are none
    options: RowOptions | None  # of `rows`; None: the run stores no answers
    identity: RowIdentity  # of `rows`

    @property
    def store(self) -> Store:
        """The states that the probes read."""
        return self.run.states(self.settings.position)

    @property
    def unit(self) -> NDArray[np.str_]:
        """Group or name pair [row], whichever is independent of the others."""
        return independent_units(self.settings.split_by, self.rows)

    @property
    def baselines(self) -> list[str]:
        """Names of the baselines that are fitted like layers."""
        wanted = dict.fromkeys(FEATURES, self.settings.words)
        wanted[RANDOM_FEATURES] = self.settings.random and not self.untrained
        hidden_size = self.store.layout.hidden_size
        return [
            name
            for name, features in FEATURES.items()
            if wanted[name] and features.exist(self.rows, hidden_size)
        ]

    def features(self, name: str) -> NDArray[np.floating]:
        """Features [row, feature] of a baseline."""
        return FEATURES[name].make(self.rows, self.store.layout.hidden_size, self.settings.seed)


def prepare(run: Run, settings: ProbeSettings, partial: bool) -> ProbeWork:
    """Read labels and journals, make the splits, and configure the estimator.

    Raises RunError if rows are missing or failed and `partial` is false, ProbeError if the rows
    cannot be split.
    """
    run.states(settings.position)  # before anything is read
    ledgers = run.ledgers()
    counts = _row_counts(run, ledgers, partial)
    done = np.concatenate([ledger.rows_done for ledger in ledgers])
    samples = run.all_samples()
    kept, dropped = _without_labels(samples, done, settings.drop_labels)
    rows = ProbedRows.of(samples, done[kept])
    tasks, names, facts = _layer_tasks(rows, settings, plain_probe(settings))
    if tasks.design.n_folds > 1:  # intervals of folds are about other training rows anyway
        settings = replace(settings, over_training=False)
    probe = configured_probe(settings, tasks.metric)
    options = options_of_run(run, samples, rows.row, settings.position)
    _check_answer_score(settings.answer_score, options)
    store, number = run.states(settings.position), run.number_of_states(settings.position)
    store.check()
    crc32 = np.concatenate([ledger.crc32_done(number) for ledger in ledgers])[kept]
    folder = _cache_home(run) / "probe" / fits_key(run, settings, rows, crc32)
    untrained = find_untrained(run.results, setting_name(settings), settings.position, run.plan)
    cache = FitCache(folder, _most_bytes(store.layout.hidden_size, tasks, len(names)))
    n_equal = count_equal_states(run.plan, store, samples, rows.row, crc32, tasks.design)
    return ProbeWork(
        run, settings, probe, counts, dropped, _failed_reasons(ledgers), largest_batch_effect(ledgers), rows, names, tasks,
        cache, facts, n_equal, "" if untrained is None else untrained.name,
        options, RowIdentity.of(samples[row] for row in rows.row.tolist()).with_common_images(),
    )  # fmt: skip


def _check_answer_score(score: AnswerScore, options: RowOptions | None) -> None:
    """Raise ProbeError if the score needs a prior and there is none."""
    if options is not None and options.scores(score) is None:
        raise ProbeError(
            f"--answer-score {score}: {options.prior_source}; use another --answer-score"
        )


def check_settings(settings: ProbeSettings, labels: Sequence[str]) -> None:
    """Raise a VspError for what `prepare` would refuse for every run with these labels."""
    probe = plain_probe(settings)
    if probe.target == "number":
        _check_numbers(labels)
        y: NDArray[Any] = np.zeros(2)
    else:
        y = np.array([0, 1])
    configured_probe(settings, chosen_metric(settings.metric, y))
    why = why_unused(settings.drop_labels, dict.fromkeys(labels)) if settings.drop_labels else ""
    if why:
        raise ProbeError(why)


def fits_key(run: Run, settings: ProbeSettings, rows: ProbedRows, crc32: NDArray[np.uint32]) -> str:
    """Hash of everything that influences a fit: states, labels, groups, settings, versions."""
    used = {k: v for k, v in used_settings(settings).items() if k not in NO_FIT_SETTINGS}
    values = {
        "format": _CACHE_FORMAT,
        "versions": [__version__, sklearn.__version__, np.__version__, scipy.__version__],
        "plan": run.plan.id,
        # A file of the user is known by its content, not by its folder.
        "settings": used | {"probe": probe_title(settings.probe)},
    }
    digest = hashlib.sha256(json.dumps(values).encode())
    for array in (crc32, *rows.arrays):
        digest.update(f"{array.dtype.str} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).view(np.uint8).data)
    return digest.hexdigest()[:16]


def _most_bytes(hidden_size: int, tasks: LayerTasks, n_classes: int) -> int:
    """Far more bytes than the file of a fitted layer takes."""
    predictions = tasks.design.test_split.size * (n_classes + 2)  # index, probabilities
    estimates = 2 * len(tasks.permuted) + (
        0 if tasks.portions is None else tasks.portions.n_rows.size
    )
    estimates += (2 + len(tasks.controls)) * tasks.design.test_split.size
    n_probes = 1 + len(tasks.design.outer)
    values = predictions + n_probes * hidden_size * (n_classes + 2) + estimates * (n_classes + 2)
    return min(MAX_ARRAYS, _MIN_LIMIT + 64 * values)


def _without_labels(
    samples: Sequence[Sample], done: NDArray[np.intp], labels: Sequence[str]
) -> tuple[NDArray[np.bool_], dict[str, int]]:
    """A mask [row done] of the rows without these labels, and the number of rows of each label.

    Raises ProbeError if no row has one of the labels, or if no row is left.
    """
    if not labels or not len(done):
        return np.ones(len(done), dtype=np.bool_), {}
    of_row = np.array([samples[row].label for row in done.tolist()])
    why = why_unused(labels, dict.fromkeys(of_row.tolist()))
    if why:
        raise ProbeError(why)
    dropped = {label: int((of_row == label).sum()) for label in dict.fromkeys(labels)}
    kept = ~np.isin(of_row, labels)
    if not kept.any():
        raise ProbeError(f"--drop-label leaves none of {len(done)} rows; leave out fewer labels")
    return kept, dropped


def _layer_tasks(
    rows: ProbedRows, settings: ProbeSettings, probe: ProbeBase
) -> tuple[LayerTasks, tuple[str, ...], dict[str, Any]]:
    """The targets and splits, the names of the classes, and facts for the summary.

    All that is drawn at random is drawn in the order of ids.
    """
    order = np.argsort(rows.id, kind="stable")
    y, names = _targets(rows, probe)
    metric = chosen_metric(settings.metric, y)
    tasks, facts = _tasks_by_id(rows.take(order), y[order], metric, settings, names)
    strengths: tuple[float, ...] = ()
    if probe.strength_name:
        strengths = tuple(sorted({*(settings.strengths or probe.default_grid)}))
    return replace(tasks.reordered(order), strengths=strengths), names, facts


def _tasks_by_id(
    rows: ProbedRows,
    y: NDArray[Any],
    metric: Metric,
    settings: ProbeSettings,
    names: Sequence[str],
) -> tuple[LayerTasks, dict[str, Any]]:
    """The tasks of rows in the order of ids, and facts for the summary."""
    seed, n = settings.seed, settings.permutations
    held_out = HeldOut.of(settings.split_by, rows)
    design = make_design(
        y, rows.group, rows.split, settings.folds, settings.repeats, seed, names, held_out
    )
    permuted, _ = permuted_labels(
        y, independent_units(settings.split_by, rows), design.blocks, n, seed
    )
    within, n_within = within_prompts(y, rows.prompt, design, n, seed)
    _check_metric(metric, y, design, names)
    train = design.train_sets[design.outer[0].train_set]
    resamples = None
    if settings.over_training and design.n_folds == 1:
        resamples = group_resamples(y, rows.group, train, N_RESAMPLES, seed)
    controls = control_tasks(rows, y, design, settings.controls, seed)
    has_curve = settings.curve and not settings.erase
    tasks = LayerTasks(
        y=y,
        design=design,
        metric=metric,
        strengths=(),
        permuted=permuted,
        within=within,
        group=integer_codes(rows.group),
        controls={name: one.labels for name, one in controls.items() if len(one.labels)},
        shuffled=shuffled_labels(y, settings.controls, seed),
        portions=Portions.draw(rows.group, train, seed) if has_curve else None,
        n_erasures=_N_ERASURES if settings.erase else 0,
        resamples=resamples,
    )
    return tasks, {
        "n_within": n_within,
        "controls": {name: one.facts for name, one in controls.items()},
        "capacity_chance": None if are_numbers(y) else float(label_shares(y, train).max()),
    }


def _check_metric(metric: Metric, y: NDArray[Any], design: Design, names: Sequence[str]) -> None:
    """Raise ProbeError if rows that are scored together have no pair that AUC compares."""
    if metric.degree == 1:
        return
    for outer in design.outer:
        for rows, whose in (
            (outer.test, "test"),
            *((one.validation, "validation") for one in outer.inner),
        ):
            if is_constant(y[rows]):
                raise ProbeError(
                    f"--metric auc: the {whose} rows have one label, {names[y[rows][0]]!r}; use "
                    "another --metric, or more samples"
                )


def chosen_metric(name: str, y: NDArray[Any]) -> Metric:
    """The metric of this name. Raises ProbeError if it is not one for these targets.

    The default is accuracy, or balanced accuracy if the rarest label has less than half of its
    share among equally common labels.
    """
    if are_numbers(y):
        if name != "auto":
            raise ProbeError(f"--metric {name} needs labels, not numbers; leave it out for R²")
        return R_SQUARED
    if name == "auto":
        counts = np.bincount(y)
        name = "balanced" if counts.min() < _RARE * len(y) / len(counts) else "accuracy"
    return METRICS[name]


def _targets(rows: ProbedRows, probe: ProbeBase) -> tuple[NDArray[Any], tuple[str, ...]]:
    """Class indices and the class names, or numbers."""
    if probe.target == "number":
        return _numbers(rows), ()
    names, y = np.unique(rows.label, return_inverse=True)
    return y, tuple(map(str, names))


def _check_numbers(labels: Iterable[str]) -> None:
    for label in labels:
        try:
            float(label)
        except ValueError:
            raise ProbeError(
                f"label {label!r} is not a number, which this probe needs; use --probe logistic"
            ) from None


def _numbers(rows: ProbedRows) -> NDArray[np.float64]:
    _check_numbers(np.unique(rows.label).tolist())
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
            f"of {counts['planned']}; {_mend(run, counts)}"
        )
    return counts


def _mend(run: Run, counts: Mapping[str, int]) -> str:
    """What to do about rows without states; --partial helps only if there are others."""
    partial = "leave them out with --partial"
    if run.plan.imported is not None:
        return partial
    failed = "" if counts["missing"] else " --retry-failed"
    extract = f"`vsp extract --run {shlex.quote(run.name)}{failed}` extracts them"
    return f"{extract}, or {partial}" if counts["done"] else extract


def _failed_reasons(ledgers: Sequence[Ledger]) -> dict[str, int]:
    """The most common reasons of failed rows, with the number of rows, most common first."""
    counts = Counter(reason for ledger in ledgers for reason in ledger.failed.values())
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:_N_REASONS])
