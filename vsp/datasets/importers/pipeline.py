"""`vsp import`: annotations of a real dataset → a dataset folder, and what was left out of it.

One pass over the source flags every row and puts those that are kept into a file aside; splits and
balance are settled from a few bytes a row; a second pass over that file writes the records. So
millions of rows take little memory. The folder appears when it is whole.
"""

from __future__ import annotations

import json
import re
import tempfile
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from joblib import Parallel, delayed
from numpy.typing import NDArray

from vsp.datasets import IMPORTERS
from vsp.datasets.importers.annotations import SPLIT_WORDS, Importer, Picture, Relation
from vsp.datasets.importers.funnel import (
    BALANCE,
    FUNNEL,
    INCOMPLETE,
    UNMAPPED,
    Funnel,
    others,
    read_funnel,
)
from vsp.datasets.importers.image_index import Found, ImageFolders
from vsp.datasets.importers.kept_rows import KeptRows, image_key
from vsp.datasets.importers.quality_flags import DROPPED, FLAGS, base_name, judge
from vsp.datasets.importers.row_splits import (
    SHARED,
    SplitSettings,
    choose_splits,
    in_later_split,
    surplus_rows,
)
from vsp.datasets.json_stream import read_records
from vsp.datasets.metadata import write_records
from vsp.datasets.prompts import label_words
from vsp.datasets.provenance import write_once
from vsp.datasets.questions import OWN
from vsp.datasets.relations import Relations, normalize, read_relations
from vsp.errors import ConfigError, DatasetError
from vsp.utils.files import sha256, write_aside, write_json
from vsp.utils.images import open_rgb
from vsp.utils.progress import progress
from vsp.utils.text import format_count

_CHUNK = 64  # pictures that are taken at a time
_SPLIT_WORDS = {**SPLIT_WORDS, "testing": "test"}
_LATE, _KEPT = (SHARED, BALANCE), -1  # what drops rows once all of them are known
_TABLE = ("img_path", "subj", "obj", "relationship")


@dataclass(frozen=True, slots=True)
class Asked:
    """What `vsp import` is asked for."""

    source: str
    annotations: Sequence[str]  # FILE, or SPLIT=FILE
    out: Path
    images: Sequence[Path] = ()
    relations: str | None = None  # None: the source's own preset
    drop: Sequence[str] = ()  # besides DROPPED
    keep: Sequence[str] = ()  # of DROPPED
    options: Mapping[str, str] = field(default_factory=dict)
    balance: bool = False
    resplit: bool = False
    test_fraction: float | None = None
    check: bool = False
    seed: int = 0
    table: Path | None = None


@dataclass(frozen=True, slots=True)
class Imported:
    """A dataset folder, where its rows came from, and what its user should be told."""

    folder: Path
    fresh: bool  # False: this very dataset was there already
    funnel: Mapping[str, Any]
    notes: tuple[str, ...]


def import_dataset(asked: Asked, work: Path, n_jobs: int = 1) -> Imported:
    """Write the dataset folder, or leave it alone if it is there already.

    Raises ConfigError for what cannot be asked for, and DatasetError for annotations that cannot
    be used, for splits that share images, and if something else lies in the folder's place.
    """
    job = _Job(asked, work)
    notes = list(job.notes)
    fresh = write_once(
        asked.out.absolute(),
        job.card(),
        lambda aside: notes.extend(_write_folder(aside, job, n_jobs)),
        "remove it or use another --out",
    )
    if asked.table is not None:
        n_lost = write_table(asked.out, asked.table)
        lost = f" without {format_count(n_lost, 'row')} that bring a prompt" if n_lost else ""
        notes.append(f"wrote {asked.table}{lost}")
    return Imported(asked.out, fresh, read_funnel(asked.out), tuple(notes))


