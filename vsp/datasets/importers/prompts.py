"""Read prompts that are used as they stand, from JSON lines or a JSON list, as AdaptVis has them:

    {"id": 3, "question": "<image>\\nUSER: Where is the mug …?\\nASSISTANT:", "answer": ["On"]}

`<image>` is left out, since each model places the image itself; so is the line break behind it. The
answer is a text, or a list of one; it is the label. Answers that are letters are refused, unless the
option `answer=text` says that they are labels. Records name no image; one of two options does:

    image=PATTERN    the name is made of the id: image=mug_{id}.jpg, or image={id:012}.jpg for a number
                     that is filled up with zeros
    images=FILE      the images of all records in order: a name per line, or a JSON list of names or
                     of records with `image_path`, such as What'sUp's annotations
"""

from __future__ import annotations

import logging
import re
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from reprlib import repr as shortened
from typing import Any

from vsp.datasets.importers.annotations import Beginning, Importer, Picture
from vsp.datasets.importers.choice_rows import choice_row, row_split
from vsp.datasets.importers.field_texts import plain_text
from vsp.datasets.importers.file_rows import json_rows
from vsp.datasets.importers.group_rows import (
    AnnotatedRow,
    group_into_pictures,
    placed_row,
    rows_of_files,
)
from vsp.datasets.importers.multiple_choice import ChoiceReader
from vsp.datasets.importers.row_pictures import RowPicture
from vsp.datasets.importers.text_lines import beginning, text_lines
from vsp.datasets.json_stream import read_records
from vsp.datasets.row_problems import RowProblems
from vsp.errors import ConfigError, DatasetError

_log = logging.getLogger(__name__)
_MARKER = re.compile(r"<image>[ \t]*\n?")
_ID = re.compile(r"\{id(?::0?([1-9][0-9]?))?\}")
_ROLE = re.compile(r"(USER|ASSISTANT|Human|Assistant) ?:")
_WHICH = (
    "the records name no images; use --option image=PATTERN, as in image=mug_{id}.jpg, or --option "
    "images=FILE with one name per line"
)


def read(files: Sequence[tuple[str, Path]], options: Mapping[str, str]) -> Iterator[Picture]:
    """Yield pictures in the order of their first records.

    Raises DatasetError, with file and record, if records are invalid, ConfigError if the options do
    not say which images belong to them.
    """
    which = {"image", "images"} & options.keys()
    if len(which) != 1:
        raise ConfigError("options image and images: give one of them" if which else _WHICH)
    if "image" in options and not _ID.search(options["image"]):
        raise ConfigError(
            f"option image={options['image']} has no {{id}}; write image=mug_{{id}}.jpg"
        )
    if "images" in options and len(files) > 1:
        raise ConfigError("option images names the images of one file; import each file by itself")
    return group_into_pictures(rows_of_files(files, _rows, options))


def read_embedded(
    files: Sequence[tuple[str, Path]], options: Mapping[str, str]
) -> Iterator[tuple[str, bytes]]:
    """Nothing: records contain no pictures. Logs how to plan a run if prompts have roles."""
    for _, path in files:
        if _ROLE.search(beginning(path)):
            _log.info(
                "%s: the prompts have roles (USER: … ASSISTANT:), and most models' templates add "
                'roles; plan with a model file whose template is "<image>\\n{instruction}"',
                path,
            )
    yield from ()


def _recognises(start: Beginning) -> bool:
    others = {"image", "options", "choices", "answer_options"}
    needed = start.names >= {"id", "question", "answer"}
    return start.is_json and needed and not start.names & others


IMPORTER = Importer(
    read,
    relations="",
    options=("image", "images", "answer"),
    read_embedded=read_embedded,
    recognises=_recognises,
)


def _rows(
    split: str, path: Path, options: Mapping[str, str], problems: RowProblems
) -> Iterator[AnnotatedRow]:
    place = None
    reader = ChoiceReader(options)
    with closing(_listed_images(options.get("images"))) as listed:
        for place, record in json_rows(path, problems):
            name = next(listed, "") if "images" in options else options["image"]
            if not name:
                raise DatasetError(
                    f"{options['images']}: names fewer images than {path} has records"
                )
            row = problems.caught(placed_row, path, place, _row, record, name, split, reader)
            if row is not None:
                yield row
        if next(listed, ""):
            raise DatasetError(f"{options['images']}: names more images than {path} has records")
    if place is None and not problems:
        raise DatasetError(f"{path}: is empty; give a file with a prompt in each line")


def _row(record: Mapping[str, Any], image: str, split: str, reader: ChoiceReader) -> AnnotatedRow:
    """`image` is a name, or a pattern with the id."""
    missing = [key for key in ("question", "answer") if key not in record]
    if missing:
        keys = ", ".join(map(str, list(record)[:12])) or "none"
        raise DatasetError(f"has no {' and no '.join(missing)}; its keys are {keys}")
    row_id = plain_text("id", record.get("id"))
    answer = record["answer"]
    if isinstance(answer, list):
        if len(answer) != 1:
            raise DatasetError(f"has the answers {shortened(answer)}; give it one")
        (answer,) = answer
    prompt, n_images = _MARKER.subn("", plain_text("question", record["question"]))
    picture = RowPicture(_with_id(image, row_id), several=n_images > 1)
    split = row_split(record.get("split"), split)
    return choice_row(picture, reader.choice(prompt, None, answer), row_id, split)


def _with_id(pattern: str, row_id: str) -> str:
    """The pattern with an id in place of `{id}`; a number may be filled up with zeros."""
    if "{id" in pattern and not row_id:
        raise DatasetError("has no id, so the name of its image cannot be made; use images=FILE")
    return _ID.sub(lambda place: row_id.zfill(int(place[1] or 0)), pattern)


def _listed_images(path: str | None) -> Generator[str, None, None]:
    """The names in a file, without empty lines."""
    if path is None:
        return
    if beginning(Path(path)).startswith("["):
        with closing(read_records(Path(path))) as records:
            for index, record in enumerate(records):
                yield _listed_image(record, f"{path}: record {index}")
    else:
        with text_lines(Path(path)) as lines:
            yield from filter(None, map(str.strip, lines))


def _listed_image(record: Any, place: str) -> str:
    if isinstance(record, dict):
        record = record.get("image_path") or record.get("image")
    if not isinstance(record, str) or not record.strip():
        raise DatasetError(f"{place} is {shortened(record)}; write the name of an image")
    return record.strip()
