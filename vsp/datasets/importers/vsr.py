"""Read VSR (Visual Spatial Reasoning), `splits/{random,zeroshot}/{train,dev,test}.jsonl`.

A line has a caption, "The cat is behind the sofa.", its relation, "behind", and a label, 1 if the
caption is true. A false caption does not tell the true relation. Its predicate becomes "not behind",
which no table of relations contains, so its row is dropped and counted as another relation.

Names are from the caption ("The truck contains the cow."). The fields `subj` and `obj` exist in the
zeroshot splits only, and some lack their first letter ("orse", "ot dog"). They are used if the
caption has another form.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from vsp.datasets.importers.annotations import Beginning, Importer, Picture, Relation, Thing
from vsp.datasets.importers.group_rows import (
    AnnotatedRow,
    group_into_pictures,
    not_empty,
    rows_of_files,
    rows_of_records,
)
from vsp.datasets.importers.text_lines import json_records, text_lines
from vsp.datasets.row_problems import RowProblems
from vsp.errors import DatasetError

_TEXTS = ("image", "caption", "relation")


def read(files: Sequence[tuple[str, Path]], options: Mapping[str, str]) -> Iterator[Picture]:
    """Yield pictures in the order of their first lines.

    Some images of VSR's random test split are also in its train split; both pictures are given.
    Raises DatasetError, with file and line, if lines are invalid.
    """
    return group_into_pictures(rows_of_files(files, _rows))


def _recognises(start: Beginning) -> bool:
    return start.names >= {*_TEXTS, "label"}


IMPORTER = Importer(read, relations="6way", recognises=_recognises)


def _rows(split: str, path: Path, problems: RowProblems) -> Iterator[AnnotatedRow]:
    with text_lines(path) as lines:
        numbered = json_records(path, lines, problems)
        placed = ((f"line {number}", record) for number, record in numbered)
        records = not_empty(placed, problems, f"{path}: is empty; give a file of VSR's splits")
        yield from rows_of_records(path, records, problems, _row, split)


def _row(record: Mapping[str, Any], split: str) -> AnnotatedRow:
    relation = _relation(record)
    return AnnotatedRow(record["image"], relation, split)


def _relation(record: Mapping[str, Any]) -> Relation:
    for key in _TEXTS:
        value = record.get(key)
        if not isinstance(value, str) or not value.strip():
            what = f"has {key} {value!r}" if key in record else f"has no {key}"
            raise DatasetError(
                f"{what}; VSR's lines have the texts {', '.join(_TEXTS)} and a label"
            )
    label = record.get("label")
    if label not in (0, 1) or isinstance(label, bool):
        raise DatasetError(f"has label {label!r}; write 1 if the caption is true, else 0")
    relation = record["relation"].strip()
    subject, reference = _names(record, relation)
    predicate = relation if label == 1 else f"not {relation}"
    return Relation(Thing(subject), predicate, Thing(reference))


def _names(record: Mapping[str, Any], relation: str) -> tuple[str, str]:
    caption = _caption_pattern(relation).fullmatch(record["caption"].strip())
    if caption:
        return caption[1], caption[2]
    subject, reference = record.get("subj"), record.get("obj")
    if not (isinstance(subject, str) and isinstance(reference, str) and subject and reference):
        raise DatasetError(
            f'has caption {record["caption"]!r} without subj and obj; write "The X is {relation} '
            'the Y."'
        )
    return subject.strip(), reference.strip()


@lru_cache(1 << 10)
def _caption_pattern(relation: str) -> re.Pattern[str]:
    return re.compile(rf"The (.+?) (?:is )?{re.escape(relation)} the (.+)\.")
