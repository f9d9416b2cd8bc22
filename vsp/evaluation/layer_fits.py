"""All that is fitted on one layer: the choice of a strength, the estimate, and what they are worth.

A layer's programme is a list of pieces. First those that search: every training set of the design
at every strength of the probe's grid. They choose a strength for each outer split on its inner
splits; then the pieces that depend on it: labels permuted and refitted, control tasks, growing
portions of the training rows, and the probe that is saved. Pieces are the same however many
workers share them, so that results are the same to the last bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vsp.evaluation.design import Design
from vsp.evaluation.statistics import preferred
from vsp.probes.base import ProbeBase, Task, TaskFit, probabilities

Array = NDArray[np.floating]

_SETS = 16  # training sets of a piece that searches
_PERMUTED = 32  # permutations of a piece


@dataclass(frozen=True, slots=True)
class Programme:
    """What is fitted on every layer alike; rows are those that take part."""

    y: NDArray[Any]  # [row] class index, or number
    design: Design
    strengths: tuple[float, ...]  # of the probe's grid, ascending; none where it has no grid
    permuted: NDArray[Any]  # [permutation, row]
    control: NDArray[Any]  # [control task, row]
    portions: tuple[NDArray[np.bool_], ...]  # growing training rows [row], those of outer split 0

    @property
    def numbers(self) -> bool:
        return bool(self.y.dtype.kind == "f")

    @property
    def n_strengths(self) -> int:
        return max(1, len(self.strengths))

    @property
    def first(self) -> list[int]:
        """The outer splits of the first repeat: of permutations and control tasks."""
        return [i for i, outer in enumerate(self.design.outer) if outer.repeat == 0]

    @property
    def searches(self) -> list[range]:
        """Training sets [piece], those that choose or are judged."""
        n = 1 + max(max(o.fit, *(i.fit for i in o.inner)) for o in self.design.outer)
        return [range(start, min(start + _SETS, n)) for start in range(0, n, _SETS)]

    @property
    def rest(self) -> list[Rest]:
        """Pieces that need the chosen strengths, the longest first."""
        starts = range(0, len(self.permuted), _PERMUTED)
        pieces = [Rest("null", i, start) for i in self.first for start in starts]
        control = [Rest("control")] if len(self.control) else []
        return [*control, *pieces, *([Rest("curve")] if self.portions else []), Rest("final")]


@dataclass(frozen=True, slots=True)
class Rest:
    """A piece that depends on the choice."""

    kind: str  # null, control, curve or final
    outer: int = 0
    start: int = 0  # of the permutations


@dataclass(frozen=True, slots=True)
class Choice:
    """What the inner splits chose."""

    inner: Array  # [outer, strength], their mean statistic
    chosen: NDArray[np.intp]  # [outer], an index of the strengths
    final: int  # for the probe that is saved


class Layer:
    """One layer's states and what its pieces share."""

    def __init__(self, states: Array, probe: ProbeBase, programme: Programme) -> None:
        """`states` [row, hidden], all finite."""
        self.states, self.probe, self.programme = states, probe, programme
        self.fitted: list[TaskFit] = []

    def search(self, sets: Sequence[int]) -> dict[str, NDArray[Any]]:
        """Fit these training sets; what their inner and outer splits need of them."""
        programme, design = self.programme, self.programme.design
        found: dict[str, NDArray[Any]] = {}
        tasks = [Task(programme.y, design.train[one], programme.strengths) for one in sets]
        for number, fit in zip(sets, self._fit(tasks), strict=True):
            for i, outer in enumerate(design.outer):
                if outer.fit == number:
                    found[f"scores.{i}"] = fit.scores[:, :, outer.judge]
                for j, inner in enumerate(outer.inner):
                    if inner.fit == number:
                        lost, base = self._lost(programme.y, fit, number, inner.judge)
                        found[f"inner.{i}.{j}"] = 1 - lost / base
        found["strengths"] = np.array(programme.strengths or (np.nan,))
        return {**found, **self._counted()}

    def go_on(self, piece: Rest, choice: Choice) -> dict[str, NDArray[Any]]:
        """A piece that depends on the choice."""
        made = getattr(self, f"_{piece.kind}")(piece, choice)
        return {**made, **self._counted()}

    def _null(self, piece: Rest, choice: Choice) -> dict[str, NDArray[Any]]:
        programme, outer = self.programme, self.programme.design.outer[piece.outer]
        permuted = programme.permuted[piece.start : piece.start + _PERMUTED]
        train = programme.design.train[outer.fit]
        tasks = [Task(y, train, self._strength(choice.chosen[piece.outer])) for y in permuted]
        sums = [
            self._lost(task.y, fit, outer.fit, outer.judge)
            for task, fit in zip(tasks, self._fit(tasks), strict=True)
        ]
        name = f"null.{piece.outer}.{piece.start}"
        return {name: np.array([(lost[0], base) for lost, base in sums])}

    def _control(self, piece: Rest, choice: Choice) -> dict[str, NDArray[Any]]:
        programme, design = self.programme, self.programme.design
        sums = np.full((len(programme.control), programme.n_strengths, 2), 0.0)
        tasks, judges = [], []
        for i in programme.first:
            outer = design.outer[i]
            train = design.train[outer.fit]
            for k, y in enumerate(programme.control):
                if len(np.unique(y[train])) < 2:  # where one type has most rows: no task
                    sums[k] = np.nan
                    continue
                tasks.append(Task(y, train, programme.strengths))
                judges.append((k, outer))
        for task, (k, outer), fit in zip(tasks, judges, self._fit(tasks), strict=True):
            lost, base = self._lost(task.y, fit, outer.fit, outer.judge)
            sums[k] += np.stack([lost, np.full_like(lost, base)], axis=1)
        return {"control": sums}

    def _curve(self, piece: Rest, choice: Choice) -> dict[str, NDArray[Any]]:
        """The learning curve, and the online code of the training rows (Voita & Titov 2020)."""
        programme, outer = self.programme, self.programme.design.outer[0]
        strength, y = self._strength(choice.chosen[0]), programme.y
        scores, surprise = [], []
        known = programme.portions[0]
        for k, mask in enumerate(programme.portions):
            last = k == len(programme.portions) - 1
            task = Task(y, mask, strength)
            fits = self._fit([task]) if last else self.probe.fit_tasks(self.states, [task])
            for fit in fits:
                if not last:
                    self.fitted.append(fit)
                lost, base = self._lost(y, fit, outer.fit, outer.judge)
                scores.append(float(1 - lost[0] / base))
                if not last and self.probe.link and not programme.numbers:
                    coded = programme.portions[k + 1] & ~mask
                    surprise.append(self._bits(fit, coded))
        made = {
            "portion_rows": np.array([mask.sum() for mask in programme.portions]),
            "curve": np.array(scores),
        }
        if self.probe.link and not programme.numbers:
            per_row = np.log2(len(np.unique(y[programme.design.train[outer.fit]])))
            made["code_bits"] = np.array(per_row * known.sum() + sum(surprise))
            made["uniform_bits"] = np.array(per_row * programme.portions[-1].sum())
        return made

    def _final(self, piece: Rest, choice: Choice) -> dict[str, NDArray[Any]]:
        """The probe that is saved."""
        programme = self.programme
        train = programme.design.train[programme.design.final]
        (fit,) = self._fit([Task(programme.y, train, self._strength(choice.final), keep=True)])
        strength = programme.strengths[choice.final] if programme.strengths else np.nan
        arrays = {f"probe.{name}": array for name, array in fit.probes[0].items()}
        return {**arrays, "final_strength": np.array(strength)}

    def _strength(self, which: int | np.intp) -> tuple[float, ...]:
        return self.programme.strengths[int(which) : int(which) + 1]

    @cached_property
    def _prepared(self) -> Any:
        return self.probe.prepare(self.states, self.programme.design.train)

    def _fit(self, tasks: Sequence[Task]) -> Iterator[TaskFit]:
        for fit in self.probe.fit_prepared(self._prepared, tasks):
            self.fitted.append(fit)
            yield fit

    def _counted(self) -> dict[str, NDArray[Any]]:
        """Gap and steps of each fit since this was last asked."""
        gaps = [np.empty(0, np.float32), *(fit.gap.ravel() for fit in self.fitted)]
        steps = [np.empty(0, np.int32), *(fit.iterations.ravel() for fit in self.fitted)]
        self.fitted = []
        return {"gap": np.concatenate(gaps), "iterations": np.concatenate(steps)}

    def _lost(
        self, y: NDArray[Any], fit: TaskFit, number: int, judge: NDArray[np.intp]
    ) -> tuple[Array, float]:
        """The loss on judged rows [strength], and what it is measured by."""
        true = y[judge]
        if not self.programme.numbers:
            wrong = fit.scores[:, :, judge].argmax(axis=1) != true
            return wrong.sum(axis=1, dtype=float), float(len(judge))
        away = fit.scores[:, 0, judge] - true
        mean = y[self.programme.design.train[number]].mean()
        return (away**2).sum(axis=1, dtype=float), float(((true - mean) ** 2).sum())

    def _bits(self, fit: TaskFit, rows: NDArray[np.bool_]) -> float:
        share = probabilities(fit.scores[0][:, rows].astype(np.float64), self.probe.link, axis=0)
        of_true = np.take_along_axis(share, self.programme.y[rows][None], axis=0)
        return float(-np.log2(np.maximum(of_true, np.finfo(float).tiny)).sum())


