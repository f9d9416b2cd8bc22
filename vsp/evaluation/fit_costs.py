"""How many fits a programme has and about how long they take, said before it starts."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vsp.evaluation.design import is_constant
from vsp.evaluation.layer_fits import PERMUTATIONS, LayerFitter, LayerTasks, Piece, StrengthChoice
from vsp.evaluation.online_code import Target
from vsp.evaluation.scores import are_numbers
from vsp.probes.base import ProbeBase

_ENOUGH = 1.0  # seconds of fits that are timed
_FEW = 3  # training sets, and permutations, that are timed of a probe that shares work
_MINUTE = 60

_Fitted = tuple[NDArray[np.generic], NDArray[np.bool_], int]


@dataclass(frozen=True, slots=True)
class FitCosts:
    """Counts of fits; the time of a fit is about proportional to its training rows."""

    n_fits: int = 0
    rows: int = 0  # training rows of all fits at one strength together
    grid_rows: int = 0  # of all fits of a whole grid of strengths

    def __add__(self, other: FitCosts) -> FitCosts:
        return FitCosts(
            self.n_fits + other.n_fits, self.rows + other.rows, self.grid_rows + other.grid_rows
        )


@dataclass(frozen=True, slots=True)
class Speed:
    """Seconds of a layer, and of each training row of its fits."""

    per_layer: float
    per_row: float  # at one strength
    per_grid_row: float

    def seconds(self, costs: FitCosts, n_layers: int) -> float:
        """Seconds of all fits on one worker."""
        of_rows = self.per_row * costs.rows + self.per_grid_row * costs.grid_rows
        return self.per_layer * n_layers + of_rows


def count_fits(fitter: LayerFitter) -> FitCosts:
    """All fits of a layer; its states are not read."""
    costs = FitCosts()
    for y, train, n_strengths in (*_grid_fits(fitter), *_of_portions(fitter)):
        n_fits, n_rows = _count(fitter.probe, y, train, n_strengths)
        costs += FitCosts(n_fits, 0, n_rows)
    for y, train in _single_fits(fitter):
        costs += FitCosts(*_count(fitter.probe, y, train, 1))
    return costs


def _count(
    probe: ProbeBase, y: NDArray[Any], train: NDArray[np.bool_], n_strengths: int
) -> tuple[int, int]:
    known = y[train]
    n_classes = 1 if are_numbers(y) else int(np.count_nonzero(np.bincount(known)))
    return probe.n_problems(n_classes) * n_strengths, len(known) * n_strengths


def _grid_fits(fitter: LayerFitter) -> Iterator[_Fitted]:
    """Labels [row], training rows [row] and number of strengths of each task of the search."""
    tasks = fitter.tasks
    for piece in tasks.search_pieces:
        yield from ((tasks.y, tasks.design.train_sets[i], tasks.n_strengths) for i in piece)


def _single_fits(
    fitter: LayerFitter,
) -> Iterator[tuple[NDArray[np.generic], NDArray[np.bool_]]]:
    """Labels [row] and training rows [row] of each task at one strength."""
    tasks = fitter.tasks
    design, sets = tasks.design, tasks.design.train_sets
    outer = [sets[one.train_set] for one in design.outer]
    for labels in (*tasks.permuted, *tasks.within):
        yield from ((labels, outer[i]) for i in design.first_repeat)
    for of_control in tasks.controls.values():
        yield from ((labels, train) for labels in of_control for train in outer)
    if tasks.resamples is not None:
        yield from ((tasks.y, counts > 0) for counts in tasks.resamples)
    if tasks.shuffled is not None:
        yield from ((labels, outer[0]) for labels in tasks.shuffled)
    if tasks.keep_folds and len(outer) > 1:
        yield from ((tasks.y, train) for train in outer)
    yield tasks.y, sets[design.final]


def _of_portions(fitter: LayerFitter) -> Iterator[_Fitted]:
    """As `_grid_fits`, of the learning curve and the code length."""
    tasks, portions = fitter.tasks, fitter.tasks.portions
    if portions is None:
        return
    targets = [Target(tasks.y, tasks.strengths[:1]), *fitter.coded_targets.values()]
    for order, portion in np.ndindex(portions.n_orders, portions.n_portions - 1):
        train = portions.mask(order, portion)
        for one in targets:
            if not is_constant(one.y[train]):
                yield one.y, train, max(1, len(one.strengths))


def measure_speed(fitter: LayerFitter) -> Speed:
    """Time real fits of a layer, with the scores of their rows.

    The first fit is timed alone, and more of them if it was quick. Probes that share work between
    fits do many in the time of a few, so several training sets and permutations are timed.
    """
    tasks, pieces = fitter.tasks, fitter.tasks.search_pieces
    first, rows = _timed_search(fitter, pieces[0][:1])
    if not fitter.probe.shares_work:
        if first < _ENOUGH / 2 and len(pieces[0]) > 1:
            more = pieces[0][1 : 2 + int(_ENOUGH / max(first, 1e-3))]
            first, rows = _timed_search(fitter, more)
        return Speed(0.0, first / rows, first / rows)
    sets = pieces[0]
    per_set = _in_a_piece(lambda n: _timed_search(fitter, sets[-n:])[0], len(sets))
    per_grid_row = per_row = per_set / rows
    if len(tasks.permuted):
        outer = [tasks.design.outer[i].train_set for i in tasks.design.first_repeat]
        n_most = min(PERMUTATIONS, len(tasks.permuted))
        per_permutation = _in_a_piece(lambda n: _timed_permutations(fitter, n), n_most)
        per_row = per_permutation / int(tasks.design.train_sets[outer].sum())
    return Speed(max(0.0, first - per_set), per_row, per_grid_row)


def _in_a_piece(timed: Callable[[int], float], n_whole: int) -> float:
    """Seconds of one of `n_whole` fits that share work, from the seconds of one and of a few."""
    one, n_few = timed(1), min(_FEW, n_whole)
    if n_few == 1:
        return one
    each = max(0.0, timed(n_few) - one) / (n_few - 1)
    return (one + each * (n_whole - 1)) / n_whole


def _timed_permutations(fitter: LayerFitter, n: int) -> float:
    """Seconds of the fits of the last n permutations."""
    start = time.perf_counter()
    fitter.run(Piece("null", len(fitter.tasks.permuted) - n), _middle(fitter.tasks))
    return time.perf_counter() - start


def _timed_search(fitter: LayerFitter, sets: range) -> tuple[float, int]:
    """Seconds of the fits of these training sets, and their training rows."""
    tasks = fitter.tasks
    start = time.perf_counter()
    fitter.search(sets)
    seconds = time.perf_counter() - start
    return seconds, int(tasks.design.train_sets[list(sets)].sum()) * tasks.n_strengths


def _middle(tasks: LayerTasks) -> StrengthChoice:
    """The middle strength for each outer split."""
    n_outer, middle = len(tasks.design.outer), tasks.n_strengths // 2
    chosen = np.full(n_outer, middle, dtype=np.intp)
    return StrengthChoice(np.zeros((n_outer, tasks.n_strengths)), chosen, chosen, middle)


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