def write_table(folder: Path, path: Path) -> int:
    """The records of a dataset folder as a flat CSV: img_path, subj, obj, relationship.

    A question of one's own does not fit into it; how many of these there are comes back.
    """
    import csv
    from io import StringIO

    def line(*cells: object) -> bytes:
        text = StringIO(newline="")
        csv.writer(text).writerow(cells)
        return text.getvalue().encode()

    n_lost = 0
    with write_aside(path) as file:
        file.write(line(*_TABLE))
        for record in read_records(folder / "metadata.json"):
            if "prompt" in record:
                n_lost += 1
                continue
            image = folder / "images" / record["image_filename"]
            ends = (record["subject"], record["reference"])
            file.write(line(image, *ends, label_words(record["label"])))
    return n_lost


class _Job:
    """What was asked, checked and looked up; `notes` are for the user."""

    def __init__(self, asked: Asked, work: Path) -> None:
        self.asked = asked
        self.notes: list[str] = []
        self.importer: Importer = IMPORTERS.load(asked.source)
        self.dropped = _dropped(asked)
        self.relations = read_relations(asked.relations or self.importer.relations, work)
        self.folders = ImageFolders([_folder(path) for path in asked.images])
        self.files = [self._file(text) for text in asked.annotations]
        self._check()
        if not asked.images:
            self.notes.append("no --images: `vsp plan` will ask for the images of this dataset")

    def pictures(self) -> Iterator[Picture]:
        return self.importer.read(self.files, self.asked.options)

    def images(self) -> Iterator[tuple[Picture, ...]]:
        """What is said of each image: a picture, or those of all splits where these are given up,
        so that rows which may come into one split are judged together."""
        if not self.asked.resplit:
            yield from ((picture,) for picture in self.pictures())
            return
        expected = self._shared()
        held: dict[int, list[Picture]] = {}
        for picture in self.pictures():
            key = image_key(picture.image)
            held.setdefault(key, []).append(picture)
            if len(held[key]) >= expected.get(key, 1):
                yield tuple(held.pop(key))

    def _shared(self) -> dict[int, int]:
        """How many pictures the images have that have several."""
        seen = array("Q", (image_key(picture.image) for picture in self.pictures()))
        keys, counts = np.unique(np.asarray(seen), return_counts=True)
        return dict(zip(keys[counts > 1].tolist(), counts[counts > 1].tolist(), strict=True))

    @property
    def sides(self) -> SplitSettings:
        asked = self.asked
        return SplitSettings(asked.resplit, asked.test_fraction, SHARED in self.dropped, asked.seed)

    def part(self, split: str) -> str:
        """Under which name rows of a split of the source are counted."""
        return "" if self.sides.new_splits else split

    def _file(self, text: str) -> tuple[str, Path]:
        name, separator, rest = text.partition("=")
        if separator and name in _SPLIT_WORDS:
            split, path = _SPLIT_WORDS[name], Path(rest)
        else:
            path = Path(text)
            found = {_SPLIT_WORDS.get(w) for w in re.findall("[a-z]+", path.stem.lower())} - {None}
            split = str(found.pop()) if len(found) == 1 else ""
            if split:
                self.notes.append(f"{path.name}: taken for split {split}, as its name says")
        if not path.is_file():
            raise ConfigError(f"{path}: no such file; --annotations names files that exist")
        return split, path

    def _check(self) -> None:
        asked, known = self.asked, self.importer.options
        for key in asked.options:
            if key not in known:
                raise ConfigError(
                    f"option {key!r} is not known to {asked.source}; known: "
                    f"{', '.join(known) or 'none'}"
                )
        if asked.check and not asked.images:
            raise ConfigError("--check opens images; name their folders with --images")

    def card(self) -> dict[str, Any]:
        """All that the dataset's records follow from."""
        asked = self.asked
        beside = {
            path.parent / f"{option}.json"
            for _, path in self.files
            for option in self.importer.options
            if option not in asked.options
        }
        named = {Path(str(value)) for value in asked.options.values()}
        return {
            "source": asked.source,
            "annotations": [
                {"split": split, "file": path.name, "sha256": _digest(path)}
                for split, path in self.files
            ],
            "options": {key: str(value) for key, value in asked.options.items()},
            "other_files": {
                path.name: _digest(path) for path in sorted(beside | named) if path.is_file()
            },
            "images": {
                link: {"folder": str(path), "entries": sum(1 for _ in path.iterdir())}
                for link, path in self.folders.links.items()
            },
            "relations": {
                label: [said for said, of in self.relations.label_of.items() if of == label]
                for label in self.relations.labels
            },
            "dropped": list(self.dropped),
            "balance": asked.balance,
            "resplit": asked.resplit,
            "test_fraction": asked.test_fraction,
            "check": asked.check,
            "seed": asked.seed,
        }


