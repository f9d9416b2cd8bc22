"""Counts of a dataset (labels, splits, images, prompts), and a choice of rows for a contact sheet.

`vsp dataset show` prints them, so that a dataset can be checked before GPU hours are spent on it.
"""

from __future__ import annotations

import heapq
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from statistics import median
from typing import Any

from vsp.datasets import metadata, questions
from vsp.datasets.contact_sheet import SheetRow
from vsp.datasets.copy_search import find_copies
from vsp.datasets.image_copies import ImageCopies
from vsp.datasets.importers.funnel import FUNNEL
from vsp.datasets.picture_paths import PicturePaths, why_without_images
from vsp.datasets.provenance import read_card, variants_of
from vsp.datasets.row_problems import row_problems
from vsp.datasets.scarce_labels import LabelGroups
from vsp.errors import DatasetError
from vsp.utils.text import format_count


@dataclass(slots=True)
class DatasetSummary:
    """Counts over all records of a dataset."""

    dataset: Path
    card: Any
    variants: tuple[str, ...]
    has_funnel: bool  # whether an import wrote a funnel.json
    n_rows: int = 0
    n_named: int = 0  # rows with the names that the prompt forms need
    n_prompts: int = 0  # rows with a prompt of their own
    n_regions: int = 0  # rows with a box or mask of both subject and reference, or of the prompt
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)  # rows by (label, split)
    images: Counter[str] = field(default_factory=Counter)  # rows of each image
    groups: set[str] = field(default_factory=set)
    splits_of_image: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    copies: ImageCopies | None = None  # None: the images were not opened
    unreadable: list[str] = field(default_factory=list)  # problems of opened images
    label_groups: LabelGroups = field(default_factory=LabelGroups)
    flags: Counter[str] = field(default_factory=Counter)
    missing: list[str] = field(default_factory=list)  # images, in order of appearance
    other_folders: tuple[Path, ...] = ()  # outside the dataset, with pictures of it
    why_without_images: str = ""  # why all images are missing
    prompts: dict[str, str] = field(default_factory=dict)  # style → prompt of the first row
    sheet_rows: list[SheetRow] = field(default_factory=list)

    @property
    def labels(self) -> list[str]:
        """All labels, in the order of the prompts."""
        return metadata.order_labels({label for label, _ in self.counts})

    @property
    def splits(self) -> list[str]:
        """The splits that have rows; "" stands for no split."""
        with_rows = {split for _, split in self.counts}
        return [split for split in metadata.SPLITS if split in with_rows]

    def add(self, record: dict[str, Any]) -> SheetRow:
        """Count a record. Raises DatasetError for one that cannot be used."""
        row = SheetRow(metadata.id_of(record, self.n_rows), metadata.label_of(record), record)
        self.n_rows += 1
        self.counts[row.label, metadata.split_of(record)] += 1
        image = metadata.text_of(record, "image_filename")
        self.images[image] += 1
        self.splits_of_image[image].add(metadata.split_of(record))
        group = metadata.group_of(record)
        self.groups.add(group)
        self.label_groups.add(row.label, metadata.split_of(record), group)
        self.n_named += questions.question_of(record) is not None
        self.n_prompts += bool(record.get("prompt"))
        self.n_regions += "regions" in record or all(
            {f"{part}_box", f"{part}_mask"} & record.keys() for part in questions.PARTS
        )
        flags = record.get("flags", [])
        self.flags.update(map(str, flags if isinstance(flags, list) else [flags]))
        return row

    def notes(self) -> list[str]:
        """Notes for the user: missing images, copies, and labels with too few groups."""
        reasons = [f"no sheet: {self.why_without_images}"] if self.why_without_images else []
        return reasons + self._copy_notes() + self.label_groups.notes()

    def _copy_notes(self) -> list[str]:
        if self.copies is None:
            return []
        notes = self.copies.notes()
        if self.unreadable:
            n = format_count(len(self.unreadable), "image")
            notes.append(f"{n} cannot be read, first: {self.unreadable[0]}")
        straddling = [] if self.copies.shows_one else self.copies.straddling(self.splits_of_image)
        if straddling:
            notes.append(
                f"{straddling[0].sentence(len(straddling))}; `vsp plan` refuses that without "
                "--keep-copies"
            )
        return notes

    def _copies_as_json(self) -> dict[str, Any] | None:
        if self.copies is None:
            return None
        return {
            "equal_files": self.copies.n_equal_files,
            "equal_pixels": self.copies.n_equal_pixels,
            "near": self.copies.n_near,
            "sets": self.copies.sets(),
            "in_several_splits": len(self.copies.straddling(self.splits_of_image)),
            "unreadable": self.unreadable,
        }

    def as_json(self) -> dict[str, Any]:
        rows_per_image = list(self.images.values())
        return {
            "dataset": str(self.dataset),
            "card": self.card,
            "variants": list(self.variants),
            "rows": self.n_rows,
            "labels": {
                label: {split: self.counts[label, split] for split in self.splits}
                for label in self.labels
            },
            "images": len(rows_per_image),
            "rows_per_image": {
                "mean": self.n_rows / len(rows_per_image),
                "median": median(rows_per_image),
                "max": max(rows_per_image),
            },
            "rows_sharing_an_image": sum(n for n in rows_per_image if n > 1),
            "groups": len(self.groups),
            "rows_with_names": self.n_named,
            "rows_with_prompt": self.n_prompts,
            "rows_with_regions": self.n_regions,
            "image_folders": [str(folder) for folder in self.other_folders],
            "missing_images": self.missing,
            "copies": self._copies_as_json(),
            "flags": dict(self.flags.most_common()),
            "prompts": self.prompts,
        }


