"""`vsp import`: annotations of a real dataset → a dataset folder, and what was left out of it.

One pass over the source flags every row and puts those that are kept into a file aside; splits and
balance are settled from a few bytes a row; a second pass over that file writes the records. So
millions of rows take little memory. The folder appears when it is whole.
"""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import IO, Any

import numpy as np
from joblib import Parallel, delayed
from numpy.typing import NDArray

from vsp.datasets import IMPORTERS
from vsp.datasets.annotations import Importer, Picture, Relation
from vsp.datasets.lookup import Found, ImageFolders
from vsp.datasets.quality import DROPPED, FLAGS, base_name, judge
from vsp.datasets.records import read_records
from vsp.datasets.relations import Relations, normal, read_relations
from vsp.errors import ConfigError, DatasetError
from vsp.files import mendable, sha256, write_json, written_aside
from vsp.funnel import BALANCE, INCOMPLETE, UNMAPPED, Funnel
from vsp.images import open_rgb
from vsp.progress import progress
from vsp.prompts import words
from vsp.splits import sides

_CHUNK = 64  # pictures that are taken at a time
_SPLITS = ("train", "val", "test")
_SPLIT_WORDS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
_FLAGS = tuple(FLAGS)
_SHARED = "shared-image"
_LATE, _KEPT = (_SHARED, BALANCE), -1  # what drops rows once all of them are known
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
    card = job.card()
    folder = asked.out.absolute()
    notes = list(job.notes)
    if fresh := not folder.exists():
        with mendable(folder):
            folder.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as aside:
                notes += _write_folder(Path(aside) / "dataset", job, card, n_jobs)
                (Path(aside) / "dataset").rename(folder)
    elif _read_json(folder / "dataset.json").get("asked") != card:
        raise DatasetError(f"{asked.out}: holds another dataset; remove it or use another --out")
    if asked.table is not None and (fresh or not asked.table.exists()):
        write_table(asked.out, asked.table)
        notes.append(f"wrote {asked.table}")
    return Imported(asked.out, fresh, _read_json(folder / "funnel.json"), tuple(notes))


def write_table(folder: Path, path: Path) -> None:
    """The records of a dataset folder as a flat CSV: img_path, subj, obj, relationship."""
    import csv
    from io import StringIO

    line = StringIO(newline="")
    writer = csv.writer(line)
    with written_aside(path) as file:
        writer.writerow(_TABLE)
        for record in read_records(folder / "metadata.json"):
            image = folder / "images" / record["image_filename"]
            ends = (record.get("subject", ""), record.get("reference", ""))
            writer.writerow((image, *ends, words(record["label"])))
            file.write(line.getvalue().encode())
            line.seek(0)
            line.truncate()


class _Job:
    """What was asked, checked and looked up; `notes` are for the user."""

    def __init__(self, asked: Asked, work: Path) -> None:
        self.asked = asked
        self.notes: list[str] = []
        self.importer: Importer = IMPORTERS.load(asked.source)
        self.relations = read_relations(asked.relations or self.importer.relations, work)
        self.dropped = _dropped(asked)
        self.folders = ImageFolders([_folder(path) for path in asked.images])
        self.files = [self._file(text) for text in asked.annotations]
        self._check()
        if not asked.images:
            self.notes.append("no --images: `vsp plan` will ask for the images of this dataset")

    def pictures(self) -> Iterator[Picture]:
        return self.importer.read(self.files, self.asked.options)

    @property
    def splits_anew(self) -> bool:
        return self.asked.resplit or self.asked.test_fraction is not None

    def part(self, split: str) -> str:
        """Under which name rows of a split of the source are counted."""
        return "" if self.splits_anew else split

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


def _write_folder(folder: Path, job: _Job, card: Mapping[str, Any], n_jobs: int) -> list[str]:
    """All files of the dataset. Gives notes."""
    (folder / "images").mkdir(parents=True)
    for link, path in job.folders.links.items():
        (folder / "images" / link).symlink_to(path)
    funnel = Funnel(job.relations.labels, _steps(job))
    with tempfile.TemporaryFile(dir=folder.parent) as spool:
        rows = _Rows(spool)
        notes = _sift(job, rows, funnel, n_jobs)
        split, more = _settled_splits(job, rows)
        why = np.full(len(rows), _KEPT, dtype=np.int8)
        if _SHARED in job.dropped:
            why[_shared(rows, split)] = _LATE.index(_SHARED)
        if not (why == _KEPT).any():
            raise DatasetError(f"no row is left; --keep {_SHARED} and --resplit keep them")
        if job.asked.balance:
            why[_over(job, rows, split, why == _KEPT)] = _LATE.index(BALANCE)
        with written_aside(folder / "metadata.json") as file:
            _write_records(file, rows, split, why, funnel)
    counts = funnel.as_json()
    write_json(folder / "funnel.json", counts)
    write_json(folder / "dataset.json", {"asked": card, "splits": counts["splits"]})
    return notes + more


