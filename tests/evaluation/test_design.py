import time
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.model_selection import StratifiedGroupKFold

from vsp.datasets.splitting import assign_splits
from vsp.errors import ProbeError
from vsp.evaluation.design import control_labels, design, movable, permutations, portions


@st.composite
def rows(draw, one_label=None, own_split=None, numbers=None):
    """Labels, groups and a split of the dataset's own, or none, of a few dozen rows."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    n_groups, n_labels = draw(st.integers(8, 30)), draw(st.integers(2, 4))
    number = np.repeat(np.arange(n_groups), rng.integers(1, 5, n_groups))
    number = rng.permutation(number)
    one_label = draw(st.booleans()) if one_label is None else one_label
    y = rng.integers(n_labels, size=n_groups)[number]
    if not one_label:
        y = rng.integers(n_labels, size=len(number))
    if draw(st.booleans()) if numbers is None else numbers:
        y = y + rng.standard_normal(n_groups)[number] * one_label
    split = np.full(len(y), "")
    if draw(st.booleans()) if own_split is None else own_split:
        split = np.where(rng.random(n_groups) < 0.3, "test", "train")[number]
    return y, np.char.add("g", number.astype(str)), split


def _made(y, group, split, **settings):
    try:
        return design(y, group, split, **settings)
    except ProbeError as error:
        assert "\n" not in str(error)
        assume(False)


@given(rows(), st.integers(3, 5), st.integers(1, 3), st.integers(0, 9))
@settings(max_examples=150, deadline=None)
def test_no_group_is_fitted_on_and_judged(rows, folds, repeats, seed):
    made = _made(*rows, folds=folds, repeats=repeats, seed=seed)
    group = rows[1]
    for outer in made.outer:
        for one in (outer, *outer.inner):
            assert not set(group[made.train[one.fit]]) & set(group[one.judge])


@given(rows(), st.integers(3, 5), st.integers(1, 3))
@settings(max_examples=150, deadline=None)
def test_every_row_is_judged_once_a_repeat_or_every_test_row_once(rows, folds, repeats):
    y, _, split = rows
    made = _made(*rows, folds=folds, repeats=repeats)
    own = (split != "").any()
    assert made.n_repeats == (1 if own else repeats) and made.n_folds == (1 if own else folds)
    judged = np.flatnonzero(split == "test") if own else np.arange(len(y))
    for repeat in range(made.n_repeats):
        outers = [outer for outer in made.outer if outer.repeat == repeat]
        assert sorted(np.concatenate([outer.judge for outer in outers])) == judged.tolist()
        for outer in outers:
            assert (made.judged_by[repeat, outer.judge] == made.outer.index(outer)).all()
    assert ((made.judged_by >= 0).sum(axis=1) == len(judged)).all()


@given(rows(), st.integers(3, 5))
@settings(max_examples=150, deadline=None)
def test_what_chooses_for_a_fit_is_inside_its_training_rows(rows, folds):
    made = _made(*rows, folds=folds)
    for outer in made.outer:
        trained = np.flatnonzero(made.train[outer.fit])
        assert sorted(np.concatenate([one.judge for one in outer.inner])) == trained.tolist()
        for one in outer.inner:
            fitted = np.flatnonzero(made.train[one.fit])
            assert sorted([*fitted, *one.judge]) == trained.tolist()


@given(rows(), st.integers(3, 5), st.integers(1, 3))
@settings(max_examples=150, deadline=None)
def test_training_sets_are_distinct_and_each_has_every_label(rows, folds, repeats):
    y, _, split = rows
    made = _made(*rows, folds=folds, repeats=repeats)
    assert len({mask.tobytes() for mask in made.train}) == len(made.train)
    used = {one.fit for outer in made.outer for one in (outer, *outer.inner)} | {made.final}
    assert used == set(range(len(made.train)))
    if y.dtype.kind == "i":
        known = set(y[made.train[made.final]])
        assert all(set(y[mask]) == known for mask in made.train)
    if (split == "").all():
        assert made.train[made.final].all()
    else:
        assert (made.train[made.final] == (split == "train")).all()


def test_a_fit_without_two_folds_serves_both():
    y, group = np.arange(60) % 2, np.arange(60).astype(str)
    made = design(y, group, np.full(60, ""), folds=5, repeats=2)
    assert len(made.train) == 2 * (5 + 5 * 4 // 2) + 1
    assert made.words == "5 folds by group, 2 times"


@given(rows(), st.integers(0, 9))
@settings(max_examples=100, deadline=None)
def test_the_order_of_rows_does_not_matter(rows, seed):
    y, group, split = rows
    made = _made(y, group, split, seed=seed)
    # Labels of numbers are binned alike, so nothing but names, labels and the seed decides.
    order = np.random.default_rng(seed).permutation(len(y))
    again = design(y[order], group[order], split[order], seed=seed)
    assert (again.train == made.train[:, order]).all()
    assert (again.blocks == made.blocks[order]).all()
    assert (again.judged_by == made.judged_by[:, order]).all()


def test_another_seed_gives_other_folds_and_the_same_seed_the_same():
    y, group = np.arange(60) % 2, np.arange(60).astype(str)
    one, same, other = (design(y, group, np.full(60, ""), seed=seed) for seed in (1, 1, 2))
    assert (one.train == same.train).all() and (one.blocks != other.blocks).any()
    first, second = (one.judged_by[0] % 5, one.judged_by[1] % 5)
    assert (first != second).any()


@pytest.mark.parametrize("n", [60, 61, 63])
def test_single_rows_are_spread_evenly_by_label(n):
    y = np.arange(n) % 3
    made = design(y, np.arange(n).astype(str), np.full(n, ""), folds=5)
    counts = np.array([np.bincount(y[outer.judge], minlength=3) for outer in made.outer])
    assert np.ptp(counts, axis=0).max() <= 1 and np.ptp(counts.sum(axis=1)) <= 3


def test_groups_of_many_labels_are_spread_as_evenly_as_scikit_learn_does():
    rng, ours, theirs = np.random.default_rng(0), [], []
    for seed in range(30):
        number = np.repeat(np.arange(80), rng.integers(1, 9, 80))
        y = np.where(rng.random(len(number)) < 0.1, 2, rng.integers(2, size=len(number)))
        made = design(y, number.astype(str), np.full(len(y), ""), repeats=1, seed=seed)
        splitter = StratifiedGroupKFold(5, shuffle=True, random_state=seed)
        folds = [judge for _, judge in splitter.split(y, y, number)]
        for found, judged in ((ours, [one.judge for one in made.outer]), (theirs, folds)):
            counts = np.array([np.bincount(y[rows], minlength=3) for rows in judged])
            found.append((counts / np.bincount(y)).std(axis=0).mean())
    assert np.mean(ours) <= 1.1 * np.mean(theirs)


def test_many_groups_are_dealt_in_a_moment():
    n = 200_000
    start = time.process_time()
    design(np.arange(n) % 3, np.arange(n).astype(str), np.full(n, ""))
    assert time.process_time() - start < 2  # one by one it takes twice that and more


def test_numbers_are_spread_over_folds():
    y = np.random.default_rng(0).standard_normal(200)
    made = design(y, np.arange(200).astype(str), np.full(200, ""), folds=5)
    means = [y[outer.judge].mean() for outer in made.outer]
    assert np.std(means) < 0.3 * y.std() / 40**0.5


def test_the_datasets_own_split_is_kept_and_val_is_held_out_where_there_is_no_test():
    y, group = np.arange(100) % 2, np.arange(100).astype(str)
    split = np.array(["train"] * 60 + ["val"] * 20 + ["test"] * 20)
    made = design(y, group, split)
    assert made.outer[0].judge.tolist() == list(range(80, 100)) and len(made.outer) == 1
    assert made.words == "the dataset's own, test held out"
    assert made.final == made.outer[0].fit and len(made.outer[0].inner) == 5
    made = design(y[:80], group[:80], split[:80])
    assert made.outer[0].judge.tolist() == list(range(60, 80))
    assert made.words == "the dataset's own, val held out"
    assert set(made.blocks[:60]) == {0} and set(made.blocks[60:]) == {1}


_NAMES = ["above", "below", "left"]
_REFUSED = [
    ([], [], [], {}, "there are no rows"),
    ([0], "a", [""], {}, "the rows have one label, 'above'"),
    ([0] * 9, "abcdefghi", [""] * 9, {}, "the rows have one label, 'above'; a probe needs two"),
    ([0, 1, 2], "abc", [""] * 3, {}, "label 'above' has 1 groups, too few for 5 folds"),
    ([0, 1] * 4, "abcdefgh", [""] * 8, {}, "label 'above' has 4 groups, too few for 5 folds"),
    ([0, 1] * 4, "aabbccdd", [""] * 8, {"folds": 5}, "has 4 groups, too few for 5"),
    ([0, 1] * 9, "abcdefghijklmnopqr", [""] * 18, {"folds": 2}, "2 folds leave no rows to choose"),
    ([0, 1] * 9, "abcdefghijklmnopqr", [""] * 18, {"repeats": 0}, "0 repeats of the folds"),
    ([0, 1] * 4, "abcdefgh", ["train"] * 8, {}, "8 training and 0 test rows"),
    ([0, 1] * 4, "abcdefgh", ["train"] * 4 + [""] * 4, {}, "4 of 8 rows have no split"),
    ([0, 1] * 4, "abcdabcd", ["train"] * 4 + ["test"] * 4, {}, "4 groups have rows in train and"),
    ([0] * 4 + [1] * 4, "abcdefgh", ["train"] * 4 + ["test"] * 4, {}, "the training rows have one"),
    ([0, 1] * 3 + [2], "abcdefg", ["train"] * 6 + ["test"], {}, "test label 'left' is on no train"),
    ([0, 1] * 3 + [1], "abcdefg", ["train"] * 6 + ["test"], {}, "label 'above' has 3 groups"),
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
        design(y, group, split, names=_NAMES, **settings)
    assert "\n" not in str(refused.value)


def test_a_label_is_in_every_fold_where_it_has_as_many_groups():
    y = np.repeat([0, 1], [5, 200])
    group = np.arange(205).astype(str)
    for seed in range(20):
        made = design(y, group, np.full(205, ""), folds=5, seed=seed)
        assert all((y[outer.judge] == 0).sum() == 1 for outer in made.outer)


@given(rows(one_label=True, numbers=False), st.integers(0, 9))
@settings(max_examples=100, deadline=None)
def test_groups_of_one_label_exchange_it_whole_inside_their_block(rows, seed):
    y, group, split = rows
    made = _made(y, group, split, folds=3)
    labels, n_movable = permutations(y, group, made.blocks, 8, seed)
    _, first, number = np.unique(group, return_index=True, return_inverse=True)
    for permuted in labels:
        assert (permuted == permuted[first][number]).all()
        for block in set(made.blocks):
            inside = made.blocks[first] == block
            assert Counter(permuted[first][inside]) == Counter(y[first][inside])
    moved = (labels != y).any(axis=0)
    assert moved.sum() <= n_movable == movable(y, group, made.blocks) <= len(y)


@given(rows(one_label=False), st.integers(0, 9))
@settings(max_examples=100, deadline=None)
def test_groups_of_many_labels_exchange_them_row_by_row_with_groups_of_their_size(rows, seed):
    y, group, split = rows
    made = _made(y, group, split, folds=3)
    labels, n_movable = permutations(y, group, made.blocks, 8, seed)
    names, number = np.unique(group, return_inverse=True)
    members = [np.flatnonzero(number == k) for k in range(len(names))]
    kinds = [(made.blocks[own[0]], len(own)) for own in members]
    assume(any(len(set(y[own])) > 1 for own in members))
    for permuted in labels:
        before, after = (
            Counter((kind, tuple(values[own])) for kind, own in zip(kinds, members, strict=True))
            for values in (y, permuted)
        )
        assert before == after
    partners = {}
    for kind, own in zip(kinds, members, strict=True):
        partners.setdefault(kind, set()).add(tuple(y[own]))
    there = sum(
        len(own) for kind, own in zip(kinds, members, strict=True) if len(partners[kind]) > 1
    )
    assert n_movable == there and (labels != y).any(axis=0).sum() <= there


def test_rows_of_groups_that_have_no_partner_are_counted_as_not_movable():
    # One group of each size, with several labels: no permutation can move anything.
    group = np.repeat(list("abcdef"), np.arange(1, 7))
    y = np.arange(len(group)) % 2
    labels, n_movable = permutations(y, group, np.zeros(len(y), np.intp), 5, 0)
    assert n_movable == 0 and (labels == y).all()


def test_labels_move_between_groups_of_about_one_size_alone():
    """Else large groups of one label, and small ones of another, would look like a finding."""
    size = np.repeat([1, 2, 30], [8, 8, 8])
    group, n = np.repeat(np.arange(24), size).astype(str), int(size.sum())
    y = np.repeat(np.tile([0, 1], 12), size)
    labels, n_movable = permutations(y, group, np.zeros(n, np.intp), 50, 0)
    large = np.repeat(size, size) == 30
    assert n_movable == n
    assert (labels.mean(axis=1) == y.mean()).all() and (labels[:, large].mean(axis=1) == 0.5).all()


def test_groups_whose_size_differs_by_a_tenth_exchange_their_label_and_others_do_not():
    size = np.array([10, 11, 10, 11, 20, 21, 5, 6])
    group, n = np.repeat(np.arange(8), size).astype(str), int(size.sum())
    y = np.repeat([0, 1, 0, 1, 0, 1, 0, 1], size)
    labels, n_movable = permutations(y, group, np.zeros(n, np.intp), 40, 0)
    assert n_movable == n - 5 - 6
    for permuted in labels:
        of_group = [set(permuted[group == str(k)]) for k in range(8)]
        assert all(len(one) == 1 for one in of_group)
        assert sorted(max(one) for one in of_group[:4]) == [0, 0, 1, 1]
    assert (labels.max(axis=0) != labels.min(axis=0)).sum() == n_movable


def test_the_same_seed_gives_the_same_permutations_and_no_two_are_alike():
    y, group = np.arange(60) % 2, np.arange(60).astype(str)
    blocks = np.arange(60) % 5
    labels, n_movable = permutations(y, group, blocks, 100, seed=3)
    assert n_movable == 60
    assert (labels == permutations(y, group, blocks, 100, seed=3)[0]).all()
    assert (labels != permutations(y, group, blocks, 100, seed=4)[0]).any()
    assert len({permuted.tobytes() for permuted in labels}) == 100
    # Each row has each label about as often: the labels are as likely anywhere in a block.
    assert abs(labels.mean(axis=0) - 0.5).max() < 0.3


def test_the_first_permutations_are_those_of_a_smaller_number():
    y, group = np.arange(60) % 2, np.arange(60).astype(str)
    many = permutations(y, group, np.zeros(60, np.intp), 20, 0)[0]
    assert (permutations(y, group, np.zeros(60, np.intp), 5, 0)[0] == many[:5]).all()


def test_a_control_task_gives_each_type_one_label_with_the_frequencies_of_the_task():
    rng = np.random.default_rng(0)
    types, y = rng.integers(300, size=2000).astype(str), (rng.random(2000) < 0.25).astype(np.intp)
    labels = control_labels(types, y, 20, seed=0)
    for control in labels:
        assert all(len(set(control[types == one])) == 1 for one in set(types))
    assert abs(labels.mean() - 0.25) < 0.03
    assert len({control.tobytes() for control in labels}) == 20


def test_a_control_task_has_two_labels_however_rare_one_is():
    types, y = np.array(["a", "b"] * 500), np.zeros(1000, np.intp)
    y[7] = 1
    labels = control_labels(types, y, 50, seed=0)
    assert all(len(set(control)) == 2 for control in labels)


@pytest.mark.parametrize(("types", "y"), [("aaaa", [0, 1, 0, 1]), ("abab", [1, 1, 1, 1])])
def test_no_control_task_without_two_types_and_two_labels(types, y):
    assert control_labels(np.array(list(types)), np.array(y), 3, 0) is None


def test_a_control_task_of_numbers_draws_numbers_of_the_task():
    y = np.random.default_rng(0).standard_normal(50)
    labels = control_labels(np.arange(50) % 7, y, 3, 0)
    assert labels.dtype == np.float64 and set(labels.ravel()) <= set(y)


@given(rows(), st.integers(0, 9))
@settings(max_examples=100, deadline=None)
def test_portions_grow_by_whole_groups_up_to_all_training_rows(rows, seed):
    y, group, split = rows
    made = _made(y, group, split, folds=3)
    mask = made.train[made.outer[0].fit]
    parts = portions(y, group, mask, seed)
    assert (parts[-1] == mask).all()
    for part, larger in pairwise(parts):
        assert (part <= larger).all() and part.sum() < larger.sum()
    for part in parts:
        assert not set(group[part]) & set(group[mask & ~part])
        if y.dtype.kind == "i" and part is not parts[-1]:
            assert min(Counter(y[part]).values()) >= 2 and set(y[part]) == set(y[mask])


def test_portions_are_those_of_voita_and_titov_with_labels_as_in_all_rows():
    n = 20_000
    y = np.random.default_rng(0).choice(4, size=n, p=[0.4, 0.3, 0.2, 0.1])
    parts = portions(y, np.arange(n).astype(str), np.ones(n, bool), 0)
    sizes = [int(part.sum()) for part in parts]
    assert sizes == [20, 40, 80, 160, 320, 625, 1250, 2500, 5000, 10_000, 20_000]
    shares = np.array([np.bincount(y[part], minlength=4) / part.sum() for part in parts[4:]])
    assert abs(shares - [0.4, 0.3, 0.2, 0.1]).max() < 0.02


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 60), st.sampled_from([(0.8, 0.2), (0.7, 0.1, 0.2)]), st.integers(0, 9))
def test_sides_keep_groups_whole_and_give_each_side_its_share_of_every_label(n, shares, seed):
    group = np.repeat(np.arange(10 * n), 1 + np.arange(10 * n) % 3)
    label = np.arange(len(group)) % 4
    side = assign_splits(label, group, shares, seed)
    assert (np.diff(side)[np.diff(group) == 0] == 0).all()
    for one in range(4):
        held = np.bincount(side[label == one], minlength=len(shares))
        assert np.abs(held - np.array(shares) * held.sum()).max() <= 4
