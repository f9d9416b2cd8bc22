"""How many fits a programme has and about how long they take, said before it starts."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vsp.evaluation.design import is_constant
from vsp.evaluation.layer_fits import PERMUTATIONS, LayerFitter, LayerTasks, Piece, StrengthChoice
from vsp.evaluation.online_code import Target
from vsp.evaluation.scores import are_numbers
from vsp.probes.base import ProbeBase

_SHORT = 10.0  # seconds of all fits; such a programme is not timed any further
_SHARE = 0.01  # of the time of all fits; timing more fits than that is not worth it
_UNNOTICED = 0.1  # seconds that may be timed at any rate
_ENOUGH = 1.0  # seconds of timed fits of a probe that shares no work
_GROWTH = 4  # from one number of fits that are timed together to the next
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
    at_most: bool = False  # fits that share work are faster than that

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
        for _ in range(2 if tasks.n_erasures else 1):  # also for the first random subspace
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
    for _ in range(1 + tasks.n_erasures if tasks.n_erasures else 0):
        yield from ((tasks.y, train) for train in outer)
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


def measure_speed(fitter: LayerFitter, costs: FitCosts, n_layers: int, n_jobs: int) -> Speed:
    """Time real fits of a layer, with the scores of their rows, for about 1 % of the time of `costs`.

    The first fit is timed alone. If it says that all fits are short, no other is timed.
    """
    timing = _Timing(fitter, costs, n_layers, n_jobs)
    return timing.of_shared_work() if fitter.probe.shares_work else timing.of_single_fits()


class _Timing:
    """Timed fits of a layer, and the speed estimated from them."""

    def __init__(self, fitter: LayerFitter, costs: FitCosts, n_layers: int, n_jobs: int) -> None:
        self._fitter, self._sets = fitter, fitter.tasks.search_pieces[0]
        self._costs, self._n_layers, self._n_jobs = costs, n_layers, n_jobs
        self._first, rows = _timed_search(fitter, self._sets[:1])
        self._spent = self._first
        self._speed = Speed(0.0, self._first / rows, self._first / rows)

    def _is_worth(self, seconds: float) -> bool:
        """Whether it is worth timing further fits that take about so many seconds."""
        all_fits = self._speed.seconds(self._costs, self._n_layers) / self._n_jobs
        return all_fits >= _SHORT and self._spent + seconds <= max(_UNNOTICED, _SHARE * all_fits)

    def of_single_fits(self) -> Speed:
        """Time more fits if the first was quick."""
        n_more = min(len(self._sets) - 1, 1 + int(_ENOUGH / max(self._first, 1e-3)))
        if n_more and self._first < _ENOUGH / 2 and self._is_worth(n_more * self._first):
            seconds, rows = _timed_search(self._fitter, self._sets[1 : 1 + n_more])
            self._speed = Speed(0.0, seconds / rows, seconds / rows)
        return self._speed

    def of_shared_work(self) -> Speed:
        """Time growing numbers of training sets, then of permutations, up to those of a whole piece.

        Until a whole piece is timed, the speed is a lower bound.
        """
        self._speed = replace(self._speed, at_most=True)
        tasks, last = self._fitter.tasks, self._first
        for n in _growing(2, len(self._sets)):
            if not self._is_worth(_GROWTH * last):
                return self._speed
            last, rows = _timed_search(self._fitter, self._sets[-n:])
            per_layer = max(0.0, self._first - last / n)
            self._take(last, Speed(per_layer, last / rows, last / rows, at_most=True))
        outer = [tasks.design.outer[i].train_set for i in tasks.design.first_repeat]
        rows_of_one, last = int(tasks.design.train_sets[outer].sum()), self._first * len(outer)
        for n in _growing(1, min(PERMUTATIONS, len(tasks.permuted))):
            if not self._is_worth(last if n == 1 else _GROWTH * last):
                return self._speed
            last = _timed_permutations(self._fitter, n)
            self._take(last, replace(self._speed, per_row=last / (n * rows_of_one)))
        return replace(self._speed, at_most=False)

    def _take(self, seconds: float, speed: Speed) -> None:
        self._spent += seconds
        self._speed = speed


def _growing(first: int, whole: int) -> list[int]:
    """Numbers of fits from `first` to `whole`, each a few times the one before it."""
    numbers = []
    while first < whole:
        numbers.append(first)
        first *= _GROWTH
    return [*numbers, whole] if whole else []


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


def format_costs(costs: FitCosts, seconds: float, n_jobs: int, at_most: bool = False) -> str:
    """ "fits: 1,540; about 9 min on 2 workers", or "at most about" for an upper bound."""
    workers = "1 worker" if n_jobs == 1 else f"{n_jobs} workers"
    is_short = seconds / n_jobs < _SHORT
    bound = "at most " if at_most and not is_short else ""
    return f"fits: {costs.n_fits:,}; {bound}{_about(seconds / n_jobs)} on {workers}"


def _about(seconds: float) -> str:
    """A time in one unit, with at most two digits."""
    if seconds < _SHORT:
        return "less than 10 s"
    for unit, size in (("s", 1), ("min", _MINUTE), ("h", 60 * _MINUTE)):
        if seconds < 99 * size:
            return f"about {float(f'{seconds / size:.2g}'):g} {unit}"
    return f"about {float(f'{seconds / 86400:.2g}'):g} days"
