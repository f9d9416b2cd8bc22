"""Rows of files with multiple-choice questions."""

from __future__ import annotations

from typing import Any

from vsp.datasets.importers.annotations import SPLIT_WORDS, Relation
from vsp.datasets.importers.field_texts import plain_text
from vsp.datasets.importers.funnel import SEVERAL_IMAGES
from vsp.datasets.importers.group_rows import AnnotatedRow
from vsp.datasets.importers.multiple_choice import Choice
from vsp.datasets.importers.row_pictures import RowPicture
from vsp.errors import DatasetError
from vsp.utils.text import composed

_SPLITS = {"": "", **SPLIT_WORDS}


def choice_row(
    picture: RowPicture, choice: Choice, row_id: str, split: str, group: Any = None
) -> AnnotatedRow:
    """The row of a question. Raises DatasetError if it has no picture."""
    if not picture.name:
        raise DatasetError("has no image; give each row one")
    relation = Relation(
        subject=None,
        predicate=choice.label,
        reference=None,
        id=row_id,
        prompt=choice.prompt,
        options=choice.options,
        unusable=SEVERAL_IMAGES if picture.several else choice.unusable,
    )
    return AnnotatedRow(picture.name, relation, split, composed(plain_text("group", group)))


def row_split(value: Any, of_file: str) -> str:
    """The split in a row's field; that of its file if the field is empty."""
    text = plain_text("split", value)
    if text.lower() not in _SPLITS:
        raise DatasetError(f"has the split {text!r}; write train, val or test")
    return _SPLITS[text.lower()] or of_file
