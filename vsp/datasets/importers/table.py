"""Read a user's own table: CSV, JSON lines or a JSON list, detected from the contents.

Each row is about one image. The columns, or keys (other names in brackets):

    image (img_path, image_path, image_filename)   required
    subject (subj), object (obj, reference),
        relation (relationship, predicate)         the relation of the subject to the object
    prompt, label                                  or a question and its answer
    question, options, answer                      or a multiple-choice question
    id, group, split                               may be empty; split is train, val or test
    subject_box, object_box (reference_box)        may be empty; [left, top, right, bottom] in pixels

An image may also be the picture itself, in base64 or as a data URI of up to 16 million characters, or
a mapping {"bytes": base64 or null, "path": name or null}, as Hugging Face datasets have it.

Options are a JSON list, or texts separated by "|" or ";". `vsp.datasets.importers.multiple_choice`
says how the answer is read and what the prompt is.

Column names may be in capitals. Other columns are not read; a note lists those of a CSV file. Cells
are separated by commas, semicolons or tabs, or as a first line like `sep=;` says. Empty rows and spaces
around cells are ignored. The split of a row replaces the split of its file.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from reprlib import repr as shortened
from typing import Any

from vsp.datasets.importers.annotations import Beginning, Box, Importer, Picture, Relation, Thing
from vsp.datasets.importers.choice_rows import row_split
from vsp.datasets.importers.field_texts import plain_text
from vsp.datasets.importers.file_rows import json_rows, listed_names, log_unread, rows_of_cells
from vsp.datasets.importers.funnel import SEVERAL_IMAGES
from vsp.datasets.importers.group_rows import (
    AnnotatedRow,
    group_into_pictures,
    not_empty,
    rows_of_files,
    rows_of_records,
)
from vsp.datasets.importers.multiple_choice import OPTIONS, Choice, ChoiceReader, read_options
from vsp.datasets.importers.row_pictures import RowPicture, embedded_pictures, row_picture
from vsp.datasets.importers.text_lines import beginning, text_lines
from vsp.datasets.row_problems import RowProblems
from vsp.errors import DatasetError
from vsp.utils.spelling import misspelt
from vsp.utils.text import composed

_NAMES_OF = {
    "image": ("image", "img_path", "image_path", "image_filename"),
    "subject": ("subject", "subj"),
    "object": ("object", "obj", "reference"),
    "relation": ("relation", "relationship", "predicate"),
    "prompt": ("prompt",),
    "label": ("label",),
    "question": ("question",),
    "options": ("options",),
    "answer": ("answer",),
    "id": ("id",),
    "group": ("group",),
    "split": ("split",),
    "subject_box": ("subject_box",),
    "object_box": ("object_box", "reference_box"),
}
_COLUMN_OF_NAME = {name: column for column, names in _NAMES_OF.items() for name in names}
_RELATION_COLUMNS = ("subject", "object", "relation")
_PROMPT_COLUMNS = ("prompt", "label")
_CHOICE_COLUMNS = ("question", "options", "answer")
_REQUIRED = (
    "image, and subject, object and relation, or prompt and label, or question, options and answer"
)
_READ_ELSEWHERE = ("image", "split", *_CHOICE_COLUMNS)
_TEXT_COLUMNS = tuple(c for c in _NAMES_OF if c not in _READ_ELSEWHERE and not c.endswith("_box"))
_COMPARED_COLUMNS = ("group", "label")  # equal texts are one group or one class
_MAX_EDGE = 1e9  # pixels
_SEPARATOR_LINE = re.compile(r"""\ufeff?"?sep=(\t|[^\w\s"'])"?[\r\n]""", re.IGNORECASE)


def read(files: Sequence[tuple[str, Path]], options: Mapping[str, str]) -> Iterator[Picture]:
    """Yield pictures in the order of their first rows.

    The option `encoding` is the encoding of CSV files and JSON lines (default: UTF-8 or UTF-16);
    `answer` and `prompt` are those of multiple-choice questions.
    Raises DatasetError, with file and line, if rows are invalid.
    """
    encoding = options.get("encoding", "")
    return group_into_pictures(rows_of_files(files, _rows, encoding, ChoiceReader(options)))


