"""One's own table → pictures: CSV, JSON lines or a JSON list, told apart by what is in the file.

A row is about one image. Its columns, or keys (another name for the same in brackets):

    image (img_path, image_path, image_filename)   needed
    subject (subj), object (obj, reference),
        relation (relationship, predicate)         what is said: the subject is … the object
    prompt, label                                  or one's own question and its answer
    id, group, split                               may be empty; split is train, val or test
    subject_box, object_box (reference_box)        may be empty; [left, top, right, bottom] in pixels

Names of columns may be in capitals; columns of other names are not read, and those of a CSV file are
named in a note. Cells are separated by commas,
semicolons or tabs; rows without any text in them are no rows. White space at the ends of a cell
goes. The split of a row comes before the split of its file.
"""

from __future__ import annotations

import csv
import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from itertools import chain
from pathlib import Path
from reprlib import repr as shortened
from typing import Any

from vsp.datasets.importers.annotations import SPLIT_WORDS, Box, Importer, Picture, Relation, Thing
from vsp.datasets.importers.group_rows import AnnotatedRow, group_into_pictures
from vsp.datasets.importers.text_lines import beginning, json_records, text_lines
from vsp.datasets.json_stream import read_records
from vsp.errors import DatasetError
from vsp.utils.text import is_encodable

_CALLED = {
    "image": ("image", "img_path", "image_path", "image_filename"),
    "subject": ("subject", "subj"),
    "object": ("object", "obj", "reference"),
    "relation": ("relation", "relationship", "predicate"),
    "prompt": ("prompt",),
    "label": ("label",),
    "id": ("id",),
    "group": ("group",),
    "split": ("split",),
    "subject_box": ("subject_box",),
    "object_box": ("object_box", "reference_box"),
}
_COLUMN = {name: column for column, names in _CALLED.items() for name in names}
_SAID, _ASKED = ("subject", "object", "relation"), ("prompt", "label")
_NEEDS = "image, and subject, object and relation or prompt and label"
_SPLITS = {"": "", **SPLIT_WORDS}
_TEXTS = tuple(column for column in _CALLED if not column.endswith("_box"))
_FAR = 1e9  # pixels; no box has such an edge
_LISTED = 300  # characters of a header at most, in a message


def read(files: Sequence[tuple[str, Path]], options: Mapping[str, str]) -> Iterator[Picture]:
    """Pictures in the order in which the files first name them.

    The option `encoding` is that of the files, where it is not UTF-8 (a JSON list always is, or is
    UTF-16 or UTF-32). Raises DatasetError, with
    file and line, for whatever cannot be used.
    """
    encoding = options.get("encoding", "")
    return group_into_pictures(
        chain.from_iterable(_rows(split, path, encoding) for split, path in files)
    )


IMPORTER = Importer(read, relations="6way", options=("encoding",))


def _rows(split: str, path: Path, encoding: str) -> Iterator[AnnotatedRow]:
    place = None
    with _records(path, encoding) as records:
        for place, values in records:
            try:
                yield _row(values, split, f"{path.name} {place}")
            except DatasetError as error:
                raise DatasetError(f"{path}: {place} {error}") from None
    if place is None:
        raise DatasetError(f"{path}: has a header and no rows; write a row for each relation")


@contextmanager
def _records(path: Path, encoding: str) -> Iterator[Iterator[tuple[str, Mapping[str, Any]]]]:
    """While the file is open: where a record stands, and its values by column."""
    start = beginning(path, encoding)
    if start.startswith("["):
        with closing(read_records(path)) as found:
            listed = ((f"record {index}", record) for index, record in enumerate(found))
            yield _by_column(path, listed)
    else:
        with text_lines(path, encoding) as lines:
            if start.startswith("{"):
                numbered = json_records(path, lines)
                yield _by_column(path, ((f"line {number}", record) for number, record in numbered))
            else:
                yield _csv_records(path, lines, _delimiter(start))


