"""VSR (Visual Spatial Reasoning, `splits/{random,zeroshot}/{train,dev,test}.jsonl`) → pictures.

A line holds a caption, "The cat is behind the sofa.", its relation, "behind", and a label: 1 where
the caption is true of the image. Where it is 0 nobody says what is true instead, so that such a
line has no answer: its predicate is "not behind", which no table of relations knows, and it is
counted among the relations that are not mapped.

Names are taken from the caption ("The truck contains the cow." too): the fields `subj` and `obj`,
which only the zeroshot splits have, have lost letters ("orse", "ot dog"). They are asked where a
caption is of another form.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from vsp.datasets.importers.annotations import Importer, Picture, Relation, Thing
from vsp.datasets.importers.group_rows import AnnotatedRow, group_into_pictures
from vsp.datasets.importers.text_lines import json_records, text_lines
from vsp.errors import DatasetError

_TEXTS = ("image", "caption", "relation")


def read(files: Sequence[tuple[str, Path]], options: Mapping[str, str]) -> Iterator[Picture]:
    """Pictures in the order in which the files first name them.

    Splits are as given: that images of VSR's random test are also in its train is left to see for
    whoever splits. Raises DatasetError with file and line.
    """
    return group_into_pictures(row for split, path in files for row in _rows(split, path))


IMPORTER = Importer(read, relations="6way")


def _rows(split: str, path: Path) -> Iterator[AnnotatedRow]:
    number = 0
    with text_lines(path) as lines:
        for number, record in json_records(path, lines):
            try:
                relation = _relation(record, f"{path.name} line {number}")
            except DatasetError as error:
                raise DatasetError(f"{path}: line {number} {error}") from None
            yield AnnotatedRow(record["image"], relation, split)
    if not number:
        raise DatasetError(f"{path}: is empty; give a file of VSR's splits")


def _relation(record: Mapping[str, Any], where: str) -> Relation:
    for key in _TEXTS:
        value = record.get(key)
        if not isinstance(value, str) or not value.strip():
            raise DatasetError(
                f"has {key} {value!r}; lines of VSR have the texts {', '.join(_TEXTS)} and a label"
            )
    label = record.get("label")
    if label not in (0, 1) or isinstance(label, bool):
        raise DatasetError(f"has label {label!r}; it is 1 where the caption is true, else 0")
    relation = record["relation"].strip()
    subject, reference = _names(record, relation)
    predicate = relation if label == 1 else f"not {relation}"
    return Relation(Thing(subject), predicate, Thing(reference), where=where)


def _names(record: Mapping[str, Any], relation: str) -> tuple[str, str]:
    found = _form(relation).fullmatch(record["caption"].strip())
    if found:
        return found[1], found[2]
    subject, reference = record.get("subj"), record.get("obj")
    if not (isinstance(subject, str) and isinstance(reference, str) and subject and reference):
        raise DatasetError(
            f'has caption {record["caption"]!r} and no subj and obj; write "The X is {relation} '
            'the Y."'
        )
    return subject.strip(), reference.strip()


@lru_cache(1 << 10)
def _form(relation: str) -> re.Pattern[str]:
    return re.compile(rf"The (.+?) (?:is )?{re.escape(relation)} the (.+)\.")
