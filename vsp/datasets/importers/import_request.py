"""The options of `vsp import`, and the checked job that is made from them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vsp.datasets import IMPORTERS
from vsp.datasets.importers.annotations import SPLIT_WORDS, Importer, Picture
from vsp.datasets.importers.funnel import BALANCE, DROPPED_LABEL, INCOMPLETE, UNMAPPED
from vsp.datasets.importers.image_index import ImageFolders
from vsp.datasets.importers.quality_flags import DROPPED, FLAGS
from vsp.datasets.importers.row_splits import SHARED, SplitSettings
from vsp.datasets.relations import OWN_WORDS, read_relations
from vsp.errors import ConfigError
from vsp.utils.files import sha256
from vsp.utils.reading import open_regular, unreadable

_MAX_FILE = 1 << 33  # bytes; their SHA-256 takes some seconds
_SPLIT_WORDS = {**SPLIT_WORDS, "testing": "test"}


@dataclass(frozen=True, slots=True)
class ImportRequest:
    """The options of `vsp import`."""

    source: str
    annotations: Sequence[str]  # FILE, or SPLIT=FILE
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
        self.folders = ImageFolders([_existing_folder(path) for path in request.images])
        self.files = [self._annotation_file(text) for text in request.annotations]
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
            "missing-image": bool(self.request.images),
            "unreadable-image": self.request.check,
        }
        flags = [flag for flag in self.dropped if applies.get(flag, True)]
        labels = [DROPPED_LABEL] if self.request.drop_labels else []
        balance = [BALANCE] if self.request.balance else []
        return [UNMAPPED, INCOMPLETE, *labels, *flags, *balance]

    def funnel_part(self, split: str) -> str:
        """The part of the funnel that counts the rows of a split of the source."""
        return "" if self.split_settings.new_splits else split

    def _annotation_file(self, text: str) -> tuple[str, Path]:
        """Split and path from FILE or SPLIT=FILE; a file's name may contain its split."""
        name, separator, rest = text.partition("=")
        if separator and name in _SPLIT_WORDS:
            split, path = _SPLIT_WORDS[name], Path(rest)
        else:
            path = Path(text)
            words = re.findall("[a-z]+", path.stem.lower())
            splits = {_SPLIT_WORDS[word] for word in words if word in _SPLIT_WORDS}
            split = splits.pop() if len(splits) == 1 else ""
            if split:
                self.notes.append(f"{path.name}: split {split}, from the file name")
        if not path.is_file():
            raise ConfigError(f"{path}: no such file; give existing files to --annotations")
        return split, path

    def _check_options(self) -> None:
        request, known = self.request, self.importer.options
        for key in request.options:
            if key not in known:
                raise ConfigError(
                    f"option {key!r} is not known to {request.source}; known: "
                    f"{', '.join(known) or 'none'}"
                )
        if request.check and not request.images:
            raise ConfigError("--check opens images; name their folders with --images")

    def card(self) -> dict[str, Any]:
        """The card in `dataset.json`: everything that the records depend on."""
        request = self.request
        labels = sorted(set(request.drop_labels))
        return {
            "source": request.source,
            "annotations": [
                {"split": split, "file": path.name, "sha256": _file_digest(path)}
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
            raise ConfigError(f"flag {flag!r} is not known; known: {', '.join(FLAGS)}")
    both = sorted(set(request.drop) & set(request.keep))
    if both:
        raise ConfigError(f"flag {both[0]!r} is both in --drop and in --keep; choose one")
    chosen = {*DROPPED, *request.drop} - set(request.keep)
    return tuple(flag for flag in FLAGS if flag in chosen)


def _existing_folder(path: Path) -> Path:
    if not path.is_dir():
        raise ConfigError(f"{path}: no such folder; give existing folders to --images")
    if next(path.iterdir(), None) is None:
        raise ConfigError(
            f"{path}: is empty; give the folders with the images to --images, or leave it out to import "
            "annotations only"
        )
    return path


def _file_digest(path: Path) -> str:
    try:
        with open_regular(path, _MAX_FILE) as file:
            return sha256(file)
    except OSError as error:
        raise ConfigError(
            f"{path}: {unreadable(error)}; check the path and its permissions"
        ) from None
