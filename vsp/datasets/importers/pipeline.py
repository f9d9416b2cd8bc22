"""`vsp import`: read the annotations of a real dataset and write a dataset folder.

The first pass over the source flags every row and spools the kept rows to a temporary file. Splits
and balance need a few bytes per row. A second pass over the spooled rows writes the records, so
millions of rows need little memory. The folder appears when it is complete.
"""

from __future__ import annotations

import json
import tempfile
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vsp.datasets.importers.annotations import Picture, Relation
from vsp.datasets.importers.copied_images import CopiedImages
from vsp.datasets.importers.dropped_rows import DROPPED_ROWS, DroppedRows, dropped_rows
from vsp.datasets.importers.embedded import EMBEDDED, write_pictures
from vsp.datasets.importers.flat_table import write_table
from vsp.datasets.importers.funnel import (
    BALANCE,
    DROPPED_LABEL,
    FUNNEL,
    INCOMPLETE,
    NO_SUCH_OPTION,
    UNMAPPED,
    Funnel,
    format_other_relations,
    read_funnel,
)
from vsp.datasets.importers.image_checks import CheckedPicture, ImageChecks
from vsp.datasets.importers.import_request import ImportJob, ImportRequest
from vsp.datasets.importers.kept_rows import KeptRows, image_key
from vsp.datasets.importers.quality_flags import FLAGS, flag_rows
from vsp.datasets.importers.recognition import other_sources
from vsp.datasets.importers.row_records import is_incomplete, row_id, row_record
from vsp.datasets.importers.row_splits import SHARED, choose_splits, in_later_split, surplus_rows
from vsp.datasets.metadata import write_records
from vsp.datasets.provenance import write_once
from vsp.datasets.relations import normalize
from vsp.datasets.scarce_labels import LabelGroups, why_unused
from vsp.errors import ConfigError, DatasetError
from vsp.utils.files import write_json
from vsp.utils.progress import progress
from vsp.utils.text import first_lines, format_count
from vsp.utils.workers import worker_pool

_N_GUESSED = 3  # files whose format is guessed after an error
_CHUNK, _CHUNK_ROWS = 64, 1 << 12  # images that are checked at a time, and rows at which they end
_KEPT = -1
_LATE_FILTERS = (SHARED, BALANCE)  # filters that need all rows


@dataclass(frozen=True, slots=True)
class Imported:
    """The dataset folder that an import wrote or left as it was."""

    folder: Path
    fresh: bool  # False: the same dataset already existed
    funnel: Mapping[str, Any]
    notes: tuple[str, ...]  # for the user

    @property
    def n_rows(self) -> int:
        """Rows of the dataset."""
        return sum(part["out"]["rows"] for part in self.funnel["parts"].values())

    def dropped_line(self) -> list[str]:
        """The sentence that names the file of the dropped rows, if there are any."""
        n_dropped = sum(part["rows"] for part in self.funnel["parts"].values()) - self.n_rows
        path = self.folder / DROPPED_ROWS
        if not n_dropped or not path.is_file():  # older versions wrote no such file
            return []
        return [
            f"{path} lists {format_count(n_dropped, 'dropped row')}: file, place, id and reason"
        ]


def import_dataset(request: ImportRequest, work: Path, n_jobs: int = 1) -> Imported:
    """Write the dataset folder, or leave it as it is if it holds this dataset.

    Raises ConfigError if the request is invalid. Raises DatasetError if the annotations are
    invalid, if splits share images, or if the folder holds something else.
    """
    job = ImportJob(request, work)
    notes = list(job.notes)
    try:
        fresh = write_once(
            request.out.absolute(),
            job.card(),
            lambda folder: notes.extend(_write_folder(folder, job, n_jobs)),
            "remove it or use another --out",
        )
    except DatasetError as error:
        other = other_sources(request.source, [path for _, path in job.files[:_N_GUESSED]])
        if not other:
            raise
        raise DatasetError(str(error), (*error.details, *other)) from None
    if not job.folders.links and not (request.out / "images" / EMBEDDED).is_dir():
        notes.append("no --images: `vsp plan` will ask for the images of this dataset")
    if request.table is not None:
        n_left_out = write_table(request.out, request.table)
        left_out = (
            f"; {format_count(n_left_out, 'row')} with a prompt left out" if n_left_out else ""
        )
        notes.append(f"wrote {request.table}{left_out}")
    return Imported(request.out, fresh, read_funnel(request.out), tuple(notes))