def _by_column(
    path: Path, records: Iterable[tuple[str, Any]]
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for place, record in records:
        if not isinstance(record, dict):
            raise DatasetError(f"{path}: {place} is {shortened(record)}, not a mapping")
        columns = _columns(f"{path}: {place}", record)
        yield place, {column: record[name] for column, name in columns.items()}


def _csv_records(
    path: Path, lines: Iterator[str], delimiter: str
) -> Iterator[tuple[str, Mapping[str, str]]]:
    rows = _cells(path, lines, delimiter)
    _, header = next(rows, (1, []))
    columns = _columns(f"{path}:", header)
    if not ("image" in columns and (columns.keys() >= set(_SAID) or columns.keys() >= set(_ASKED))):
        found = ", ".join(header)[:_LISTED] or "none"
        raise DatasetError(f"{path}: has the columns {found}; a table needs {_NEEDS}")
    _say_unread(path, [name for name in header if name not in columns.values()])
    places = [(column, header.index(name)) for column, name in columns.items()]
    for number, cells in rows:
        if len(cells) != len(header):
            raise DatasetError(
                f"{path}: line {number} has {len(cells)} cells, the header {len(header)}; give "
                "each row as many, and put a cell that holds the separator in quotation marks"
            )
        yield f"line {number}", {column: cells[at] for column, at in places}


def _cells(path: Path, lines: Iterator[str], delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """The rows with any text in them, each with the line in which it begins."""
    reader = csv.reader(lines, delimiter=delimiter, skipinitialspace=True, strict=True)
    number = 1
    try:
        for cells in reader:
            if any(map(str.strip, cells)):
                yield number, cells
            number = reader.line_num + 1
    except csv.Error as error:
        raise DatasetError(
            f"{path}: line {number} is not CSV: {error}; look for a quotation mark that is not "
            "closed, and double the marks inside a cell"
        ) from None


def _delimiter(start: str) -> str:
    """With which the first line has most of the columns that are known."""
    header = re.split("[\r\n]", start, maxsplit=1)[:1]
    names = {mark: next(csv.reader(header, delimiter=mark), []) for mark in ",;\t"}
    return max(names, key=lambda mark: sum(_plain(name) in _COLUMN for name in names[mark]))


def _columns(place: str, names: Iterable[str]) -> dict[str, str]:
    """Column → the name it has here. Others are passed over."""
    columns: dict[str, str] = {}
    for name in names:
        column = _COLUMN.get(_plain(name))
        if column in columns:
            raise DatasetError(
                f"{place} {columns[column]!r} and {name!r} both give the {column}; keep one of them"
            )
        if column:
            columns[column] = name
    return columns


def _say_unread(path: Path, names: Sequence[str]) -> None:
    """A column with a slip in its name would be lost otherwise without a word."""
    if names:
        print(f"note: {path}: not read: {', '.join(names)[:_LISTED]}", file=sys.stderr)


def _plain(name: str) -> str:
    return name.strip().lower()


def _row(values: Mapping[str, Any], split: str, where: str) -> AnnotatedRow:
    texts = {column: _text(column, values.get(column)) for column in _TEXTS}
    needed = ("image", *_needed(texts))
    for column in needed:
        if not texts[column]:
            raise DatasetError(f"has no {column}; a row needs {', '.join(needed)}")
    relation = Relation(
        subject=_thing(texts["subject"], "subject_box", values),
        predicate=texts["relation"],
        reference=_thing(texts["object"], "object_box", values),
        id=texts["id"],
        prompt=texts["prompt"],
        label=texts["label"],
        where=where,
    )
    own = texts["split"].lower()
    if own not in _SPLITS:
        raise DatasetError(f"has the split {texts['split']!r}; write train, val or test")
    return AnnotatedRow(texts["image"], relation, _SPLITS[own] or split, texts["group"])


def _needed(texts: Mapping[str, str]) -> tuple[str, ...]:
    """What is said, or one's own question; never both, as a label may deny what is said."""
    asked = [column for column in _ASKED if texts[column]]
    if asked and texts["relation"]:
        raise DatasetError(
            f"has a relation and a {asked[0]}; a row takes relation, or prompt and label: empty "
            "or remove one of them, and rows whose label says that the relation does not hold"
        )
    return _ASKED if asked else _SAID


def _text(column: str, value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        raise DatasetError(f"has {column} {shortened(value)}; give it a text")
    if not is_encodable(value):
        raise DatasetError(f"has {column} {value!a}, which is no text")
    return value.strip()


def _thing(name: str, column: str, values: Mapping[str, Any]) -> Thing | None:
    box = _box(column, values.get(column))
    if box and not name:
        raise DatasetError(f"has {column} {shortened(values[column])} of nothing; give it a name")
    return Thing(name, box) if name else None


def _box(column: str, value: Any) -> Box | None:
    edges = value
    if isinstance(value, str):
        if not value.strip():
            return None
        with suppress(ValueError, RecursionError):
            edges = json.loads(value)
    if edges is None:
        return None
    if not (isinstance(edges, list) and len(edges) == 4 and all(map(_is_number, edges))):
        raise DatasetError(
            f"has {column} {shortened(value)}; write [left, top, right, bottom] in pixels"
        )
    left, top, right, bottom = map(float, edges)
    return left, top, right, bottom


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _FAR