def _steps(job: _Job) -> list[str]:
    """At which rows may be dropped: those of images only where images are looked at."""
    images = {"missing-image": bool(job.asked.images), "unreadable-image": job.asked.check}
    filters = [flag for flag in job.dropped if images.get(flag, True)]
    return [UNMAPPED, INCOMPLETE, *filters, *([BALANCE] if job.asked.balance else [])]


class _Rows:
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
        if picture.split not in ("", *_SPLITS):
            raise DatasetError(
                f"image {picture.image!r} is of split {picture.split!r}, which is none of "
                f"{', '.join(_SPLITS)}"
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


def _sift(job: _Job, rows: _Rows, funnel: Funnel, n_jobs: int) -> list[str]:
    """Every picture of the source, in order: flag its rows, count what is dropped, add the rest."""
    looked = _Looked(job)
    with (
        progress("import", "images", None) as advance,
        Parallel(n_jobs=n_jobs if job.asked.check else 1) as parallel,
    ):
        pictures = job.pictures()
        while chunk := list(islice(pictures, _CHUNK)):
            for picture in looked.at(chunk, parallel):
                rows.see(picture.picture)
                _sift_picture(job, picture, rows, funnel)
            advance(len(chunk))
    _check_images(job, rows)
    if not len(rows):
        parts = funnel.as_json()["parts"].values()
        lost = sum((Counter({d["why"]: d["rows"] for d in p["dropped"]}) for p in parts), Counter())
        lines = [f"{n} {why}" for why, n in lost.items()]
        raise DatasetError("no row is left; --keep FLAG keeps those of a flag", lines)
    _check_ids(rows)
    return looked.notes()


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
            (self._missing, "images are in no folder"),
            (self._inexact, "images were found by their stem"),
            (self._damaged, "images cannot be read"),
        ):
            if found:
                notes.append(f"{len(found):,} {what}, the first: {found[0]}")
        if self._job.asked.check:
            notes.append(f"opened {self._n_opened:,} images that rows ask about")
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


def _sift_picture(job: _Job, seen: _Seen, rows: _Rows, funnel: Funnel) -> None:
    picture = seen.picture
    part = job.part(picture.split)
    funnel.image(part, len(picture.relations))
    flags = judge(picture, seen.labels, seen.size, seen.flags)
    for i, (relation, label) in enumerate(zip(picture.relations, seen.labels, strict=True)):
        if not label:
            if _incomplete(relation):
                funnel.drop(part, INCOMPLETE)
            else:
                funnel.unmapped(part, normal(relation.predicate))
            continue
        why = next((flag for flag in job.dropped if flag in flags[i]), None)
        if why is not None:
            funnel.drop(part, why, label)
            continue
        record = _record(seen, relation, label, i, flags[i])
        rows.add(record, part, picture.split, flags[i])


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
        record["prompt"] = relation.prompt
    if relation.predicate:
        record["predicate"] = relation.predicate
    record["label"] = label
    record["flags"] = list(flags)
    return record


def _check_images(job: _Job, rows: _Rows) -> None:
    """No image comes twice in a split: what is said of it would be judged in pieces."""
    split = np.asarray(rows.image_split, dtype=np.uint64)
    # A split is one of a few: it takes the place of the lowest bits.
    keys, counts = np.unique(np.asarray(rows.images) & ~np.uint64(7) | split, return_counts=True)
    again = set((keys[counts > 1] & ~np.uint64(7)).tolist())
    if again:
        first = next(p for p in job.pictures() if _hashed(p.image) & ~7 in again)
        raise DatasetError(
            f"{len(again)} images come more than once in a split, {first.image!r} among them; "
            "give each image one record"
        )


def _check_ids(rows: _Rows) -> None:
    ids, first, counts = np.unique(np.asarray(rows.id), return_index=True, return_counts=True)
    if len(ids) < len(rows):
        again = int(first[counts > 1].min())
        rows.file.seek(0)
        record = next(islice(rows.file, again, None))
        raise DatasetError(
            f"{len(rows) - len(ids)} rows have an id that another row has, "
            f"{json.loads(record + b'}')['id']!r} among them; give each row its own"
        )


def _settled_splits(job: _Job, rows: _Rows) -> tuple[NDArray[np.intp], list[str]]:
    """For each row the index of its split in `rows.splits`, and notes."""
    own = np.asarray(rows.split, dtype=np.intp)
    names = {name for name, i in rows.splits.items() if (own == i).any()}
    if job.splits_anew:
        return _anew(job, rows, own, names)
    if "" in names and len(names) > 1:
        raise DatasetError(
            f"{int((own == rows.splits['']).sum())} of {len(rows)} rows have no split; write "
            "--annotations SPLIT=FILE for all files or for none"
        )
    if _SHARED not in job.dropped:
        _check_leaks(rows)
    if len(names) == 1 and names != {""}:
        whole = np.full(len(rows), _index(rows.splits, ""), dtype=np.intp)
        return whole, [
            f"all rows are of split {min(names)}: records name no split, and `vsp probe` makes folds"
        ]
    return own, []