def _dropped(asked: Asked) -> tuple[str, ...]:
    for flag in (*asked.drop, *asked.keep):
        if flag not in FLAGS:
            raise ConfigError(f"flag {flag!r} is not known; known: {', '.join(FLAGS)}")
    both = sorted(set(asked.drop) & set(asked.keep))
    if both:
        raise ConfigError(f"flag {both[0]!r} is both in --drop and in --keep; choose one")
    chosen = {*DROPPED, *asked.drop} - set(asked.keep)
    return tuple(flag for flag in FLAGS if flag in chosen)


def _folder(path: Path) -> Path:
    if not path.is_dir():
        raise ConfigError(f"{path}: no such folder; --images names folders that exist")
    return path


def _write_folder(folder: Path, job: _Job, n_jobs: int) -> list[str]:
    """All files of the dataset but its card. Gives notes."""
    (folder / "images").mkdir()
    for link, path in job.folders.links.items():
        (folder / "images" / link).symlink_to(path)
    funnel = Funnel(job.relations.labels, _steps(job))
    with tempfile.TemporaryFile(dir=folder.parent) as spool:
        rows = KeptRows(spool)
        notes = _sift(job, rows, funnel, n_jobs)
        split, more = choose_splits(rows, job.sides)
        why = np.full(len(rows), _KEPT, dtype=np.int8)
        if SHARED in job.dropped and not job.sides.new_splits:  # splits made anew share none
            why[in_later_split(rows, split)] = _LATE.index(SHARED)
        if not (why == _KEPT).any():
            raise DatasetError(f"no row is left; --keep {SHARED} and --resplit keep them")
        if job.asked.balance:
            why[surplus_rows(rows, split, why == _KEPT, job.asked.seed)] = _LATE.index(BALANCE)
        write_records(folder, _kept_records(rows, split, why, funnel))
    write_json(folder / FUNNEL, funnel.as_json())
    return notes + more


def _steps(job: _Job) -> list[str]:
    """At which rows may be dropped: those of images only where images are looked at."""
    images = {"missing-image": bool(job.asked.images), "unreadable-image": job.asked.check}
    filters = [flag for flag in job.dropped if images.get(flag, True)]
    return [UNMAPPED, INCOMPLETE, *filters, *([BALANCE] if job.asked.balance else [])]


def _sift(job: _Job, rows: KeptRows, funnel: Funnel, n_jobs: int) -> list[str]:
    """Every picture of the source, in order: flag its rows, count what is dropped, add the rest."""
    looked = _Looked(job)
    with (
        progress("import", "images", None) as advance,
        Parallel(n_jobs=n_jobs if job.asked.check else 1) as parallel,
    ):
        images = job.images()
        while chunk := list(islice(images, _CHUNK)):
            seen = looked.at([picture for image in chunk for picture in image], parallel)
            for image in chunk:
                _sift_image(job, list(islice(seen, len(image))), rows, funnel)
            advance(len(chunk))
    if again := rows.repeated_images():
        first = next(p for p in job.pictures() if image_key(p.image) in again)
        raise DatasetError(
            f"{format_count(len(again), 'image')}, {first.image!r} first, in more than one record of "
            "a split; give each image one record"
        )
    if not len(rows):
        raise _no_row_left(funnel.as_json())
    rows.check_ids()
    return looked.notes()


