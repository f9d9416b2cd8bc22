import time

import numpy as np
import pytest
from helpers.labelled_rows import design_of, labelled_rows
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import StratifiedGroupKFold

from vsp.errors import ProbeError
from vsp.evaluation.design import make_design


@given(labelled_rows(), st.integers(3, 5), st.integers(1, 3), st.integers(0, 9))
@settings(max_examples=150, deadline=None)
def test_no_group_is_fitted_on_and_judged(rows, folds, repeats, seed):
    made = design_of(*rows, folds=folds, repeats=repeats, seed=seed)
    group = rows[1]
    for outer in made.outer:
        held_out = [(outer, outer.test), *((one, one.validation) for one in outer.inner)]
        for one, rows_of_one in held_out:
            assert not set(group[made.train_sets[one.train_set]]) & set(group[rows_of_one])


@given(labelled_rows(), st.integers(3, 5), st.integers(1, 3))
@settings(max_examples=150, deadline=None)
def test_every_row_is_judged_once_a_repeat_or_every_test_row_once(rows, folds, repeats):
    y, _, split = rows
    made = design_of(*rows, folds=folds, repeats=repeats)
    own = (split != "").any()
    assert made.n_repeats == (1 if own else repeats) and made.n_folds == (1 if own else folds)
    judged = np.flatnonzero(split == "test") if own else np.arange(len(y))
    for repeat in range(made.n_repeats):
        outers = [outer for outer in made.outer if outer.repeat == repeat]
        assert sorted(np.concatenate([outer.test for outer in outers])) == judged.tolist()
        for outer in outers:
            assert (made.test_split[repeat, outer.test] == made.outer.index(outer)).all()
    assert ((made.test_split >= 0).sum(axis=1) == len(judged)).all()


@given(labelled_rows(), st.integers(3, 5))
@settings(max_examples=150, deadline=None)
def test_what_chooses_for_a_fit_is_inside_its_training_rows(rows, folds):
    made = design_of(*rows, folds=folds)
    for outer in made.outer:
        trained = np.flatnonzero(made.train_sets[outer.train_set])
        assert sorted(np.concatenate([one.validation for one in outer.inner])) == trained.tolist()
        for one in outer.inner:
            fitted = np.flatnonzero(made.train_sets[one.train_set])
            assert sorted([*fitted, *one.validation]) == trained.tolist()


@given(labelled_rows(), st.integers(3, 5), st.integers(1, 3))
@settings(max_examples=150, deadline=None)
def test_training_sets_are_distinct_and_each_has_every_label(rows, folds, repeats):
    y, _, split = rows
    made = design_of(*rows, folds=folds, repeats=repeats)
    assert len({mask.tobytes() for mask in made.train_sets}) == len(made.train_sets)
    used = {one.train_set for outer in made.outer for one in (outer, *outer.inner)} | {made.final}
    assert used == set(range(len(made.train_sets)))
    if y.dtype.kind == "i":
        known = set(y[made.train_sets[made.final]])
        assert all(set(y[mask]) == known for mask in made.train_sets)
    if (split == "").all():
        assert made.train_sets[made.final].all()
    else:
        assert (made.train_sets[made.final] == (split == "train")).all()