def _shared(rows: _Rows, split: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Rows [row] whose image is in a later split too, where it has rows or not."""
    image_split, groups = np.asarray(rows.image_split), np.asarray(rows.groups)
    group = np.asarray(rows.group)
    shared = np.zeros(len(rows), dtype=np.bool_)
    order = [rows.splits[name] for name in _SPLITS if name in rows.splits]
    for place, i in enumerate(order):
        later = groups[np.isin(image_split, order[place + 1 :])]
        shared |= (split == i) & np.isin(group, later)
    return shared


def _check_leaks(rows: _Rows) -> None:
    split = np.asarray(rows.image_split)
    of = {
        name: np.unique(np.asarray(rows.groups)[split == rows.splits[name]])
        for name in _SPLITS
        if name in rows.splits
    }
    leaks = [
        f"{len(shared):,} of the {len(of[later]):,} images of {later} are in {earlier} too"
        for later, earlier in (("val", "train"), ("test", "train"), ("test", "val"))
        if later in of and earlier in of
        for shared in (np.intersect1d(of[later], of[earlier], assume_unique=True),)
        if len(shared)
    ]
    if leaks:
        raise DatasetError(
            "the source's splits share images, so that what is tested was trained on; --resplit "
            f"splits anew by image, --drop {_SHARED} leaves them to the later split",
            leaks,
        )


def _anew(
    job: _Job, rows: _Rows, own: NDArray[np.intp], names: set[str]
) -> tuple[NDArray[np.intp], list[str]]:
    """Whole groups to new splits, each with its share of every label."""
    fraction = job.asked.test_fraction
    if fraction is not None:
        if names != {""} and not job.asked.resplit:
            raise DatasetError(
                f"the source has splits of its own, {', '.join(sorted(names))}; leave "
                "--test-fraction out, or add --resplit to split anew"
            )
        shares = {"train": 1 - fraction, "test": fraction}
    else:
        shares = {s: float((own == rows.splits[s]).mean()) for s in _SPLITS if s in names}
        if len(shares) < 2:
            raise DatasetError(
                "--resplit has no two splits to take shares from; use --test-fraction"
            )
    if len(np.unique(np.asarray(rows.group))) < len(shares):
        raise DatasetError("all rows are of one image; there is nothing to split")
    indices = np.asarray([_index(rows.splits, name) for name in shares], dtype=np.intp)
    label = np.asarray(rows.label, dtype=np.intp)
    side = sides(label, np.asarray(rows.group), list(shares.values()), job.asked.seed)
    counts = [f"{name} {int((side == i).sum()):,}" for i, name in enumerate(shares)]
    return indices[side], [f"split anew by image: {', '.join(counts)} rows"]


def _over(
    job: _Job, rows: _Rows, split: NDArray[np.intp], kept: NDArray[np.bool_]
) -> NDArray[np.intp]:
    """Of the kept rows, which are more of a label than its split has of its rarest."""
    rng = np.random.default_rng(job.asked.seed)
    label, over = np.asarray(rows.label), []
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
            over.append(rng.permutation(of_label)[: n - counts.min()])
    return np.concatenate(over)


def _write_records(
    file: IO[bytes],
    rows: _Rows,
    split: NDArray[np.intp],
    why: NDArray[np.int8],
    funnel: Funnel,
) -> None:
    """One record a line, as `vsp generate` writes them, of the rows that nothing drops."""
    parts, splits, labels = list(rows.parts), list(rows.splits), list(rows.labels)
    rows.file.seek(0)
    file.write(b"[\n")
    separator = b""
    for i, line in enumerate(rows.file):
        part, label = parts[rows.part[i]], labels[rows.label[i]]
        if why[i] != _KEPT:
            funnel.drop(part, _LATE[why[i]], label)
            continue
        name = splits[split[i]]
        flags = [flag for k, flag in enumerate(_FLAGS) if rows.flags[i] >> k & 1]
        funnel.keep(part, name, label, flags)
        end = f', "split": {json.dumps(name)}}}' if name else "}"
        file.write(separator + line[:-1] + end.encode())
        separator = b",\n"
    file.write(b"\n]\n")


def _index(names: dict[str, int], name: str) -> int:
    return names.setdefault(name, len(names))


def _hashed(text: str) -> int:
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little")


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return sha256(file)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); mend that") from None


def _read_json(path: Path) -> dict[str, Any]:
    """A mapping; an empty one where there is none to be read."""
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