def _no_row_left(funnel: Mapping[str, Any]) -> DatasetError:
    """What took the rows, and what to do about that."""
    parts = funnel["parts"].values()
    lost = sum((Counter({d["why"]: d["rows"] for d in p["dropped"]}) for p in parts), Counter())
    lines = [f"{n:,} {why}" for why, n in lost.items()]
    mend = []
    if funnel["other_relations"]:
        lines.append(others(funnel["other_relations"]))
        mend.append("--relations says which are asked about")
    if lost["missing-image"]:
        mend.append("--images names the very folders of the images")
    if lost.keys() & set(FLAGS):
        mend.append("--keep FLAG keeps rows of a flag")
    return DatasetError(f"no row is left; {', '.join(mend) or 'give annotations with rows'}", lines)


@dataclass(frozen=True, slots=True)
class _Seen:
    """A picture and its file."""

    picture: Picture
    labels: Sequence[str]  # of each relation, "" where it is not asked about
    file: Found | None
    size: tuple[int, int] | None
    flags: tuple[str, ...]


class _Looked:
    """Files of images: found, and opened where that was asked for."""

    def __init__(self, job: _Job) -> None:
        self._job = job
        self._n_opened = 0
        self._missing: list[str] = []
        self._inexact: list[str] = []
        self._damaged: list[str] = []

    def at(self, pictures: Sequence[Picture], parallel: Parallel) -> Iterator[_Seen]:
        labels = [
            [_label(relation, self._job.relations) for relation in picture.relations]
            for picture in pictures
        ]
        files = [
            self._job.folders.find(p.image) if any(asked) else None
            for p, asked in zip(pictures, labels, strict=True)
        ]
        sizes = self._sizes(files, parallel)
        for picture, asked, file, size in zip(pictures, labels, files, sizes, strict=True):
            if any(asked):
                flags = self._flags(picture.image, file, size)
                known = size if isinstance(size, tuple) else None
                yield _Seen(picture, asked, file, known, flags)
            else:
                yield _Seen(picture, asked, None, None, ())

    def _sizes(
        self, files: Sequence[Found | None], parallel: Parallel
    ) -> Sequence[tuple[int, int] | str | None]:
        """Width and height, or the reason why a file cannot be read; None: it was not opened."""
        if not self._job.asked.check:
            return [None] * len(files)
        opened = iter(parallel(delayed(_size)(file.path) for file in files if file is not None))
        return [None if file is None else next(opened) for file in files]

    def _flags(
        self, image: str, file: Found | None, size: tuple[int, int] | str | None
    ) -> tuple[str, ...]:
        if not self._job.asked.images:
            return ()
        if file is None:
            self._missing.append(image)
            return ("missing-image",)
        if not file.exact:
            self._inexact.append(f"{image} is {file.name}")
        self._n_opened += size is not None
        if isinstance(size, str):
            self._damaged.append(size)
            return ("unreadable-image",)
        return ()

    def notes(self) -> list[str]:
        notes = []
        for found, what in (
            (self._missing, "in no folder"),
            (self._inexact, "found by the stem"),
            (self._damaged, "that cannot be read"),
        ):
            if found:
                notes.append(f"{format_count(len(found), 'image')} {what}, the first: {found[0]}")
        if self._job.asked.check:
            notes.append(f"opened {format_count(self._n_opened, 'image')} that rows ask about")
        return notes


def _size(path: Path) -> tuple[int, int] | str:
    try:
        return open_rgb(path)[0].size
    except DatasetError as error:
        return str(error)


