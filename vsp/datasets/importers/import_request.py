"""The options of `vsp import`, and the checked job that is made from them."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vsp.datasets import IMPORTERS
from vsp.datasets.importers.annotations import SPLIT_WORDS, Importer, Picture
from vsp.datasets.importers.checked_fields import check_folder
from vsp.datasets.importers.funnel import BALANCE, DROPPED_LABEL, INCOMPLETE, UNMAPPED
from vsp.datasets.importers.image_index import ImageFolders
from vsp.datasets.importers.quality_flags import DROPPED, FLAGS
from vsp.datasets.importers.row_splits import SHARED, SplitSettings
from vsp.datasets.relations import OWN_WORDS, read_relations
from vsp.errors import ConfigError
from vsp.utils.files import sha256
from vsp.utils.reading import open_regular, unreadable
from vsp.utils.spelling import did_you_mean, unknown_name

_MAX_FILES = 10_000  # annotation files of a folder
_MAX_FILE = 1 << 33  # bytes; their SHA-256 takes some seconds
_SPLIT_WORDS = {**SPLIT_WORDS, "testing": "test"}


@dataclass(frozen=True, slots=True)
class ImportRequest:
    """The options of `vsp import`."""

    source: str
    annotations: Sequence[str]  # FILE or SPLIT=FILE; folders, if the source has them
    out: Path
    images: Sequence[Path] = ()
    relations: str | None = None  # None: the source's default table
    drop: Sequence[str] = ()  # flags in addition to DROPPED
    keep: Sequence[str] = ()  # flags of DROPPED that drop no row
    options: Mapping[str, str] = field(default_factory=dict)
    balance: bool = False
    resplit: bool = False
    test_fraction: float | None = None
    check: bool = False
    seed: int = 0
    table: Path | None = None
    drop_labels: Sequence[str] = ()  # labels whose rows are dropped


class ImportJob:
    """A checked request, with its importer, relations, image folders and annotation files.

    `dropped` are the flags that drop a row, `files` are (split, path); `notes` are for the user.
    Raises ConfigError if the request is invalid.
    """

    def __init__(self, request: ImportRequest, work: Path) -> None:
        self.request = request
        self.notes: list[str] = []
        self.importer: Importer = IMPORTERS.load(request.source)
        self.dropped = _dropping_flags(request)
        table = request.relations or self.importer.relations
        self.relations = read_relations(table, work) if table else OWN_WORDS
        self.files: list[tuple[str, Path]] = []
        self._names: dict[Path, str] = {}  # of the files, in the card
        images = list(request.images)
        for text in request.annotations:
            folder = self._add_annotations(text)
            if folder and self.importer.images_beside and not request.images:
                images.append(folder)
        if len(images) > 1 and not request.images:
            raise ConfigError(
                f"{images[0]} and {images[1]}: equal names in two folders would be one image; give "
                "the folder above them to --annotations"
            )
        self.folders = ImageFolders([_existing_folder(path) for path in images])
        self._check_options()

    def pictures(self) -> Iterator[Picture]:
        """Read the annotations from the start."""
        return self.importer.read(self.files, self.request.options)

    @property
    def split_settings(self) -> SplitSettings:
        """How the split of each row is chosen."""
        request = self.request
        return SplitSettings(
            request.resplit, request.test_fraction, SHARED in self.dropped, request.seed
        )

    @property
    def filters(self) -> list[str]:
        """The steps of the funnel that may drop rows, in order."""
        applies = {
            "missing-image": bool(self.folders.links),
            "unreadable-image": self.request.check,
        }
        flags = [flag for flag in self.dropped if applies.get(flag, True)]
        labels = [DROPPED_LABEL] if self.request.drop_labels else []
        balance = [BALANCE] if self.request.balance else []
        return [UNMAPPED, INCOMPLETE, *labels, *flags, *balance]

    def funnel_part(self, split: str) -> str:
        """The part of the funnel that counts the rows of a split of the source."""
        return "" if self.split_settings.new_splits else split

    def _add_annotations(self, text: str) -> Path | None:
        """Add the files of FILE, DIR, SPLIT=FILE or SPLIT=DIR; give the folder if it is one.

        The name of a file, or its path in the folder, may contain its split.
        """
        name, separator, rest = text.partition("=")
        given = _SPLIT_WORDS.get(name, "") if separator else ""
        path = Path(rest if given else text)
        if path.is_dir() and self.importer.files_in is not None:
            self._add_folder(path, given)
            return path
        if not path.is_file():
            what = "a folder" if path.is_dir() else "no such file"
            raise ConfigError(f"{path}: {what}; give existing files to --annotations")
        split = given or _split_in(path.stem)
        if split and not given:
            self.notes.append(f"{path.name}: split {split}, from the file name")
        self.files.append((split, path))
        self._names[path] = path.name
        return None

    def _add_folder(self, folder: Path, given: str) -> None:
        assert self.importer.files_in is not None
        check_folder(folder)
        paths = self.importer.files_in(folder)
        if not 0 < len(paths) <= _MAX_FILES:
            raise ConfigError(
                f"{folder}: has {len(paths):,} annotation files of the source {self.request.source}, "
                f"not 1 to {_MAX_FILES:,}; name another folder"
            )
        names = [str(path.relative_to(folder)) for path in paths]
        splits = [given or _split_in(str(Path(name).with_suffix(""))) for name in names]
        found = ", ".join(sorted(set(splits) - {""}))
        if found and not given:
            self.notes.append(f"{folder}: splits {found}, from the names of its files")
        self.files += zip(splits, paths, strict=True)
        self._names |= dict(zip(paths, names, strict=True))

    def _check_options(self) -> None:
        request, known = self.request, self.importer.options
        for key in request.options:
            if key not in known:
                near = did_you_mean(key, known)
                raise ConfigError(
                    f"option {key!r} is not known to {request.source}; {f'{near} ' if near else ''}known: "
                    f"{', '.join(known) or 'none'}"
                )
        if request.check and not self.folders.links and self.importer.read_embedded is None:
            raise ConfigError("--check opens images; name their folders with --images")

    def card(self) -> dict[str, Any]:
        """The card in `dataset.json`: everything that the records depend on."""
        request = self.request
        labels = sorted(set(request.drop_labels))
        return {
            "source": request.source,
            "annotations": [
                {"split": split, "file": self._names[path], "sha256": _digest(path)}
                for split, path in self.files
            ],
            "options": {key: str(value) for key, value in request.options.items()},
            "other_files": {path.name: _file_digest(path) for path in self._other_files()},
            "images": {
                link: {"folder": str(path), "entries": sum(1 for _ in path.iterdir())}
                for link, path in self.folders.links.items()
            },
            "relations": {
                label: [words for words, of in self.relations.label_of.items() if of == label]
                for label in self.relations.labels
            },
            "dropped": list(self.dropped),
            **({"dropped_labels": labels} if labels else {}),  # older cards have no such key
            "balance": request.balance,
            "resplit": request.resplit,
            "test_fraction": request.test_fraction,
            "check": request.check,
            "seed": request.seed,
        }

    def _other_files(self) -> list[Path]:
        """Files that the importer reads besides the annotations, such as vocabularies."""
        options = self.request.options
        default = {
            path.parent / f"{option}.json"
            for _, path in self.files
            for option in self.importer.options
            if option not in options
        }
        named = {Path(str(value)) for value in options.values()}
        return [path for path in sorted(default | named) if path.is_file()]


def _dropping_flags(request: ImportRequest) -> tuple[str, ...]:
    for flag in (*request.drop, *request.keep):
        if flag not in FLAGS:
            raise ConfigError(unknown_name("flag", flag, FLAGS))
    both = sorted(set(request.drop) & set(request.keep))
    if both:
        raise ConfigError(f"flag {both[0]!r} is both in --drop and in --keep; choose one")
    chosen = {*DROPPED, *request.drop} - set(request.keep)
    return tuple(flag for flag in FLAGS if flag in chosen)


def _split_in(name: str) -> str:
    """The split in a file's name; "" if it has none or several."""
    words = re.findall("[a-z]+", name.lower())
    splits = {_SPLIT_WORDS[word] for word in words if word in _SPLIT_WORDS}
    return splits.pop() if len(splits) == 1 else ""


def _existing_folder(path: Path) -> Path:
    if not path.is_dir():
        raise ConfigError(f"{path}: no such folder; give existing folders to --images")
    if next(path.iterdir(), None) is None:
        raise ConfigError(
            f"{path}: is empty; give the folders with the images to --images, or leave it out to import "
            "annotations only"
        )
    return path


def _digest(path: Path) -> str:
    """The digest of a file; of a folder, that of the names and sizes of its files."""
    if not path.is_dir():
        return _file_digest(path)
    listed = sorted((one.name, one.stat().st_size) for one in path.iterdir() if one.is_file())
    return hashlib.sha256(json.dumps(listed).encode()).hexdigest()


def _file_digest(path: Path) -> str:
    try:
        with open_regular(path, _MAX_FILE) as file:
            return sha256(file)
    except OSError as error:
        raise ConfigError(
            f"{path}: {unreadable(error)}; check the path and its permissions"
        ) from None
