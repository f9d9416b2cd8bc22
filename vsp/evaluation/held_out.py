"""Folds that hold out images, name pairs or names: which rows a fold tests and which it fits.

With name pairs or names, no pair (no name) of a test row is in its training rows, and no group
either: rows whose group has a test row are left out, as are rows of which one name is held out and
the other is not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vsp.datasets.splitting import assign_folds, integer_codes
from vsp.errors import ProbeError
from vsp.evaluation.probed_rows import ProbedRows

UNITS = {"image": "group", "pairs": "name pair", "names": "name"}  # --split-by → what is held out


@dataclass(frozen=True, slots=True)
class HeldOut:
    """The unit that folds hold out, and the names of each row."""

    split_by: str = "image"
    subject: NDArray[np.intp] | None = None  # [row], a number of a name, the same for both objects
    reference: NDArray[np.intp] | None = None

    @classmethod
    def of(cls, split_by: str, rows: ProbedRows) -> HeldOut:
        """Raises ProbeError if names are to be held out and a row has none."""
        if split_by == "image":
            return cls()
        n_missing = int((rows.subject == "").sum())
        if n_missing:
            raise ProbeError(
                f"--split-by {split_by}: {n_missing} of {len(rows.subject)} rows name no subject; "
                "give the dataset's records a `subject`, or use --split-by image"
            )
        second = np.where(rows.reference == "", rows.subject, rows.reference)
        code = integer_codes(np.concatenate([rows.subject, second]))
        return cls(split_by, code[: len(second)], code[len(second) :])

    @property
    def pair(self) -> NDArray[np.intp]:
        """A number of the ordered name pair [row]."""
        assert self.subject is not None and self.reference is not None
        n_names = 1 + max(int(self.subject.max()), int(self.reference.max()))
        return self.subject * n_names + self.reference

    def sides(
        self,
        stratum: NDArray[np.intp],
        group: NDArray[np.intp],
        folds: int,
        rng: np.random.Generator,
    ) -> Sides:
        """Assign units to folds, stratified by `stratum` [row]. `group` [row] are numbers."""
        if self.subject is None or self.reference is None:
            fold = assign_folds(stratum, group, folds, rng)
            inside = fold == np.arange(folds)[:, None]
            return Sides(inside, ~inside, fold)
        if self.split_by == "pairs":
            first = second = assign_folds(stratum, self.pair, folds, rng)
        else:  # each row counts for both of its names
            names = np.concatenate([self.subject, self.reference])
            both = assign_folds(np.concatenate([stratum, stratum]), names, folds, rng)
            first, second = both[: len(group)], both[len(group) :]
        number = np.arange(folds)[:, None]
        inside = (first == number) & (second == number)
        outside = (first != number) & (second != number)
        for k in range(folds):
            outside[k] &= np.bincount(group[inside[k]], minlength=group.max() + 1)[group] == 0
        sides = Sides(inside, outside, first * folds + second)
        self._check(sides)
        return sides

    def _check(self, sides: Sides) -> None:
        """Raise ProbeError if a fold has no test rows, or nothing to fit or to validate on."""
        what, option = UNITS[self.split_by], f"--split-by {self.split_by}"
        inside, outside = sides.inside, sides.outside
        for k in range(len(inside)):
            others = np.arange(len(inside)) != k
            if not inside[k].any():
                raise ProbeError(
                    f"{option}: fold {k + 1} tests no row, since no two names of a row are in it; "
                    "use fewer --folds or another --seed"
                )
            has_fit = (outside[k] & outside[others]).any(axis=1).all()
            if not has_fit or not (outside[k] & inside[others]).any():
                raise ProbeError(
                    f"{option}: no rows are left to fit if groups with a row of a held-out {what} "
                    "are left out; use more --folds or --split-by image"
                )


@dataclass(frozen=True, slots=True)
class Sides:
    """The rows that each fold tests and those that may be fitted for it."""

    inside: NDArray[np.bool_]  # [fold, row]; a row is inside one fold at most
    outside: NDArray[np.bool_]  # [fold, row]
    blocks: NDArray[np.intp]  # [row]; rows of the same block are on the same side of all folds


def independent_units(split_by: str, rows: ProbedRows) -> NDArray[np.str_]:
    """The unit [row] that intervals resample, and that exchanges its labels in permutations.

    Groups; with `split_by` pairs or names, name pairs. Rows of the same pair are then always tested
    together and share what makes the pair easy or hard, and the score is about new pairs. Pairs
    that share a name, and rows of different pairs in the same image, count as independent.
    """
    return rows.group if split_by == "image" or rows.names is None else rows.names
