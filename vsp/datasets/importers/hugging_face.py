"""Read datasets as Hugging Face stores them: Parquet files, image folders, and saved datasets.

    parquet          files with the rows of a dataset, or a folder of them
    imagefolder      a folder with images and metadata.csv, .jsonl or .parquet, whose `file_name` is
                     relative to it; or with a folder of images for each label
    load_from_disk   a folder that `save_to_disk` wrote, with one dataset or one for each split

Columns are those of `vsp import csv`; further names are `choices` and `answer_options` for options,
`A`, `B`, … for an option each, and `gt` for the answer. A question without options has its answer as
the label. Where there is a label and no question, `--option question=TEXT` asks it about each image.
Pictures may be stored in the rows; a row with several is dropped and counted. Labels that are
numbers with names in the file become these names. Other columns are not read; a note lists them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from vsp.datasets.importers.annotations import Beginning, Importer, Picture
from vsp.datasets.importers.arrow_files import arrow_rows, column_names, is_arrow
from vsp.datasets.importers.choice_rows import choice_row, row_split
from vsp.datasets.importers.field_texts import plain_text
from vsp.datasets.importers.file_rows import json_rows, log_unread, rows_of_cells
from vsp.datasets.importers.group_rows import (
    AnnotatedRow,
    group_into_pictures,
    rows_of_files,
    rows_of_records,
)
from vsp.datasets.importers.image_index import IMAGE_SUFFIXES
from vsp.datasets.importers.multiple_choice import OPTIONS, Choice, ChoiceReader
from vsp.datasets.importers.row_pictures import RowPicture, embedded_pictures, row_picture
from vsp.datasets.importers.table import table_row, table_values
from vsp.datasets.importers.text_lines import text_lines
from vsp.datasets.row_problems import RowProblems
from vsp.errors import DatasetError
from vsp.utils.reading import read_json, unreadable

_METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
_STATE, _SPLITS = "state.json", "dataset_dict.json"
_IMAGE = re.compile(r"images?|image_path|image_filename|img_path|file_name|image_\d{1,3}")
_SEVERAL = re.compile(r"images?_?\d*")  # columns of which a row may have more than one
_LETTER = re.compile(r"[A-Z]")
_ANSWERS = {"answer", "label", "gt"}
_RELATIONS = {"relation", "relationship", "predicate"}
# Further name → name that `vsp import csv` has for it.
_COLUMN = {
    "choices": "options", "answer_options": "options", "gt": "answer", "question_id": "id",
    "idx": "id", "index": "id",
}  # fmt: skip
_OTHERS = {
    "id", "group", "split", "question", "options", "answer", "prompt", "label", "subject", "subj",
    "object", "obj", "reference", "relation", "relationship", "predicate", "subject_box",
    "object_box", "reference_box", *_COLUMN,
}  # fmt: skip


def read(files: Sequence[tuple[str, Path]], options: Mapping[str, str]) -> Iterator[Picture]:
    """Yield pictures in the order of their first rows.

    Raises DatasetError, with file and row, if rows are invalid, ConfigError if pyarrow is missing.
    """
    reader = ChoiceReader(options)
    rows = partial(_rows, reader, options.get("question", ""), len(files) > 1)
    return group_into_pictures(rows_of_files(files, rows))


def read_embedded(
    files: Sequence[tuple[str, Path]], options: Mapping[str, str]
) -> Iterator[tuple[str, bytes]]:
    """Yield name and bytes of the pictures in the rows. Invalid rows are left to `read`.

    Logs the columns of each first file that are not read.
    """
    left = RowProblems()
    for number, (_, path) in enumerate(files):
        if not number and path.is_file() and is_arrow(path):
            log_unread(path, _unread(column_names(path)))
        records = _records(path, left)
        yield from embedded_pictures(left.caught(_picture, one, path) for _, one in records)


def _parquet_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*.parquet") if path.is_file())


def _image_folders(folder: Path) -> list[Path]:
    """The metadata files below a folder, or else the folders that directly contain images."""
    metadata, classes = [], []
    for parent, folders, names in os.walk(folder):
        folders.sort()
        metadata += [Path(parent, name) for name in _METADATA if name in names]
        if any(Path(name).suffix.lower() in IMAGE_SUFFIXES for name in names):
            classes.append(Path(parent))
    if not metadata and classes == [folder]:
        raise DatasetError(
            f"{folder}: has images but neither {', '.join(_METADATA)} nor a folder for each label"
        )
    return metadata or classes


def _saved_files(folder: Path) -> list[Path]:
    """The files of a saved dataset, or of those of all splits, in the order of their rows."""
    if not (folder / _SPLITS).is_file():
        return _data_files(folder)
    splits = _json(folder / _SPLITS).get("splits")
    if not isinstance(splits, list):
        raise DatasetError(f"{folder / _SPLITS}: has no list of splits; save the dataset again")
    return [path for name in splits for path in _data_files(_inside(folder, name))]


def _data_files(folder: Path) -> list[Path]:
    state = _json(folder / _STATE)
    if state.get("_indices_data_files"):
        raise DatasetError(
            f"{folder / _STATE}: the rows are chosen by an index, which is not read; call "
            "flatten_indices() and save the dataset again"
        )
    files = state.get("_data_files")
    if not isinstance(files, list) or not all(isinstance(one, dict) for one in files):
        raise DatasetError(f"{folder / _STATE}: has no list of data files; save the dataset again")
    return [_inside(folder, one.get("filename")) for one in files]


def _inside(folder: Path, name: Any) -> Path:
    """A file or folder that is named by a stranger and must lie in `folder`, after all links."""
    if not isinstance(name, str) or name in ("", ".", "..") or set("/\\\0") & set(name):
        raise DatasetError(f"{folder}: names the file {name!r}; give a name in this folder")
    if not (folder / name).resolve().is_relative_to(folder.resolve()):
        raise DatasetError(f"{folder / name}: leads out of its folder; put the file itself there")
    return folder / name


def _json(path: Path) -> dict[str, Any]:
    try:
        value = read_json(path)
    except OSError as error:
        raise DatasetError(f"{path}: {unreadable(error)}; name a folder that was saved") from None
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise DatasetError(f"{path}: is no JSON mapping; save the dataset again")
    return value


def _recognises_parquet(start: Beginning) -> bool:
    if start.is_folder:
        return not start.names & {*_METADATA, _STATE, _SPLITS} and bool(_parquet_files(start.path))
    return is_arrow(start.path)


def _recognises_images(start: Beginning) -> bool:
    if not start.is_folder or start.names & {_STATE, _SPLITS, "metadata.json"}:
        return False
    return bool(_image_folders(start.path))


def _recognises_saved(start: Beginning) -> bool:
    return start.is_folder and bool(start.names & {_STATE, _SPLITS})


_KNOWN = (*OPTIONS, "question")
PARQUET = Importer(
    read,
    options=_KNOWN,
    read_embedded=read_embedded,
    files_in=_parquet_files,
    recognises=_recognises_parquet,
)
IMAGE_FOLDER = Importer(
    read,
    options=_KNOWN,
    read_embedded=read_embedded,
    files_in=_image_folders,
    images_beside=True,
    recognises=_recognises_images,
)
LOAD_FROM_DISK = Importer(
    read,
    options=_KNOWN,
    read_embedded=read_embedded,
    files_in=_saved_files,
    recognises=_recognises_saved,
)


def _rows(
    reader: ChoiceReader,
    question: str,
    name_file: bool,
    split: str,
    path: Path,
    problems: RowProblems,
) -> Iterator[AnnotatedRow]:
    prefix = f"{path.parent.name}/{path.stem}/" if name_file else ""
    records = _records(path, problems)
    yield from rows_of_records(path, records, problems, _row, path, question, prefix, split, reader)
    reader.check_numbers(path)


def _records(path: Path, problems: RowProblems) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield place and values of each row of a file, or of each image of a folder."""
    if path.is_dir():
        for image in sorted(path.iterdir()):
            if image.suffix.lower() in IMAGE_SUFFIXES:
                yield image.name, {"file_name": image.name, "label": path.name}
    elif is_arrow(path):
        yield from arrow_rows(path, _is_read)
    elif path.suffix == ".csv":
        with text_lines(path) as lines:
            rows = rows_of_cells(path, lines, ",", problems)
            header = next(rows)[1]
            for place, cells in rows:
                yield place, {name: cell or None for name, cell in zip(header, cells, strict=True)}
    else:
        yield from json_rows(path, problems)


