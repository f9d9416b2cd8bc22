"""Online code length: how few bits send the labels to a receiver who knows the states.

Source: Voita & Titov, "Information-Theoretic Probing with Minimum Description Length", 2020. The
training rows are sent in a random order, portion by portion. The first portion has the uniform code.
Each later block is coded by probes that are fitted on the rows before it. Nothing of the code depends
on labels that are not sent yet: neither the order of rows nor the strength of the probes.

The strength is not chosen on all rows. Every strength of a grid codes all blocks, and so does the
uniform code; the code is the Bayesian mixture of them (Dawid, "Statistical theory: the prequential
approach", 1984). It weighs each by the log loss of the rows already sent, and is at most log2 of
their number longer than the shortest. So it is never much longer than the uniform code.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vsp.datasets.splitting import integer_codes
from vsp.errors import EstimatorError
from vsp.evaluation.design import is_constant
from vsp.evaluation.scores import Floats
from vsp.probes.base import ProbeBase, Task, TaskFit
from vsp.probes.links import probabilities

N_ORDERS = 3
# Shares of the training rows, as Voita & Titov.
_SHARES = (0.001, 0.002, 0.004, 0.008, 0.016, 0.03125, 0.0625, 0.125, 0.25, 0.5, 1.0)
_LEAST_ROWS = 4  # of a portion
_FEW_ROWS = 256  # of all orders; see `_fitted_together`
_TINY = float(np.finfo(float).tiny)


@dataclass(frozen=True, slots=True)
class Portions:
    """Nested portions of the training rows of outer split 0, in several random orders.

    Portions consist of whole groups. Their sizes and their order do not depend on labels.
    """

    first: NDArray[np.int8]  # [order, row]: the first portion that holds the row; -1: none does

    @classmethod
    def draw(
        cls, group: NDArray[np.str_], train: NDArray[np.bool_], seed: int, n_orders: int = N_ORDERS
    ) -> Portions:
        """Portions of the rows of `train` [row]; each ends with the group that completes its share."""
        rng, number = np.random.default_rng(seed), integer_codes(group[train])
        size = np.bincount(number)
        first = np.full((n_orders, len(group)), -1, dtype=np.int8)
        n_wanted = [np.ceil(share * len(number) - 1e-9) for share in _SHARES]
        n_wanted = [n for n in n_wanted if n >= min(_LEAST_ROWS, len(number))]
        for one in first:
            order = rng.permutation(len(size))
            place = np.argsort(order)
            ends = np.searchsorted(np.cumsum(size[order]), n_wanted)  # place of the last group
            one[train] = np.searchsorted(ends, place[number])
        in_use = np.unique(first[first >= 0])  # others equal the portion before in every order
        first[first >= 0] = np.searchsorted(in_use, first[first >= 0])
        return cls(first)

    @property
    def n_orders(self) -> int:
        return len(self.first)

    @property
    def n_portions(self) -> int:
        return int(self.first.max()) + 1

    @property
    def n_rows(self) -> NDArray[np.intp]:
        """Rows of each portion [order, portion]."""
        counts = [np.bincount(one[one >= 0], minlength=self.n_portions) for one in self.first]
        return np.cumsum(counts, axis=1)

    def mask(self, order: int, portion: int) -> NDArray[np.bool_]:
        """The rows of a portion [row]."""
        one = self.first[order]
        return np.asarray((one >= 0) & (one <= portion))

    def block(self, order: int, portion: int) -> NDArray[np.bool_]:
        """The rows that the next larger portion adds [row]."""
        return np.asarray(self.first[order] == portion + 1)

    def reordered(self, place: NDArray[np.intp]) -> Portions:
        """The same portions of rows in another order: row i becomes row `place[i]` of these."""
        return Portions(self.first[:, place])


@dataclass(frozen=True, slots=True)
class Target:
    """Labels that are coded, and the strengths of the probes."""

    y: NDArray[Any]  # [row]
    strengths: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class PortionFit:
    """The probes of one portion and one target."""

    order: int
    portion: int
    target: str
    rows: NDArray[np.intp]  # rows whose scores the fit holds, ascending
    fit: TaskFit | None  # None: the estimator of the user raised `error`
    error: str = ""

    def scores(self, rows: NDArray[np.intp]) -> NDArray[np.float32]:
        """Scores [strength, class, row] of some of these rows."""
        assert self.fit is not None
        return self.fit.scores[..., np.searchsorted(self.rows, rows)]


def portion_fits(
    states: NDArray[np.floating],
    probe: ProbeBase,
    portions: Portions,
    targets: Mapping[str, Target],
    test: NDArray[np.intp],
) -> Iterator[PortionFit]:
    """Fit all portions but the largest for each target.

    Scores are those of the portion, of the next block and of the rows of `test`. Portions with one
    label, or one number, have no fit.
    """
    for cells in _fitted_together(portions, states.shape[1]):
        used = np.zeros(len(states), dtype=bool)
        used[test] = True
        for order, portion in cells:
            used |= portions.mask(order, portion + 1)
        rows = np.flatnonzero(used)
        sources = [
            (order, portion, name)
            for (order, portion), name in product(cells, targets)
            if not is_constant(targets[name].y[portions.mask(order, portion)])
        ]
        tasks = [
            Task(
                targets[name].y[rows], portions.mask(order, portion)[rows], targets[name].strengths
            )
            for order, portion, name in sources
        ]
        for source, fit in zip(sources, _fits(probe, states[rows], tasks), strict=True):
            if isinstance(fit, EstimatorError):
                yield PortionFit(*source, rows, None, str(fit))
            else:
                yield PortionFit(*source, rows, fit)


def _fits(
    probe: ProbeBase, states: NDArray[np.floating], tasks: list[Task]
) -> Iterator[TaskFit | EstimatorError]:
    """The fits of tasks; of an estimator of the user, the error that it raises in place of a fit.

    An estimator that fits the training rows can still refuse a portion of four of them.
    """
    if not probe.may_raise:
        yield from probe.fit_tasks(states, tasks)
        return
    for task in tasks:
        try:
            yield from probe.fit_tasks(states, [task])
        except EstimatorError as error:
            yield error


def _fitted_together(portions: Portions, hidden_size: int) -> Iterator[list[tuple[int, int]]]:
    """(order, portion) of the probes that are fitted in one call.

    One call for all orders is faster if there are few rows, or more rows than dimensions. Between
    these sizes the solver corrects its metric for the rows of other orders, which is slower.
    """
    for portion, n_rows in enumerate(portions.n_rows.sum(axis=0)[:-1]):
        cells = [(order, portion) for order in range(portions.n_orders)]
        together = n_rows <= _FEW_ROWS or n_rows > 2 * hidden_size
        yield from [cells] if together else [[cell] for cell in cells]


class OnlineCode:
    """Sums the bits of one target over its blocks, for each order and candidate.

    The candidates are the strengths of a grid, and the uniform code as the last one.
    """

    def __init__(self, target: Target, portions: Portions, link: str) -> None:
        self.y, self.portions, self.link = target.y, portions, link
        n_strengths = max(1, len(target.strengths))
        self.labels = np.unique(self.y[portions.first[0] >= 0])
        uniform = np.log2(len(self.labels))
        n_rows = portions.n_rows
        self.uniform_bits = float(uniform * n_rows[0, -1])
        self.first_bits = uniform * n_rows[:, 0]  # [order]
        self.block_bits = np.zeros((portions.n_orders, n_strengths + 1))
        self.block_bits[:, -1] = uniform * (n_rows[:, -1] - n_rows[:, 0])
        self._without_fit = set(product(range(portions.n_orders), range(portions.n_portions - 1)))

    def add(self, one: PortionFit) -> None:
        """Code the block after a portion with the probes of this portion [strength]."""
        self._without_fit.remove((one.order, one.portion))
        block = np.flatnonzero(self.portions.block(one.order, one.portion))
        share = probabilities(one.scores(block).astype(np.float64), self.link, axis=1)
        self._add_bits(one.order, one.portion, block, share)

    def add_uniform(self, one: PortionFit) -> None:
        """Code the block after a portion that has no fit with the uniform code."""
        self._without_fit.remove((one.order, one.portion))
        n_rows = int(self.portions.block(one.order, one.portion).sum())
        self.block_bits[one.order, :-1] += n_rows * np.log2(len(self.labels))

    def bits(self) -> Floats:
        """Code length [order]. Call it once, after all fits are added."""
        for order, portion in sorted(self._without_fit):  # their portions have one label
            block = np.flatnonzero(self.portions.block(order, portion))
            label = self.y[self.portions.mask(order, portion)][0]
            always = np.zeros((1, int(self.y.max()) + 1, len(block)))
            always[:, label] = 1
            self._add_bits(order, portion, block, always)
        return np.asarray(self.first_bits + mixture_bits(self.block_bits))

    def _add_bits(
        self, order: int, portion: int, block: NDArray[np.intp], share: NDArray[np.floating]
    ) -> None:
        """Add −log2 of `share` [strength, class, row of the block] at the true labels.

        A probe gives a label that its portion lacks no probability. Each such label therefore has
        the probability 1 / (n + u), for a portion of n rows without u labels.
        """
        known = self.y[self.portions.mask(order, portion)]
        n, n_unknown = len(known), len(np.setdiff1d(self.labels, known))
        of_true = np.take_along_axis(share, self.y[block][None, None], axis=1)[:, 0]
        of_true = np.where(np.isin(self.y[block], known), of_true * n, 1) / (n + n_unknown)
        self.block_bits[order, :-1] -= np.log2(np.maximum(of_true, _TINY)).sum(axis=-1)


def mixture_bits(bits: Floats) -> Floats:
    """Bits of the mixture with equal weights of codes with these `bits` [..., candidate]."""
    shortest = bits.min(axis=-1, keepdims=True)
    return np.asarray(shortest[..., 0] - np.log2(np.exp2(shortest - bits).mean(axis=-1)))


def mean_and_error(of_orders: Floats) -> tuple[Floats, Floats]:
    """Mean [...] over the known figures of orders [order, ...], and its standard error.

    The mean is nan if no order has a figure, and the error if fewer than two have one.
    """
    known = ~np.isnan(of_orders)
    n = known.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(known, of_orders, 0.0).sum(axis=0) / n
        squares = np.where(known, of_orders - mean, 0.0) ** 2
        return mean, np.sqrt(squares.sum(axis=0) / ((n - 1) * n))
