"""Read the scene graphs of GQA and Visual Genome."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from vsp.datasets.importers import checked_fields
from vsp.datasets.importers.annotations import Importer, Picture, Relation, Thing
from vsp.datasets.json_stream import first_character, read_members, read_records
from vsp.errors import DatasetError

_HINT = "use `vsp import` with the source that this file is from"
_GQA = "a mapping of image → objects with relations"
_VG = "a list of records with image_id and relationships"


def read_gqa(files: Sequence[tuple[str, Path]], options: Mapping[str, str]) -> Iterator[Picture]:
    """Read {image: {"width", "height", "objects": {id: {"name", "x", "y", "w", "h", "relations":
    [{"name", "object": id}]}}}}. The object that contains a relation is its subject.
    """
    for split, path in files:
        if first_character(path) == "[":
            raise DatasetError(f"{path}: contains a list; GQA's scene graphs are {_GQA}; {_HINT}")
        for image, graph in read_members(path):
            where = f"{path}: image {image!r}"
            if not isinstance(graph, dict) or not isinstance(graph.get("objects"), dict):
                raise DatasetError(
                    f"{where} is {checked_fields.describe(graph)}; GQA's scene graphs are {_GQA}; {_HINT}"
                )
            yield _gqa_picture(image, graph, split, where)


def _gqa_picture(image: str, graph: Mapping[str, Any], split: str, where: str) -> Picture:
    nodes = graph["objects"]
    things = {key: _thing(node, f"{where}, object {key!r}") for key, node in nodes.items()}
    relations = []
    for key, node in nodes.items():
        node_place = f"{where}, object {key!r}"
        for k, edge in enumerate(checked_fields.entry(node, "relations", node_place, list)):
            place = f"{node_place}, relation {k}"
            other = checked_fields.entry(edge, "object", place)
            if other not in things:
                raise DatasetError(f"{place}: object {other!r} is not one of the image's objects")
            predicate = checked_fields.words(edge, "name", place)
            relations.append(Relation(things[key], predicate, things[other], where=place))
    size = checked_fields.size(graph, where)
    return checked_fields.picture(f"{image}.jpg", things.values(), relations, split, size)


def read_visual_genome(
    files: Sequence[tuple[str, Path]], options: Mapping[str, str]
) -> Iterator[Picture]:
    """Read [{"image_id", "relationships": [{"predicate", "subject", "object"}]}].

    Things have "name" or "names". Objects without a relation are in another file, which is not read.
    """
    for split, path in files:
        if first_character(path) == "{":
            raise DatasetError(
                f"{path}: contains a mapping; Visual Genome's relationships.json is {_VG}; {_HINT}"
            )
        for i, record in enumerate(read_records(path)):
            where = f"{path}: record {i}"
            if not isinstance(record, dict) or not record.keys() >= {"image_id", "relationships"}:
                raise DatasetError(
                    f"{where} is {checked_fields.describe(record)}; Visual Genome's relationships.json is "
                    f"{_VG}; {_HINT}"
                )
            if not isinstance(record["image_id"], int | str):
                raise DatasetError(
                    f"{where}: image_id {record['image_id']!r} is not a number or text"
                )
            values = checked_fields.entry(record, "relationships", where, list)
            relations = [
                _vg_relation(value, f"{where}, relationship {k}") for k, value in enumerate(values)
            ]
            things = (thing for one in relations for thing in (one.subject, one.reference))
            image = f"{record['image_id']}.jpg"
            yield checked_fields.picture(image, things, relations, split, None)


def _vg_relation(value: Any, where: str) -> Relation:
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
