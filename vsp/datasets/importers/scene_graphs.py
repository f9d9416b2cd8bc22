"""Scene graphs with boxes of left edge, top edge, width and height: GQA and Visual Genome."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from vsp.datasets.importers import checked_fields
from vsp.datasets.importers.annotations import Importer, Picture, Relation, Thing
from vsp.datasets.json_stream import first_character, read_members, read_records
from vsp.errors import DatasetError

_HINT = "a file of another source is read with another `vsp import SOURCE`"
_GQA = "a mapping of image → objects with relations, as GQA's scene graphs are"
_VG = "a list of records with image_id and relationships, as Visual Genome's relationships.json is"


def read_gqa(files: Sequence[tuple[str, Path]], options: Mapping[str, str]) -> Iterator[Picture]:
    """{image: {"width", "height", "objects": {id: {"name", "x", "y", "w", "h", "relations":
    [{"name", "object": id}]}}}}: who holds a relation is its subject.
    """
    for split, path in files:
        if first_character(path) == "[":
            raise DatasetError(f"{path}: holds a list, where {_GQA}, is expected; {_HINT}")
        for image, graph in read_members(path):
            where = f"{path}: image {image!r}"
            if not isinstance(graph, dict) or not isinstance(graph.get("objects"), dict):
                raise DatasetError(
                    f"{where} is {checked_fields.described(graph)}, where {_GQA}, is expected; {_HINT}"
                )
            yield _gqa_picture(image, graph, split, where)


def _gqa_picture(image: str, graph: Mapping[str, Any], split: str, where: str) -> Picture:
    nodes = graph["objects"]
    things = {key: _thing(node, f"{where}, object {key!r}") for key, node in nodes.items()}
    relations = []
    for key, node in nodes.items():
        at = f"{where}, object {key!r}"
        for k, one in enumerate(checked_fields.entry(node, "relations", at, list)):
            place = f"{at}, relation {k}"
            other = checked_fields.entry(one, "object", place)
            if other not in things:
                raise DatasetError(f"{place}: object {other!r} is none of the image's objects")
            said = checked_fields.words(one, "name", place)
            relations.append(Relation(things[key], said, things[other], where=place))
    size = checked_fields.size(graph, where)
    return checked_fields.picture(f"{image}.jpg", things.values(), relations, split, size)


def read_visual_genome(
    files: Sequence[tuple[str, Path]], options: Mapping[str, str]
) -> Iterator[Picture]:
    """[{"image_id", "relationships": [{"predicate", "subject", "object"}]}]; things have "name" or
    "names". What is in no relation is in another file of Visual Genome's, and not known here.
    """
    for split, path in files:
        if first_character(path) == "{":
            raise DatasetError(f"{path}: holds a mapping, where {_VG}, is expected; {_HINT}")
        for i, record in enumerate(read_records(path)):
            where = f"{path}: record {i}"
            if not isinstance(record, dict) or not record.keys() >= {"image_id", "relationships"}:
                raise DatasetError(
                    f"{where} is {checked_fields.described(record)}, where {_VG}, is expected; {_HINT}"
                )
            if not isinstance(record["image_id"], int | str):
                raise DatasetError(f"{where}: image_id {record['image_id']!r} is no number or text")
            listed = checked_fields.entry(record, "relationships", where, list)
            relations = [
                _related(one, f"{where}, relationship {k}") for k, one in enumerate(listed)
            ]
            named = (thing for one in relations for thing in (one.subject, one.reference))
            yield checked_fields.picture(f"{record['image_id']}.jpg", named, relations, split, None)


def _related(value: Any, where: str) -> Relation:
    return Relation(
        _thing(checked_fields.entry(value, "subject", where), f"{where}: subject"),
        checked_fields.words(value, "predicate", where),
        _thing(checked_fields.entry(value, "object", where), f"{where}: object"),
        where=where,
    )


def _thing(value: Any, where: str) -> Thing:
    return Thing(checked_fields.name(value, where), checked_fields.sized_box(value, where))


GQA = Importer(read_gqa)
VISUAL_GENOME = Importer(read_visual_genome)