def _label(relation: Relation, relations: Relations) -> str:
    """ "" for what is not asked about: words in no table, and rows that name nothing."""
    if _incomplete(relation):
        return ""
    known = relations.label(relation.predicate) if relation.predicate else ""
    return "" if relation.predicate and not known else relation.label or known


def _incomplete(relation: Relation) -> bool:
    ends = (relation.subject, relation.reference)
    named = all(end is not None and base_name(end.name) for end in ends)
    asks = named or (relation.prompt and relation.label)
    return not (asks and (relation.label or relation.predicate))


def _sift_image(job: _Job, same: Sequence[_Seen], rows: KeptRows, funnel: Funnel) -> None:
    """All that is said of an image is judged together, also where it is in several splits."""
    together = _together([seen.picture for seen in same])
    labels = [label for seen in same for label in seen.labels]
    # Only a picture that is asked about was looked at.
    size = next((seen.size for seen in same if seen.size), None)
    known = next((seen.flags for seen in same if seen.flags), ())
    flags = iter(judge(together, labels, size, known))
    funnel.image(job.part(together.split), len(together.relations))
    for seen in same:
        rows.add_picture(seen.picture)
        _sift_picture(job, seen, list(islice(flags, len(seen.labels))), rows, funnel)


def _together(pictures: Sequence[Picture]) -> Picture:
    if len(pictures) == 1:
        return pictures[0]
    return replace(
        pictures[0],
        things=tuple(dict.fromkeys(thing for one in pictures for thing in one.things)),
        relations=tuple(relation for one in pictures for relation in one.relations),
    )


def _sift_picture(
    job: _Job, seen: _Seen, flags: Sequence[tuple[str, ...]], rows: KeptRows, funnel: Funnel
) -> None:
    picture = seen.picture
    part = job.part(picture.split)
    for i, (relation, label) in enumerate(zip(picture.relations, seen.labels, strict=True)):
        if not label:
            if _incomplete(relation):
                funnel.drop(part, INCOMPLETE)
            else:
                funnel.unmapped(part, normalize(relation.predicate))
            continue
        why = next((flag for flag in job.dropped if flag in flags[i]), None)
        if why is not None:
            funnel.drop(part, why, label)
            continue
        record = _record(seen, relation, label, i, flags[i])
        rows.add_row(record, part, picture.split, flags[i])


def _record(
    seen: _Seen, relation: Relation, label: str, ordinal: int, flags: Sequence[str]
) -> dict[str, Any]:
    """All but its split. The id follows from the source alone, whatever else is dropped."""
    picture = seen.picture
    image = f"{picture.split}/{picture.image}" if picture.split else picture.image
    record: dict[str, Any] = {
        "id": relation.id or f"{image}/{ordinal}",
        "image_filename": seen.file.name if seen.file else picture.image,
        "group": picture.group or picture.image,
    }
    for part, end in (("subject", relation.subject), ("reference", relation.reference)):
        if end is not None:
            record[part] = base_name(end.name)
            if end.box is not None:
                record[f"{part}_box"] = end.box
    if relation.prompt:
        record |= {"prompt": relation.prompt, "question": OWN}
    if relation.predicate:
        record["predicate"] = relation.predicate
    record["label"] = label
    record["flags"] = list(flags)
    return record


def _kept_records(
    rows: KeptRows, split: NDArray[np.intp], why: NDArray[np.int8], funnel: Funnel
) -> Iterator[bytes]:
    """The encoded records of the rows that are kept; the others are counted as dropped."""
    splits = list(rows.splits)
    for i, row in enumerate(rows.stored_rows()):
        if why[i] != _KEPT:
            funnel.drop(row.part, _LATE[why[i]], row.label)
            continue
        name = splits[split[i]]
        funnel.keep(row.part, name, row.label, row.flags)
        end = f', "split": {json.dumps(name)}}}' if name else "}"
        yield row.record + end.encode()


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return sha256(file)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); mend that") from None
