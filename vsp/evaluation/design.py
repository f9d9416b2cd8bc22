"""Splits of rows for nested cross-validation: which rows are fitted and which are tested.

A split depends on labels, groups and a seed only. All layers, and all runs with the same rows,
therefore have the same splits. All rows of a group are on the same side of a split.

Labels `y` [row] are class indices, or float64 numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vsp.datasets.scarce_labels import ScarceLabel, advice, drop_option, list_scarce
from vsp.datasets.splitting import assign_folds, integer_codes
from vsp.errors import ProbeError
from vsp.evaluation.held_out import UNITS, HeldOut, Sides
from vsp.utils.text import format_count

_MAX_BINS = 10  # of numbers, which are stratified by quantile
_BY_GROUP = HeldOut()


@dataclass(frozen=True, slots=True)
class InnerSplit:
    """A split inside the training rows of an outer split. It serves to choose a strength or layer."""

    train_set: int  # index in Design.train_sets
    validation: NDArray[np.intp]  # rows


@dataclass(frozen=True, slots=True)
class OuterSplit:
    """A split whose test rows give the estimates."""

    repeat: int
    train_set: int  # index in Design.train_sets
    test: NDArray[np.intp]  # rows
    inner: tuple[InnerSplit, ...]  # of the training rows


@dataclass(frozen=True, slots=True)
class Design:
    """All splits of a run, and the training rows of the probe that is saved."""

    train_sets: NDArray[np.bool_]  # [training set, row], all different
    outer: tuple[OuterSplit, ...]  # a row is tested at most once in each repeat
    final: int  # training set of the saved probe
    n_repeats: int
    blocks: NDArray[np.intp]  # [row]; a permutation test exchanges labels within a block
    description: str

    @property
    def n_folds(self) -> int:
        """Outer splits in each repeat."""
        return len(self.outer) // self.n_repeats

    @property
    def first_repeat(self) -> list[int]:
        """Indices of the outer splits of the first repeat."""
        return [i for i, split in enumerate(self.outer) if split.repeat == 0]

    def reordered(self, order: NDArray[np.intp]) -> Design:
        """The same splits of rows in another order: row i of this design becomes row `order[i]`."""
        place = np.argsort(order)
        outer = tuple(
            replace(
                split,
                test=np.sort(order[split.test]),
                inner=tuple(
                    replace(one, validation=np.sort(order[one.validation])) for one in split.inner
                ),
            )
            for split in self.outer
        )
        return replace(
            self, train_sets=self.train_sets[:, place], outer=outer, blocks=self.blocks[place]
        )

    @property
    def test_split(self) -> NDArray[np.int16]:
        """Index of the outer split that tests a row [repeat, row]; -1: none does."""
        index = np.full((self.n_repeats, self.train_sets.shape[1]), -1, dtype=np.int16)
        for i, split in enumerate(self.outer):
            index[split.repeat, split.test] = i
        return index


def make_design(
    y: NDArray[Any],
    group: NDArray[np.str_],
    split: NDArray[np.str_],
    folds: int = 5,
    repeats: int = 2,
    seed: int = 0,
    names: Sequence[str] | None = None,
    held_out: HeldOut = _BY_GROUP,
) -> Design:
    """Use the split of the dataset if it has one, otherwise repeated cross-validation.

    `group` and `split` are [row]; `split` is train, val, test or empty. If the dataset has a split,
    its test rows (val if there are none) are the only outer test rows. Strengths and layers are
    chosen on its val rows if it has all three, otherwise on `folds` inner folds of the training
    rows. Folds are stratified by label and keep groups whole. `names` of the classes are used in
    error messages only. If `held_out` are name pairs or names, folds replace the dataset's split.

    Raises ProbeError if no split gives every training set every label.
    """
    _check_finite(y)
    if not len(y):
        raise ProbeError("there are no rows; a probe needs some")
    if repeats < 1:
        raise ProbeError(f"{repeats} repeats of the folds; use 1 or more")
    rows, rng = _Rows(y, integer_codes(group), names), np.random.default_rng(seed)
    has_split = bool((split != "").any())
    if not has_split or held_out.split_by != "image":
        design = _cross_validation(rows, held_out, folds, repeats, rng)
        instead = ", instead of the dataset's own split" if has_split else ""
        return replace(design, description=design.description + instead)
    sides = _sides(split, group)
    if len(sides) == 3:
        return _three_splits(rows, sides["train"], sides["val"], sides["test"])
    tested = [*sides][1]
    return _dataset_split(rows, sides["train"], sides[tested], tested, folds, rng)


def is_constant(y: NDArray[Any]) -> bool:
    """Whether all rows have the same label or number, so that no probe can be fitted."""
    return bool((y == y[0]).all())


@dataclass(frozen=True, slots=True)
class _Rows:
    y: NDArray[Any]
    group: NDArray[np.intp]  # numbers in the order of the group names
    names: Sequence[str] | None

    @property
    def are_numbers(self) -> bool:
        return bool(self.y.dtype.kind == "f")

    def name(self, label: Any) -> str:
        if self.are_numbers:
            return f"{label:g}"
        return repr(self.label(label))

    def label(self, label: Any) -> str:
        return str(label if self.names is None else self.names[label])

    def part(self, rows: NDArray[np.intp]) -> _Rows:
        return _Rows(self.y[rows], self.group[rows], self.names)

    def strata(self, folds: int) -> NDArray[Any]:
        """Strata [row]: classes, or for numbers quantile bins of about equal size."""
        y = self.y
        if not self.are_numbers:
            return y
        n_bins = min(max(len(np.unique(self.group)) // folds, 1), _MAX_BINS)
        edges = np.quantile(y, np.linspace(0, 1, n_bins + 1)[1:-1])
        return np.searchsorted(np.unique(edges), y, side="right")


@dataclass(slots=True)
class _TrainSets:
    """Training sets; equal sets are stored once."""

    masks: list[NDArray[np.bool_]] = field(default_factory=list)
    indices: dict[bytes, int] = field(default_factory=dict)

    def add(self, mask: NDArray[np.bool_]) -> int:
        index = self.indices.setdefault(np.packbits(mask).tobytes(), len(self.masks))
        if index == len(self.masks):
            self.masks.append(mask)
        return index


def _cross_validation(
    rows: _Rows, held_out: HeldOut, folds: int, repeats: int, rng: np.random.Generator
) -> Design:
    _check_two_values(rows, "the rows")
    if folds < 3:
        raise ProbeError(f"{folds} folds leave no rows for inner folds; use 3 or more")
    _check_groups(rows, folds, least=3)
    sides = [held_out.sides(rows.strata(folds), rows.group, folds, rng) for _ in range(repeats)]
    sets = _TrainSets()
    outer = [split for r, one in enumerate(sides) for split in _outer_splits(r, one, sets)]
    final = sets.add(np.ones(len(rows.y), dtype=bool))
    description = f"{folds} folds by {UNITS[held_out.split_by]}"
    description += f", {repeats} times" if repeats > 1 else ""
    result = Design(
        np.stack(sets.masks), tuple(outer), final, repeats, sides[0].blocks, description
    )
    _check_train_sets(rows, result)
    return result


def _outer_splits(repeat: int, sides: Sides, sets: _TrainSets) -> Iterable[OuterSplit]:
    """The outer splits of one repeat, each with one inner split for each remaining fold.

    The fit without folds j and k is used twice: for outer fold k validated on j, and for outer
    fold j validated on k. If names are held out, an inner split can have no validation rows; it is
    left out.
    """
    inside, outside = sides.inside, sides.outside
    for k in range(len(inside)):
        validation = {
            j: np.flatnonzero(inside[j] & outside[k]) for j in range(len(inside)) if j != k
        }
        inner = tuple(
            InnerSplit(sets.add(outside[k] & outside[j]), rows)
            for j, rows in validation.items()
            if len(rows)
        )
        yield OuterSplit(repeat, sets.add(outside[k]), np.flatnonzero(inside[k]), inner)


def _dataset_split(
    rows: _Rows,
    train: NDArray[np.intp],
    test: NDArray[np.intp],
    held_out: str,
    folds: int,
    rng: np.random.Generator,
) -> Design:
    train_rows = rows.part(train)
    _check_sides(train_rows, rows.part(test))
    if folds < 2:
        raise ProbeError(f"{folds} folds leave no rows for inner folds; use 2 or more")
    _check_groups(train_rows, folds, least=2)
    fold, sets = np.full(len(rows.y), -1), _TrainSets()
    fold[train] = assign_folds(train_rows.strata(folds), train_rows.group, folds, rng)
    final = sets.add(fold >= 0)
    inner = tuple(
        InnerSplit(sets.add((fold >= 0) & (fold != k)), np.flatnonzero(fold == k))
        for k in range(folds)
    )
    sides = (fold < 0).astype(np.intp)
    description = f"the dataset's own, {held_out} held out"
    outer = (OuterSplit(0, final, test, inner),)
    result = Design(np.stack(sets.masks), outer, final, 1, sides, description)
    _check_train_sets(rows, result)
    return result


def _three_splits(
    rows: _Rows, train: NDArray[np.intp], val: NDArray[np.intp], test: NDArray[np.intp]
) -> Design:
    for judged, whose in ((val, "val"), (test, "test")):
        _check_sides(rows.part(train), rows.part(judged), whose)
    sides = np.zeros(len(rows.y), dtype=np.intp)
    sides[val], sides[test] = 1, 2
    outer = (OuterSplit(0, 0, test, (InnerSplit(0, val),)),)
    description = "the dataset's own, val chooses strength and layer, test held out"
    return Design((sides == 0)[None], outer, 0, 1, sides, description)


def _sides(split: NDArray[np.str_], group: NDArray[np.str_]) -> dict[str, NDArray[np.intp]]:
    """Rows of each split by its name: train first, the test rows last. No group is in two."""
    if (split == "").any():
        raise ProbeError(
            f"{int((split == '').sum())} of {len(split)} rows have no split; "
            "give every record of the dataset a `split`, or none"
        )
    named = {name: np.flatnonzero(split == name) for name in ("train", "val", "test")}
    sides = {name: rows for name, rows in named.items() if len(rows) or name == "train"}
    if len(sides) == 1:
        sides["val"] = named["val"]
    for one, other in combinations(sides, 2):
        straddling = set(group[sides[one]]) & set(group[sides[other]])
        if straddling:
            raise ProbeError(
                f"{len(straddling)} groups have rows in {one} and in {other}, for example "
                f"{str(min(straddling))!r}; correct the dataset's `split`"
            )
    return sides


def _check_finite(y: NDArray[Any]) -> None:
    if y.dtype.kind == "f" and not np.isfinite(y).all():
        n_bad = int((~np.isfinite(y)).sum())
        raise ProbeError(
            f"{n_bad} of {len(y)} numbers are not finite; correct the dataset's labels"
        )


def _check_sides(train: _Rows, test: _Rows, whose: str = "test") -> None:
    """Raise ProbeError if a probe cannot be fitted on `train` and tested on `test`, the rows of `whose`."""
    if not len(train.y) or not len(test.y):
        raise ProbeError(
            f"{len(train.y)} training and {len(test.y)} {whose} rows; a probe needs both"
        )
    _check_two_values(train, "the training rows")
    if test.are_numbers:
        if is_constant(test.group) or is_constant(test.y):
            raise ProbeError(
                f"the {whose} rows have one group or one number; R² needs two of each, "
                "correct the dataset's `split`"
            )
        return
    unseen = set(test.y.tolist()) - set(train.y.tolist())
    if unseen:
        raise ProbeError(
            f"{whose} label {test.name(min(unseen))} is on no training row; correct the dataset's `split`, "
            f"or leave the label out with {drop_option(test.label(min(unseen)))}"
        )


def _check_two_values(rows: _Rows, whose: str) -> None:
    if is_constant(rows.y):
        what = "number" if rows.are_numbers else "label"
        raise ProbeError(f"{whose} have one {what}, {rows.name(rows.y[0])}; a probe needs two")


def _check_groups(rows: _Rows, folds: int, least: int) -> None:
    """Raise ProbeError if a label has fewer groups than `folds`; `least` is the smallest --folds."""
    fewer = "use more samples or fewer --folds"
    if rows.are_numbers:
        n = len(np.unique(rows.group))
        if n < folds:
            raise ProbeError(
                f"the numbers have {format_count(n, 'group')}, too few for {folds} folds; {fewer}"
            )
        return
    n_groups = rows.group.max() + 1
    pairs = np.unique(rows.y.astype(np.intp) * n_groups + rows.group)
    labels, counts = np.unique(pairs // n_groups, return_counts=True)
    scarce = [
        ScarceLabel(rows.label(label), int((rows.y == label).sum()), int(n))
        for label, n in zip(labels, counts, strict=True)
        if n < folds
    ]
    if scarce:
        few = min(one.n_groups for one in scarce) < least
        raise ProbeError(
            f"{list_scarce(scarce)}, too few for {folds} folds; {advice(scarce, len(labels))}"
            f"{'' if few else ', or use fewer --folds'}"
        )


def _check_train_sets(rows: _Rows, design: Design) -> None:
    """Raise ProbeError if a training set misses a label.

    Stratification cannot prevent this if groups have rows of several labels.
    """
    if rows.are_numbers:
        if any(is_constant(rows.y[mask]) for mask in design.train_sets):
            raise ProbeError("a fold's training rows have one number; use more samples")
        return
    expected = np.bincount(rows.y[design.train_sets[design.final]]) > 0
    for mask in design.train_sets:
        missing = expected & (np.bincount(rows.y[mask], minlength=len(expected)) == 0)
        if missing.any():
            label = int(np.argmax(missing))
            raise ProbeError(
                f"label {rows.name(label)} is on no training row of a fold; use more samples or another "
                f"--seed, or leave the label out with {drop_option(rows.label(label))}"
            )
