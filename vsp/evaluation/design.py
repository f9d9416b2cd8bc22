"""Which rows a probe is fitted on, which it is judged on, and which labels may change places.

Nothing here knows a state: a split follows from labels, groups and a seed alone, so that every
layer, and every run with the same rows, is judged in the same way. No group is ever on two sides.

Labels are class indices [row], or float64 numbers [row].
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vsp.datasets.splitting import assign_folds, integer_codes
from vsp.errors import ProbeError

_ABOUT = 0.1  # by which sizes of groups may differ that exchange their one label
_BINS = 10  # at most, of numbers that are spread evenly over folds
# Voita & Titov, "Information-Theoretic Probing with Minimum Description Length", 2020.
_PORTIONS = (0.001, 0.002, 0.004, 0.008, 0.016, 0.03125, 0.0625, 0.125, 0.25, 0.5, 1.0)


@dataclass(frozen=True, slots=True)
class Judged:
    """A fit that is judged to choose a strength or a layer."""

    fit: int  # index of a training set
    judge: NDArray[np.intp]  # rows


@dataclass(frozen=True, slots=True)
class Outer:
    """A fit whose judged rows take part in the estimates; `inner` chooses for it."""

    repeat: int
    fit: int  # index of a training set
    judge: NDArray[np.intp]  # rows
    inner: tuple[Judged, ...]  # all rows of these are among the training rows of this


@dataclass(frozen=True, slots=True)
class Design:
    """All fits of a layer's probe: what estimates are made of, and the probe that is saved."""

    train: NDArray[np.bool_]  # [training set, row], no two alike
    outer: tuple[Outer, ...]  # each row is judged at most once a repeat
    final: int  # training set of the probe that is saved
    n_repeats: int
    blocks: NDArray[np.intp]  # [row]; labels may change places within a block
    words: str

    @property
    def n_folds(self) -> int:
        """Outer splits of a repeat."""
        return len(self.outer) // self.n_repeats

    @property
    def judged_by(self) -> NDArray[np.int16]:
        """Which outer split judges a row [repeat, row]; -1 where none does."""
        judged_by = np.full((self.n_repeats, self.train.shape[1]), -1, dtype=np.int16)
        for i, outer in enumerate(self.outer):
            judged_by[outer.repeat, outer.judge] = i
        return judged_by


def design(
    y: NDArray[Any],
    group: NDArray[np.str_],
    split: NDArray[np.str_],
    folds: int = 5,
    repeats: int = 2,
    seed: int = 0,
    names: Sequence[str] | None = None,
) -> Design:
    """The dataset's own split where it has one (test, else val, is held out), else repeated folds.

    Of the own split's training rows, as of all rows, `folds` folds are made, stratified by label
    and with whole groups. `names` of the classes are for errors alone. Raises ProbeError where
    rows cannot be split so that every training set has every label.
    """
    _check_numbers(y)
    if not len(y):
        raise ProbeError("there are no rows; a probe needs some")
    if repeats < 1:
        raise ProbeError(f"{repeats} repeats of the folds; use 1 or more")
    rows, rng = _Rows(y, integer_codes(group), names), np.random.default_rng(seed)
    if (split == "").all():
        return _repeated(rows, folds, repeats, rng)
    return _own(rows, *_own_sides(split, group), folds, rng)


