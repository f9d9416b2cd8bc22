"""Find the labels that have too few groups for the folds of `vsp probe`.

A probe is fitted and tested on rows of different groups, so it needs several groups of each label.
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from math import isfinite

from vsp.utils.text import format_count

FOLDS = 5  # of `vsp probe`, unless --folds says otherwise
_N_NAMED = 3  # labels in a sentence


@dataclass(frozen=True, slots=True)
class ScarceLabel:
    """A label and the training rows and groups that have it."""

    label: str
    n_rows: int
    n_groups: int

    def __str__(self) -> str:
        groups = format_count(self.n_groups, "group")
        return f"label {self.label!r} has {format_count(self.n_rows, 'row')} in {groups}"


class LabelGroups:
    """Rows and groups of each label; at most `FOLDS` groups of a label and split are kept."""

    def __init__(self) -> None:
        self._n_rows: Counter[tuple[str, str]] = Counter()  # label, split
        self._groups: dict[tuple[str, str], set[str | int]] = {}

    def add(self, label: str, split: str, group: str | int) -> None:
        """Count a row."""
        self._n_rows[label, split] += 1
        groups = self._groups.setdefault((label, split), set())
        if len(groups) < FOLDS:
            groups.add(group)

    def scarce(self) -> list[ScarceLabel]:
        """Labels with fewer than `FOLDS` groups of training rows; none if all labels are numbers.

        The test split, or val if there is none, has no training rows.
        """
        splits = {split for _, split in self._n_rows}
        held_out = next((split for split in ("test", "val") if split in splits), None)
        labels = list(dict.fromkeys(label for label, _ in self._n_rows))
        found = []
        for label in [] if all(map(_is_number, labels)) else labels:
            keys = [(label, split) for split in splits - {held_out}]
            groups = set().union(*(self._groups.get(key, set()) for key in keys))
            if len(groups) < FOLDS:
                n_rows = sum(self._n_rows[key] for key in keys)
                found.append(ScarceLabel(label, n_rows, len(groups)))
        return sorted(found, key=lambda one: one.n_groups)

    def notes(self) -> list[str]:
        """A note for the user if there are such labels."""
        scarce = self.scarce()
        if not scarce:
            return []
        n_labels = len({label for label, _ in self._n_rows})
        return [
            f"{list_scarce(scarce)}; `vsp probe` needs {FOLDS} groups of training rows for each label: "
            f"{advice(scarce, n_labels)}"
        ]


def list_scarce(scarce: Sequence[ScarceLabel]) -> str:
    """The labels in words; the first ones by name."""
    more = len(scarce) - _N_NAMED
    named = ", ".join(map(str, scarce[:_N_NAMED]))
    return named + (f", and {format_count(more, 'label')} more" if more > 0 else "")


def advice(scarce: Sequence[ScarceLabel], n_labels: int) -> str:
    """Advice about scarce labels, out of `n_labels` labels in all."""
    if n_labels - len(scarce) < 2:  # a probe needs two labels
        return "add images"
    more = " …" if len(scarce) > _N_NAMED else ""
    options = (drop_option(one.label) for one in scarce[:_N_NAMED])
    return f"leave out rows with {' '.join(options)}{more} (of `vsp import` or `vsp probe`), or add images"


def drop_option(label: str) -> str:
    """The option of `vsp import` and `vsp probe` that leaves out the rows of a label."""
    return f"--drop-label {shlex.quote(label)}"


def why_unused(dropped: Iterable[str], labels: Collection[str]) -> str:
    """Why a label of --drop-label cannot be left out; "" if all of them are among `labels`."""
    unused = next((label for label in dropped if label not in labels), None)
    if unused is None:
        return ""
    return f"--drop-label {unused}: no row has this label; the labels are {', '.join(labels)}"


def _is_number(label: str) -> bool:
    try:
        return isfinite(float(label))
    except ValueError:
        return False
