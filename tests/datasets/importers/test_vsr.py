"""VSR: counts of the real files, captions, and invalid lines."""

import json
import re
from collections import Counter

import pytest
from helpers.real import real

from vsp.datasets import IMPORTERS
from vsp.datasets.importers.annotations import Relation, Thing
from vsp.errors import DatasetError

IMPORTER = IMPORTERS.load("vsr")
SIX = {"left of", "right of", "above", "below", "in front of", "behind"}


def _file(split, part):
    return real(f"vsr/splits/{split}/{part}.jsonl")


def _real(split, part):
    return list(IMPORTER.read([("val" if part == "dev" else part, _file(split, part))], {}))


def _said(pictures):
    return [r for picture in pictures for r in picture.relations]


@pytest.mark.parametrize(
    ("split", "part", "rows", "images", "mean", "most", "true", "six", "six_true", "six_images",
     "six_mean"),
    [
        ("random", "train", 7680, 4968, 1.55, 14, 3876, 1682, 834, 1490, 1.13),
        ("random", "dev", 1097, 1017, 1.08, 3, 564, 215, 125, 209, 1.03),
        ("random", "test", 2195, 1874, 1.17, 5, 1181, 490, 283, 468, 1.05),
        ("zeroshot", "train", 3489, 2249, 1.55, 13, 1799, 774, 411, 682, 1.13),
        ("zeroshot", "dev", 340, 227, 1.50, 6, 167, 86, 41, 76, 1.13),
        ("zeroshot", "test", 1222, 715, 1.71, 8, 629, 155, 84, 140, 1.11),
    ],
)  # fmt: skip
def test_the_real_splits_are_read_whole(
    split, part, rows, images, mean, most, true, six, six_true, six_images, six_mean
):
    pictures = _real(split, part)
    said = _said(pictures)
    n_each = [len(picture.relations) for picture in pictures]
    assert (len(said), len(pictures), max(n_each)) == (rows, images, most)
    assert round(rows / images, 2) == mean
    assert sum(not r.predicate.startswith("not ") for r in said) == true
    of_six = [r for r in said if r.predicate.removeprefix("not ") in SIX]
    assert len(of_six) == six and sum(r.predicate in SIX for r in of_six) == six_true
    with_six = [
        p for p in pictures if SIX & {r.predicate.removeprefix("not ") for r in p.relations}
    ]
    assert len(with_six) == six_images and round(six / six_images, 2) == six_mean
    assert len({picture.image for picture in pictures}) == images  # one picture per image


def test_relations_of_the_real_train_are_those_that_were_counted():
    counts = Counter(r.predicate.removeprefix("not ") for r in _said(_real("random", "train")))
    assert len(counts) == 64
    assert {name: counts[name] for name in COUNTED} == COUNTED


COUNTED = {
    "in front of": 528, "behind": 498, "under": 415, "at the right side of": 335,
    "at the left side of": 273, "beneath": 250, "above": 237, "below": 189, "left of": 155,
    "right of": 75, "at the back of": 65, "over": 54, "ahead of": 26,
}  # fmt: skip


@pytest.mark.parametrize(
    ("split", "shared"), [("random", {"dev": 558, "test": 978}), ("zeroshot", {"test": 2})]
)
def test_images_of_the_real_train_that_are_in_other_parts_can_be_seen(split, shared):
    files = [(part, _file(split, part)) for part in ("train", *shared)]
    images = {part: set() for part, _ in files}
    for picture in IMPORTER.read(files, {}):
        images[picture.split].add(picture.image)
    assert {part: len(images["train"] & images[part]) for part in shared} == shared


def test_names_of_the_real_captions_are_whole_and_the_fields_agree_but_for_lost_letters():
    n_lost = 0
    for part in ("train", "dev", "test"):
        lines = _file("zeroshot", part).read_text().splitlines()
        for r in _said(_real("zeroshot", part)):
            record = json.loads(lines[int(r.where.split()[-1]) - 1])
            assert r.reference.name == record["obj"]
            assert re.fullmatch(f".?{record['subj']}", r.subject.name), record
            n_lost += r.subject.name != record["subj"]
    assert n_lost == 301


LINE = {
    "image": "1.jpg", "caption": "The hot dog is on the bed.", "label": 1, "relation": "on",
    "subj": "ot dog", "obj": "bed",
}  # fmt: skip


def _read(tmp_path, *records):
    path = tmp_path / "own.jsonl"
    path.write_text("".join(f"{json.dumps(record)}\n" for record in records))
    return list(IMPORTER.read([("test", path)], {}))


def test_a_caption_that_is_false_is_kept_as_what_does_not_hold(tmp_path):
    (picture,) = _read(tmp_path, LINE, {**LINE, "label": 0})
    assert (picture.image, picture.split) == ("1.jpg", "test")
    assert picture.relations == (
        Relation(
            Thing("hot dog"), "on", Thing("bed"), file=f"{tmp_path}/own.jsonl", where="line 1"
        ),
        Relation(
            Thing("hot dog"), "not on", Thing("bed"), file=f"{tmp_path}/own.jsonl", where="line 2"
        ),
    )


@pytest.mark.parametrize(
    ("caption", "relation", "names"),
    [
        ("The truck contains the cow.", "contains", ("truck", "cow")),
        ("The bed has as a part the couch.", "has as a part", ("bed", "couch")),
        ("The potted plant is at the left side of the tv.", "at the left side of",
         ("potted plant", "tv")),
        ("The cat is in the box in the room.", "in", ("cat", "box in the room")),
        ("A cat lies on a bed", "on", ("ot dog", "bed")),  # from the fields
    ],
)  # fmt: skip
def test_names_come_from_the_caption_where_it_has_the_usual_form(
    tmp_path, caption, relation, names
):
    (picture,) = _read(tmp_path, {**LINE, "caption": caption, "relation": relation})
    (r,) = picture.relations
    assert (r.subject.name, r.reference.name) == names


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image": None}, "has image None; VSR's lines have the texts image, caption, relation"),
        ({"caption": " "}, "has caption ' '; VSR's lines have"),
        ({"relation": 3}, "has relation 3; VSR's lines have"),
        ({"label": 2}, "has label 2; write 1 if the caption is true, else 0"),
        ({"label": True}, "has label True; write 1"),
        ({"label": "1"}, "has label '1'; write 1"),
        ({"label": []}, "has label []; write 1"),
        (
            {"caption": "Cats.", "subj": None},
            "has caption 'Cats.' without subj and obj; write \"The",
        ),
    ],
)
def test_a_line_that_is_none_of_vsr_is_named(tmp_path, change, message):
    with pytest.raises(DatasetError) as caught:
        _read(tmp_path, LINE, {**LINE, **change})
    assert str(caught.value).startswith(f"{tmp_path}/own.jsonl: line 2 {message}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty; give a file of VSR's splits"),
        (
            json.dumps(LINE) + "\n" + json.dumps(LINE)[:40],
            "line 2 is not JSON: Unterminated string",
        ),
        (json.dumps([LINE]), "line 1 is a list, not a mapping; write one {...} per line"),
    ],
)
def test_a_file_that_is_not_of_json_lines_is_refused(tmp_path, text, message):
    path = tmp_path / "own.jsonl"
    path.write_text(text)
    with pytest.raises(DatasetError) as caught:
        list(IMPORTER.read([("", path)], {}))
    assert str(caught.value).startswith(f"{path}: {message}")
