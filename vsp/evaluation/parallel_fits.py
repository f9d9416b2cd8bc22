"""Fitting of layers in parallel processes. Each layer is cached as soon as it is complete."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import joblib
from joblib import delayed
from joblib.externals.loky.process_executor import TerminatedWorkerError
from threadpoolctl import threadpool_limits

from vsp.errors import RunError
from vsp.evaluation.fit_cache import FitCache, Fitted
from vsp.evaluation.fit_costs import FitCosts, Speed, count_fits, format_costs, measure_speed
from vsp.evaluation.layer_fits import Arrays, StrengthChoice
from vsp.evaluation.merged_fits import choose_strengths, merge_pieces
from vsp.evaluation.named_fits import named
from vsp.evaluation.probe_work import ProbeWork
from vsp.evaluation.work_of_layer import counted_fitter, layer_fitter, tasks_of
from vsp.storage.array import Store
from vsp.utils.progress import progress
from vsp.utils.workers import worker_pool

_log = logging.getLogger(__name__)

_MAX_IDLE = 1.25  # divide layers if idle workers make the run longer by more than this factor
_MAX_DIVISIONS = 8  # jobs of one layer

_Pieces = dict[int, Arrays]  # by piece number


def usable_jobs(n_jobs: int) -> int:
    """The requested number of workers, at most one for each core."""
    return max(1, min(n_jobs, int(joblib.cpu_count())))


def fit_missing(work: ProbeWork, layers: Sequence[Fitted], n_jobs: int) -> None:
    """Fit and cache the layers that are not in the cache. Raises RunError if a worker is killed."""
    pending = [layer for layer in layers if not _is_cached(work.cache, layer)]
    if len(pending) < len(layers):
        n_cached = len(layers) - len(pending)
        what = "layers" if all(isinstance(one, int) for one in layers) else "layers and baselines"
        _log.info(
            "%d of %d %s were fitted before; kept in %s",
            n_cached, len(layers), what, work.cache.folder,
        )  # fmt: skip
    if not pending:
        return
    _log.info("%s", _costs_words(work, pending, n_jobs))
    try:
        n_divisions = _n_divisions(len(pending), n_jobs)
        if n_divisions > 1:
            _fit_divided(work, pending, n_jobs, n_divisions)
        else:
            jobs = (delayed(_fit_and_cache)(work.store, layer, work) for layer in pending)
            for _ in _run_jobs(work, "jobs", n_jobs, len(pending), jobs):
                pass
    except TerminatedWorkerError:
        raise RunError(
            f"run {work.run.name}: a worker process was killed, usually because memory ran out; "
            f"run the same command with fewer than --n-jobs {n_jobs}, fitted layers are kept"
        ) from None


def pending_costs(work: ProbeWork, layers: Sequence[Fitted], n_jobs: int) -> str:
    """The fits that `fit_missing` would do and the time that they take, in words."""
    pending = [layer for layer in layers if not _is_cached(work.cache, layer)]
    if not pending:
        return "fits: 0; all layers were fitted before"
    return _costs_words(work, pending, n_jobs)


def _costs_words(work: ProbeWork, pending: Sequence[Fitted], n_jobs: int) -> str:
    costs, speed = measured_costs(work, pending, n_jobs)
    return format_costs(costs, speed.seconds(costs, len(pending)), n_jobs, speed.at_most)


def measured_costs(
    work: ProbeWork, pending: Sequence[Fitted], n_jobs: int
) -> tuple[FitCosts, Speed]:
    """The fits of these layers, and their speed on one worker.

    A few real fits of the middle layer are timed.
    """
    costs = [count_fits(counted_fitter(layer, work)) for layer in pending]
    middle, total = pending[len(pending) // 2], sum(costs, FitCosts())
    with threadpool_limits(1), named(lambda: name_of_layer(middle)):
        fitter = layer_fitter(work.store, middle, work)
        return total, measure_speed(fitter, total, len(pending), n_jobs)


def fit_layer(store: Store, layer: Fitted, work: ProbeWork) -> Arrays:
    """All fits of a layer, in this process and one thread: workers share the cores."""
    with threadpool_limits(1), named(lambda: name_of_layer(layer)):
        fitter = layer_fitter(store, layer, work)
        tasks = fitter.tasks
        searched = [fitter.search(sets) for sets in tasks.search_pieces]
        choice = choose_strengths(tasks, searched)
        later = [fitter.run(piece, choice) for piece in tasks.later_pieces]
        return merge_pieces(tasks, work.probe, searched, choice, later)


def name_of_layer(layer: Fitted) -> str:
    return f"baseline {layer}" if isinstance(layer, str) else f"layer {layer}"


def read_cached(cache: FitCache, layer: Fitted) -> Arrays:
    """Arrays of a fitted layer. Raises RunError if its file is missing or damaged."""
    fit = cache.read(layer)
    if fit is None:
        raise RunError(f"{cache.path(layer)}: was removed meanwhile; run the same command again")
    return fit


def _is_cached(cache: FitCache, layer: Fitted) -> bool:
    try:
        return cache.read(layer) is not None
    except RunError:
        path = cache.path(layer)
        _log.info("%s is damaged; it is removed and the layer fitted again", path)
        cache.remove(layer)
        return False


def _n_divisions(n_layers: int, n_jobs: int) -> int:
    """Number of jobs for each layer, such that few workers are idle at the end."""
    for n in range(1, _MAX_DIVISIONS + 1):
        rounds = math.ceil(n_layers * n / n_jobs)
        if rounds * n_jobs <= _MAX_IDLE * n_layers * n:
            return n
    return _MAX_DIVISIONS


def _run_jobs(
    work: ProbeWork, unit: str, n_jobs: int, n: int, jobs: Iterator[Any]
) -> Iterator[Any]:
    """Results of the jobs in the order of completion."""
    with (
        progress(f"probe {work.run.name}", unit, n) as advance,
        worker_pool(n_jobs, "generator_unordered") as pool,
    ):
        for result in pool(jobs):
            yield result
            advance(1)


def _fit_and_cache(store: Store, layer: Fitted, work: ProbeWork) -> None:
    work.cache.write(layer, fit_layer(store, layer, work))


def _fit_divided(work: ProbeWork, layers: Sequence[Fitted], n_jobs: int, n_divisions: int) -> None:
    """Run the search pieces of all layers, then the later pieces; cache each complete layer."""
    tasks = {layer: tasks_of(layer, work) for layer in layers}
    n_search = {layer: len(tasks[layer].search_pieces) for layer in layers}
    n_later = {layer: len(tasks[layer].later_pieces) for layer in layers}
    searched: dict[Fitted, _Pieces] = {layer: {} for layer in layers}
    shares = _shares(n_search, n_divisions)
    jobs = _divided_jobs(_search, work, shares)
    for layer, pieces in _run_jobs(work, "searches", n_jobs, len(shares), jobs):
        searched[layer] |= pieces
    choices = {layer: choose_strengths(tasks[layer], _ordered(searched[layer])) for layer in layers}
    later: dict[Fitted, _Pieces] = {layer: {} for layer in layers}
    shares = _shares(n_later, n_divisions)
    jobs = _divided_jobs(_run_later, work, shares, choices)
    for layer, pieces in _run_jobs(work, "shares", n_jobs, len(shares), jobs):
        later[layer] |= pieces
        if len(later[layer]) == n_later[layer]:
            parts = _ordered(searched.pop(layer)), choices[layer], _ordered(later.pop(layer))
            work.cache.write(layer, merge_pieces(tasks[layer], work.probe, *parts))


def _shares(n_pieces: dict[Fitted, int], n_divisions: int) -> list[tuple[Fitted, range]]:
    """Layer and piece numbers of each job; each share of a layer mixes long and short pieces."""
    return [
        (layer, range(k, n, n_divisions))
        for layer, n in n_pieces.items()
        for k in range(min(n_divisions, n))
    ]


def _divided_jobs(
    function: Callable[..., tuple[Fitted, _Pieces]],
    work: ProbeWork,
    shares: Sequence[tuple[Fitted, range]],
    choices: dict[Fitted, StrengthChoice] | None = None,
) -> Iterator[Any]:
    store = work.store
    for layer, share in shares:
        choice = () if choices is None else (choices[layer],)
        yield delayed(function)(store, layer, work, share, *choice)


def _search(store: Store, layer: Fitted, work: ProbeWork, share: range) -> tuple[Fitted, _Pieces]:
    with threadpool_limits(1), named(lambda: name_of_layer(layer)):
        fitter = layer_fitter(store, layer, work)
        return layer, {i: fitter.search(fitter.tasks.search_pieces[i]) for i in share}


def _run_later(
    store: Store, layer: Fitted, work: ProbeWork, share: range, choice: StrengthChoice
) -> tuple[Fitted, _Pieces]:
    with threadpool_limits(1), named(lambda: name_of_layer(layer)):
        fitter = layer_fitter(store, layer, work)
        return layer, {i: fitter.run(fitter.tasks.later_pieces[i], choice) for i in share}


def _ordered(pieces: _Pieces) -> list[Arrays]:
    """Arrays in the order of piece numbers, not of completion."""
    return [pieces[i] for i in sorted(pieces)]
