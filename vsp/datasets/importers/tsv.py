"""Read the tables of VLMEvalKit: a question in each row, with cells that are separated by tabs.

The columns:

    index              names the row
    image              the picture in base64, the `index` of a row that has it, or a file's name
    image_path         a file's name; read if there is no `image`
    question, answer   the answer is a letter unless `--option answer` says something else
    A, B, C, …         the options; empty cells are none
    hint               put before the question
    split              train, dev, val or test

A table without the columns A and B holds open questions; the label is the answer's text. A picture
or a path may also be a list. Other columns, such as `category`, are not read; a note lists them. If
several files are read, ids begin with the name of the file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from vsp.datasets.importers.annotations import Beginning, Importer, Picture
from vsp.datasets.importers.choice_rows import choice_row, row_split
from vsp.datasets.importers.field_texts import plain_text
from vsp.datasets.importers.file_rows import listed_names, log_unread, rows_of_cells
from vsp.datasets.importers.group_rows import (
    AnnotatedRow,
    group_by_key,
    group_into_pictures,
    placed_row,
    rows_of_files,
)
from vsp.datasets.importers.multiple_choice import OPTIONS, ChoiceReader, lettered_options
from vsp.datasets.importers.row_pictures import RowPicture, embedded_pictures, row_picture
from vsp.datasets.importers.text_lines import text_lines
from vsp.datasets.row_problems import RowProblems
from vsp.errors import DatasetError

_COLUMNS = ("index", "image", "image_path", "question", "hint", "answer", "split")
_LETTER = re.compile("[A-Z]")
_REFERENCE = re.compile("[0-9]{1,18}")  # a cell of `image` with the index of another row

Row = dict[str, str]  # the cells of a row by column, without those of the picture


def read(files: Sequence[tuple[str, Path]], options: Mapping[str, str]) -> Iterator[Picture]:
    """Yield pictures in the order of their first rows.

    Raises DatasetError, with file and line, if rows are invalid, ConfigError if an option has an
    unknown value.
    """
    reader = ChoiceReader({"answer": "letter", **options})
    return group_into_pictures(rows_of_files(files, _rows, reader, len(files) > 1))


def read_embedded(
    files: Sequence[tuple[str, Path]], options: Mapping[str, str]
) -> Iterator[tuple[str, bytes]]:
    """Yield name and bytes of the pictures that cells contain. Invalid rows are left to `read`.

    Logs the columns that are not read.
    """
    left = RowProblems()
    for _, path in files:
        rows = _cells(path, left, log=True)
        yield from embedded_pictures(left.caught(_picture, cells) for _, cells in rows)


def _recognises(start: Beginning) -> bool:
    needed = start.names >= {"index", "question", "answer"} and start.names & {
        "image",
        "image_path",
    }
    return bool(needed) and not start.is_json


IMPORTER = Importer(
    read, relations="", options=OPTIONS, read_embedded=read_embedded, recognises=_recognises
)


def _rows(
    split: str, path: Path, reader: ChoiceReader, name_file: bool, problems: RowProblems
) -> Iterator[AnnotatedRow]:
    prefix = f"{path.stem}/" if name_file else ""
    place = None
    with closing(group_by_key(_by_index(path, problems))) as groups:
        for _, rows in groups:
            shared = next((name for _, _, name, _ in rows if name), "")
            for place, row, name, several in rows:
                picture = RowPicture(name or shared, several=several)
                made = problems.caught(
                    placed_row, path, place, _row, row, picture, split, prefix, reader
                )
                if made is not None:
                    yield made
    if place is None and not problems:
        raise DatasetError(f"{path}: contains a header and no rows; write a row for each question")
    reader.check_numbers(path)


def _by_index(path: Path, problems: RowProblems) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Yield the index of the row that has the picture, and a row.

    A row is its place, its cells, the name of its own picture ("": in another row), and whether it
    has several pictures.
    """
    for place, cells in _cells(path, problems):
        picture = problems.caught(_placed_picture, path, place, cells, last=False)
        if picture is not None:
            row = {key: cell for key, cell in cells.items() if key not in ("image", "image_path")}
            key = _reference(cells) or plain_text("index", cells["index"])
            yield key, (place, row, picture.name, picture.several)


def _cells(path: Path, problems: RowProblems, log: bool = False) -> Iterator[tuple[str, Row]]:
    """Yield the place and the cells that are read of each row."""
    with text_lines(path) as lines:
        rows = rows_of_cells(path, lines, "\t", problems)
        header = [name.strip() for name in next(rows)[1]]
        read = [name for name in header if name in _COLUMNS or _LETTER.fullmatch(name)]
        _check_header(path, header, read)
        if log:
            log_unread(path, [name for name in header if name not in read])
        places = [(name, header.index(name)) for name in read]
        for place, cells in rows:
            yield place, {name: cells[at] for name, at in places}


def _check_header(path: Path, header: Sequence[str], read: Sequence[str]) -> None:
    missing = [name for name in ("index", "question", "answer") if name not in read]
    if not {"image", "image_path"} & set(read):
        missing.append("image")
    if missing:
        raise DatasetError(
            f"{path}: has no column {' and no '.join(map(repr, missing))}; its columns are "
            f"{listed_names(header)}; VLMEvalKit's tables have index, image, question, A, B, … and "
            "answer, separated by tabs"
        )
    if len(set(read)) < len(read):
        twice = next(name for name in read if read.count(name) > 1)
        raise DatasetError(f"{path}: has two columns {twice!r}; keep one of them")


def _placed_picture(path: Path, place: str, cells: Row) -> RowPicture:
    try:
        return _picture(cells)
    except DatasetError as error:
        raise DatasetError(f"{path}: {place} {error}") from None


def _picture(cells: Row) -> RowPicture:
    """The picture that a row has itself."""
    if _reference(cells):
        return RowPicture("")
    picture = row_picture([cells.get("image")])
    return picture if picture.name else row_picture([cells.get("image_path")])


def _reference(cells: Row) -> str:
    """The index of the row with the picture; "" if `image` is no such index."""
    image = cells.get("image", "")
    return image.strip() if len(image) < 64 and _REFERENCE.fullmatch(image.strip()) else ""


def _row(
    row: Row, picture: RowPicture, split: str, prefix: str, reader: ChoiceReader
) -> AnnotatedRow:
    if not picture.name:
        raise DatasetError("has no image, and no other row has the one that it names; add it")
    options = lettered_options({key: text for key, text in row.items() if _LETTER.fullmatch(key)})
    choice = reader.choice(row["question"], options, row["answer"], row.get("hint"))
    name = plain_text("index", row["index"])
    row_id = f"{prefix}{name}" if name else ""
    return choice_row(picture, choice, row_id, row_split(row.get("split"), split))
