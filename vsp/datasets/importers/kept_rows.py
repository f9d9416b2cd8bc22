"""The rows that an import keeps: records spooled to a file, a few bytes per row in memory."""

from __future__ import annotations

import hashlib
import json
from array import array
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import IO, Any

import numpy as np

from vsp.datasets.importers.annotations import Picture
from vsp.datasets.importers.quality_flags import FLAGS
from vsp.datasets.metadata import SPLITS
from vsp.errors import DatasetError
from vsp.utils.text import MAX_LISTED, composed, first_lines, format_count, is_encodable

_FLAGS = tuple(FLAGS)
_SPLIT_BITS = 7  # the low bits of an image key, which leave room for the number of a split


@dataclass(frozen=True, slots=True)
class StoredRow:
    """One row as it is read back from the spool file."""

    part: str  # part of the source; the funnel counts rows by part
    label: str
    record: bytes  # JSON without the closing brace, so that a split can be added
    flags: list[str]
    place: tuple[str, str]  # its file and its place in that file


class KeptRows:
    """Kept rows: one record per line in `file`; arrays hold what splits and balance need.

    `part`, `split` and `label` [row] hold numbers of the names in `parts`, `splits` and `labels`;
    `group` and `id` [row] hold hashes. `images`, `groups` and `image_split` [picture] cover all
    pictures, also those without a kept row.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.parts: dict[str, int] = {}
        self.splits: dict[str, int] = {}
        self.labels: dict[str, int] = {}
        self.part, self.split = array("B"), array("B")
        self.label, self.flags = array("I"), array("I")  # one bit per flag
        self.group, self.id = array("Q"), array("Q")
        self.images, self.groups, self.image_split = array("Q"), array("Q"), array("B")

    def add_picture(self, picture: Picture) -> None:
        """Register a picture. Raises DatasetError if its split or its image name is invalid."""
        if picture.split not in SPLITS:
            raise DatasetError(
                f"image {picture.image!r} has the split {picture.split!r}; use one of "
                f"{', '.join(SPLITS[1:])}"
            )
        name = picture.image
        if not name.strip() or "\0" in name or not is_encodable(name):
            raise DatasetError(
                f"image name {name!a} cannot be the name of a file; give the image another"
            )
        self.images.append(_hash(picture.image))
        self.groups.append(_hash(picture.group or picture.image))
        self.image_split.append(number_of(self.splits, picture.split))

    def add_row(
        self,
        record: Mapping[str, Any],
        part: str,
        split: str,
        flags: Iterable[str],
        place: tuple[str, str],
    ) -> None:
        """Add a row; its record has no split yet. `place` is its file and its place in that file."""
        self.part.append(number_of(self.parts, part))
        self.split.append(number_of(self.splits, split))
        self.label.append(number_of(self.labels, record["label"]))
        self.flags.append(sum(1 << _FLAGS.index(flag) for flag in flags))
        self.group.append(_hash(record["group"]))
        self.id.append(_hash(record["id"]))
        # JSON has no tab: one in a text is escaped.
        self.file.write(f"{json.dumps(record)[:-1]}\t{json.dumps(place)}\n".encode())

    def __len__(self) -> int:
        return len(self.label)

    def stored_rows(self) -> Iterator[StoredRow]:
        """Read all rows back, in the order in which they were added."""
        parts, labels = list(self.parts), list(self.labels)
        self.file.seek(0)
        for i, line in enumerate(self.file):
            flags = [flag for bit, flag in enumerate(_FLAGS) if self.flags[i] >> bit & 1]
            record, _, place = line.partition(b"\t")
            file, at = json.loads(place)
            yield StoredRow(parts[self.part[i]], labels[self.label[i]], record, flags, (file, at))

    def check_ids(self) -> None:
        """Raise DatasetError if two rows have the same id."""
        ids = np.sort(np.asarray(self.id))
        same = ids[1:] == ids[:-1]
        if not same.any():
            return
        repeated = np.isin(np.asarray(self.id), ids[1:][same])
        first: dict[str, str] = {}  # id → place
        details: list[str] = []
        for i, row in enumerate(self.stored_rows()):
            if repeated[i] and len(details) < MAX_LISTED:
                name, place = json.loads(row.record + b"}")["id"], ": ".join(row.place)
                if name in first:
                    details.append(f"{place} has the id {name!r} of {first[name]}")
                first.setdefault(name, place)
        n = int(same.sum())
        raise DatasetError(
            f"{format_count(n, 'row')} with the id of another row, first {next(iter(first))!r}; give "
            "each row its own id",
            first_lines(details, n),
        )

    def repeated_images(self) -> set[int]:
        """The keys (see `image_key`) of images with two pictures in one split."""
        split = np.asarray(self.image_split, dtype=np.uint64)
        keys = np.asarray(self.images) & ~np.uint64(_SPLIT_BITS)
        pairs, counts = np.unique(keys | split, return_counts=True)
        return set((pairs[counts > 1] & ~np.uint64(_SPLIT_BITS)).tolist())


def image_key(image: str | int) -> int:
    """A hash of an image's name, or of the hash in `KeptRows.images`."""
    return (image if isinstance(image, int) else _hash(image)) & ~_SPLIT_BITS


def number_of(names: dict[str, int], name: str) -> int:
    """The number of a name; a new name gets the next number."""
    return names.setdefault(name, len(names))


def _hash(text: str) -> int:
    """The first 64 bits of a digest; the same for a name in any Unicode form."""
    digest = hashlib.blake2b(
        composed(text).encode("utf-8", "surrogatepass"), digest_size=8
    ).digest()
    return int.from_bytes(digest, "little")
