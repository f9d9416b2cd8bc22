"""The rows that an import keeps: their records in a file aside, and what splits and balance are made
from, a few bytes a row.
"""

from __future__ import annotations

import hashlib
import json
from array import array
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from vsp.datasets.importers.annotations import Picture
from vsp.datasets.importers.quality_flags import FLAGS
from vsp.datasets.metadata import SPLITS
from vsp.datasets.splitting import assign_splits
from vsp.errors import DatasetError
from vsp.utils.text import format_count, is_encodable

_NAMED = SPLITS[1:]  # in their order: the later ones keep what they share
SHARED = "shared-image"
_FLAGS = tuple(FLAGS)


@dataclass(frozen=True, slots=True)
class Sides:
    """How rows come to their splits."""

    resplit: bool = False  # give up those of the source
    test_fraction: float | None = None
    leave_shared: bool = False  # images of several splits are no error
    seed: int = 0

    @property
    def anew(self) -> bool:
        return self.resplit or self.test_fraction is not None


class Rows:
    """Kept rows: their records in a file, one a line, and of each what splits are made from."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.parts: dict[str, int] = {}  # names of what the arrays hold numbers of
        self.splits: dict[str, int] = {}
        self.labels: dict[str, int] = {}
        self.part, self.split = array("B"), array("B")
        self.label, self.flags = array("I"), array("I")  # flags: a bit each
        self.group, self.id = array("Q"), array("Q")  # 64 bits of a digest
        # Of all pictures, also those without rows.
        self.images, self.groups, self.image_split = array("Q"), array("Q"), array("B")

    def see(self, picture: Picture) -> None:
        if picture.split not in SPLITS:
            raise DatasetError(
                f"image {picture.image!r} is of split {picture.split!r}, which is none of "
                f"{', '.join(_NAMED)}"
            )
        if not picture.image.strip() or not is_encodable(picture.image):
            raise DatasetError(
                f"image {picture.image!a} has no name that a file could have; give it one"
            )
        self.images.append(_hashed(picture.image))
        self.groups.append(_hashed(picture.group or picture.image))
        self.image_split.append(_index(self.splits, picture.split))

    def add(self, record: Mapping[str, Any], part: str, split: str, flags: Iterable[str]) -> None:
        self.part.append(_index(self.parts, part))
        self.split.append(_index(self.splits, split))
        self.label.append(_index(self.labels, record["label"]))
        self.flags.append(sum(1 << _FLAGS.index(flag) for flag in flags))
        self.group.append(_hashed(record["group"]))
        self.id.append(_hashed(record["id"]))
        # The split may change: it comes last.
        self.file.write(json.dumps(record)[:-1].encode() + b"\n")

    def __len__(self) -> int:
        return len(self.label)

    def lines(self) -> Iterator[tuple[str, str, bytes, list[str]]]:
        """Of each row its part, its label, its record without an end, and its flags."""
        parts, labels = list(self.parts), list(self.labels)
        self.file.seek(0)
        for i, line in enumerate(self.file):
            flags = [flag for k, flag in enumerate(_FLAGS) if self.flags[i] >> k & 1]
            yield parts[self.part[i]], labels[self.label[i]], line[:-1], flags

    def check_ids(self) -> None:
        """Raise DatasetError if two rows have one id."""
        ids, first, counts = np.unique(np.asarray(self.id), return_index=True, return_counts=True)
        if len(ids) < len(self):
            again = int(first[counts > 1].min())
            self.file.seek(0)
            record = next(islice(self.file, again, None))
            raise DatasetError(
                f"{format_count(len(self) - len(ids), 'row')} with an id that another row has, "
                f"{json.loads(record + b'}')['id']!r} first; give each row its own"
            )

    def repeated(self) -> set[int]:
        """Images that come more than once in a split, as `short` has them."""
        split = np.asarray(self.image_split, dtype=np.uint64)
        # A split is one of a few: it takes the place of the lowest bits.
        keys, counts = np.unique(
            np.asarray(self.images) & ~np.uint64(7) | split, return_counts=True
        )
        return set((keys[counts > 1] & ~np.uint64(7)).tolist())


def short(image: str) -> int:
    """An image's name in few bytes."""
    return _hashed(image) & ~7


