"""All fits of one layer: choice of a strength, outer estimates, and controls.

The fits of a layer are divided into pieces. The search pieces fit every training set of the design
at every strength of the probe's grid. Their inner validation scores choose a strength for each
outer split. The later pieces depend on this choice: permuted labels, control tasks, the learning
curve, and the probe that is saved. The division does not depend on the number of workers, so results
are equal to the last bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vsp.evaluation.design import Design, is_constant
from vsp.evaluation.scores import are_numbers, base_loss, code_length, row_loss
from vsp.evaluation.statistics import first_best
from vsp.probes.base import ProbeBase, Task, TaskFit, probabilities

Array = NDArray[np.floating]
Arrays = dict[str, NDArray[Any]]

_SETS = 16  # training sets of a search piece
_PERMUTATIONS = 32  # of a piece


@dataclass(frozen=True, slots=True)
class LayerTasks:
    """Targets, splits and strengths, equal for all layers."""

    y: NDArray[Any]  # [row], class index or number
    design: Design
    strengths: tuple[float, ...]  # of the probe's grid, ascending; empty: the probe has none
    permuted: NDArray[Any]  # labels [permutation, row]
    control: NDArray[Any]  # labels [control task, row]
    portions: tuple[NDArray[np.bool_], ...]  # nested training rows [row] of outer split 0

    @property
    def are_numbers(self) -> bool:
        return are_numbers(self.y)

    @property
    def n_strengths(self) -> int:
        return max(1, len(self.strengths))

    @property
    def search_pieces(self) -> list[range]:
        """Indices of the training sets of each search piece; all that outer or inner splits use."""
        splits = [
            i for o in self.design.outer for i in (o.train_set, *(s.train_set for s in o.inner))
        ]
        n = 1 + max(splits)
        return [range(start, min(start + _SETS, n)) for start in range(0, n, _SETS)]

    @property
    def later_pieces(self) -> list[Piece]:
        """Pieces that depend on the chosen strengths, the longest first."""
        control = [Piece("control")] if len(self.control) else []
        starts = range(0, len(self.permuted), _PERMUTATIONS)
        permuted = [Piece("null", i, start) for i in self.design.first_repeat for start in starts]
        curve = [Piece("curve")] if self.portions else []
        return [*control, *permuted, *curve, Piece("final")]


@dataclass(frozen=True, slots=True)
class Piece:
    """A later piece."""

    kind: str  # null (permuted labels), control, curve or final
    outer: int = 0
    start: int = 0  # first permutation


@dataclass(frozen=True, slots=True)
class StrengthChoice:
    """Strengths chosen on inner validation scores."""

    inner: Array  # mean inner validation score [outer, strength]
    chosen: NDArray[np.intp]  # [outer], index of a strength
    final: int  # index for the probe that is saved


class LayerFitter:
    """States of one layer, and what its pieces share."""

    def __init__(self, states: Array, probe: ProbeBase, tasks: LayerTasks) -> None:
        """`states` [row, hidden] are all finite."""
        self.states, self.probe, self.tasks = states, probe, tasks
        self._unreported: list[TaskFit] = []  # fits whose gaps are not returned yet

    def search(self, sets: Sequence[int]) -> Arrays:
        """Fit training sets at every strength; scores of test rows and inner validation scores."""
        design, y = self.tasks.design, self.tasks.y
        arrays: Arrays = {}
        tasks = [Task(y, design.train_sets[i], self.tasks.strengths) for i in sets]
        for index, fit in zip(sets, self._fit(tasks), strict=True):
            for i, outer in enumerate(design.outer):
                if outer.train_set == index:
                    arrays[f"scores.{i}"] = fit.scores[:, :, outer.test]
                for j, inner in enumerate(outer.inner):
                    if inner.train_set == index:
                        loss, base = self._losses(y, fit, index, inner.validation)
                        arrays[f"inner.{i}.{j}"] = 1 - loss / base
        arrays["strengths"] = np.array(self.tasks.strengths or (np.nan,))
        return {**arrays, **self._convergence()}

    def run(self, piece: Piece, choice: StrengthChoice) -> Arrays:
        """Run a later piece."""
        run: dict[str, Callable[[Piece, StrengthChoice], Arrays]] = {
            "null": self._permutations,
            "control": self._control_tasks,
            "curve": self._learning_curve,
            "final": self._final_probe,
        }
        return {**run[piece.kind](piece, choice), **self._convergence()}

    def _permutations(self, piece: Piece, choice: StrengthChoice) -> Arrays:
        """Loss and base loss [permutation, 2] of one outer split."""
        outer = self.tasks.design.outer[piece.outer]
        permuted = self.tasks.permuted[piece.start : piece.start + _PERMUTATIONS]
        train = self.tasks.design.train_sets[outer.train_set]
        tasks = [Task(y, train, self._strength(choice.chosen[piece.outer])) for y in permuted]
        sums = [
            self._losses(task.y, fit, outer.train_set, outer.test)
            for task, fit in zip(tasks, self._fit(tasks), strict=True)
        ]
        return {
            _null_name(piece.outer, piece.start): np.array([(lo[0], base) for lo, base in sums])
        }

    def _control_tasks(self, piece: Piece, choice: StrengthChoice) -> Arrays:
        """Loss and base loss [control task, strength, 2]; nan if a task has one training label."""
        design, control = self.tasks.design, self.tasks.control
        sums = np.full((len(control), self.tasks.n_strengths, 2), 0.0)
        tasks, sources = [], []
        for i in design.first_repeat:
            outer = design.outer[i]
            train = design.train_sets[outer.train_set]
            for k, y in enumerate(control):
                if is_constant(y[train]):  # happens if one prompt has most rows
                    sums[k] = np.nan
                    continue
                tasks.append(Task(y, train, self.tasks.strengths))
                sources.append((k, outer))
        for task, (k, outer), fit in zip(tasks, sources, self._fit(tasks), strict=True):
            loss, base = self._losses(task.y, fit, outer.train_set, outer.test)
            sums[k] += np.stack([loss, np.full_like(loss, base)], axis=1)
        return {"control": sums}

    def _learning_curve(self, piece: Piece, choice: StrengthChoice) -> Arrays:
        """Scores of probes fitted on growing portions, and the online code length.

        Source: Voita & Titov, "Information-Theoretic Probing with Minimum Description Length", 2020.
        """
        tasks, outer = self.tasks, self.tasks.design.outer[0]
        scores, bits = [], []
        for k, fit in enumerate(self._portion_fits(choice)):
            loss, base = self._losses(tasks.y, fit, outer.train_set, outer.test)
            scores.append(float(1 - loss[0] / base))
            if k + 1 < len(tasks.portions) and self._has_code:
                bits.append(self._bits(fit, tasks.portions[k + 1] & ~tasks.portions[k]))
        arrays = {
            "portion_rows": np.array([mask.sum() for mask in tasks.portions]),
            "curve": np.array(scores),
        }
        if self._has_code:
            per_row = np.log2(len(np.unique(tasks.y[tasks.design.train_sets[outer.train_set]])))
            arrays["code_bits"] = np.array(per_row * tasks.portions[0].sum() + sum(bits))
            arrays["uniform_bits"] = np.array(per_row * tasks.portions[-1].sum())
        return arrays

    def _portion_fits(self, choice: StrengthChoice) -> Iterator[TaskFit]:
        """One fit for each portion. Only the last portion is a prepared training set."""
        *smaller, largest = (
            Task(self.tasks.y, mask, self._strength(choice.chosen[0]))
            for mask in self.tasks.portions
        )
        for task in smaller:
            for fit in self.probe.fit_tasks(self.states, [task]):
                self._unreported.append(fit)
                yield fit
        yield from self._fit([largest])

    def _final_probe(self, piece: Piece, choice: StrengthChoice) -> Arrays:
        """Arrays of the probe that is saved."""
        tasks = self.tasks
        train = tasks.design.train_sets[tasks.design.final]
        (fit,) = self._fit([Task(tasks.y, train, self._strength(choice.final), keep=True)])
        strength = tasks.strengths[choice.final] if tasks.strengths else np.nan
        arrays = {f"probe.{name}": array for name, array in fit.probes[0].items()}
        return {**arrays, "final_strength": np.array(strength)}

    def _strength(self, index: int | np.intp) -> tuple[float, ...]:
        return self.tasks.strengths[int(index) : int(index) + 1]

    @property
    def _has_code(self) -> bool:
        return bool(self.probe.link) and not self.tasks.are_numbers

    @cached_property
    def _prepared(self) -> Any:
        return self.probe.prepare(self.states, self.tasks.design.train_sets)

    def _fit(self, tasks: Sequence[Task]) -> Iterator[TaskFit]:
        for fit in self.probe.fit_prepared(self._prepared, tasks):
            self._unreported.append(fit)
            yield fit

    def _convergence(self) -> Arrays:
        """Duality gap and iterations of each fit since the last call."""
        gaps = [np.empty(0, np.float32), *(fit.gap.ravel() for fit in self._unreported)]
        steps = [np.empty(0, np.int32), *(fit.iterations.ravel() for fit in self._unreported)]
        self._unreported = []
        return {"gap": np.concatenate(gaps), "iterations": np.concatenate(steps)}

    def _losses(
        self, y: NDArray[Any], fit: TaskFit, train_set: int, rows: NDArray[np.intp]
    ) -> tuple[Array, float]:
        """Loss on `rows` [strength], and base loss."""
        train = self.tasks.design.train_sets[train_set]
        loss = row_loss(y[rows], _predictions(y, fit.scores[:, :, rows]))
        return loss.sum(axis=1), float(base_loss(y, train, rows).sum())

    def _bits(self, fit: TaskFit, rows: NDArray[np.bool_]) -> float:
        probability = probabilities(
            fit.scores[0][:, rows].astype(np.float64), self.probe.link, axis=0
        )
        return code_length(probability, self.tasks.y[rows])


def _predictions(y: NDArray[Any], scores: NDArray[np.floating]) -> NDArray[Any]:
    """Class indices or numbers [strength, row] from `scores` [strength, class, row]."""
    predicted: NDArray[Any] = scores[:, 0] if are_numbers(y) else scores.argmax(axis=1)
    return predicted


def _null_name(outer: int, start: int) -> str:
    return f"null.{outer}.{start}"


def choose_strengths(tasks: LayerTasks, searched: Sequence[Arrays]) -> StrengthChoice:
    """For each outer split the strength with the best inner validation score.

    Of equally good strengths the smallest one is chosen. `searched` are the arrays of the search
    pieces.
    """
    arrays = _union(searched)
    inner = np.array([
        np.mean([arrays[f"inner.{i}.{j}"] for j in range(len(outer.inner))], axis=0)
        for i, outer in enumerate(tasks.design.outer)
    ])  # fmt: skip
    return StrengthChoice(inner, first_best(inner, axis=1), int(first_best(inner.mean(axis=0))))


def merge_pieces(
    tasks: LayerTasks,
    probe: ProbeBase,
    searched: Sequence[Arrays],
    choice: StrengthChoice,
    later: Sequence[Arrays],
) -> Arrays:
    """The arrays of a layer from those of all its pieces; `evaluate` reads them.

    strengths [strength], inner [outer, strength], chosen [outer], predicted [repeat, row],
    probability [repeat, row, class], by_strength [strength], null_observed, null [permutation],
    control [control task, strength], portion_rows and curve [portion], code_bits, uniform_bits,
    final_strength, gap and iterations [fit], and the arrays of the saved probe as probe.NAME.
    """
    arrays = {**_union(searched), **_union(later)}
    pieces = [*searched, *later]
    merged = {
        "strengths": arrays["strengths"],
        "inner": choice.inner,
        "chosen": choice.chosen,
        **_test_predictions(tasks, probe, arrays, choice),
        **_scores_by_strength(tasks, arrays, choice),
        "gap": np.concatenate([piece["gap"] for piece in pieces]),
        "iterations": np.concatenate([piece["iterations"] for piece in pieces]),
    }
    if len(tasks.permuted):
        merged["null"] = _null_statistics(tasks, arrays)
    if len(tasks.control):
        sums = arrays["control"]
        known = ~np.isnan(sums).any(axis=(1, 2))
        if known.any():
            merged["control"] = 1 - sums[known, :, 0] / sums[known, :, 1]
    others = ("portion_rows", "curve", "code_bits", "uniform_bits", "final_strength")
    return merged | {
        name: array for name, array in arrays.items() if name in others or name.startswith("probe.")
    }


def _union(pieces: Sequence[Arrays]) -> Arrays:
    return {name: array for piece in pieces for name, array in piece.items()}


def _test_predictions(
    tasks: LayerTasks, probe: ProbeBase, arrays: Arrays, choice: StrengthChoice
) -> Arrays:
    """Predictions of test rows, and probabilities, at the chosen strength of each outer split."""
    design, n_rows = tasks.design, len(tasks.y)
    shape = (design.n_repeats, n_rows)
    chosen = [arrays[f"scores.{i}"][choice.chosen[i]] for i in range(len(design.outer))]
    if tasks.are_numbers:
        predicted = np.full(shape, np.nan, np.float32)
        for outer, scores in zip(design.outer, chosen, strict=True):
            predicted[outer.repeat, outer.test] = scores[0]
        return {"predicted": predicted}
    classes = np.full(shape, -1, np.int16)
    probability = np.full((*shape, int(tasks.y.max()) + 1), np.nan, np.float32)
    for outer, scores in zip(design.outer, chosen, strict=True):
        classes[outer.repeat, outer.test] = scores.argmax(axis=0)
        if probe.link:
            share = probabilities(scores.astype(np.float64), probe.link, axis=0)
            probability[outer.repeat, outer.test] = share.T
    return {"predicted": classes, **({"probability": probability} if probe.link else {})}


def _scores_by_strength(tasks: LayerTasks, arrays: Arrays, choice: StrengthChoice) -> Arrays:
    """The statistic of the first repeat at each strength, and at the chosen strengths."""
    loss, chosen_loss, base = np.zeros(tasks.n_strengths), 0.0, 0.0
    for i in tasks.design.first_repeat:
        outer = tasks.design.outer[i]
        train = tasks.design.train_sets[outer.train_set]
        predicted = _predictions(tasks.y, arrays[f"scores.{i}"])
        of_split = row_loss(tasks.y[outer.test], predicted).sum(axis=1)
        base += float(base_loss(tasks.y, train, outer.test).sum())
        loss += of_split
        chosen_loss += float(of_split[choice.chosen[i]])
    return {"by_strength": 1 - loss / base, "null_observed": np.array(1 - chosen_loss / base)}


def _null_statistics(tasks: LayerTasks, arrays: Arrays) -> Array:
    """The statistic [permutation] on the test rows of the first repeat."""
    starts = range(0, len(tasks.permuted), _PERMUTATIONS)
    sums = np.sum(
        [
            np.concatenate([arrays[_null_name(i, start)] for start in starts])
            for i in tasks.design.first_repeat
        ],
        axis=0,
    )
    statistics: Array = 1 - sums[:, 0] / sums[:, 1]
    return statistics