def choose(programme: Programme, searched: Sequence[dict[str, NDArray[Any]]]) -> Choice:
    """For each outer split the strength that its inner splits prefer; of equals the smallest."""
    found = _together(searched)
    inner = np.array([
        np.mean([found[f"inner.{i}.{j}"] for j in range(len(outer.inner))], axis=0)
        for i, outer in enumerate(programme.design.outer)
    ])  # fmt: skip
    return Choice(inner, preferred(inner, axis=1), int(preferred(inner.mean(axis=0))))


def gathered(
    programme: Programme,
    probe: ProbeBase,
    searched: Sequence[dict[str, NDArray[Any]]],
    choice: Choice,
    rest: Sequence[dict[str, NDArray[Any]]],
) -> dict[str, NDArray[Any]]:
    """What the layer gave, from all its pieces: see `evaluate`."""
    found = {**_together(searched), **_together(rest)}
    pieces = [*searched, *rest]
    made = {
        "strengths": found["strengths"],
        "inner": choice.inner,
        "chosen": choice.chosen,
        **_judged(programme, probe, found, choice),
        **_by_strength(programme, found, choice),
        "gap": np.concatenate([piece["gap"] for piece in pieces]),
        "iterations": np.concatenate([piece["iterations"] for piece in pieces]),
    }
    if len(programme.permuted):
        made["null"] = _null(programme, found)
    if len(programme.control):
        sums = found["control"]
        known = ~np.isnan(sums).any(axis=(1, 2))
        if known.any():
            made["control"] = 1 - sums[known, :, 0] / sums[known, :, 1]
    kept = ("portion_rows", "curve", "code_bits", "uniform_bits", "final_strength")
    made |= {name: found[name] for name in found if name in kept or name.startswith("probe.")}
    return made


