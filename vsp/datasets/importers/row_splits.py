"""Choose the split of each kept row, and the rows to drop so that labels are balanced."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vsp.datasets.importers.kept_rows import KeptRows, number_of
from vsp.datasets.metadata import SPLITS
from vsp.datasets.scarce_labels import drop_option
from vsp.datasets.splitting import assign_splits
from vsp.errors import DatasetError

SHARED = "shared-image"
_NAMED_SPLITS = SPLITS[1:]  # a shared image stays in the last of its splits


@dataclass(frozen=True, slots=True)
class SplitSettings:
    """How the split of each row is chosen."""

    resplit: bool = False  # replace the splits of the source
    test_fraction: float | None = None
    drop_shared: bool = False  # False: images shared by splits are an error
    seed: int = 0

    @property
    def new_splits(self) -> bool:
        """Whether rows get new splits instead of those of the source."""
        return self.resplit or self.test_fraction is not None


def choose_splits(rows: KeptRows, settings: SplitSettings) -> tuple[NDArray[np.uint8], list[str]]:
    """The split [row] of each row, a number of `rows.splits`, and notes for the user.

    Raises DatasetError if the source's splits share images, or if the splits cannot be made.
    """
    source_split = np.asarray(rows.split)  # a view, as all arrays here: there may be millions
    names = {name for name, number in rows.splits.items() if (source_split == number).any()}
    if settings.new_splits:
        return _assign_new_splits(rows, settings, source_split, names)
    if "" in names and len(names) > 1:
        n_without = int((source_split == rows.splits[""]).sum())
        raise DatasetError(
            f"{n_without} of {len(rows)} rows have no split; write "
            "--annotations SPLIT=FILE for all files or for none"
        )
    if not settings.drop_shared:
        _refuse_shared_images(rows)
    if len(names) == 1 and names != {""}:
        note = (
            f"all rows are in split {min(names)}: the records name no split, and `vsp probe` "
            "makes folds"
        )
        return np.full(len(rows), number_of(rows.splits, ""), dtype=np.uint8), [note]
    return source_split, []


def in_later_split(rows: KeptRows, split: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Rows [row] whose group is also in a later split, even if it has no kept row there."""
    image_split, groups = np.asarray(rows.image_split), np.asarray(rows.groups)
    group = np.asarray(rows.group)
    is_shared = np.zeros(len(rows), dtype=np.bool_)
    numbers = [rows.splits[name] for name in _NAMED_SPLITS if name in rows.splits]
    for place, number in enumerate(numbers):
        later = groups[np.isin(image_split, numbers[place + 1 :])]
        is_shared |= (split == number) & np.isin(group, later)
    return is_shared


def _refuse_shared_images(rows: KeptRows) -> None:
    image_split, groups = np.asarray(rows.image_split), np.asarray(rows.groups)
    groups_of = {
        name: np.unique(groups[image_split == rows.splits[name]])
        for name in _NAMED_SPLITS
        if name in rows.splits
    }
    noun = "images" if rows.groups == rows.images else "groups"
    leaks = []
    for later, earlier in (("val", "train"), ("test", "train"), ("test", "val")):
        if later in groups_of and earlier in groups_of:
            n_later = len(groups_of[later])
            n_shared = len(np.intersect1d(groups_of[later], groups_of[earlier], assume_unique=True))
            if n_shared:
                leaks.append(
                    f"{n_shared:,} of the {n_later:,} {noun} of {later} are also in {earlier}"
                )
    if leaks:
        raise DatasetError(
            f"the source's splits share {noun}, so test rows leak into training; --resplit makes "
            f"new splits by {noun[:-1]}, --drop {SHARED} keeps shared {noun} in the later split",
            leaks,
        )


def _assign_new_splits(
    rows: KeptRows, settings: SplitSettings, source_split: NDArray[np.uint8], names: set[str]
) -> tuple[NDArray[np.uint8], list[str]]:
    """Assign whole groups to new splits; each split gets its share of every label."""
    shares = _shares_of_new_splits(rows, settings, source_split, names)
    group = np.asarray(rows.group)
    if len(np.unique(group)) < len(shares):
        raise DatasetError(
            f"{len(shares)} splits need rows of at least {len(shares)} images; import more images "
            "or use no --test-fraction and no --resplit"
        )
    numbers = np.asarray([number_of(rows.splits, name) for name in shares], dtype=np.uint8)
    label = np.asarray(rows.label, dtype=np.intp)
    share_index = assign_splits(label, group, list(shares.values()), settings.seed)
    counts = [f"{name} {int((share_index == i).sum()):,}" for i, name in enumerate(shares)]
    return numbers[share_index], [f"new splits, by image: {', '.join(counts)} rows"]


def _shares_of_new_splits(
    rows: KeptRows, settings: SplitSettings, source_split: NDArray[np.uint8], names: set[str]
) -> dict[str, float]:
    """The share of the rows that each new split gets."""
    fraction = settings.test_fraction
    if fraction is not None:
        if names != {""} and not settings.resplit:
            raise DatasetError(
                f"the source has its own splits, {', '.join(sorted(names))}; remove "
                "--test-fraction, or add --resplit to replace them"
            )
        return {"train": 1 - fraction, "test": fraction}
    shares = {
        name: float((source_split == rows.splits[name]).mean())
        for name in _NAMED_SPLITS
        if name in names
    }
    if len(shares) < 2:
        raise DatasetError(
            "--resplit needs at least two splits in the source for their sizes; use --test-fraction"
        )
    return shares


def surplus_rows(
    rows: KeptRows, split: NDArray[np.uint8], kept: NDArray[np.bool_], seed: int
) -> NDArray[np.intp]:
    """Indices of rows to drop so that labels are balanced within each split.

    Only rows of the mask `kept` [row] count. Raises DatasetError if a split lacks a label.
    """
    rng = np.random.default_rng(seed)
    label, surplus = np.asarray(rows.label), []
    for name, number in rows.splits.items():
        in_split = kept & (split == number)
        if not in_split.any():
            continue
        counts = np.bincount(label[in_split], minlength=len(rows.labels))
        if not counts.all():
            missing = list(rows.labels)[int(np.argmin(counts))]
            raise DatasetError(
                f"--balance: {name or 'the dataset'} has no row of {missing}; leave the label "
                f"out with {drop_option(missing)}"
            )
        for code, n in enumerate(counts):
            of_label = np.flatnonzero(in_split & (label == code))
            surplus.append(rng.permutation(of_label)[: n - counts.min()])
    return np.concatenate(surplus)
