"""VRD in both layouts: counts of the real files, and invalid files."""

import json
from collections import Counter
from itertools import chain
from pathlib import Path

import pytest
from helpers.real import real

from vsp.datasets import IMPORTERS
from vsp.datasets.importers.annotations import Picture, Relation, Thing
from vsp.datasets.importers.vrd import read
from vsp.errors import DatasetError

SPLITS = ("train", "test")


@pytest.fixture(scope="module")
def pictures() -> dict[str, list[Picture]]:
    sizes = {"sizes": str(real("vrd/test_image_metadata.json"))}
    return {
        split: list(read([(split, real(f"vrd/annotations_{split}.json"))], sizes))
        for split in SPLITS
    }


def _predicates(pictures: list[Picture]) -> Counter[str]:
    return Counter(r.predicate for p in pictures for r in p.relations)


def test_every_image_and_relation_of_the_real_files_is_read(pictures):
    n = {s: (len(p), sum(bool(one.relations) for one in p)) for s, p in pictures.items()}
    assert n == {"train": (4000, 3780), "test": (1000, 955)}
    assert [_predicates(pictures[s]).total() for s in SPLITS] == [30_355, 7_638]
    assert [len(_predicates(pictures[s])) <= 70 for s in SPLITS] == [True, True]
    assert {p.split for p in pictures["train"]} == {"train"}


@pytest.mark.parametrize(
    ("predicate", "counts"),
    [
        ("on the left of", (381, 103)), ("on the right of", (364, 88)), ("above", (2417, 553)),
        ("below", (762, 176)), ("in the front of", (1539, 409)), ("behind", (2237, 573)),
        ("on", (5113, 1385)), ("under", (1481, 386)), ("over", (569, 120)), ("beneath", (366, 81)),
        ("on the top of", (189, 52)), ("next to", (2366, 682)), ("left of", (0, 0)),
    ],
)  # fmt: skip
def test_predicates_are_as_often_as_in_the_real_files(pictures, predicate, counts):
    assert tuple(_predicates(pictures[s])[predicate] for s in SPLITS) == counts