def _is_read(name: str) -> bool:
    plain = name.strip().lower()
    return bool(plain in _OTHERS or _IMAGE.fullmatch(plain) or _LETTER.fullmatch(name))


def _unread(names: Iterable[str]) -> list[str]:
    """The columns that are not read, also those that say the same as another one."""
    plain = {name: _COLUMN.get(name.strip().lower(), name.strip().lower()) for name in names}
    columns = set(plain.values())
    twice = set()
    if "options" in columns or any(_LETTER.fullmatch(name) for name in plain):
        twice = {
            two for one, two in (("answer", "label"), ("question", "prompt")) if one in columns
        }
    return [name for name, column in plain.items() if column in twice or not _is_read(name)]


def _row(
    record: Mapping[str, Any],
    path: Path,
    question: str,
    prefix: str,
    split: str,
    reader: ChoiceReader,
) -> AnnotatedRow:
    values = {
        _COLUMN.get(plain, plain): value
        for name, value in record.items()
        if (plain := name.strip().lower()) in _OTHERS and value is not None
    }
    picture = _picture(record, path)
    letters = {
        name: value
        for name, value in record.items()
        if _LETTER.fullmatch(name) and not _is_empty(value)
    }
    if letters:
        values["options"] = letters
    _ask(values, question, reader)
    if "id" in values and prefix:
        values["id"] = f"{prefix}{values['id']}"
    if "prompt" in values and values.keys().isdisjoint(_ANSWERS) and _ANSWERS & record.keys():
        unlabelled = Choice(plain_text("prompt", values["prompt"]), "", ())
        row_id, group = plain_text("id", values.get("id")), values.get("group")
        return choice_row(picture, unlabelled, row_id, row_split(values.get("split"), split), group)
    values["image"] = _images(record, path)
    try:
        columns = table_values(values, path, "a row")
    except DatasetError as error:  # it names the file; so does `placed_row`
        raise DatasetError(str(error).removeprefix(f"{path}: a row ")) from None
    return table_row(columns, split, reader)


