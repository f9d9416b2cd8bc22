"""Permuted labels keep groups and blocks; control tasks depend on the type of a row only."""

from collections import Counter

import numpy as np
import pytest
from helpers.labelled_rows import design_of, labelled_rows
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from vsp.evaluation.controls import control_labels, n_exchangeable_rows, permuted_labels


@given(labelled_rows(one_label=True, numbers=False), st.integers(0, 9))
@settings(max_examples=100, deadline=None)
def test_groups_of_one_label_exchange_it_whole_inside_their_block(rows, seed):
    y, group, split = rows
    made = design_of(y, group, split, folds=3)
    labels, n_movable = permuted_labels(y, group, made.blocks, 8, seed)
    _, first, number = np.unique(group, return_index=True, return_inverse=True)
    for permuted in labels:
        assert (permuted == permuted[first][number]).all()
        for block in set(made.blocks):
            inside = made.blocks[first] == block
            assert Counter(permuted[first][inside]) == Counter(y[first][inside])
    moved = (labels != y).any(axis=0)
    assert moved.sum() <= n_movable == n_exchangeable_rows(y, group, made.blocks) <= len(y)


@given(labelled_rows(one_label=False), st.integers(0, 9))
@settings(max_examples=100, deadline=None)
def test_groups_of_many_labels_exchange_them_row_by_row_with_groups_of_their_size(rows, seed):
    y, group, split = rows
    made = design_of(y, group, split, folds=3)
    labels, n_movable = permuted_labels(y, group, made.blocks, 8, seed)
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
    # One group of each size, with several labels: no group has a partner.
    group = np.repeat(list("abcdef"), np.arange(1, 7))
    y = np.arange(len(group)) % 2
    labels, n_movable = permuted_labels(y, group, np.zeros(len(y), np.intp), 5, 0)
    assert n_movable == 0 and (labels == y).all()


def test_labels_move_between_groups_of_about_one_size_alone():
    """Otherwise a relation of label and group size would look like an effect."""
    size = np.repeat([1, 2, 30], [8, 8, 8])
    group, n = np.repeat(np.arange(24), size).astype(str), int(size.sum())
    y = np.repeat(np.tile([0, 1], 12), size)
    labels, n_movable = permuted_labels(y, group, np.zeros(n, np.intp), 50, 0)
    large = np.repeat(size, size) == 30
    assert n_movable == n
    assert (labels.mean(axis=1) == y.mean()).all() and (labels[:, large].mean(axis=1) == 0.5).all()


def test_groups_whose_size_differs_by_a_tenth_exchange_their_label_and_others_do_not():
    size = np.array([10, 11, 10, 11, 20, 21, 5, 6])
    group, n = np.repeat(np.arange(8), size).astype(str), int(size.sum())
    y = np.repeat([0, 1, 0, 1, 0, 1, 0, 1], size)
    labels, n_movable = permuted_labels(y, group, np.zeros(n, np.intp), 40, 0)
    assert n_movable == n - 5 - 6
    for permuted in labels:
        of_group = [set(permuted[group == str(k)]) for k in range(8)]
        assert all(len(one) == 1 for one in of_group)
        assert sorted(max(one) for one in of_group[:4]) == [0, 0, 1, 1]
    assert (labels.max(axis=0) != labels.min(axis=0)).sum() == n_movable


def test_the_same_seed_gives_the_same_permutations_and_no_two_are_alike():
    y, group = np.arange(60) % 2, np.arange(60).astype(str)
    blocks = np.arange(60) % 5
    labels, n_movable = permuted_labels(y, group, blocks, 100, seed=3)
    assert n_movable == 60
    assert (labels == permuted_labels(y, group, blocks, 100, seed=3)[0]).all()
    assert (labels != permuted_labels(y, group, blocks, 100, seed=4)[0]).any()
    assert len({permuted.tobytes() for permuted in labels}) == 100
    # In each row both labels are about equally frequent: labels are uniform within a block.
    assert abs(labels.mean(axis=0) - 0.5).max() < 0.3


def test_the_first_permutations_are_those_of_a_smaller_number():
    y, group = np.arange(60) % 2, np.arange(60).astype(str)
    many = permuted_labels(y, group, np.zeros(60, np.intp), 20, 0)[0]
    assert (permuted_labels(y, group, np.zeros(60, np.intp), 5, 0)[0] == many[:5]).all()


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
