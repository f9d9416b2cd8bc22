"""Labels exchanged among rows with the same words: a model that sees only the words does not pass."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vsp.evaluation.statistics import permutation_p
from vsp.evaluation.within_words import permuted_within, studentised


@given(st.lists(st.tuples(*[st.integers(0, 2)] * 3), min_size=2, max_size=30), st.integers(0, 9))
def test_labels_stay_among_rows_of_the_same_words_and_block(rows, seed):
    y, words, blocks = np.array(rows).T
    permuted, can_change = permuted_within(y, words.astype(str), blocks, 3, seed)
    for word in range(3):
        for block in range(3):
            same = (words == word) & (blocks == block)
            for one in permuted:
                assert sorted(one[same]) == sorted(y[same])
            assert (can_change[same] == (len(set(y[same])) > 1)).all()


def test_the_same_seed_gives_the_same_labels():
    y = np.arange(40) % 3
    words, blocks = np.repeat(["a", "b"], 20), np.zeros(40, int)
    one, other, third = (permuted_within(y, words, blocks, 5, seed)[0] for seed in (0, 0, 1))
    assert (one == other).all() and (one != third).any()
    assert len(np.unique(one, axis=0)) == 5


def _p(losses, permuted):
    found = studentised(losses, permuted)
    return permutation_p(found["within_observed"][None], found["within"][None])[0][0]


def test_predictions_that_an_exchange_does_not_change_are_not_better():
    """A probe that reads the words says the same for all rows that exchange labels."""
    wrong = np.random.default_rng(0).integers(0, 5, 50).astype(float)
    assert _p(wrong, np.tile(wrong, (99, 1))) == 1


def test_fewer_wrong_rows_than_with_exchanged_labels_are_better():
    rng = np.random.default_rng(0)
    permuted = rng.binomial(4, 0.7, (99, 50)).astype(float)
    assert _p(rng.binomial(4, 0.3, 50).astype(float), permuted) == 0.01
    assert _p(rng.binomial(4, 0.9, 50).astype(float), permuted) == 1


@pytest.mark.parametrize("rows", [1, 6])
def test_groups_whose_rows_depend_on_each_other_are_found_no_more_often_than_said(rows):
    """Rows of a group are right together, though single rows exchange their labels."""
    rng, found = np.random.default_rng(0), []
    for _ in range(1000):
        right = rng.random(60) < 0.5
        observed = np.where(right, 0, rows).astype(float)  # all rows of a group, or none
        permuted = rng.binomial(rows, 0.5, (39, 60)).astype(float)
        found.append(_p(observed, permuted) <= 0.05)
    assert 0.03 <= np.mean(found) <= 0.075
