"""GQA and Visual Genome: small files in their formats."""

import json

import pytest

from vsp.datasets import IMPORTERS
from vsp.datasets.importers.annotations import Picture, Relation, Thing
from vsp.datasets.importers.scene_graphs import GQA, VISUAL_GENOME
from vsp.errors import DatasetError


def _write(folder, value, name="graphs.json"):
    path = folder / name
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


def _node(name, box, relations=()):
    return {
        "name": name, **dict(zip("xywh", box, strict=True)), "attributes": ["striped"],
        "relations": [{"name": said, "object": other} for said, other in relations],
    }  # fmt: skip


GRAPH = {
    "width": 640,
    "height": 480,
    "location": "zoo",
    "objects": {
        "11": _node("zebra", (10, 20, 30, 40), [("to the left of", "13"), ("near", "12")]),
        "12": _node("zebra", (50, 20, 30, 40)),
        "13": _node("tree ", (200, 5, 60, 300), [("to the right of", "11")]),
    },
}


def test_who_holds_a_relation_in_gqa_is_its_subject(tmp_path):
    path = _write(tmp_path, {"2370799": GRAPH, "1": {**GRAPH, "objects": {}}})
    first, second = GQA.read([("train", path)], {})
    one, other = Thing("zebra", (10, 20, 40, 60)), Thing("zebra", (50, 20, 80, 60))
    tree = Thing("tree", (200, 5, 260, 305))
    file, at = str(path), "image '2370799', object "
    assert first == Picture(
        "2370799.jpg",
        (one, other, tree),
        (
            Relation(one, "to the left of", tree, file=file, where=f"{at}'11', relation 0"),
            Relation(one, "near", other, file=file, where=f"{at}'11', relation 1"),
            Relation(tree, "to the right of", one, file=file, where=f"{at}'13', relation 0"),
        ),
        "train",
        (640, 480),
    )
    assert second.relations == () and second.things == ()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ('{"1": {"objects": {}}', r"graphs\.json: is not JSON: Expecting ',' delimiter: line 1 column 22"),
        ("[]", r"graphs\.json: contains a list; GQA's scene graphs are a mapping of image → objects"),
        ("", "is not JSON: Expecting value: line 1 column 1"),
        ({"a.jpg": []}, "image 'a.jpg' is a list; GQA's scene graphs are a mapping of image → objects"),
        ({"1": {"objects": []}}, "image '1' is a mapping of objects; GQA's"),
        ({"1": {"objects": {"2": 3}}}, "image '1', object '2' has no 'name'; it is 3"),
        ({"1": {"objects": {"2": _node("cup", (1, 2, "3", 4))}}}, "object '2': w is '3', not a finite number"),
        ({"1": {"objects": {"2": _node("cup", (1, 2, None, 4))}}}, "object '2': w is None, not a finite number"),
        ({"1": {"objects": {"2": _node("cup", (1, 2, 3, 4), [("on", "9")])}}}, "object '2', relation 0: object '9' is not one of the image's objects"),
        ({"1": {"objects": {"2": _node("cup", (1, 2, 3, 4), [(7, "2")])}}}, "relation 0: name is 7, not text"),
        ({"1": {**GRAPH, "width": "wide"}}, "image '1': width is 'wide', not a finite number"),
    ],
)  # fmt: skip
def test_what_is_no_scene_graph_is_refused_with_its_place(tmp_path, value, message):
    with pytest.raises(DatasetError, match=message):
        list(GQA.read([("", _write(tmp_path, value))], {}))


def _vg(**names):
    return {**names, "x": 1, "y": 2, "w": 3, "h": 4, "object_id": 9, "synsets": []}


def _record(*relationships):
    return {"image_id": 2, "relationships": list(relationships)}


def test_visual_genome_has_one_name_or_several_and_any_case(tmp_path):
    said = {
        "relationship_id": 5, "predicate": "ON ", "synsets": ["on.r.01"],
        "subject": _vg(name="shade "), "object": _vg(names=["lamp", "light"], merged_object_ids=[1]),
    }  # fmt: skip
    path = _write(tmp_path, [_record(said), {"image_id": 7, "relationships": []}])
    first, second = VISUAL_GENOME.read([("", path)], {})
    shade, lamp = Thing("shade", (1, 2, 4, 6)), Thing("lamp", (1, 2, 4, 6))
    at = {"file": str(path), "where": "record 0, relationship 0"}
    assert first == Picture("2.jpg", (shade, lamp), (Relation(shade, "ON", lamp, **at),))
    assert second == Picture("7.jpg", (), ())


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"1": GRAPH}, "contains a mapping; Visual Genome's relationships.json is a list of records with image_id and relationships"),
        ([{"filename": "a"}], "record 0 is a mapping of filename; Visual Genome's relationships.json is a list of records"),
        ([3], "record 0 is 3; Visual"),
        ([{"image_id": None, "relationships": []}], "record 0: image_id None is not a number or text"),
        ([_record({"subject": _vg(name="a"), "object": _vg(name="b")}), ], None),
        ([_record({"predicate": "on", "subject": _vg(name="a")})], "relationship 0 has no 'object'"),
        ([_record({"predicate": "on", "subject": _vg(), "object": _vg(name="b")})], "relationship 0: subject has no 'name'"),
        ([_record({"predicate": "on", "subject": _vg(names=[]), "object": _vg(name="b")})], "subject has no 'name'"),
        ([_record({"predicate": "on", "subject": _vg(names="ab"), "object": _vg(name="b")})], "names is a str, not a list"),
    ],
)  # fmt: skip
def test_what_is_not_visual_genome_is_refused_with_its_place(tmp_path, value, message):
    path = _write(tmp_path, value)
    if message is None:  # without words the row is incomplete, but counted
        assert next(VISUAL_GENOME.read([("", path)], {})).relations[0].predicate == ""
        return
    with pytest.raises(DatasetError, match=rf"graphs\.json.*{message}"):
        list(VISUAL_GENOME.read([("", path)], {}))


def test_both_stand_in_their_family():
    assert IMPORTERS.load("gqa") is GQA and IMPORTERS.load("vg") is VISUAL_GENOME
