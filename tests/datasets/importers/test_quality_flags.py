"""Flags of rows: their counts in the real annotations of VRD, and each flag alone."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import replace

import pytest
from helpers.paths import ROOT
from helpers.real import real

from vsp.datasets.importers.annotations import Picture, Relation, Thing
from vsp.datasets.importers.quality_flags import DROPPED, FLAGS, base_name, flag_rows
from vsp.datasets.importers.vrd import read
from vsp.datasets.relations import INVERSE, read_relations

SPLITS = ("train", "test")
Row = tuple[str, Relation, str, tuple[str, ...]]  # image, relation, label, flags


@pytest.fixture(scope="module")
def pictures() -> dict[str, list[Picture]]:
    return {s: list(read([(s, real(f"vrd/annotations_{s}.json"))], {})) for s in SPLITS}


def _rows(pictures: Iterable[Picture], label) -> list[Row]:
    rows = []
    for picture in pictures:
        labels = [label(relation.predicate) for relation in picture.relations]
        flags = flag_rows(picture, labels)
        flagged = zip(picture.relations, labels, flags, strict=True)
        rows += [(picture.image, *row) for row in flagged if row[1]]
    return rows


@pytest.fixture(scope="module")
def every(pictures) -> dict[str, list[Row]]:
    """Rows of all 70 predicates; each predicate is its own label."""
    return {split: _rows(pictures[split], str) for split in SPLITS}


@pytest.fixture(scope="module")
def six(pictures) -> dict[str, list[Row]]:
    table = read_relations("6way", ROOT)
    return {split: _rows(pictures[split], table.label) for split in SPLITS}


def _counts(rows: dict[str, list[Row]], flag: str) -> tuple[int, ...]:
    return tuple(sum(flag in flags for *_, flags in rows[split]) for split in SPLITS)


def _without(rows: dict[str, list[Row]], flag: str) -> tuple[int, ...]:
    return tuple(sum(flag not in flags for *_, flags in rows[split]) for split in SPLITS)


@pytest.mark.parametrize(
    ("name", "rows", "images"),
    [
        ("4way", (3_924, 920), (1_625, 387)),
        ("6way", (7_700, 1_902), (2_647, 667)),
        ("6way-wide", (10_329, 2_549), (2_937, 752)),
        ("6way-exact", (5_416, 1_302), None),
    ],
)
def test_tables_ask_about_as_many_rows_as_were_measured(pictures, name, rows, images):
    table = read_relations(name, ROOT)
    rows_of_split = [_rows(pictures[split], table.label) for split in SPLITS]
    assert tuple(map(len, rows_of_split)) == rows
    assert images is None or tuple(len({row[0] for row in one}) for one in rows_of_split) == images


def test_rows_of_a_class_are_as_many_as_were_measured(six):
    counts = [Counter(label for _, _, label, _ in six[split]) for split in SPLITS]
    assert [tuple(c[label] for c in counts) for label in INVERSE if counts[0][label]] == [
        (381, 103), (364, 88), (2417, 553), (762, 176), (1539, 409), (2237, 573),
    ]  # fmt: skip


def test_duplicates_and_self_relations_are_those_of_the_real_files(every, six):
    assert _counts(every, "duplicate") == (494, 160)
    assert _counts(every, "self-relation") == (83, 26)
    assert _counts(six, "duplicate") == (81, 35)
    assert _counts(six, "self-relation") == (17, 3)


def test_shares_of_ambiguous_names_are_those_of_the_real_files(six):
    assert _without(six, "ambiguous-name") == (3_704, 932)
    assert _counts(six, "equal-names") == (1_028, 229)
    assert _counts(six, "several-labels") == (800, 173)
    assert _counts(six, "opposite-labels") == (541, 133)


def _of_boxes(rows: Iterable[Row]) -> dict[tuple, set[str]]:
    labels = defaultdict(set)
    for image, relation, label, _ in rows:
        labels[image, relation.subject, relation.reference].add(label)
    return labels


def test_pairs_of_boxes_with_several_labels_are_among_those_flagged(six):
    several = {
        split: _of_boxes(row for row in six[split] if "several-labels" in row[3])
        for split in SPLITS
    }
    assert [sum(len(of) > 1 for of in several[s].values()) for s in SPLITS] == [107, 20]
    opposite = {
        split: _of_boxes(row for row in six[split] if "opposite-labels" in row[3])
        for split in SPLITS
    }
    assert [
        sum(any(INVERSE[one] in of for one in of) for of in opposite[s].values()) for s in SPLITS
    ] == [12, 3]


def test_pairs_with_the_same_label_in_both_orders_are_those_of_the_real_files(six):
    for split, n in (("train", 32), ("test", 6)):
        rows = [row for row in six[split] if "both-ways" in row[3]]
        assert len({(r[0], frozenset((r[1].subject, r[1].reference))) for r in rows}) == n


AGREES = {"left_of": 96.3, "right_of": 96.7, "above": 96.8, "below": 96.5}
LARGER = {"left_of": 87.0, "right_of": 87.4, "above": 70.8, "below": 73.5}


def _shares(rows: Iterable[Row], flags: set[str]) -> dict[str, float]:
    n, without = Counter(), Counter()
    for _, _, label, row_flags in rows:
        for of in (label, "all four" if label in AGREES else "others"):
            n[of] += 1
            without[of] += not flags & set(row_flags)
    return {label: round(100 * without[label] / n[label], 1) for label in n}


def test_boxes_agree_with_labels_as_often_as_was_measured(six):
    rows = six["train"] + six["test"]
    agrees = _shares(rows, {"box-contradicts"})
    assert agrees["all four"] == 96.7 and agrees.items() >= AGREES.items()
    larger = _shares(rows, {"box-contradicts", "other-axis-larger"})
    assert larger.items() >= LARGER.items()
    assert agrees["others"] == larger["others"] == 100  # boxes do not show depth
    assert sum(label in AGREES for _, _, label, _ in rows) == 4_844


def test_optional_words_agree_less_often(pictures):
    wide = read_relations("6way-wide", ROOT)
    rows = _rows(pictures["train"] + pictures["test"], wide.label)
    for predicate, share in (
        ("under", 91.9), ("beneath", 91.7), ("over", 95.9), ("on the top of", 87.6),
    ):  # fmt: skip
        of = [row for row in rows if row[1].predicate == predicate]
        assert _shares(of, {"box-contradicts"})["all four"] == share


def test_no_box_of_vrds_is_bad(six):
    assert _counts(six, "bad-box") == (0, 0)


CUP, HAT, CAT = (
    Thing("cup", (0, 0, 10, 10)),
    Thing("hat", (20, 0, 30, 10)),
    Thing("cat", (0, 40, 8, 50)),
)


def _flags(*said: tuple[Thing, str, Thing], things: tuple[Thing, ...] = (), **more):
    """Flags of rows with these labels in one picture."""
    every = dict.fromkeys((*(t for s, _, r in said for t in (s, r)), *things))
    picture = Picture("a.jpg", tuple(every), tuple(Relation(s, p, r) for s, p, r in said))
    size = more.pop("said_size", None)
    return flag_rows(replace(picture, size=size), [p for _, p, _ in said], **more)


def test_a_plain_row_has_no_flags():
    assert _flags((CUP, "left_of", HAT), (CUP, "above", CAT)) == [(), ()]


@pytest.mark.parametrize(
    ("flag", "said", "things"),
    [
        ("self-relation", (CUP, "above", CUP), ()),
        ("equal-names", (CUP, "left_of", Thing("Cup 2", HAT.box)), ()),
        ("ambiguous-name", (CUP, "left_of", HAT), (Thing("cup", (50, 50, 60, 60)),)),
        ("ambiguous-name", (CUP, "left_of", HAT), (Thing(" HAT", (50, 50, 60, 60)),)),
        ("ambiguous-name", (CUP, "left_of", HAT), (Thing("hat 7", (50, 50, 60, 60)),)),
        ("box-contradicts", (HAT, "left_of", CUP), ()),
        ("box-contradicts", (CUP, "above", HAT), ()),  # both are at the same height
        ("box-contradicts", (CUP, "right_of", HAT), ()),
        ("box-contradicts", (CUP, "below", CAT), ()),
        ("other-axis-larger", (CAT, "left_of", HAT), ()),
        ("instance-suffix", (Thing("cup 2", CUP.box), "left_of", HAT), ()),
        ("bad-box", (Thing("cup", (5, 0, 5, 9)), "left_of", HAT), ()),
        ("bad-box", (CUP, "left_of", Thing("hat", (20, 9, 30, 0))), ()),
        ("bad-box", (Thing("cup", (-9, 0, 9, 9)), "left_of", HAT), ()),
    ],
)  # fmt: skip
def test_a_flag_is_on_the_row_it_is_about(flag, said, things):
    assert flag in _flags(said, things=things)[0]


@pytest.mark.parametrize(
    ("flag", "said", "things"),
    [
        (
            "self-relation",
            (Thing("cup"), "above", Thing("cup")),
            (),
        ),  # without boxes they may be two things
        ("ambiguous-name", (CUP, "left_of", HAT), (Thing("teacup", (5, 5, 6, 6)), CAT)),
        ("ambiguous-name", (Thing("cup"), "left_of", HAT), ()),
        ("other-axis-larger", (CAT, "below", HAT), ()),
        ("box-contradicts", (CUP, "behind", HAT), ()),
        ("box-contradicts", (Thing("cup"), "right_of", HAT), ()),
        ("instance-suffix", (Thing("7up can"), "left_of", Thing("mp3")), ()),
        ("bad-box", (CUP, "left_of", HAT), ()),
    ],
)
def test_a_flag_is_not_on_a_row_it_is_not_about(flag, said, things):
    assert flag not in _flags(said, things=things)[0]


def test_labels_of_the_same_names_in_one_image_are_held_against_each_other():
    rows = _flags((CUP, "above", HAT), (CUP, "behind", HAT), (CUP, "left_of", CAT))
    assert ["several-labels" in flags for flags in rows] == [True, True, False]
    assert not any("opposite-labels" in flags for flags in rows)
    rows = _flags((CUP, "above", HAT), (CUP, "below", HAT))
    assert all({"several-labels", "opposite-labels"} <= set(flags) for flags in rows)
    # Two consistent rows: one states the inverse of the other.
    assert _flags((CUP, "left_of", HAT), (HAT, "right_of", CUP)) == [(), ()]


def test_the_same_label_in_both_orders_contradicts_itself_unless_it_may_be_so():
    said = [(CUP, "behind", HAT), (HAT, "behind", CUP)]
    assert _flags(*said) == [("both-ways",)] * 2
    assert _flags((CUP, "near", HAT), (HAT, "near", CUP)) == [(), ()]
    assert _flags((CUP, "touching", HAT), (HAT, "touching", CUP)) == [(), ()]


def test_of_duplicates_the_first_is_kept():
    rows = _flags((CUP, "left_of", HAT), (CUP, "left_of", HAT), (CUP, "left_of", HAT))
    assert rows == [(), ("duplicate",), ("duplicate",)]


def test_rows_that_are_not_asked_about_take_no_part():
    picture = Picture("a", (CUP, HAT), (Relation(CUP, "on", HAT), Relation(CUP, "left of", HAT)))
    assert flag_rows(picture, ["", "left_of"]) == [(), ()]
    assert flag_rows(picture, ["", ""], image_flags=["missing-image"]) == [(), ()]


def test_boxes_are_held_against_the_size_of_the_file_or_else_of_the_source():
    said = (CUP, "left_of", HAT)
    assert _flags(said, said_size=(30, 10)) == [()]
    assert _flags(said, said_size=(29, 10)) == [("bad-box",)]
    assert _flags(said, size=(30, 9)) == [("bad-box",)]
    assert _flags(said, said_size=(20, 10), size=(30, 10)) == [("other-size",)]


def test_flags_of_the_picture_are_on_every_row_and_in_order():
    rows = _flags((CUP, "above", CUP), (CUP, "left_of", HAT), image_flags=["missing-image"])
    assert rows[0][:3] == ("missing-image", "self-relation", "equal-names")
    assert rows[1] == ("missing-image",)
    assert all(list(flags) == [f for f in FLAGS if f in flags] for flags in rows)


def test_rows_that_bring_their_own_question_need_no_things():
    picture = Picture("a", (), (Relation(None, "", None, prompt="Where?", label="x"),))
    assert flag_rows(picture, ["x"]) == [()]


def _flags_of_prompts(
    *rows: tuple[str, str], ends: tuple[Thing | None, Thing | None] = (None, None)
):
    """Flags of rows with these prompts and labels in one picture."""
    said = tuple(Relation(ends[0], "", ends[1], prompt=p, label=label) for p, label in rows)
    return flag_rows(Picture("a", tuple(filter(None, ends)), said), [label for _, label in rows])


def test_a_question_with_two_answers_has_none_and_one_that_comes_again_is_a_duplicate():
    assert (
        _flags_of_prompts(("Is it full?", "yes"), ("Is it  full?", "no"))
        == [("several-labels",)] * 2
    )
    assert _flags_of_prompts(("Is it full?", "yes"), ("Is it full?", "yes")) == [(), ("duplicate",)]
    assert (
        _flags_of_prompts(("Where?", "left_of"), ("Where?", "right_of"))
        == [("opposite-labels", "several-labels")] * 2
    )


def test_several_questions_about_two_things_may_have_several_answers():
    rows = (("Is it left of the hat?", "yes"), ("Is it above the hat?", "no"))
    assert _flags_of_prompts(*rows, ends=(CUP, HAT)) == [(), ()]


def test_a_thing_is_the_same_however_its_name_is_spelled():
    cup, hat = Thing("Cup"), Thing("hat")
    assert _flags((cup, "left_of", hat), (Thing("cup"), "above", CAT)) == [(), ()]
    assert _flags((cup, "left_of", hat), (Thing("cup"), "left_of", hat)) == [(), ("duplicate",)]


def test_a_thing_whose_box_is_left_out_once_is_no_other_thing():
    rows = _flags((CUP, "left_of", HAT), (Thing("cup"), "above", CAT))
    assert rows == [(), ()]
    rows = _flags((Thing("cup 1", CUP.box), "left_of", HAT), (Thing("cup 2"), "above", CAT))
    assert all("ambiguous-name" in flags for flags in rows)


def test_what_drops_a_row_leaves_its_question_without_one_answer():
    assert set(DROPPED) < set(FLAGS)
    assert set(FLAGS) - set(DROPPED) == {
        "box-contradicts", "other-axis-larger", "bad-box", "other-size", "instance-suffix",
        "shared-image",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "base"), [("car 2", "car"), ("car  13", "car"), ("car2", "car2"), ("2", "2")]
)
def test_the_number_of_an_instance_is_no_part_of_its_name(name, base):
    assert base_name(name) == base