def summarize(
    dataset: Path, n_sheet_rows: int, seed: int, open_images: bool = False
) -> DatasetSummary:
    """Count all records and choose rows for a contact sheet, the labels in turn.

    If `open_images` is true, copies among the images are found.

    Raises DatasetError, naming the record, if a record cannot be used.
    """
    summary = DatasetSummary(
        dataset, read_card(dataset), variants_of(dataset), (dataset / FUNNEL).is_file()
    )
    first: dict[str, Any] = {}
    choice = _RowChoice(n_sheet_rows, seed)
    with row_problems() as problems:
        for index, record in enumerate(metadata.records(dataset)):
            row = problems.caught(metadata.read_record, dataset, index, summary.add, record)
            if row is not None:
                choice.add(row)
            first = first or record
    summary.sheet_rows = choice.rows()
    paths = PicturePaths(dataset)
    summary.other_folders = paths.other_folders
    summary.missing = list(_missing(dataset, paths, summary.images))
    if open_images:
        missing = set(summary.missing)
        files = {
            name: paths.path("image_filename", name)
            for name in summary.images
            if name not in missing
        }
        summary.copies, summary.unreadable = find_copies(files)
    if len(summary.missing) == len(summary.images):
        absent = [str(dataset / "images" / name) for name in summary.missing]
        summary.why_without_images = why_without_images(dataset, absent)
    summary.prompts = metadata.example_prompts(dataset, first, summary.labels)
    return summary


def _missing(dataset: Path, paths: PicturePaths, images: Iterable[str]) -> Iterator[str]:
    for name in images:
        try:
            path = paths.path("image_filename", name)
        except DatasetError as error:
            raise DatasetError(f"{dataset / metadata.NAME}: a record {error}") from None
        if not Path(path).is_file():
            yield name


class _RowChoice:
    """Up to `n` random rows of each label; the same seed gives the same rows."""

    def __init__(self, n: int, seed: int) -> None:
        self._n, self._n_seen, self._random = n, 0, random.Random(seed)
        # Each label keeps the rows with the lowest random numbers. Numbers are stored negated,
        # so that the row with the highest number is on top of the heap.
        self._kept: dict[str, list[tuple[float, int, SheetRow]]] = {}

    def add(self, row: SheetRow) -> None:
        heap = self._kept.setdefault(row.label, [])
        self._n_seen += 1
        heapq.heappush(heap, (-self._random.random(), self._n_seen, row))
        if len(heap) > self._n:
            heapq.heappop(heap)

    def rows(self) -> list[SheetRow]:
        """`n` rows in all, sorted by label, with equal numbers per label as far as rows allow."""
        labels = metadata.order_labels(self._kept)
        each = [[row for *_, row in sorted(self._kept[label])[::-1]] for label in labels]
        turns = [row for turn in zip_longest(*each) for row in turn if row is not None]
        return sorted(turns[: self._n], key=lambda row: labels.index(row.label))
