from dataclasses import replace

import numpy as np
import pytest
from helpers.named_rows import named_rows, random_rows

from vsp.errors import ProbeError
from vsp.evaluation.design import make_design
from vsp.evaluation.held_out import HeldOut, independent_units


def _design(rows, split_by, folds=4, split=None, seed=0):
    y = np.unique(rows.label, return_inverse=True)[1]
    split = rows.split if split is None else split
    held_out = HeldOut.of(split_by, rows)
    return make_design(y, rows.group, split, folds, 2, seed, None, held_out)


def _fits_and_tests(design):
    """Fitted rows and tested or validated rows of every outer and inner split."""
    for outer in design.outer:
        yield design.train_sets[outer.train_set], outer.test
        for inner in outer.inner:
            yield design.train_sets[inner.train_set], inner.validation
            # Inner fits and validation rows say nothing about the outer test rows either.
            yield design.train_sets[inner.train_set], outer.test
            yield np.isin(np.arange(design.train_sets.shape[1]), inner.validation), outer.test


@pytest.mark.parametrize("split_by", ["image", "pairs", "names"])
@pytest.mark.parametrize("seed", range(5))
def test_nothing_that_is_held_out_is_in_a_training_set(split_by, seed):
    rows = random_rows(seed, chance=1)
    for fitted, tested in _fits_and_tests(_design(rows, split_by, seed=seed)):
        assert fitted.any() and len(tested)
        assert not set(rows.group[fitted]) & set(rows.group[tested])
        if split_by != "image":
            assert not set(rows.names[fitted]) & set(rows.names[tested])
        if split_by == "names":
            names = [{*rows.subject[one], *rows.reference[one]} for one in (fitted, tested)]
            assert not names[0] & names[1]


@pytest.mark.parametrize("split_by", ["image", "pairs", "names"])
def test_no_row_is_left_out_without_need(split_by):
    rows = random_rows(1, chance=1)
    design = _design(rows, split_by)
    for outer in design.outer:
        test, fitted = outer.test, design.train_sets[outer.train_set]
        foreign = ~np.isin(rows.group, rows.group[test])
        if split_by == "pairs":
            foreign &= ~np.isin(rows.names, rows.names[test])
        if split_by == "names":  # names of the fold that are in no tested row are unknown here
            assert not (fitted & ~foreign).any()
        else:
            assert (fitted == foreign).all()
    n_tested = (design.test_split >= 0).sum(axis=1)
    assert (n_tested < 400).all() if split_by == "names" else (n_tested == 400).all()
    assert design.train_sets[design.final].all()


def test_a_name_is_the_same_as_subject_and_as_reference():
    rows = random_rows(2, chance=1)
    held_out = HeldOut.of("names", rows)
    same = rows.subject[:, None] == rows.reference
    assert (same == (held_out.subject[:, None] == held_out.reference)).all()


def test_folds_by_pair_replace_the_datasets_own_split_and_say_so():
    rows = random_rows(3, chance=1)
    split = np.where(np.char.endswith(rows.group, "7"), "test", "train")
    assert _design(rows, "image", split=split).description == "the dataset's own, test held out"
    by_pair = _design(rows, "pairs", split=split)
    assert (
        by_pair.description == "4 folds by name pair, 2 times, instead of the dataset's own split"
    )
    assert (by_pair.test_split == _design(rows, "pairs").test_split).all()


def test_rows_of_a_block_are_on_the_same_side_of_all_folds():
    rows = random_rows(4, chance=1, n_groups=400)
    for split_by in ("pairs", "names"):
        design = _design(rows, split_by)
        for pair in np.unique(rows.names):
            assert len(np.unique(design.blocks[rows.names == pair])) == 1
        for outer in design.outer:
            if outer.repeat == 0:
                assert not set(design.blocks[outer.test]) & set(
                    design.blocks[design.train_sets[outer.train_set]]
                )


def test_intervals_resample_what_is_held_out():
    rows = random_rows(5)
    assert independent_units("image", rows) is rows.group
    assert (independent_units("pairs", rows) == rows.names).all()


def test_rows_without_names_are_refused_with_one_line():
    rows = random_rows(6)
    nameless = replace(rows, subject=np.where(np.arange(400) < 3, "", rows.subject))
    with pytest.raises(
        ProbeError, match=r"^--split-by names: 3 of 400 rows name no subject; [^\n]*$"
    ):
        HeldOut.of("names", nameless)
    assert HeldOut.of("image", nameless) == HeldOut()


def test_what_cannot_be_split_is_refused_with_one_line():
    label = ["a", "b"] * 30
    one_image = named_rows(
        [f"s{i % 6}" for i in range(60)], ["r"] * 60, label, ["g"] * 30 + ["h"] * 30
    )
    with pytest.raises(ProbeError, match="label '0' has 30 rows in 2 groups"):
        _design(one_image, "pairs")
    group = [f"g{i % 6}" for i in range(60)]  # every image has a row of every pair
    crossed = named_rows([f"s{i // 6 % 10}" for i in range(60)], ["r"] * 60, label, group)
    crossed = replace(crossed, label=np.where(np.arange(60) // 7 % 2, "a", "b"))
    with pytest.raises(ProbeError, match=r"^--split-by pairs: no rows are left to fit [^\n]*$"):
        _design(crossed, "pairs")
    alone = [f"g{i}" for i in range(60)]
    with pytest.raises(ProbeError, match=r"^--split-by names: fold \d tests no row[^\n]*$"):
        _design(named_rows([f"s{i % 6}" for i in range(60)], ["r"] * 60, label, alone), "names")