def test_things_of_a_picture_are_told_apart_by_name_and_box(pictures):
    n = {s: sorted(len(p.things) for p in pictures[s]) for s in SPLITS}
    assert [round(sum(n[s]) / len(n[s]), 2) for s in SPLITS] == [6.61, 6.74]
    assert [(n[s][len(n[s]) // 2], n[s][-1]) for s in SPLITS] == [(6, 21), (6, 20)]
    related = chain.from_iterable((r.subject, r.reference) for r in pictures["test"][0].relations)
    assert set(pictures["test"][0].things) == set(related)


def test_boxes_are_left_top_right_bottom_and_within_every_image_of_known_size(pictures):
    n_boxes = 0
    for picture in pictures["test"]:
        width, height = picture.size
        for relation in picture.relations:
            for thing in (relation.subject, relation.reference):
                left, top, right, bottom = thing.box
                assert 1 <= left < right <= width and 1 <= top < bottom <= height
                n_boxes += 1
    assert n_boxes == 15_276
    assert pictures["train"][0].size is None


def test_a_row_of_the_first_layout_is_read_by_key(write_vrd):
    path = write_vrd(
        '{"a.jpg": [{"predicate": 1, "object": {"category": 2, "bbox": [1, 20, 3, 40]},'
        ' "subject": {"bbox": [5, 6, 7, 8], "category": 0}}], "b.jpg": []}'
    )
    cup, cat = Thing("cup", (7, 5, 8, 6)), Thing("cat", (3, 1, 40, 20))
    at = {"file": str(path), "where": "image 'a.jpg', relation 0"}
    assert list(read([("val", path)], {})) == [
        Picture("a.jpg", (cup, cat), (Relation(cup, "behind", cat, **at),), "val"),
        Picture("b.jpg", (), (), "val"),
    ]


@pytest.fixture
def write_vrd(tmp_path):
    """Write annotations in the first layout, with vocabularies in the same folder."""

    def write(text: str | list | dict) -> Path:
        (tmp_path / "objects.json").write_text('["cup", "hat", "cat"]')
        (tmp_path / "predicates.json").write_text('["above", "behind"]')
        path = tmp_path / "annotations.json"
        path.write_text(text if isinstance(text, str) else json.dumps(text))
        return path

    return write


GOOD = {
    "predicate": 0,
    "subject": {"category": 0, "bbox": [1, 2, 3, 4]},
    "object": {"category": 1, "bbox": [1, 2, 3, 4]},
}


def _with(part: str, key: str, value: object) -> dict:
    return {"a.jpg": [GOOD, {**GOOD, part: {**GOOD[part], key: value}}]}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ('{"a.jpg": [}', r"annotations\.json: is not JSON: Expecting value: line 1 column 12"),
        ('{"a.jpg": []', r"is not JSON: Expecting ',' delimiter: line 1 column 13 \(char 12\)"),
        ("{a: []}", "is not JSON: Expecting property name enclosed in double quotes: line 1 col"),
        ("", "is not JSON: Expecting value: line 1 column 1"),
        ("{}", "holds no mapping"),
        ("[]", "holds no list of records"),
        ("3", "holds no list of records"),
        ({"a.jpg": {"width": 3, "objects": {}}}, "image 'a.jpg' is a mapping of width, objects, but VRD's first layout has a list of relations; use `vsp import` with the source"),
        ([{"image_id": 1, "relationships": []}], "record 0 is a mapping of image_id, relationships, but VRD's second layout has a mapping of filename, objects, relationships"),
        ([3], "record 0 is 3, but VRD's second layout"),
        ({"a.jpg": [3]}, "image 'a.jpg', relation 0 has no 'subject'; it is 3"),
        ({"a.jpg": [{**GOOD, "predicate": 2}]}, "relation 0: 2 is not the number of a known predicate, 0 to 1; give the predicates of these annotations with --option predicates=FILE"),
        ({"a.jpg": [{**GOOD, "predicate": -1}]}, "-1 is not the number of a known predicate"),
        ({"a.jpg": [{**GOOD, "predicate": True}]}, "True is not the number of a known predicate"),
        ({"a.jpg": [{**GOOD, "predicate": "above"}]}, "'above' is not the number of a known predicate"),
        (_with("subject", "category", 3), "image 'a.jpg', relation 1, subject: 3 is not the number of a known object, 0 to 2"),
        (_with("object", "category", -3), "relation 1, object: -3 is not the number of a known object"),
        (_with("object", "bbox", [1, 2, 3]), r"object: bbox \[1, 2, 3\] is not \[ymin, ymax, xmin, xmax\]"),
        (_with("object", "bbox", [1, 2, "3", 4]), "object: bbox is '3', not a finite number"),
        (_with("object", "bbox", [1, 2, float("nan"), 4]), "bbox is nan, not a finite number"),
        (_with("object", "bbox", [1, 2, True, 4]), "bbox is True, not a finite number"),
        (_with("object", "bbox", None), "object: bbox None is not"),
    ],
)  # fmt: skip
def test_what_the_first_layout_does_not_allow_is_refused_with_its_place(write_vrd, value, message):
    path = write_vrd(value)
    with pytest.raises(DatasetError, match=message) as caught:
        list(read([("", path)], {}))
    assert str(path) in str(caught.value)


def test_vocabularies_are_beside_the_annotations_or_named(write_vrd, tmp_path):
    path = write_vrd({"a.jpg": [GOOD]})
    (tmp_path / "objects.json").rename(tmp_path / "names.json")
    with pytest.raises(DatasetError, match=r"objects\.json: no such file; .*--option objects=FILE"):
        list(read([("", path)], {}))
    picture = next(read([("", path)], {"objects": str(tmp_path / "names.json")}))
    assert [thing.name for thing in picture.things] == ["cup", "hat"]
    (tmp_path / "names.json").write_text('["cup", 3]')
    with pytest.raises(DatasetError, match=r"names\.json: record 1 is 3; write a list of names"):
        list(read([("", path)], {"objects": str(tmp_path / "names.json")}))
    with pytest.raises(DatasetError, match=r"no\.json: no such file; .*sizes=FILE"):
        list(read([("", path)], {"sizes": "no.json"}))


FRAGMENT = "vrd/sg_dataset_authentic_fragment/sg_train_0_objects.json"


def _sg(objects: list, relationships: list, **more: object) -> list:
    return [{"filename": "5526.jpg", "objects": objects, "relationships": relationships, **more}]


def test_the_second_layout_is_told_by_its_content_and_read_from_real_objects(tmp_path):
    objects = json.loads(real(FRAGMENT).read_text())
    said = {"objects": [3, 0], "relationship": " above ", "text": ["sky", "above", "car"]}
    path = tmp_path / "annotations_train.json"  # the first layout's name
    path.write_text(json.dumps(_sg(objects, [said], width=1024, height=683)))
    (picture,) = read([("train", path)], {})
    assert Counter(t.name for t in picture.things).most_common(2) == [("car", 5), ("stoplight", 2)]
    assert picture.things[0] == Thing("car", (541.0, 346.0, 860.0, 474.0))
    (relation,) = picture.relations
    assert (relation.subject.name, relation.predicate, relation.reference.name) == (
        "sky", "above", "car",
    )  # fmt: skip
    assert picture.size == (1024, 683) and picture.image == "5526.jpg"
    assert len(picture.things) == len(objects)  # also those without a relation


CUP = {"names": ["cup"], "bbox": {"x": 1.5, "y": 2, "w": 3, "h": 4}}


def test_relations_of_the_second_layout_that_say_nothing_are_passed_on_to_be_counted(tmp_path):
    empty = [
        {"objects": [0, 1], "relationship": ""},
        {"objects": [0, 1], "relationship": None},
        {"objects": [], "relationship": "on"},
        {"objects": None, "relationship": "on"},
    ]
    path = tmp_path / "sg.json"
    path.write_text(json.dumps(_sg([CUP, CUP], empty)))
    (picture,) = read([("", path)], {})
    said = [(r.subject is None, r.predicate) for r in picture.relations]
    assert said == [(False, ""), (False, ""), (True, "on"), (True, "on")]
    assert len(picture.things) == 1  # equal name and box: the same cup


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (_sg([{**CUP, "bbox": {"x": 1}}], []), "object 0 has no 'y'; it is a mapping of x"),
        (_sg([{**CUP, "bbox": [1, 2, 3, 4]}], []), "object 0 has no 'x'; it is a list"),
        (_sg([{**CUP, "bbox": {**CUP["bbox"], "w": "3"}}], []), "w is '3', not a finite number"),
        (_sg([{"bbox": CUP["bbox"]}], []), ", object 0 has no 'name'"),
        (_sg([{**CUP, "names": [7]}], []), "object 0: names is 7, not text"),
        (_sg([CUP], [{"objects": [0, 1], "relationship": "on"}]), "relationship 0: 1 is not the number of an object, 0 to 0"),
        (_sg([CUP], [{"objects": [-1, 0], "relationship": "on"}]), "-1 is not the number of an object"),
        (_sg([CUP], [{"objects": [0], "relationship": "on"}]), r"objects \[0\] are not \[subject, object\]"),
        (_sg([CUP], [{"objects": [0, 0], "relationship": 3}]), "relationship is 3, not text"),
        (_sg([CUP], [{"relationship": "on"}]), "relationship 0 has no 'objects'"),
        (_sg([CUP], 3), "relationships is 3, not a list"),
        ([{**_sg([], [])[0], "filename": None}], "filename is None, not text"),
    ],
)  # fmt: skip
def test_what_the_second_layout_does_not_allow_is_refused_with_its_place(tmp_path, record, message):
    path = tmp_path / "sg.json"
    path.write_text(json.dumps(record))
    with pytest.raises(DatasetError, match=rf"sg\.json: record 0.*{message}"):
        list(read([("", path)], {}))


def test_inverted_and_outlying_boxes_are_read_as_they_are(write_vrd):
    path = write_vrd(_with("object", "bbox", [9, 2, -3, 99_999]))
    (picture,) = read([("", path)], {})
    assert picture.relations[1].reference.box == (-3, 9, 99_999, 2)


def test_the_importer_stands_in_its_family():
    importer = IMPORTERS.load("vrd")
    assert importer.read is read and importer.relations == "6way"