@dataclass(frozen=True, slots=True)
class _Output:
    """Where rows go: each row of the source is either kept or dropped, and counted."""

    rows: KeptRows
    funnel: Funnel
    dropped: DroppedRows


def _write_folder(folder: Path, job: ImportJob, n_jobs: int) -> list[str]:
    """Write all files of the dataset except its card. Return notes for the user."""
    (folder / "images").mkdir()
    for link, path in job.folders.links.items():
        (folder / "images" / link).symlink_to(path)
    notes = _write_embedded(folder / "images", job) + _write_masks(folder / "masks", job)
    funnel = Funnel(job.relations.labels, job.filters)
    with (
        tempfile.TemporaryFile(dir=folder.parent) as spool,
        dropped_rows(folder, job.relations) as dropped,
    ):
        out = _Output(KeptRows(spool), funnel, dropped)
        notes += _flag_and_keep_rows(job, out, n_jobs)
        notes += dropped.notes()
        split, split_notes = choose_splits(out.rows, job.split_settings)
        filter_of_row = _apply_late_filters(job, out.rows, split)
        groups = LabelGroups()
        write_records(folder, _final_records(out, split, filter_of_row, groups))
        notes += split_notes + groups.notes()
    write_json(folder / FUNNEL, funnel.as_json())
    return notes


def _write_embedded(folder: Path, job: ImportJob) -> list[str]:
    """Write the pictures that the annotations contain. Return notes."""
    if job.importer.read_embedded is None:
        return []
    pictures = job.importer.read_embedded(job.files, job.request.options)
    n_pictures = write_pictures(folder, pictures)
    job.folders.embedded = folder if n_pictures else None
    written = f"wrote {format_count(n_pictures, 'picture')} of the annotations to images/{EMBEDDED}"
    return [written] if n_pictures else []


def _write_masks(folder: Path, job: ImportJob) -> list[str]:
    """Write the masks that the annotations contain. Return notes."""
    if job.importer.read_masks is None:
        return []
    masks = job.importer.read_masks(job.files, job.request.options)
    n_masks = write_pictures(folder, masks)
    return [f"wrote {format_count(n_masks, 'mask')} to masks/"] if n_masks else []


def _flag_and_keep_rows(job: ImportJob, out: _Output, n_jobs: int) -> list[str]:
    """Flag the rows of every picture, count the dropped rows, and keep the others.

    Returns notes. Raises DatasetError if an image or an id is repeated, or if no row is left.
    """
    with (
        CopiedImages() as copies,
        progress("import", "rows", None) as advance,
        worker_pool(n_jobs if job.request.check else 1) as parallel,
    ):
        checks = ImageChecks(job.folders, job.relations, job.request.check, copies)
        images = _pictures_by_image(job)
        while chunk := _next_chunk(images):
            pictures = [picture for image in chunk for picture in image]
            checked = checks.check(pictures, parallel)
            for image in chunk:
                _keep_rows_of_image(job, list(islice(checked, len(image))), out)
            advance(sum(len(picture.relations) for picture in pictures))
        settings = job.split_settings
        notes = copies.note_and_join(out.rows, settings.new_splits or settings.drop_shared)
    _refuse_repeated_images(job, out.rows)
    _refuse_unused_labels(job, out)
    if not len(out.rows):
        raise _no_row_left(out)
    out.rows.check_ids()
    return checks.notes() + notes