def read_embedded(
    files: Sequence[tuple[str, Path]], options: Mapping[str, str]
) -> Iterator[tuple[str, bytes]]:
    """Yield name and bytes of the pictures that cells contain. Invalid rows are left to `read`.

    Logs the columns that are not read: an import calls this once, and `read` more often.
    """
    left = RowProblems()
    for _, path in files:
        with _records(path, options.get("encoding", ""), left, log=True) as records:
            yield from embedded_pictures(left.caught(_picture, values) for _, values in records)


def _recognises(start: Beginning) -> bool:
    if not isinstance(start.record, dict):
        return False
    try:
        return bool(table_values(start.record, start.path, "its first row"))
    except DatasetError:
        return False


IMPORTER = Importer(
    read,
    relations="6way",
    options=("encoding", *OPTIONS),
    read_embedded=read_embedded,
    recognises=_recognises,
)


def _rows(
    split: str, path: Path, encoding: str, reader: ChoiceReader, problems: RowProblems
) -> Iterator[AnnotatedRow]:
    empty = f"{path}: contains a header and no rows; write a row for each relation"
    with _records(path, encoding, problems) as records:
        some = not_empty(records, problems, empty)
        yield from rows_of_records(path, some, problems, table_row, split, reader)
    reader.check_numbers(path)


@contextmanager
def _records(
    path: Path, encoding: str, problems: RowProblems, log: bool = False
) -> Iterator[Iterator[tuple[str, Mapping[str, Any]]]]:
    """Open a file; give an iterator of place and values by column.

    Rows that have no values by column are skipped and added to `problems`.
    """
    start = beginning(path, encoding)
    if start.startswith(("[", "{")):
        with closing(json_rows(path, problems, encoding)) as records:
            yield _by_column(path, records, problems)
    else:
        with text_lines(path, encoding) as lines:
            lines = _without_separator_line(lines)
            yield _csv_records(path, lines, _delimiter(start), problems, log)


