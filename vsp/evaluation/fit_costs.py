"""How many fits a programme has and about how long they take, said before it starts."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vsp.evaluation.design import is_constant
from vsp.evaluation.layer_fits import LayerFitter
from vsp.evaluation.online_code import Target
from vsp.evaluation.scores import are_numbers

_ENOUGH = 1.0  # seconds of fits that are timed
_MINUTE = 60


@dataclass(frozen=True, slots=True)
class FitCosts:
    """Counts of fits; the time of a fit is about proportional to its training rows."""

    n_fits: int = 0
    n_rows: int = 0  # training rows of all fits together

    def __add__(self, other: FitCosts) -> FitCosts:
        return FitCosts(self.n_fits + other.n_fits, self.n_rows + other.n_rows)


def count_fits(fitter: LayerFitter) -> FitCosts:
    """All fits of a layer; its states are not read."""
    probe = fitter.probe
    costs = FitCosts()
    for y, train, n_strengths in _fitted(fitter):
        known = y[train]
        n_classes = 1 if are_numbers(y) else int(np.count_nonzero(np.bincount(known)))
        costs += FitCosts(probe.n_problems(n_classes) * n_strengths, len(known) * n_strengths)
    return costs


def _fitted(fitter: LayerFitter) -> Iterator[tuple[NDArray[np.generic], NDArray[np.bool_], int]]:
    """Labels [row], training rows [row] and number of strengths of each task of a layer."""
    tasks = fitter.tasks
    design, sets = tasks.design, tasks.design.train_sets
    outer = [sets[one.train_set] for one in design.outer]
    for piece in tasks.search_pieces:
        yield from ((tasks.y, sets[i], tasks.n_strengths) for i in piece)
    for labels in (*tasks.permuted, *tasks.within):
        yield from ((labels, outer[i], 1) for i in design.first_repeat)
    for of_control in tasks.controls.values():
        yield from ((labels, train, 1) for labels in of_control for train in outer)
    if tasks.resamples is not None:
        yield from ((tasks.y, counts > 0, 1) for counts in tasks.resamples)
    if tasks.shuffled is not None:
        yield from ((labels, outer[0], 1) for labels in tasks.shuffled)
    if tasks.keep_folds and len(outer) > 1:
        yield from ((tasks.y, train, 1) for train in outer)
    yield tasks.y, sets[design.final], 1
    yield from _of_portions(fitter)


def _of_portions(
    fitter: LayerFitter,
) -> Iterator[tuple[NDArray[np.generic], NDArray[np.bool_], int]]:
    tasks, portions = fitter.tasks, fitter.tasks.portions
    if portions is None:
        return
    targets = [Target(tasks.y, tasks.strengths[:1]), *fitter.coded_targets.values()]
    for order, portion in np.ndindex(portions.n_orders, portions.n_portions - 1):
        train = portions.mask(order, portion)
        for one in targets:
            if not is_constant(one.y[train]):
                yield one.y, train, max(1, len(one.strengths))


def measure_seconds(fitter: LayerFitter) -> float:
    """Seconds of a fit for each of its training rows, from real fits with the scores of their rows.

    The first fit is timed alone, and more of them if it was quick: probes that share work between
    fits do more of them in the same time.
    """
    sets = fitter.tasks.search_pieces[0]
    seconds, rows = _timed(fitter, sets[:1])
    if seconds < _ENOUGH / 2 and len(sets) > 1:
        more = sets[1 : 2 + int(_ENOUGH / max(seconds, 1e-3))]
        seconds, rows = _timed(fitter, more)
    return seconds / rows


def _timed(fitter: LayerFitter, sets: range) -> tuple[float, int]:
    """Seconds of the fits of these training sets, and their training rows."""
    tasks = fitter.tasks
    start = time.perf_counter()
    fitter.search(sets)
    seconds = time.perf_counter() - start
    return seconds, int(tasks.design.train_sets[list(sets)].sum()) * tasks.n_strengths


def format_costs(costs: FitCosts, seconds: float, n_jobs: int) -> str:
    """ "fits: 1,540; about 9 min on 2 workers"."""
    workers = "1 worker" if n_jobs == 1 else f"{n_jobs} workers"
    return f"fits: {costs.n_fits:,}; {_about(seconds / n_jobs)} on {workers}"


def _about(seconds: float) -> str:
    """A time in one unit, with at most two digits."""
    if seconds < 10:
        return "less than 10 s"
    for unit, size in (("s", 1), ("min", _MINUTE), ("h", 60 * _MINUTE)):
        if seconds < 99 * size:
            return f"about {float(f'{seconds / size:.2g}'):g} {unit}"
    return f"about {float(f'{seconds / 86400:.2g}'):g} days"
