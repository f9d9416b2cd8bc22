"""Find which importers would read a file or a folder, from its first record."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePath
from reprlib import Repr
from typing import Any

from vsp.datasets import IMPORTERS
from vsp.datasets.importers.annotations import Beginning, Importer
from vsp.datasets.importers.arrow_files import column_names, is_arrow
from vsp.datasets.importers.checked_fields import check_folder
from vsp.datasets.importers.file_rows import rows_of_cells
from vsp.datasets.importers.text_lines import beginning, text_lines
from vsp.datasets.json_stream import read_members, read_records
from vsp.datasets.metadata import NAME
from vsp.datasets.row_problems import RowProblems
from vsp.errors import ConfigError, DatasetError

STATES = "states"  # `vsp import states` reads hidden states
_MAX_NAMES = 1000  # names of a folder that are looked at
_MAX_MEMBERS = 50  # of a mapping
_IMAGE_FIELDS = {"image", "image_path", "image_filename", "img_path", "image_1"}
_MAX_FIELDS = 24  # fields that are shown
_shortened = Repr()
_shortened.maxstring = _shortened.maxother = 60


@dataclass(frozen=True, slots=True)
class Guess:
    """The sources that would read a file or folder, and its fields."""

    path: Path
    sources: tuple[str, ...]  # importers that would read it, or STATES
    fields: tuple[
        tuple[str, str], ...
    ]  # name and shortened value of each field of the first record

    def lines(self) -> Iterator[str]:
        """The guess as lines for the user."""
        if self.is_dataset:
            yield (
                f"{self.path}: this is a dataset of vsp already; `vsp dataset show {self.path}` shows it, "
                f"`vsp plan --dataset {self.path} --model NAME` uses it"
            )
        elif not self.sources:
            yield (
                f"{self.path}: no importer reads this; write a table as `vsp import csv` reads it, see "
                "docs/datasets.md"
            )
        else:
            yield f"{self.path}: {' and '.join(self.sources)} would read this"
        for name, value in self.fields[:_MAX_FIELDS]:
            yield f"  {name}: {value}" if value else f"  {name}"
        if len(self.fields) > _MAX_FIELDS:
            yield f"  and {len(self.fields) - _MAX_FIELDS:,} more"
        for source in self.sources:
            if source == STATES:
                yield f"next: vsp import states {self.path} --out scratch/NAME"
            else:
                yield (
                    f"next: vsp import {source} --annotations {self.path}{self._images} --out data/NAME"
                )

    @property
    def is_dataset(self) -> bool:
        """Whether it is a folder as `vsp import` and `vsp generate` write it, or its metadata."""
        folder = self.path if self.path.is_dir() else self.path.parent
        named = self.path.is_dir() or self.path.name == NAME
        return not self.sources and named and (folder / NAME).is_file()

    @property
    def _images(self) -> str:
        """The option for the photographs, if the first record names a picture and does not hold it."""
        names = (value.strip("'") for name, value in self.fields if name in _IMAGE_FIELDS)
        return " --images DIR" if any(PurePath(name).suffix for name in names) else ""


def guess(path: Path) -> Guess:
    """Raises DatasetError if the file cannot be read."""
    start = _start(path)
    shown = {
        name: _shortened.repr(start.record[name])
        for name in (start.record if isinstance(start.record, dict) else ())
    }
    fields = tuple((str(name), shown.get(name, "")) for name in shown or sorted(start.names))
    return Guess(path, _sources(start), fields)


def other_sources(source: str, paths: Sequence[Path]) -> list[str]:
    """A line for the first file that another importer would read and this one would not."""
    for path in paths:
        with suppress(DatasetError, ConfigError):
            sources = _sources(_start(path))
            if sources and source not in sources:
                named = " or ".join(f"vsp import {one}" for one in sources)
                return [f"{path.name} seems to be a file for {named}"]
    return []


def _sources(start: Beginning) -> tuple[str, ...]:
    found = [name for name, importer in _importers() if _is_recognised(importer, start)]
    if not found and _has_states(start):
        found.append(STATES)
    return tuple(found)


def _importers() -> Iterator[tuple[str, Importer]]:
    for name in IMPORTERS.names():
        with suppress(ConfigError):  # a package that cannot be imported
            yield name, IMPORTERS.load(name)


def _is_recognised(importer: Importer, start: Beginning) -> bool:
    if importer.recognises is None or (start.is_folder and importer.files_in is None):
        return False
    try:
        return importer.recognises(start)
    except DatasetError:
        return False


def _start(path: Path) -> Beginning:
    if path.is_dir():
        check_folder(path)
        names = frozenset(one.name for one in islice(path.iterdir(), _MAX_NAMES))
        return Beginning(path, names=names)
    if is_arrow(path):
        with suppress(ConfigError):
            return Beginning(path, names=frozenset(column_names(path)))
        return Beginning(path)
    text = beginning(path)
    try:
        record = _first_record(path, text)
    except DatasetError:
        record = None
    names = frozenset(map(str, record)) if isinstance(record, dict) else frozenset()
    return Beginning(path, record, names, is_json=text.startswith(("[", "{")))


def _first_record(path: Path, text: str) -> Any:
    """The first value of a JSON list, line or mapping, or the first row of a table by column."""
    if text.startswith("["):
        with closing(read_records(path)) as records:
            return next(records)
    if text.startswith("{"):
        return _first_mapping(path, text)
    if "\0" in text:
        return None
    mark = max("\t,;", key=text.partition("\n")[0].count)
    with text_lines(path) as lines:
        rows = rows_of_cells(path, lines, mark, RowProblems())
        names = [name.strip() for name in next(rows)[1]]
        _, values = next(rows, ("", [""] * len(names)))
    return dict(zip(names, values, strict=True))


def _first_mapping(path: Path, text: str) -> dict[str, Any]:
    """The record of the first line, or the first members of a mapping over several lines."""
    with suppress(ValueError, RecursionError):
        record = json.loads(text.splitlines()[0])
        if isinstance(record, dict):
            return record
    with closing(read_members(path)) as members:
        return dict(islice(members, _MAX_MEMBERS))


def _has_states(start: Beginning) -> bool:
    if start.is_folder:
        return any(name.endswith((".pt", ".safetensors")) for name in start.names)
    if start.path.suffix == ".safetensors":
        return True
    try:
        with zipfile.ZipFile(start.path) as archive:
            return "representations.npy" in archive.namelist()[:_MAX_NAMES]
    except (zipfile.BadZipFile, OSError):
        return False