def settled(rows: Rows, how: Sides) -> tuple[NDArray[np.intp], list[str]]:
    """For each row [row] the index of its split in `rows.splits`, and notes.

    Raises DatasetError where splits share images, or cannot be made as they were asked for.
    """
    own = np.asarray(rows.split, dtype=np.intp)
    names = {name for name, i in rows.splits.items() if (own == i).any()}
    if how.anew:
        return _anew(rows, how, own, names)
    if "" in names and len(names) > 1:
        raise DatasetError(
            f"{int((own == rows.splits['']).sum())} of {len(rows)} rows have no split; write "
            "--annotations SPLIT=FILE for all files or for none"
        )
    if not how.leave_shared:
        _check_leaks(rows)
    if len(names) == 1 and names != {""}:
        whole = np.full(len(rows), _index(rows.splits, ""), dtype=np.intp)
        return whole, [
            f"all rows are of split {min(names)}: records name no split, and `vsp probe` makes folds"
        ]
    return own, []


def shared(rows: Rows, split: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Rows [row] whose image is in a later split too, where it has rows or not."""
    image_split, groups = np.asarray(rows.image_split), np.asarray(rows.groups)
    group = np.asarray(rows.group)
    found = np.zeros(len(rows), dtype=np.bool_)
    order = [rows.splits[name] for name in _NAMED if name in rows.splits]
    for place, i in enumerate(order):
        later = groups[np.isin(image_split, order[place + 1 :])]
        found |= (split == i) & np.isin(group, later)
    return found


def _check_leaks(rows: Rows) -> None:
    split = np.asarray(rows.image_split)
    of = {
        name: np.unique(np.asarray(rows.groups)[split == rows.splits[name]])
        for name in _NAMED
        if name in rows.splits
    }
    what = "images" if rows.groups == rows.images else "groups"
    leaks = [
        f"{len(shared):,} of the {len(of[later]):,} {what} of {later} are in {earlier} too"
        for later, earlier in (("val", "train"), ("test", "train"), ("test", "val"))
        if later in of and earlier in of
        for shared in (np.intersect1d(of[later], of[earlier], assume_unique=True),)
        if len(shared)
    ]
    if leaks:
        raise DatasetError(
            f"the source's splits share {what}, so that what is tested was trained on; --resplit "
            f"splits anew by {what[:-1]}, --drop {SHARED} leaves them to the later split",
            leaks,
        )


def _anew(
    rows: Rows, how: Sides, own: NDArray[np.intp], names: set[str]
) -> tuple[NDArray[np.intp], list[str]]:
    """Whole groups to new splits, each with its share of every label."""
    fraction = how.test_fraction
    if fraction is not None:
        if names != {""} and not how.resplit:
            raise DatasetError(
                f"the source has splits of its own, {', '.join(sorted(names))}; leave "
                "--test-fraction out, or add --resplit to split anew"
            )
        shares = {"train": 1 - fraction, "test": fraction}
    else:
        shares = {s: float((own == rows.splits[s]).mean()) for s in _NAMED if s in names}
        if len(shares) < 2:
            raise DatasetError(
                "--resplit has no two splits to take shares from; use --test-fraction"
            )
    if len(np.unique(np.asarray(rows.group))) < len(shares):
        raise DatasetError("all rows are of one image; there is nothing to split")
    indices = np.asarray([_index(rows.splits, name) for name in shares], dtype=np.intp)
    label = np.asarray(rows.label, dtype=np.intp)
    side = assign_splits(label, np.asarray(rows.group), list(shares.values()), how.seed)
    counts = [f"{name} {int((side == i).sum()):,}" for i, name in enumerate(shares)]
    return indices[side], [f"split anew by image: {', '.join(counts)} rows"]


def over(
    rows: Rows, split: NDArray[np.intp], kept: NDArray[np.bool_], seed: int
) -> NDArray[np.intp]:
    """Of the kept rows, which are more of a label than its split has of its rarest.

    Raises DatasetError for a split that lacks a label.
    """
    rng = np.random.default_rng(seed)
    label, found = np.asarray(rows.label), []
    for name, i in rows.splits.items():
        there = kept & (split == i)
        if not there.any():
            continue
        counts = np.bincount(label[there], minlength=len(rows.labels))
        if not counts.all():
            lacks = list(rows.labels)[int(np.argmin(counts))]
            raise DatasetError(
                f"--balance: {name or 'the dataset'} has no row of {lacks}; use --relations "
                "without it"
            )
        for number, n in enumerate(counts):
            of_label = np.flatnonzero(there & (label == number))
            found.append(rng.permutation(of_label)[: n - counts.min()])
    return np.concatenate(found)


def _index(names: dict[str, int], name: str) -> int:
    return names.setdefault(name, len(names))


def _hashed(text: str) -> int:
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little")