def _by_column(
    path: Path, records: Iterable[tuple[str, dict[str, Any]]], problems: RowProblems
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for place, record in records:
        values = problems.caught(table_values, record, path, place, last=False)
        if values is not None:
            yield place, values


def table_values(record: Mapping[str, Any], path: Path, place: str) -> Mapping[str, Any]:
    """The values of a JSON record by column. Raises DatasetError if a column is missing."""
    columns = _columns(f"{path}: {place}", record)
    _check_columns(f"{path}: {place}", columns, list(record), "key")
    return {column: record[name] for column, name in columns.items()}


def _csv_records(
    path: Path, lines: Iterator[str], delimiter: str, problems: RowProblems, log: bool
) -> Iterator[tuple[str, Mapping[str, str]]]:
    rows = rows_of_cells(path, lines, delimiter, problems)
    _, header = next(rows)
    columns = _columns(f"{path}:", header)
    _check_columns(f"{path}:", columns, header, "column")
    if log:
        log_unread(path, [name for name in header if name not in columns.values()])
    places = [(column, header.index(name)) for column, name in columns.items()]
    for place, cells in rows:
        yield place, {column: cells[at] for column, at in places}


def _check_columns(place: str, columns: Mapping[str, str], names: Sequence[str], kind: str) -> None:
    """Raise DatasetError for the columns, or keys of a record, that a row needs and `names` lacks."""
    missing = min(
        (
            [column for column in ("image", *needed) if column not in columns]
            for needed in (_PROMPT_COLUMNS, _RELATION_COLUMNS, _CHOICE_COLUMNS)
        ),
        key=len,
    )
    if not missing:
        return
    unread = {_plain_name(name): name.strip() for name in names if name not in columns.values()}
    meant = {column: misspelt(column, unread) for column in missing}
    renames = [f"rename {unread[name]!r} to {column!r}" for column, name in meant.items() if name]
    raise DatasetError(
        f"{place} has no {kind} {' and no '.join(map(repr, missing))}; its {kind}s are "
        f"{listed_names(names)}; {' and '.join(renames) or f'add it, or rename the {kind} that holds it'} "
        f"(a row needs {_REQUIRED})"
    )


def _delimiter(start: str) -> str:
    """The delimiter that the first line declares, or with which it has the most known columns."""
    declared = _SEPARATOR_LINE.match(start)
    if declared:
        return declared[1]
    header = re.split("[\r\n]", start, maxsplit=1)[:1]
    names = {mark: next(csv.reader(header, delimiter=mark), []) for mark in ",;\t"}
    return max(
        names, key=lambda mark: sum(_plain_name(name) in _COLUMN_OF_NAME for name in names[mark])
    )


def _without_separator_line(lines: Iterator[str]) -> Iterator[str]:
    """The lines; a first line like `sep=;`, which Excel writes, is empty."""
    first = next(lines, "")
    yield "\n" if _SEPARATOR_LINE.match(first) else first
    yield from lines


def _columns(place: str, names: Iterable[str]) -> dict[str, str]:
    """Map each column to its name in this file; unknown names are skipped."""
    columns: dict[str, str] = {}
    for name in names:
        column = _COLUMN_OF_NAME.get(_plain_name(name))
        if column in columns:
            raise DatasetError(
                f"{place} {columns[column]!r} and {name!r} both give the {column}; keep one of them"
            )
        if column:
            columns[column] = name
    return columns


def _plain_name(name: str) -> str:
    return name.strip().lower()


def table_row(values: Mapping[str, Any], split: str, reader: ChoiceReader) -> AnnotatedRow:
    """The row of values by column. Raises DatasetError if one is missing or wrong."""
    picture = _picture(values)
    texts = {column: _text(column, values.get(column)) for column in _TEXT_COLUMNS}
    choice = _choice(values, texts, reader)
    required = ("image", *_required_columns(texts)) if choice is None else ("image",)
    for column in required:
        if not {**texts, "image": picture.name}[column]:
            raise DatasetError(f"has no {column}; a row needs {', '.join(required)}")
    relation = Relation(
        subject=_thing(texts["subject"], "subject_box", values),
        predicate=texts["relation"],
        reference=_thing(texts["object"], "object_box", values),
        id=texts["id"],
        prompt=texts["prompt"] if choice is None else choice.prompt,
        label=texts["label"] if choice is None else choice.label,
        options=() if choice is None else choice.options,
        unusable=SEVERAL_IMAGES if picture.several else choice.unusable if choice else "",
    )
    return AnnotatedRow(
        picture.name, relation, row_split(values.get("split"), split), texts["group"]
    )


def _choice(
    values: Mapping[str, Any], texts: Mapping[str, str], reader: ChoiceReader
) -> Choice | None:
    """The multiple-choice question of a row; None if it has none."""
    others = [name for name in (*_PROMPT_COLUMNS, "relation") if texts[name]]
    if not plain_text("question", values.get("question")):
        if "question" in values and not others:
            raise DatasetError(f"has no question; a row needs image, {', '.join(_CHOICE_COLUMNS)}")
        return None
    if others:
        raise DatasetError(
            f"has a question and a {others[0]}; a row takes one of them: empty the other"
        )
    if values.get("options") in (None, ""):
        raise DatasetError("has a question without options; write them, or use prompt and label")
    options = read_options(values["options"])
    return reader.choice(values["question"], options, values.get("answer"))


def _picture(values: Mapping[str, Any]) -> RowPicture:
    return row_picture([values.get("image")])


def _required_columns(texts: Mapping[str, str]) -> tuple[str, ...]:
    """The columns of a relation or of a prompt. A row with both is refused: the label may be "no"."""
    prompt_columns = [column for column in _PROMPT_COLUMNS if texts[column]]
    if prompt_columns and texts["relation"]:
        raise DatasetError(
            f"has a relation and a {prompt_columns[0]}; a row takes relation, or prompt and label: empty "
            "one of them, and remove rows whose label says that the relation does not hold"
        )
    return _PROMPT_COLUMNS if prompt_columns else _RELATION_COLUMNS


def _text(column: str, value: Any) -> str:
    text = plain_text(column, value)
    return composed(text) if column in _COMPARED_COLUMNS else text


def _thing(name: str, column: str, values: Mapping[str, Any]) -> Thing | None:
    box = _box(column, values.get(column))
    if box and not name:
        raise DatasetError(
            f"has {column} {shortened(values[column])} but no name; write a name, or remove the box"
        )
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
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _MAX_EDGE