def _is_empty(value: Any) -> bool:
    """Whether a cell is empty: None, blank text, or nan in a column of numbers."""
    return value is None or value != value or (isinstance(value, str) and not value.strip())


def _ask(values: dict[str, Any], question: str, reader: ChoiceReader) -> None:
    """Name the question and its answer as `vsp import csv` does."""
    if "options" in values:
        values.setdefault("question", values.pop("prompt", None))
        label = values.pop("label", None)
        values.setdefault("answer", label)
        return
    if "question" in values:
        values.setdefault("prompt", values.pop("question"))
    if "answer" in values:
        values.setdefault("label", reader.open_answer(values.pop("answer")))
    if "prompt" in values or values.keys() & _RELATIONS:
        return
    if question:
        values["prompt"] = question
    elif "label" in values:
        raise DatasetError(
            "has a label and no question; ask one about each image with --option question=TEXT"
        )


def _picture(record: Mapping[str, Any], path: Path) -> RowPicture:
    return row_picture([_images(record, path)])


def _images(record: Mapping[str, Any], path: Path) -> Any:
    """The image of a row; a list if there are several.

    `file_name` is relative to its own file. The name gets the folder of the file, so that files in
    several folders may have the same names.
    """
    found = [(name.strip().lower(), value) for name, value in record.items() if value is not None]
    images = [(name, value) for name, value in found if _IMAGE.fullmatch(name)]
    for name, value in images:
        if name == "file_name" and isinstance(value, str):
            if PurePosixPath(value).is_absolute() or ".." in PurePosixPath(value).parts:
                raise DatasetError(f"has the file_name {value!r}, which leads out of its folder")
            home = f"{path.parent.name}/{path.name}" if path.is_dir() else path.parent.name
            return f"{home}/{value}"
    several = [value for name, value in images if _SEVERAL.fullmatch(name)]
    listed = [one for value in several for one in (value if isinstance(value, list) else [value])]
    pictures = [one for one in listed if one not in (None, "")] or [
        value for _, value in images[:1]
    ]
    return pictures if len(pictures) > 1 else pictures[0] if pictures else None
