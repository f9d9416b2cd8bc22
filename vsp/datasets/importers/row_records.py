"""Find the label of a relation, and make its record for `metadata.json`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vsp.datasets.importers.annotations import Picture, Relation
from vsp.datasets.importers.image_index import ImageFile
from vsp.datasets.importers.quality_flags import base_name
from vsp.datasets.questions import OWN
from vsp.datasets.relations import Relations
from vsp.utils.text import composed


def row_label(relation: Relation, relations: Relations) -> str:
    """The label of a row; "" if it is unusable or incomplete, or its predicate is not in the table."""
    if relation.unusable or is_incomplete(relation):
        return ""
    mapped = relations.label(relation.predicate) if relation.predicate else ""
    return "" if relation.predicate and not mapped else relation.label or mapped


def is_incomplete(relation: Relation) -> bool:
    """Whether a row lacks a question (two names, or a prompt) or an answer."""
    ends = (relation.subject, relation.reference)
    named = all(end is not None and base_name(end.name) for end in ends)
    return not ((named or relation.prompt) and (relation.label or relation.predicate))


def row_id(picture: Picture, relation: Relation, ordinal: int, in_id: str) -> str:
    """The source's id of a row, or one made of the image and the row's number about that image.

    `in_id` is the split that a made id names ("": none). The id depends on the source only, not on
    the rows that are dropped.
    """
    image = f"{in_id}/{picture.image}" if in_id else picture.image
    return relation.id or f"{image}/{ordinal}"


def row_record(
    picture: Picture,
    relation: Relation,
    row_id: str,
    label: str,
    flags: Sequence[str],
    file: ImageFile | None,
) -> dict[str, Any]:
    """The record of a relation of a picture, without its split."""
    record: dict[str, Any] = {
        "id": row_id,
        "image_filename": file.name if file else picture.image,
        "group": composed(picture.group or picture.image),
    }
    for part, end in (("subject", relation.subject), ("reference", relation.reference)):
        if end is not None:
            record[part] = base_name(end.name)
            if end.box is not None:
                record[f"{part}_box"] = end.box
    if relation.prompt:
        record |= {"prompt": relation.prompt, "question": OWN}
    if relation.regions:
        record["regions"] = list(relation.regions)
    if relation.predicate and not (relation.prompt and relation.predicate == label):
        record["predicate"] = relation.predicate
    record["label"] = label
    if relation.options:
        record["options"] = list(relation.options)
    record["flags"] = list(flags)
    return record