def _next_chunk(images: Iterator[tuple[Picture, ...]]) -> list[tuple[Picture, ...]]:
    """The next images, fewer if they have many rows; empty at the end."""
    chunk: list[tuple[Picture, ...]] = []
    n_rows = 0
    while len(chunk) < _CHUNK and n_rows < _CHUNK_ROWS and (image := next(images, None)):
        chunk.append(image)
        n_rows += sum(len(picture.relations) for picture in image)
    return chunk


def _pictures_by_image(job: ImportJob) -> Iterator[tuple[Picture, ...]]:
    """Yield groups of pictures; the rows of a group are flagged together.

    With --resplit, rows of an image in several splits may end up in one split. All pictures of an
    image are then flagged together.
    """
    if not job.request.resplit:
        yield from ((picture,) for picture in job.pictures())
        return
    n_pictures = _count_repeated_images(job)
    waiting: dict[int, list[Picture]] = {}
    for picture in job.pictures():
        key = image_key(picture.image)
        waiting.setdefault(key, []).append(picture)
        if len(waiting[key]) >= n_pictures.get(key, 1):
            yield tuple(waiting.pop(key))


def _count_repeated_images(job: ImportJob) -> dict[int, int]:
    """The number of pictures of each image that has several, by image key."""
    all_keys = array("Q", (image_key(picture.image) for picture in job.pictures()))
    keys, counts = np.unique(np.asarray(all_keys), return_counts=True)
    return dict(zip(keys[counts > 1].tolist(), counts[counts > 1].tolist(), strict=True))


def _keep_rows_of_image(job: ImportJob, pictures: Sequence[CheckedPicture], out: _Output) -> None:
    """Flag the rows of all pictures of an image together, then keep or drop each row."""
    merged = _merge([checked.picture for checked in pictures])
    labels = [label for checked in pictures for label in checked.labels]
    # Pictures without a label have neither size nor flags.
    size = next((checked.size for checked in pictures if checked.size), None)
    image_flags = next((checked.flags for checked in pictures if checked.flags), ())
    flags = iter(flag_rows(merged, labels, size, image_flags))
    out.funnel.add_image(job.funnel_part(merged.split), len(merged.relations))
    first = 0
    for checked in pictures:
        out.rows.add_picture(checked.picture)
        _keep_rows_of_picture(job, checked, list(islice(flags, len(checked.labels))), first, out)
        first += len(checked.labels)


def _merge(pictures: Sequence[Picture]) -> Picture:
    if len(pictures) == 1:
        return pictures[0]
    return replace(
        pictures[0],
        things=tuple(dict.fromkeys(thing for picture in pictures for thing in picture.things)),
        relations=tuple(relation for picture in pictures for relation in picture.relations),
    )


def _keep_rows_of_picture(
    job: ImportJob,
    checked: CheckedPicture,
    flags: Sequence[tuple[str, ...]],
    first: int,
    out: _Output,
) -> None:
    """Keep or drop each row; the first row has the number `first` among those of its image.

    With --resplit, a made id names no split: that of the source would be wrong, and that of the
    dataset would change with the seed.
    """
    picture = checked.picture
    part = job.funnel_part(picture.split)
    in_id = "" if job.request.resplit else picture.split
    for i, (relation, label) in enumerate(zip(picture.relations, checked.labels, strict=True)):
        name = row_id(picture, relation, first + i, in_id)
        place = (relation.file, relation.where)
        reason = _reason_to_drop(job, relation, label, flags[i])
        if not reason:
            record = row_record(picture, relation, name, label, flags[i], checked.file)
            out.rows.add_row(record, part, picture.split, flags[i], place)
        elif reason == UNMAPPED:
            out.funnel.drop_unmapped(part, normalize(relation.predicate))
            out.dropped.add_unmapped(relation, name, picture.image)
        else:
            out.funnel.drop(part, reason, label)
            problem = checked.problem if reason == "unreadable-image" else ""
            out.dropped.add(place, name, picture.image, label, reason, problem)


