"""Read multiple-choice questions about images from JSON lines or a JSON list.

The keys of a record (other names in brackets):

    image (image_path, image_filename, img_path, images, image_1 … image_9)
    bytes                              the picture in base64, instead of an image
    question
    options (answer_options, choices)  as `read_options` takes them
    answer (gt)                        as `vsp.datasets.importers.multiple_choice` says
    hint                               put before the question; may be missing
    id (question_id, idx, index), group, split    may be missing

With the option `label=KEY`, the label is the text of another key, such as EmbSpatial-Bench's `relation`,
whose options are sentences about the two objects. The options stay as they are.

OmniSpatial's records name no image. Theirs is `TASK_TYPE/N.png`, with the N of the id "N_K".
Other keys are not read; a note lists those of the first record. If several files are read, ids
begin with the name of the file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from vsp.datasets.importers.annotations import Beginning, Importer, Picture
from vsp.datasets.importers.choice_rows import choice_row, row_split
from vsp.datasets.importers.field_texts import plain_text
from vsp.datasets.importers.file_rows import json_rows, log_unread
from vsp.datasets.importers.group_rows import (
    AnnotatedRow,
    group_into_pictures,
    not_empty,
    rows_of_files,
    rows_of_records,
)
from vsp.datasets.importers.multiple_choice import (
    OPTIONS,
    ChoiceReader,
    read_options,
)
from vsp.datasets.importers.row_pictures import RowPicture, embedded_pictures, row_picture
from vsp.datasets.row_problems import RowProblems
from vsp.errors import DatasetError

_IMAGE_KEYS = (
    *("image", "image_path", "image_filename", "img_path", "images"),
    *(f"image_{i}" for i in range(1, 10)),
)
_ID_KEYS = ("id", "question_id", "idx", "index")
_NAMES_OF = {
    "question": ("question",),
    "options": ("options", "answer_options", "choices"),
    "answer": ("answer", "gt"),
}
_READ = {
    *_IMAGE_KEYS, *_ID_KEYS, "bytes", "hint", "group", "split",
    *(name for names in _NAMES_OF.values() for name in names),
}  # fmt: skip
_OMNI_SPATIAL = {"task_type", "id"}


def read(files: Sequence[tuple[str, Path]], options: Mapping[str, str]) -> Iterator[Picture]:
    """Yield pictures in the order of their first rows.

    Raises DatasetError, with file and record, if records are invalid, ConfigError if an option has
    an unknown value.
    """
    reader, label_key = ChoiceReader(options), options.get("label", "")
    return group_into_pictures(rows_of_files(files, _rows, reader, label_key, len(files) > 1))


def read_embedded(
    files: Sequence[tuple[str, Path]], options: Mapping[str, str]
) -> Iterator[tuple[str, bytes]]:
    """Yield name and bytes of the pictures that records contain. Invalid rows are left to `read`.

    Logs the keys of each first record that are not read.
    """
    left = RowProblems()
    for _, path in files:
        for number, (_, record) in enumerate(json_rows(path, left)):
            if not number:
                read_too = _OMNI_SPATIAL if _is_of_omni_spatial(record) else ()
                known = {*_READ, *read_too, options.get("label")}
                log_unread(path, [key for key in record if key not in known], "keys")
            yield from embedded_pictures([left.caught(_picture, record)])


def _recognises(start: Beginning) -> bool:
    return start.is_json and all(start.names & set(names) for names in _NAMES_OF.values())


IMPORTER = Importer(
    read,
    relations="",
    options=(*OPTIONS, "label"),
    read_embedded=read_embedded,
    recognises=_recognises,
)


def _rows(
    split: str,
    path: Path,
    reader: ChoiceReader,
    label_key: str,
    name_file: bool,
    problems: RowProblems,
) -> Iterator[AnnotatedRow]:
    prefix = f"{path.stem}/" if name_file else ""
    empty = f"{path}: is empty; give a file with a question in each line"
    records = not_empty(json_rows(path, problems), problems, empty)
    yield from rows_of_records(path, records, problems, _row, split, prefix, reader, label_key)
    reader.check_numbers(path)


def _row(
    record: Mapping[str, Any], split: str, prefix: str, reader: ChoiceReader, label_key: str
) -> AnnotatedRow:
    fields = {column: _value(record, column) for column in _NAMES_OF}
    choice = reader.choice(
        fields["question"], read_options(fields["options"]), fields["answer"], record.get("hint")
    )
    if label_key:
        if label_key not in record:
            raise DatasetError(f"has no {label_key}, which --option label={label_key} names")
        choice = replace(choice, label=plain_text(label_key, record[label_key]))
    row_id = _id(record)
    return choice_row(
        _picture(record),
        choice,
        row_id and f"{prefix}{row_id}",
        row_split(record.get("split"), split),
        record.get("group"),
    )


def _picture(record: Mapping[str, Any]) -> RowPicture:
    if _is_of_omni_spatial(record):
        task, number = (plain_text(key, record[key]) for key in ("task_type", "id"))
        return RowPicture(f"{task}/{number.partition('_')[0]}.png")
    data = {"bytes": record["bytes"]} if record.get("bytes") else None
    return row_picture([*(record.get(key) for key in _IMAGE_KEYS), data])


def _id(record: Mapping[str, Any]) -> str:
    key = next((key for key in _ID_KEYS if record.get(key) is not None), "")
    row_id = plain_text(key, record.get(key))
    if _is_of_omni_spatial(record):  # each type of task numbers its own images
        return f"{plain_text('task_type', record['task_type'])}/{row_id}"
    return row_id


def _is_of_omni_spatial(record: Mapping[str, Any]) -> bool:
    return record.keys() >= _OMNI_SPATIAL and not record.keys() & {*_IMAGE_KEYS, "bytes"}


def _value(record: Mapping[str, Any], column: str) -> Any:
    """The value of a column, by the one of its names that the record has."""
    names = [name for name in _NAMES_OF[column] if name in record]
    if not names:
        keys = ", ".join(map(str, list(record)[:12])) or "none"
        raise DatasetError(f"has no {' or '.join(_NAMES_OF[column])}; its keys are {keys}")
    if len(names) > 1:
        raise DatasetError(f"has {' and '.join(names)}, which mean the same; keep one of them")
    return record[names[0]]
