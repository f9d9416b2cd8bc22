"""All fits of one layer: choice of a strength, outer estimates, and controls.

The fits of a layer are divided into pieces. The search pieces fit every training set of the design
at every strength of the probe's grid. Their inner validation scores choose a strength for each
outer split. The later pieces depend on this choice: permuted labels, control tasks, the learning
curve, and the probe that is saved. The division does not depend on the number of workers, so results
are equal to the last bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vsp.evaluation.design import Design, OuterSplit, is_constant
from vsp.evaluation.metrics import METRICS, Metric, label_shares, score_of_sums
from vsp.evaluation.named_fits import name_of_rows, named
from vsp.evaluation.online_code import OnlineCode, PortionFit, Portions, Target, portion_fits
from vsp.evaluation.scores import Floats, are_numbers
from vsp.evaluation.tested_rows import Cells, chance_losses, normalised_on_tested, split_losses
from vsp.probes.base import ProbeBase, Task, TaskFit

Array = NDArray[np.floating]
Arrays = dict[str, NDArray[Any]]

_SETS = 16  # training sets of a search piece
PERMUTATIONS = 20  # of a piece


@dataclass(frozen=True, slots=True)
class LayerTasks:
    """Targets, splits and strengths, equal for all layers."""

    y: NDArray[Any]  # [row], class index or number
    design: Design
    metric: Metric
    strengths: tuple[float, ...]  # of the probe's grid, ascending; empty: the probe has none
    permuted: NDArray[Any]  # labels [permutation, row]
    within: NDArray[Any]  # labels [permutation, row], exchanged among rows with the same words
    group: NDArray[np.intp]  # [row], a number from 0
    controls: dict[str, NDArray[Any]] = field(default_factory=dict)  # name → labels [task, row]
    portions: Portions | None = None  # of the training rows of outer split 0
    code_strengths: tuple[float, ...] = ()  # of the online code; empty: `strengths`
    resamples: NDArray[np.intp] | None = None  # counts [resample, row] of training rows
    shuffled: NDArray[Any] | None = None  # random labels [draw, row], each row drawn by itself
    n_erasures: int = 0  # random subspaces beside erased states; 0: nothing is erased
    keep_folds: bool = True  # save the probe of each outer split, if there are several

    def reordered(self, order: NDArray[np.intp]) -> LayerTasks:
        """The same tasks for rows in another order: row i becomes row `order[i]`."""
        place = np.argsort(order)
        return replace(
            self,
            y=self.y[place],
            design=self.design.reordered(order),
            permuted=self.permuted[:, place],
            within=self.within[:, place],
            group=self.group[place],
            controls={name: labels[:, place] for name, labels in self.controls.items()},
            shuffled=None if self.shuffled is None else self.shuffled[:, place],
            portions=self.portions and self.portions.reordered(place),
            resamples=None if self.resamples is None else self.resamples[:, place],
        )

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
        """Pieces that depend on the chosen strengths."""
        pieces = [Piece("control", name=name) for name in self.controls]
        n_refits = 0 if self.resamples is None else len(self.resamples)
        drawn = {"null": len(self.permuted), "within": len(self.within), "refit": n_refits}
        for kind, n in drawn.items():
            pieces += [Piece(kind, start) for start in range(0, n, PERMUTATIONS)]
        once = {
            "capacity": self.shuffled is not None,
            "curve": bool(self.portions),
            "erasure": self.n_erasures > 0,
            "folds": self.keep_folds and len(self.design.outer) > 1,
            "final": True,
        }
        return [*pieces, *(Piece(kind) for kind, wanted in once.items() if wanted)]


@dataclass(frozen=True, slots=True)
class Piece:
    """A later piece."""

    kind: str  # null or within (permuted labels), control, capacity, refit, curve, erasure, …
    start: int = 0  # first permutation or resample
    name: str = ""  # of the control


@dataclass(frozen=True, slots=True)
class StrengthChoice:
    """Strengths chosen on inner validation scores."""

    inner: Array  # mean inner validation score [outer, strength]
    chosen: NDArray[np.intp]  # [outer], index of a strength
    likeliest: NDArray[np.intp]  # [outer], the one with the least inner log loss
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
                        sums = self._sums(y, fit, index, inner.validation)
                        arrays[f"inner.{i}.{j}"] = score_of_sums(sums)
                        if self._has_probabilities:
                            sums = self._sums(y, fit, index, inner.validation, METRICS["log-loss"])
                            arrays[f"inner_likelihood.{i}.{j}"] = score_of_sums(sums)
        arrays["strengths"] = np.array(self.tasks.strengths or (np.nan,))
        return {**arrays, **self._convergence()}

    def run(self, piece: Piece, choice: StrengthChoice) -> Arrays:
        """Run a later piece."""
        run: dict[str, Callable[[Piece, StrengthChoice], Arrays]] = {
            "null": self._permutations,
            "within": self._within_permutations,
            "refit": self._refits,
            "control": self._control_tasks,
            "capacity": self._capacity,
            "curve": self._learning_curve,
            "folds": self._fold_probes,
            "final": self._final_probe,
        }
        return {**run[piece.kind](piece, choice), **self._convergence()}

    def _permutations(self, piece: Piece, choice: StrengthChoice) -> Arrays:
        """Sums [permutation, cell, 2] over the test rows of the first repeat."""
        permuted = self.tasks.permuted[piece.start : piece.start + PERMUTATIONS]
        sums: list[Any] = [0.0] * len(permuted)
        for outer, k, y, fit in self._first_repeat_fits(permuted, choice):
            sums[k] = sums[k] + self._sums(y, fit, outer.train_set, outer.test)[0]
        return {f"null.{piece.start}": np.stack(sums)}

    def _capacity(self, piece: Piece, choice: StrengthChoice) -> Arrays:
        """Accuracy [draw] of probes fitted on random labels of outer split 0, on their own rows."""
        train = self.tasks.design.train_sets[self.tasks.design.outer[0].train_set]
        labels, strength = self.tasks.shuffled, self._strength(choice.chosen[0])
        assert labels is not None
        fits = self._fit([Task(y, train, strength) for y in labels])
        shares = [
            np.mean(fit.scores[0][:, train].argmax(axis=0) == y[train])
            for y, fit in zip(labels, fits, strict=True)
        ]
        return {"capacity": np.array(shares)}

    def _within_permutations(self, piece: Piece, choice: StrengthChoice) -> Arrays:
        """Losses of each group [permutation, group], on the test rows of the first repeat."""
        permuted = self.tasks.within[piece.start : piece.start + PERMUTATIONS]
        losses, cells = [], []
        for outer, _, y, fit in self._first_repeat_fits(permuted, choice):
            cells.append((outer, self._cells(y, fit, outer)))
            if len(cells) == len(self.tasks.design.first_repeat):
                losses.append(self._group_losses(cells))
                cells = []
        return {f"within.{piece.start}": np.stack(losses)}

    def _first_repeat_fits(
        self, labels: NDArray[Any], choice: StrengthChoice
    ) -> Iterator[tuple[OuterSplit, int, NDArray[Any], TaskFit]]:
        """Fits of `labels` [permutation, row] on each outer split of the first repeat, in turn."""
        design = self.tasks.design
        sources = [(i, k) for k in range(len(labels)) for i in design.first_repeat]
        tasks = [
            Task(
                labels[k],
                design.train_sets[design.outer[i].train_set],
                self._strength(choice.chosen[i]),
            )
            for i, k in sources
        ]
        for (i, k), fit in zip(sources, self._fit(tasks), strict=True):
            yield design.outer[i], k, labels[k], fit

    def _group_losses(self, cells: Sequence[tuple[OuterSplit, Cells]]) -> Floats:
        loss, _ = split_losses(self.tasks.metric, self.tasks.design, cells)
        n_groups = int(self.tasks.group.max()) + 1
        return np.asarray(np.bincount(self.tasks.group, loss[0], n_groups), np.float64)

    def _refits(self, piece: Piece, choice: StrengthChoice) -> Arrays:
        """Score [resample] of probes fitted on resamples of the training rows of outer split 0."""
        outer, resamples = self.tasks.design.outer[0], self.tasks.resamples
        assert resamples is not None
        tasks = [
            Task(self.tasks.y, counts > 0, self._strength(choice.chosen[0]), counts=counts)
            for counts in resamples[piece.start : piece.start + PERMUTATIONS]
        ]
        sums = [
            self._sums(self.tasks.y, fit, outer.train_set, outer.test)[0]
            for fit in self._fit(tasks)
        ]
        return {f"refit.{piece.start}": score_of_sums(np.stack(sums))}

    def _control_tasks(self, piece: Piece, choice: StrengthChoice) -> Arrays:
        """Mean over control tasks of their score, and of their normalised loss [repeat, row]."""
        scores, normalised = [], []
        for y, loss, base in self._control_losses(self.tasks.controls[piece.name], choice):
            scores.append(1 - loss.sum() / base.sum())
            chance = chance_losses(self.tasks.metric, y, self.tasks.design)
            normalised.append(normalised_on_tested(self.tasks.design, (loss, base), chance))
        return {
            f"control.{piece.name}.score": np.array(np.mean(scores)),
            f"control.{piece.name}.loss": np.mean(normalised, axis=0),
        }

    def _control_losses(
        self, labels: NDArray[Any], choice: StrengthChoice
    ) -> Iterator[tuple[NDArray[Any], Floats, Floats]]:
        """Labels, losses and base losses [repeat, row] of each control task."""
        design = self.tasks.design
        fits = self._fit([
            Task(y, design.train_sets[outer.train_set], self._strength(choice.chosen[i]))
            for y in labels
            for i, outer in enumerate(design.outer)
        ])  # fmt: skip
        for y in labels:
            cells = [(outer, self._cells(y, next(fits), outer)) for outer in design.outer]
            yield y, *split_losses(self.tasks.metric, design, cells)

    def _learning_curve(self, piece: Piece, choice: StrengthChoice) -> Arrays:
        """Test scores of probes fitted on growing portions, and online code lengths.

        curve [order, portion] without the largest portion, at the strength of outer split 0.
        code_bits [order] and uniform_bits; control_code_bits and control_uniform_bits are of the
        first control task.
        """
        portions = self.tasks.portions
        assert portions is not None
        curve = np.full((portions.n_orders, portions.n_portions - 1), np.nan)
        coded = self.coded_targets
        codes = {name: OnlineCode(one, portions, self.probe.link) for name, one in coded.items()}
        curve_target = Target(self.tasks.y, self._strength(choice.chosen[0]))
        errors = []
        for one in self._portion_fits(curve_target, coded):
            if one.fit is None:
                errors.append(one.error)
                if one.target != "curve":
                    codes[one.target].add_uniform(one)
            elif one.target == "curve":
                curve[one.order, one.portion] = self._portion_score(one)
            else:
                codes[one.target].add(one)
        arrays = {"portion_rows": portions.n_rows.mean(axis=0), "curve": curve}
        if errors:
            arrays["portion_errors"] = np.array([f"{len(errors)}", errors[0]])
        for name, code in codes.items():
            arrays[f"{name}_bits"] = code.bits()
            arrays[f"{name.removesuffix('code')}uniform_bits"] = np.array(code.uniform_bits)
        return arrays

    @property
    def coded_targets(self) -> dict[str, Target]:
        """The labels and the first control task; none if the probe has no probabilities."""
        tasks = self.tasks
        if not self._has_probabilities:
            return {}
        strengths = tasks.code_strengths or tasks.strengths
        train = tasks.design.train_sets[tasks.design.outer[0].train_set]
        labels = {"code": tasks.y}
        if tasks.controls:
            labels["control_code"] = next(iter(tasks.controls.values()))[0]
        return {
            name: Target(y, strengths) for name, y in labels.items() if not is_constant(y[train])
        }

    def _portion_fits(self, curve: Target, coded: dict[str, Target]) -> Iterator[PortionFit]:
        """Class weights belong to the score; probabilities that code labels have none."""
        plain = self.probe.without_class_weights()
        calls = [(self.probe, {"curve": curve, **coded})]
        if plain is not self.probe:
            calls = [(self.probe, {"curve": curve}), (plain, coded)]
        test, portions = self.tasks.design.outer[0].test, self.tasks.portions
        assert portions is not None
        for probe, targets in calls:
            for one in portion_fits(self.states, probe, portions, targets, test):
                if one.fit is not None:
                    self._unreported.append(one.fit)
                yield one

    def _portion_score(self, one: PortionFit) -> float:
        """Score on the test rows of outer split 0."""
        y, outer = self.tasks.y, self.tasks.design.outer[0]
        shares = label_shares(y, self.tasks.design.train_sets[outer.train_set])
        sums = self.tasks.metric.sums(
            y[outer.test], one.scores(outer.test), shares, self.probe.link
        )
        return float(score_of_sums(sums)[0])

    def _final_probe(self, piece: Piece, choice: StrengthChoice) -> Arrays:
        """Arrays of the probe that is saved, and its scores if it is that of the only outer split."""
        tasks = self.tasks
        train = tasks.design.train_sets[tasks.design.final]
        (fit,) = self._fit([Task(tasks.y, train, self._strength(choice.final), keep=True)])
        strength = tasks.strengths[choice.final] if tasks.strengths else np.nan
        arrays = {f"probe.{name}": array for name, array in fit.probes[0].items()}
        if len(tasks.design.outer) == 1:
            arrays["saved_scores.0"] = fit.scores[0][:, tasks.design.outer[0].test]
        return {**arrays, "final_strength": np.array(strength)}

    def _fold_probes(self, piece: Piece, choice: StrengthChoice) -> Arrays:
        """Arrays of the probe of each outer split at its chosen strength, and scores of test rows."""
        design = self.tasks.design
        tasks = [
            Task(
                self.tasks.y, design.train_sets[outer.train_set], self._strength(chosen), keep=True
            )
            for outer, chosen in zip(design.outer, choice.chosen, strict=True)
        ]
        arrays: Arrays = {}
        for i, fit in enumerate(self._fit(tasks)):
            arrays |= {f"fold.{i}.{name}": array for name, array in fit.probes[0].items()}
            arrays[f"saved_scores.{i}"] = fit.scores[0][:, design.outer[i].test]
        return arrays

    def _strength(self, index: int | np.intp) -> tuple[float, ...]:
        return self.tasks.strengths[int(index) : int(index) + 1]

    @property
    def _has_probabilities(self) -> bool:
        return bool(self.probe.link) and not self.tasks.are_numbers

    @cached_property
    def _prepared(self) -> Any:
        sets, resamples = self.tasks.design.train_sets, self.tasks.resamples
        if resamples is not None:
            sets = np.concatenate([sets, resamples > 0])
        return self.probe.prepare(self.states, sets)

    def _fit(self, tasks: Sequence[Task]) -> Iterator[TaskFit]:
        fits = self.probe.fit_prepared(self._prepared, tasks)
        for task in tasks:
            with named(partial(name_of_rows, self.tasks.design, task.train)):
                fit = next(fits)
            self._unreported.append(fit)
            yield fit

    def _convergence(self) -> Arrays:
        """Duality gap and iterations of each fit since the last call."""
        gaps = [np.empty(0, np.float32), *(fit.gap.ravel() for fit in self._unreported)]
        steps = [np.empty(0, np.int32), *(fit.iterations.ravel() for fit in self._unreported)]
        self._unreported = []
        return {"gap": np.concatenate(gaps), "iterations": np.concatenate(steps)}

    def _sums(
        self,
        y: NDArray[Any],
        fit: TaskFit,
        train_set: int,
        rows: NDArray[np.intp],
        metric: Metric | None = None,
    ) -> Floats:
        """Sums of loss and base [strength, cell, 2] over `rows`; of the run's metric by default."""
        metric = metric or self.tasks.metric
        shares = label_shares(y, self.tasks.design.train_sets[train_set])
        return metric.sums(y[rows], fit.scores[:, :, rows], shares, self.probe.link)

    def _cells(self, y: NDArray[Any], fit: TaskFit, outer: OuterSplit) -> Cells:
        """Loss and base of each cell on the test rows, at the first strength."""
        shares = label_shares(y, self.tasks.design.train_sets[outer.train_set])
        scores = fit.scores[0][:, outer.test]
        return list(self.tasks.metric.cells(y[outer.test], scores, shares, self.probe.link))
