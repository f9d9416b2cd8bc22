"""Read the scene graphs of GQA and Visual Genome."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from vsp.datasets.importers import checked_fields
from vsp.datasets.importers.annotations import Beginning, Importer, Picture, Relation, Thing
from vsp.datasets.importers.checked_fields import Place
from vsp.datasets.json_stream import first_character, read_members, read_records
from vsp.datasets.row_problems import RowProblems, row_problems
from vsp.errors import DatasetError

_HINT = "use `vsp import` with the source that this file is from"
_GQA = "a mapping of image → objects with relations"
_VG = "a list of records with image_id and relationships"


def read_gqa(files: Sequence[tuple[str, Path]], options: Mapping[str, str]) -> Iterator[Picture]:
    """Read {image: {"width", "height", "objects": {id: {"name", "x", "y", "w", "h", "relations":
    [{"name", "object": id}]}}}}. The object that contains a relation is its subject.
    """
    with row_problems() as problems:
        for split, path in files:
            if first_character(path) == "[":
                raise DatasetError(
                    f"{path}: contains a list; GQA's scene graphs are {_GQA}; {_HINT}"
                )
            for image, graph in read_members(path):
                where = Place(path, f"image {image!r}")
                picture = problems.caught(_gqa_picture, image, graph, split, where, problems)
                if picture is not None and not problems:
                    yield picture


def _gqa_picture(
    image: str, graph: Any, split: str, where: Place, problems: RowProblems
) -> Picture:
    if not isinstance(graph, dict) or not isinstance(graph.get("objects"), dict):
        raise DatasetError(
            f"{where} is {checked_fields.describe(graph)}; GQA's scene graphs are {_GQA}; {_HINT}"
        )
    nodes = graph["objects"]
    things = {key: _thing(node, f"{where}, object {key!r}") for key, node in nodes.items()}
    relations = []
    for key, node in nodes.items():
        at_node = where.within(f"object {key!r}")
        edges = enumerate(checked_fields.entry(node, "relations", at_node, list))
        relations += problems.all_caught(
            _gqa_relation,
            ((things[key], edge, things, at_node.within(f"relation {k}")) for k, edge in edges),
        )
    size = checked_fields.size(graph, where)
    return checked_fields.picture(f"{image}.jpg", things.values(), relations, split, size)


def _gqa_relation(subject: Thing, edge: Any, things: Mapping[str, Thing], where: Place) -> Relation:
    other = checked_fields.entry(edge, "object", where)
    if other not in things:
        raise DatasetError(f"{where}: object {other!r} is not one of the image's objects")
    predicate = checked_fields.words(edge, "name", where)
    return Relation(subject, predicate, things[other], file=str(where.file), where=where.place)


def read_visual_genome(
    files: Sequence[tuple[str, Path]], options: Mapping[str, str]
) -> Iterator[Picture]:
    """Read [{"image_id", "relationships": [{"predicate", "subject", "object"}]}].

    Things have "name" or "names". Objects without a relation are in another file, which is not read.
    """
    with row_problems() as problems:
        for split, path in files:
            if first_character(path) == "{":
                raise DatasetError(
                    f"{path}: contains a mapping; Visual Genome's relationships.json is {_VG}; {_HINT}"
                )
            for i, record in enumerate(read_records(path)):
                where = Place(path, f"record {i}")
                picture = problems.caught(_vg_picture, record, split, where, problems)
                if picture is not None and not problems:
                    yield picture


def _vg_picture(record: Any, split: str, where: Place, problems: RowProblems) -> Picture:
    if not isinstance(record, dict) or not record.keys() >= {"image_id", "relationships"}:
        raise DatasetError(
            f"{where} is {checked_fields.describe(record)}; Visual Genome's relationships.json is "
            f"{_VG}; {_HINT}"
        )
    if not isinstance(record["image_id"], int | str):
        raise DatasetError(f"{where}: image_id {record['image_id']!r} is not a number or text")
    values = checked_fields.entry(record, "relationships", where, list)
    relations = problems.all_caught(
        _vg_relation,
        ((value, where.within(f"relationship {k}")) for k, value in enumerate(values)),
    )
    things = (thing for one in relations for thing in (one.subject, one.reference))
    image = f"{record['image_id']}.jpg"
    return checked_fields.picture(image, things, relations, split, None)


def _vg_relation(value: Any, where: Place) -> Relation:
    return Relation(
        _thing(checked_fields.entry(value, "subject", where), f"{where}: subject"),
        checked_fields.words(value, "predicate", where),
        _thing(checked_fields.entry(value, "object", where), f"{where}: object"),
        file=str(where.file),
        where=where.place,
    )


def _thing(value: Any, where: str) -> Thing:
    return Thing(checked_fields.name(value, where), checked_fields.sized_box(value, where))


def _is_gqa(start: Beginning) -> bool:
    graphs = list(start.record.values()) if isinstance(start.record, dict) else []
    return bool(graphs) and all(
        isinstance(graph, dict) and isinstance(graph.get("objects"), dict) for graph in graphs
    )


def _is_visual_genome(start: Beginning) -> bool:
    return start.names >= {"image_id", "relationships"}


GQA = Importer(read_gqa, recognises=_is_gqa)
VISUAL_GENOME = Importer(read_visual_genome, recognises=_is_visual_genome)