def test_a_fit_without_two_folds_serves_both():
    y, group = np.arange(60) % 2, np.arange(60).astype(str)
    made = make_design(y, group, np.full(60, ""), folds=5, repeats=2)
    assert len(made.train_sets) == 2 * (5 + 5 * 4 // 2) + 1
    assert made.description == "5 folds by group, 2 times"


@given(labelled_rows(), st.integers(0, 9))
@settings(max_examples=100, deadline=None)
def test_the_order_of_rows_does_not_matter(rows, seed):
    y, group, split = rows
    made = design_of(y, group, split, seed=seed)
    # The splits depend only on group names, labels and the seed.
    order = np.random.default_rng(seed).permutation(len(y))
    again = make_design(y[order], group[order], split[order], seed=seed)
    assert (again.train_sets == made.train_sets[:, order]).all()
    assert (again.blocks == made.blocks[order]).all()
    assert (again.test_split == made.test_split[:, order]).all()


def test_another_seed_gives_other_folds_and_the_same_seed_the_same():
    y, group = np.arange(60) % 2, np.arange(60).astype(str)
    one, same, other = (make_design(y, group, np.full(60, ""), seed=seed) for seed in (1, 1, 2))
    assert (one.train_sets == same.train_sets).all() and (one.blocks != other.blocks).any()
    first, second = (one.test_split[0] % 5, one.test_split[1] % 5)
    assert (first != second).any()


@pytest.mark.parametrize("n", [60, 61, 63])
def test_single_rows_are_spread_evenly_by_label(n):
    y = np.arange(n) % 3
    made = make_design(y, np.arange(n).astype(str), np.full(n, ""), folds=5)
    counts = np.array([np.bincount(y[outer.test], minlength=3) for outer in made.outer])
    assert np.ptp(counts, axis=0).max() <= 1 and np.ptp(counts.sum(axis=1)) <= 3


def test_groups_of_many_labels_are_spread_as_evenly_as_scikit_learn_does():
    rng, ours, theirs = np.random.default_rng(0), [], []
    for seed in range(30):
        number = np.repeat(np.arange(80), rng.integers(1, 9, 80))
        y = np.where(rng.random(len(number)) < 0.1, 2, rng.integers(2, size=len(number)))
        made = make_design(y, number.astype(str), np.full(len(y), ""), repeats=1, seed=seed)
        splitter = StratifiedGroupKFold(5, shuffle=True, random_state=seed)
        folds = [judge for _, judge in splitter.split(y, y, number)]
        for found, judged in ((ours, [one.test for one in made.outer]), (theirs, folds)):
            counts = np.array([np.bincount(y[rows], minlength=3) for rows in judged])
            found.append((counts / np.bincount(y)).std(axis=0).mean())
    assert np.mean(ours) <= 1.1 * np.mean(theirs)


def test_many_groups_are_dealt_in_a_moment():
    n = 200_000
    start = time.process_time()
    make_design(np.arange(n) % 3, np.arange(n).astype(str), np.full(n, ""))
    assert time.process_time() - start < 2  # a loop over groups takes more than twice as long


def test_numbers_are_spread_over_folds():
    y = np.random.default_rng(0).standard_normal(200)
    made = make_design(y, np.arange(200).astype(str), np.full(200, ""), folds=5)
    means = [y[outer.test].mean() for outer in made.outer]
    assert np.std(means) < 0.3 * y.std() / 40**0.5


def test_val_rows_choose_and_are_neither_fitted_nor_tested_if_there_are_test_rows():
    y, group = np.arange(100) % 2, np.arange(100).astype(str)
    split = np.array(["train"] * 60 + ["val"] * 20 + ["test"] * 20)
    made = make_design(y, group, split)
    assert made.outer[0].test.tolist() == list(range(80, 100)) and len(made.outer) == 1
    assert made.description == "the dataset's own, val chooses strength and layer, test held out"
    assert made.train_sets.tolist() == [[True] * 60 + [False] * 40]
    (inner,) = made.outer[0].inner
    assert inner.validation.tolist() == list(range(60, 80)) and inner.train_set == made.final == 0
    assert made.blocks.tolist() == [0] * 60 + [1] * 20 + [2] * 20


def test_val_is_held_out_where_there_is_no_test():
    y, group = np.arange(80) % 2, np.arange(80).astype(str)
    split = np.array(["train"] * 60 + ["val"] * 20)
    made = make_design(y, group, split)
    assert made.final == made.outer[0].train_set and len(made.outer[0].inner) == 5
    assert made.outer[0].test.tolist() == list(range(60, 80))
    assert made.description == "the dataset's own, val held out"
    assert set(made.blocks[:60]) == {0} and set(made.blocks[60:]) == {1}


_NAMES = ["above", "below", "left"]
_REFUSED = [
    ([], [], [], {}, "there are no rows"),
    ([0], "a", [""], {}, "the rows have one label, 'above'"),
    ([0] * 9, "abcdefghi", [""] * 9, {}, "the rows have one label, 'above'; a probe needs two"),
    (
        [0, 1, 2],
        "abc",
        [""] * 3,
        {},
        "label 'above' has 1 row in 1 group, label 'below' has 1 row in 1 group, label 'left' has 1 row in 1 "
        "group, too few for 5 folds; add images",
    ),
    (
        [0, 1] * 9 + [2] * 3,
        "abcdefghijklmnopqrsss",
        [""] * 21,
        {},
        "label 'left' has 3 rows in 1 group, too few for 5 folds; leave out rows with --drop-label left ",
    ),
    (
        [0, 1] * 9 + [2] * 3,
        "abcdefghijklmnopqrstu",
        [""] * 21,
        {},
        "or add images, or use fewer --folds",
    ),
    (
        [0, 1] * 4,
        "abcdefgh",
        [""] * 8,
        {},
        "label 'above' has 4 rows in 4 groups, label 'below' has",
    ),
    ([0, 1] * 4, "aabbccdd", [""] * 8, {"folds": 5}, "in 4 groups, too few for 5"),
    ([0, 1] * 9, "abcdefghijklmnopqr", [""] * 18, {"folds": 2}, "2 folds leave no rows for inner"),
    ([0, 1] * 9, "abcdefghijklmnopqr", [""] * 18, {"repeats": 0}, "0 repeats of the folds"),
    ([0, 1] * 4, "abcdefgh", ["train"] * 8, {}, "8 training and 0 test rows"),
    ([0, 1] * 4, "abcdefgh", ["train"] * 4 + [""] * 4, {}, "4 of 8 rows have no split"),
    ([0, 1] * 4, "abcdabcd", ["train"] * 4 + ["test"] * 4, {}, "4 groups have rows in train and"),
    ([0, 1] * 4, "abcdefgh", ["val"] * 4 + ["test"] * 4, {}, "0 training and 4 val rows"),
    (
        [0, 1] * 4,
        "abcdefef",
        ["train"] * 4 + ["val"] * 2 + ["test"] * 2,
        {},
        "2 groups have rows in val and in test",
    ),
    (
        [0, 1] * 2 + [2, 1, 0, 1],
        "abcdefgh",
        ["train"] * 4 + ["val"] * 2 + ["test"] * 2,
        {},
        "val label 'left' is on no training row",
    ),
    ([0] * 4 + [1] * 4, "abcdefgh", ["train"] * 4 + ["test"] * 4, {}, "the training rows have one"),
    (
        [0, 1] * 3 + [2],
        "abcdefg",
        ["train"] * 6 + ["test"],
        {},
        "test label 'left' is on no training row; .* or leave the label out with --drop-label left",
    ),
    (
        [0, 1] * 3 + [1],
        "abcdefg",
        ["train"] * 6 + ["test"],
        {},
        "label 'above' has 3 rows in 3 groups",
    ),
    ([0, 1] * 3 + [1], "abcdefg", ["train"] * 6 + ["test"], {"folds": 1}, "1 folds leave no rows"),
    ([0.5, float("nan")] * 4, "abcdefgh", [""] * 8, {}, "4 of 8 numbers are not finite"),
    ([0.5] * 8, "abcdefgh", [""] * 8, {}, "the rows have one number, 0.5"),
    ([0.5, 1, 2, 3], "abcd", [""] * 4, {}, "the numbers have 4 groups, too few for 5 folds"),
    ([0.5, 1, 2, 3], "abcd", ["train"] * 3 + ["test"], {}, "the test rows have one group or one"),
    ([1.0] * 5 + [2.0], "abcdef", [""] * 6, {"folds": 3}, "a fold's training rows have one number"),
]


@pytest.mark.parametrize(("y", "group", "split", "settings", "message"), _REFUSED)
def test_rows_that_cannot_be_split_are_refused(y, group, split, settings, message):
    y = np.array(y, dtype=np.intp) if not y or isinstance(y[0], int) else np.array(y)
    group, split = np.array(list(group), dtype="U1"), np.array(split, dtype="U5")
    with pytest.raises(ProbeError, match=message) as refused:
        make_design(y, group, split, names=_NAMES, **settings)
    assert "\n" not in str(refused.value)


def test_a_label_is_in_every_fold_where_it_has_as_many_groups():
    y = np.repeat([0, 1], [5, 200])
    group = np.arange(205).astype(str)
    for seed in range(20):
        made = make_design(y, group, np.full(205, ""), folds=5, seed=seed)
        assert all((y[outer.test] == 0).sum() == 1 for outer in made.outer)
