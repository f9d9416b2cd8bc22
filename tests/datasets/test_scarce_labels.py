"""Labels with too few groups for the folds of a probe."""

import pytest

from vsp.datasets.scarce_labels import LabelGroups


def _notes(rows):
    groups = LabelGroups()
    for row in rows:
        groups.add(*row)
    return groups.notes()


MANY = [(label, "", f"{label}{i}") for label in ("left", "right") for i in range(5)]


def test_a_label_with_one_group_is_named_with_its_rows_and_the_option_that_drops_it():
    (note,) = _notes([*MANY, *[("up there", "", "g")] * 3])
    assert note == (
        "label 'up there' has 3 rows in 1 group; `vsp probe` needs 5 groups of training rows for each "
        "label: leave out rows with --drop-label 'up there' (of `vsp import` or `vsp probe`), or add "
        "images"
    )


def test_labels_with_enough_groups_and_numbers_give_no_note():
    assert _notes(MANY) == [] == _notes([])
    assert _notes([(f"{i}.5", "", "g") for i in range(9)]) == []


@pytest.mark.parametrize(("split", "n_notes"), [("train", 0), ("val", 0), ("test", 1)])
def test_only_groups_of_training_rows_count(split, n_notes):
    rows = [(label, "train", group) for label, _, group in MANY]
    rows += [("up", "train", f"u{i}") for i in range(4)] + [("up", split, "u4")]
    rows += [("left", "test", "t"), ("right", "test", "t")]
    assert len(_notes(rows)) == n_notes


def test_where_no_two_labels_would_be_left_none_is_offered_to_drop():
    (note,) = _notes([("left", "", "a"), ("right", "", "b")])
    assert note.endswith("for each label: add images") and "--drop-label" not in note


def test_many_labels_are_counted():
    (note,) = _notes([*MANY, *((f"rare {i}", "", "g") for i in range(9))])
    assert "'rare 2' has 1 row in 1 group, and 6 labels more" in note
    assert "--drop-label 'rare 2' … (of" in note