def _reason_to_drop(job: ImportJob, relation: Relation, label: str, flags: Sequence[str]) -> str:
    """The first filter that drops a row; "" if it is kept."""
    if not label:
        return relation.unusable or (INCOMPLETE if is_incomplete(relation) else UNMAPPED)
    if label in job.request.drop_labels:
        return DROPPED_LABEL
    return next((flag for flag in job.dropped if flag in flags), "")


def _refuse_repeated_images(job: ImportJob, rows: KeptRows) -> None:
    repeated = rows.repeated_images()
    if repeated:
        names = dict.fromkeys(p.image for p in job.pictures() if image_key(p.image) in repeated)
        raise DatasetError(
            f"{format_count(len(repeated), 'image')} with several records in one split, first "
            f"{next(iter(names))!r}; give each image one record",
            first_lines(names, len(names)),
        )


def _refuse_unused_labels(job: ImportJob, out: _Output) -> None:
    dropped = out.funnel.dropped_labels(DROPPED_LABEL)
    why = why_unused(job.request.drop_labels, [*out.rows.labels, *dropped])
    if why:
        raise ConfigError(why)


def _no_row_left(out: _Output) -> DatasetError:
    """The error if no row is left: the first dropped rows of each reason, and what to do."""
    funnel = out.funnel.as_json()
    n_dropped: Counter[str] = Counter()
    for part in funnel["parts"].values():
        n_dropped.update({step["why"]: step["rows"] for step in part["dropped"]})
    details = [f"{n:,} {step}" for step, n in n_dropped.items() if n]
    advice = []
    if funnel["other_relations"]:
        details.append(format_other_relations(funnel["other_relations"]))
        advice.append("use --relations with the relations that you need")
    if n_dropped["missing-image"]:
        advice.append("give the folders with these images to --images")
    if n_dropped[NO_SUCH_OPTION]:
        advice.append(
            "say with --option answer=text, letter, index0 or index1 how answers are written"
        )
    if any(n_dropped[flag] for flag in FLAGS):
        advice.append("use --keep FLAG to keep rows with a flag")
    return DatasetError(
        f"no row is left; {', '.join(advice) or 'give annotations with rows'}",
        details + out.dropped.examples(),
    )


def _apply_late_filters(
    job: ImportJob, rows: KeptRows, split: NDArray[np.uint8]
) -> NDArray[np.int8]:
    """The index [row] in `_LATE_FILTERS` of the filter that drops a row, or `_KEPT`."""
    filter_of_row = np.full(len(rows), _KEPT, dtype=np.int8)
    settings = job.split_settings
    if settings.drop_shared and not settings.new_splits:  # new splits share no image
        filter_of_row[in_later_split(rows, split)] = _LATE_FILTERS.index(SHARED)
    kept = filter_of_row == _KEPT
    if not kept.any():
        raise DatasetError(
            f"no row is left; use --keep {SHARED} and --resplit to keep rows of shared images"
        )
    if job.request.balance:
        surplus = surplus_rows(rows, split, kept, job.request.seed)
        filter_of_row[surplus] = _LATE_FILTERS.index(BALANCE)
    return filter_of_row


def _final_records(
    out: _Output, split: NDArray[np.uint8], filter_of_row: NDArray[np.int8], groups: LabelGroups
) -> Iterator[bytes]:
    """Yield the encoded records with their splits, and count kept and dropped rows."""
    names = list(out.rows.splits)
    for i, row in enumerate(out.rows.stored_rows()):
        if filter_of_row[i] != _KEPT:
            reason, record = _LATE_FILTERS[filter_of_row[i]], json.loads(row.record + b"}")
            out.funnel.drop(row.part, reason, row.label)
            out.dropped.add(row.place, record["id"], record["image_filename"], row.label, reason)
            continue
        name = names[split[i]]
        out.funnel.keep(row.part, name, row.label, row.flags)
        groups.add(row.label, name, out.rows.group[i])
        end = f', "split": {json.dumps(name)}}}' if name else "}"
        yield row.record + end.encode()