def _together(pieces: Sequence[dict[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
    return {name: array for piece in pieces for name, array in piece.items()}


def _judged(
    programme: Programme, probe: ProbeBase, found: dict[str, NDArray[Any]], choice: Choice
) -> dict[str, NDArray[Any]]:
    """Predictions [repeat, row], and probabilities, at the strength each outer split chose."""
    design, n_rows = programme.design, len(programme.y)
    shape = (design.n_repeats, n_rows)
    chosen = {i: found[f"scores.{i}"][choice.chosen[i]] for i in range(len(design.outer))}
    if programme.numbers:
        predicted = np.full(shape, np.nan, np.float32)
        for i, outer in enumerate(design.outer):
            predicted[outer.repeat, outer.judge] = chosen[i][0]
        return {"predicted": predicted}
    classes = np.full(shape, -1, np.int16)
    probability = np.full((*shape, int(programme.y.max()) + 1), np.nan, np.float32)
    for i, outer in enumerate(design.outer):
        classes[outer.repeat, outer.judge] = chosen[i].argmax(axis=0)
        if probe.link:
            share = probabilities(chosen[i].astype(np.float64), probe.link, axis=0)
            probability[outer.repeat, outer.judge] = share.T
    return {"predicted": classes, **({"probability": probability} if probe.link else {})}


def _by_strength(
    programme: Programme, found: dict[str, NDArray[Any]], choice: Choice
) -> dict[str, NDArray[Any]]:
    """The statistic of the first repeat at each strength, and at the chosen ones."""
    lost, chosen_lost, base = np.zeros(programme.n_strengths), 0.0, 0.0
    for i in programme.first:
        outer, scores = programme.design.outer[i], found[f"scores.{i}"]
        true = programme.y[outer.judge]
        if programme.numbers:
            loss = ((scores[:, 0] - true) ** 2).sum(axis=1, dtype=float)
            mean = programme.y[programme.design.train[outer.fit]].mean()
            base += float(((true - mean) ** 2).sum())
        else:
            loss = (scores.argmax(axis=1) != true).sum(axis=1, dtype=float)
            base += len(true)
        lost += loss
        chosen_lost += float(loss[choice.chosen[i]])
    return {"by_strength": 1 - lost / base, "null_observed": np.array(1 - chosen_lost / base)}


def _null(programme: Programme, found: dict[str, NDArray[Any]]) -> Array:
    """The statistic [permutation] of the first repeat's outer splits."""
    starts = range(0, len(programme.permuted), _PERMUTED)
    sums = np.sum(
        [np.concatenate([found[f"null.{i}.{start}"] for start in starts]) for i in programme.first],
        axis=0,
    )
    null: Array = 1 - sums[:, 0] / sums[:, 1]
    return null