@dataclass(frozen=True, slots=True)
class _Rows:
    y: NDArray[Any]
    group: NDArray[np.intp]  # a number, in the order of names
    names: Sequence[str] | None

    @property
    def are_numbers(self) -> bool:
        return bool(self.y.dtype.kind == "f")

    def name(self, label: Any) -> str:
        if self.are_numbers:
            return f"{label:g}"
        return repr(str(label if self.names is None else self.names[label]))

    def part(self, rows: NDArray[np.intp]) -> _Rows:
        return _Rows(self.y[rows], self.group[rows], self.names)

    def strata(self, folds: int) -> NDArray[Any]:
        """What is to be spread evenly: classes, or bins of numbers with as many rows."""
        y = self.y
        if not self.are_numbers:
            return y
        n_bins = min(max(len(np.unique(self.group)) // folds, 1), _BINS)
        edges = np.quantile(y, np.linspace(0, 1, n_bins + 1)[1:-1])
        return np.searchsorted(np.unique(edges), y, side="right")


@dataclass(slots=True)
class _Sets:
    """Training sets, each kept once."""

    masks: list[NDArray[np.bool_]] = field(default_factory=list)
    numbers: dict[bytes, int] = field(default_factory=dict)

    def add(self, mask: NDArray[np.bool_]) -> int:
        number = self.numbers.setdefault(np.packbits(mask).tobytes(), len(self.masks))
        if number == len(self.masks):
            self.masks.append(mask)
        return number


def _repeated(rows: _Rows, folds: int, repeats: int, rng: np.random.Generator) -> Design:
    _check_two_labels(rows, "the rows")
    if folds < 3:
        raise ProbeError(f"{folds} folds leave no rows to choose on; use 3 or more")
    _check_groups(rows, folds)
    dealt = [assign_folds(rows.strata(folds), rows.group, folds, rng) for _ in range(repeats)]
    sets = _Sets()
    outer = [one for r, fold in enumerate(dealt) for one in _outers(r, fold, folds, sets)]
    final = sets.add(np.ones(len(rows.y), dtype=bool))
    words = f"{folds} folds by group" + (f", {repeats} times" if repeats > 1 else "")
    made = Design(np.stack(sets.masks), tuple(outer), final, repeats, dealt[0], words)
    _check_every_set(rows, made)
    return made


def _outers(repeat: int, fold: NDArray[np.intp], folds: int, sets: _Sets) -> Iterable[Outer]:
    """Each fold is judged by a fit on the others, and chosen for by leaving out one more.

    The fit without folds j and k serves both: judged on j it chooses for k, on k for j.
    """
    rows = [np.flatnonzero(fold == k) for k in range(folds)]
    for k in range(folds):
        inner = tuple(
            Judged(sets.add((fold != k) & (fold != j)), rows[j]) for j in range(folds) if j != k
        )
        yield Outer(repeat, sets.add(fold != k), rows[k], inner)


def _own(
    rows: _Rows,
    train: NDArray[np.intp],
    test: NDArray[np.intp],
    held_out: str,
    folds: int,
    rng: np.random.Generator,
) -> Design:
    trained = rows.part(train)
    _check_sides(trained, rows.part(test))
    if folds < 2:
        raise ProbeError(f"{folds} folds leave no rows to choose on; use 2 or more")
    _check_groups(trained, folds)
    fold, sets = np.full(len(rows.y), -1), _Sets()
    fold[train] = assign_folds(trained.strata(folds), trained.group, folds, rng)
    final = sets.add(fold >= 0)
    inner = tuple(
        Judged(sets.add((fold >= 0) & (fold != k)), np.flatnonzero(fold == k)) for k in range(folds)
    )
    sides = (fold < 0).astype(np.intp)
    words = f"the dataset's own, {held_out} held out"
    made = Design(np.stack(sets.masks), (Outer(0, final, test, inner),), final, 1, sides, words)
    _check_every_set(rows, made)
    return made


def _own_sides(
    split: NDArray[np.str_], group: NDArray[np.str_]
) -> tuple[NDArray[np.intp], NDArray[np.intp], str]:
    if (split == "").any():
        raise ProbeError(
            f"{int((split == '').sum())} of {len(split)} rows have no split; "
            "give every record of the dataset a `split`, or none"
        )
    held_out = "test" if (split == "test").any() else "val"
    train, test = np.flatnonzero(split != held_out), np.flatnonzero(split == held_out)
    straddling = set(group[train]) & set(group[test])
    if straddling:
        raise ProbeError(
            f"{len(straddling)} groups have rows in train and in {held_out}, {str(min(straddling))!r} "
            "among them; mend the dataset's `split`"
        )
    return train, test, held_out


def _check_numbers(y: NDArray[Any]) -> None:
    if y.dtype.kind == "f" and not np.isfinite(y).all():
        n_bad = int((~np.isfinite(y)).sum())
        raise ProbeError(f"{n_bad} of {len(y)} numbers are not finite; mend the dataset's labels")


def _check_sides(train: _Rows, test: _Rows) -> None:
    if not len(train.y) or not len(test.y):
        raise ProbeError(f"{len(train.y)} training and {len(test.y)} test rows; a probe needs both")
    _check_two_labels(train, "the training rows")
    if test.are_numbers:
        if np.ptp(test.group) == 0 or np.ptp(test.y) == 0:
            raise ProbeError(
                "the test rows have one group or one number; R² needs two of each, mend the split"
            )
        return
    unseen = set(test.y.tolist()) - set(train.y.tolist())
    if unseen:
        raise ProbeError(
            f"test label {test.name(min(unseen))} is on no training row; mend the split"
        )


def _check_two_labels(rows: _Rows, whose: str) -> None:
    if (rows.y == rows.y[0]).all():
        what = "number" if rows.are_numbers else "label"
        raise ProbeError(f"{whose} have one {what}, {rows.name(rows.y[0])}; a probe needs two")


def _check_groups(rows: _Rows, folds: int) -> None:
    n_groups = rows.group.max() + 1
    if rows.are_numbers:
        smallest, whose = len(np.unique(rows.group)), "the numbers have"
    else:
        pairs = np.unique(rows.y.astype(np.intp) * n_groups + rows.group)
        found, counts = np.unique(pairs // n_groups, return_counts=True)
        smallest, whose = counts.min(), f"label {rows.name(found[counts.argmin()])} has"
    if smallest < folds:
        raise ProbeError(
            f"{whose} {smallest} groups, too few for {folds} folds; "
            "use more samples or fewer --folds"
        )


def _check_every_set(rows: _Rows, made: Design) -> None:
    """Folds are dealt so that labels are everywhere, which groups of many labels can prevent."""
    if rows.are_numbers:
        if any(np.ptp(rows.y[mask]) == 0 for mask in made.train):
            raise ProbeError("a fold's training rows have one number; use more samples")
        return
    there = np.bincount(rows.y[made.train[made.final]]) > 0
    for mask in made.train:
        lost = there & (np.bincount(rows.y[mask], minlength=len(there)) == 0)
        if lost.any():
            raise ProbeError(
                f"label {rows.name(int(np.argmax(lost)))} is on no training row of a fold; "
                "use more samples or another --seed"
            )


@dataclass(frozen=True, slots=True)
class _Exchange:
    """Groups whose labels may change places: those of one stratum."""

    group: NDArray[np.intp]  # [row], a number
    stratum: NDArray[np.intp]  # [group]
    source: NDArray[np.intp]  # [group]: where its labels begin in `order`
    rank: NDArray[np.intp]  # [row] of the row in its group; 0 where the group has one label
    order: NDArray[np.intp]  # rows, group by group


def permutations(
    y: NDArray[Any],
    group: NDArray[np.str_],
    blocks: NDArray[np.intp],
    n: int,
    seed: int,
) -> tuple[NDArray[Any], int]:
    """Labels [permutation, row] as they might have been, if states say nothing about them.

    Groups of a block and of one size exchange their labels: so neither that rows of a group are
    alike nor that a label's groups are larger counts as a finding. Where every group has one
    label, it goes to all rows of the other, whose size may differ by a tenth. Else the labels go
    row by row, in their order.

    Also returns how many rows have a group to exchange other labels with; where that is few, no
    permutation says much.
    """
    exchange = _exchange(y, group, blocks)
    rng = np.random.default_rng(seed)
    home = np.argsort(exchange.stratum, kind="stable")
    permuted = np.empty((n, len(y)), dtype=y.dtype)
    source = np.empty_like(exchange.source)
    for i in range(n):
        drawn = np.lexsort((rng.random(len(home)), exchange.stratum))
        source[home] = exchange.source[drawn]
        permuted[i] = y[exchange.order[source[exchange.group] + exchange.rank]]
    return permuted, _movable(y, exchange)


def movable(y: NDArray[Any], group: NDArray[np.str_], blocks: NDArray[np.intp]) -> int:
    """How many rows have a group to exchange other labels with, in `permutations`."""
    return _movable(y, _exchange(y, group, blocks))


def _exchange(y: NDArray[Any], group: NDArray[np.str_], blocks: NDArray[np.intp]) -> _Exchange:
    number = integer_codes(group)
    order = np.argsort(number, kind="stable")
    size = np.bincount(number)
    start = np.cumsum(size) - size
    rank = np.empty(len(y), dtype=np.intp)
    rank[order] = np.arange(len(y)) - np.repeat(start, size)
    if (y == y[order[start]][number]).all():
        rank[:] = 0
        stratum = _alike(blocks[order[start]], size, _ABOUT)
    else:
        stratum = _alike(blocks[order[start]], size, 0)
    return _Exchange(number, stratum, start, rank, order)


def _alike(block: NDArray[np.intp], size: NDArray[np.intp], slack: float) -> NDArray[np.intp]:
    """A number [group], the same for groups of one block whose sizes differ by `slack` at most."""
    sizes, of = np.unique(size, return_inverse=True)
    kind, first, current = np.empty(len(sizes), dtype=np.intp), 0, -1
    for i, one in enumerate(sizes):
        if one > first * (1 + slack):
            first, current = one, current + 1
        kind[i] = current
    return integer_codes(block * (current + 1) + kind[of])


def _movable(y: NDArray[Any], exchange: _Exchange) -> int:
    weights = np.random.default_rng(0).random(exchange.rank.max() + 1)
    own = np.bincount(exchange.group, y * weights[exchange.rank])
    if not exchange.rank.any():
        own = y[exchange.order[exchange.source]]
    least = np.full(exchange.stratum.max() + 1, np.inf)
    most = -least
    np.minimum.at(least, exchange.stratum, own)
    np.maximum.at(most, exchange.stratum, own)
    return int((least < most)[exchange.stratum][exchange.group].sum())


def control_labels(
    types: NDArray[np.str_], y: NDArray[Any], n: int, seed: int
) -> NDArray[Any] | None:
    """Labels [control, row] that say nothing but which type (prompt) a row is of.

    Each type has one label, that of a row drawn by chance; there are always two. None where
    there is one type or one label only. Hewitt & Liang, "Designing and Interpreting Probes with
    Control Tasks", 2019.
    """
    found, kind = np.unique(types, return_inverse=True)
    if len(found) < 2 or (y == y[0]).all():
        return None
    rng = np.random.default_rng(seed)
    drawn = y[rng.integers(len(y), size=(n, len(found)))]
    for labels in drawn:
        if (labels == labels[0]).all():
            others = y[y != labels[0]]
            labels[rng.integers(len(found))] = others[rng.integers(len(others))]
    return np.asarray(drawn[:, kind])


def portions(
    y: NDArray[Any], group: NDArray[np.str_], train_mask: NDArray[np.bool_], seed: int
) -> list[NDArray[np.bool_]]:
    """Growing parts [row] of the training rows, each in the next, the last all of them.

    For learning curves and the online code: whole groups, labels mixed as in all rows, from 0.1 %
    of the rows on; parts without two rows of every label are left out.
    """
    rows = np.flatnonzero(train_mask)
    number = integer_codes(group[rows])
    code = integer_codes(_Rows(y[rows], number, None).strata(folds=2))
    n_groups = number.max() + 1
    size, place = np.bincount(number), np.empty(n_groups, dtype=np.intp)
    place[_mixed(code, number, np.random.default_rng(seed))] = np.arange(n_groups)
    behind = np.cumsum(size[np.argsort(place)])  # rows of the first 1, 2, … groups
    found: list[NDArray[np.bool_]] = []
    for share in _PORTIONS:
        last = np.searchsorted(behind, np.ceil(share * len(rows) - 1e-9))
        taken = place[number] <= last
        if share < 1 and np.bincount(code[taken], minlength=code.max() + 1).min() < 2:
            continue
        mask = np.zeros(len(y), dtype=bool)
        mask[rows[taken]] = True
        if not found or mask.sum() > found[-1].sum():
            found.append(mask)
    return found


def _mixed(
    code: NDArray[np.intp], number: NDArray[np.intp], rng: np.random.Generator
) -> NDArray[np.intp]:
    """Groups by chance, but so that the first of them have as much of each label as all have."""
    n_groups = number.max() + 1
    shuffled = rng.permutation(n_groups)
    # A group counts by the label of one of its rows, by chance.
    order = rng.permutation(len(number))
    label = np.empty(n_groups, dtype=np.intp)
    label[number[order]] = code[order]
    by_label = shuffled[np.argsort(label[shuffled], kind="stable")]
    counts = np.bincount(label)
    place = np.arange(n_groups) - np.repeat(np.cumsum(counts) - counts, counts)
    key = np.empty(n_groups)
    key[by_label] = (place + rng.random(n_groups)) / np.repeat(counts, counts)
    return np.argsort(key, kind="stable")
