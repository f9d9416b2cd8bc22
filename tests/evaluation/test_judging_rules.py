"""Cases of rows that a run knows, and the probe that judges each."""

import numpy as np
import pytest

from vsp.evaluation.judges import FINAL, NONE, FittedRows, judging_design
from vsp.evaluation.row_identity import COMMON, UNKNOWN, RowIdentity


def _identity(*rows):
    """From id, names and picture of each row, as `"id subject reference picture"`."""
    texts = []
    for row in rows:
        row_id, subject, reference, picture = row.split(" ")
        texts.append((row_id, subject, reference, "", f"{row_id}.png", picture * 64))
    return RowIdentity.of_texts(texts)


OWN = ("1 cat dog a", "2 cat dog a", "3 cup box b", "4 cup box c", "5 pen bag d", "6 pen bag e")
OUTER = np.array([[0, 0, 1, 1, 2, 2], [3, 3, 4, 5, 4, 5]])  # [repeat, row]


def _fitted(identity=None, outer=OUTER):
    """A run with folds: the final probe is fitted on all rows, others on those that they do not test."""
    identity = identity or _identity(*OWN)
    repeat_of = [int(np.flatnonzero((outer == k).any(axis=1))[0]) for k in range(outer.max() + 1)]
    of_outer = np.stack([outer[repeat] != k for k, repeat in enumerate(repeat_of)])
    return FittedRows(identity, outer, np.ones(outer.shape[1], bool), of_outer)


def _own_split(split):
    """A run with the dataset's own split."""
    outer = np.array([[0 if one == "test" else -1 for one in split]])
    fitted = np.array([one == "train" for one in split])
    return FittedRows(_identity(*OWN), outer, fitted, fitted[None])


def _judges(fitted, *rows):
    return fitted.judges(_identity(*rows)).T.tolist()


def test_with_folds_the_fold_that_held_a_row_out_judges_it_in_each_repeat():
    assert _fitted().judges(_identity(*OWN)).tolist() == OUTER.tolist()


def test_rows_of_a_variant_have_the_judges_of_the_rows_that_they_are_made_of():
    """Another picture, subject and reference exchanged, and rows in another order."""
    assert _judges(_fitted(), "4 box cup f", "1 dog cat 9") == [[1, 5], [0, 3]]


def test_new_rows_are_judged_by_the_final_probe_in_each_repeat():
    assert _judges(_fitted(), "9 cat dog 9") == [[FINAL, FINAL]]


def test_equal_ids_with_other_names_are_new_rows():
    assert _judges(_fitted(), "1 cat cup 9", "1 cat dog 9") == [[FINAL, FINAL], [0, 3]]


def test_a_picture_under_another_id_is_judged_by_a_fold_that_was_not_fitted_on_it():
    # Picture b is in fold 1 and then 4, picture c in fold 1 and then 5.
    assert _judges(_fitted(), "8 new row b", "9 new row c") == [[1, 4], [1, 5]]


def test_a_shuffled_picture_needs_a_fold_with_neither_the_row_nor_the_picture():
    # Rows 3 and 4 are tested by one fold in the first repeat, but by two in the second.
    assert _judges(_fitted(), "3 cup box c") == [[NONE, NONE]]
    one = _fitted(outer=OUTER[:1])
    assert _judges(one, "3 cup box c", "3 cup box d") == [[1], [NONE]]


def test_with_the_own_split_only_test_rows_and_new_rows_count():
    """Strength and layer were chosen on val rows."""
    split = ["train", "train", "val", "val", "test", "test"]
    judged = _judges(_own_split(split), *OWN, "8 new row a", "8 new row c", "8 new row d")
    assert judged == [[NONE]] * 4 + [[FINAL]] * 2 + [[NONE], [NONE], [FINAL]]


def test_a_row_that_has_a_copy_among_the_fitted_rows_is_left_out():
    """Rows of one id and names in several splits of the run."""
    fitted = FittedRows(_identity(OWN[0], OWN[0], OWN[2]), np.array([[-1, 0, 0]]),
                        np.array([True, False, False]), np.array([[True, False, False]]))  # fmt: skip
    assert _judges(fitted, OWN[0], OWN[2]) == [[NONE], [FINAL]]


def test_pictures_that_most_rows_share_under_several_names_tell_nothing():
    rows = [f"{i} s{i} r{i} {'ab'[i % 2]}" for i in range(6)]
    grey = _identity(*rows).with_common_images()
    assert (grey.image == COMMON).all()
    fitted = _fitted(grey)
    assert fitted.judges(_identity(*rows)).tolist() == OUTER.tolist()
    assert _judges(fitted, "9 other row a") == [[FINAL, FINAL]]


def test_a_copy_that_was_kept_in_two_groups_is_still_known():
    rows = [OWN[0], "2 cat dog f", *OWN[2:4], "5 pen bag c", OWN[5]]
    kept = _identity(*rows).with_common_images()
    assert (kept.image == _identity(*rows).image).all()
    fitted = _fitted(kept, OUTER[:1])
    assert _judges(fitted, "9 new row c") == [[NONE]]
    # Row 5 is tested by a probe that was fitted on the copy: as in the run, and counted.
    assert _judges(fitted, "5 pen bag c") == [[2]]
    own = _identity("5 pen bag c", "6 pen bag e")
    assert fitted.pictures_fitted(own, fitted.judges(own)) == 1
    # Two rows of one group share no picture with another one.
    assert _judges(_fitted(kept), "9 new row a") == [[0, 3]]


def test_pictures_without_a_digest_are_not_those_of_each_other():
    rows = [("1", "a", "b", "g", "", ""), ("2", "a", "b", "g", "", "")]
    none = RowIdentity.of_texts(rows)
    assert (none.image == UNKNOWN).all()
    fitted = FittedRows(none.take(np.array([0])), np.array([[-1]]), np.ones(1, bool),
                        np.ones((1, 1), bool))  # fmt: skip
    assert fitted.judges(none).tolist() == [[NONE, FINAL]]


@pytest.mark.parametrize("strange", ["-1", "0x12", "1_0", "é", "ab" * 40])
def test_a_text_that_is_no_digest_is_known_by_its_text(strange):
    texts = [
        ("1", "a", "b", "g", "x", strange), ("2", "c", "d", "g", "y", strange), ("3", "", "", "g", "z", "other"),
    ]  # fmt: skip
    image = RowIdentity.of_texts(texts).image
    assert image[0] == image[1] != image[2] and image[0] != UNKNOWN


def test_a_digest_is_known_in_either_case():
    image = RowIdentity.of_texts(
        [("1", "", "", "", "", "aF" * 32), ("2", "", "", "", "", "Af" * 32)]
    ).image
    assert image[0] == image[1] == 0xAFAFAFAFAFAFAFAF


def test_the_design_has_each_judged_cell_once():
    judge = np.array([[FINAL, NONE, 1, 0], [FINAL, NONE, 2, 2]])
    found = np.full(judge.shape, NONE)
    design = judging_design(judge)
    for outer in design.outer:
        (which,) = {*judge[outer.repeat, outer.test].tolist()}
        found[outer.repeat, outer.test] = which
    assert found.tolist() == judge.tolist()
    assert (design.test_split >= 0).tolist() == (judge != NONE).tolist()
