"""Labels of other states are matched by name, then by the words of the relations tables."""

import numpy as np
import pytest

from vsp.datasets.relations import read_relations
from vsp.evaluation.matched_labels import TABLES, match_labels


@pytest.fixture
def tables(work):
    return lambda: [read_relations(name, work) for name in TABLES]


def _never():
    raise AssertionError("no table is needed")


def test_equal_names_need_no_table():
    found = match_labels(["above", "below"], np.array(["below", "above", "below"]), _never)
    assert found.y.tolist() == [1, 0, 1]
    assert found.renamed == found.without_class == {}


def test_words_are_matched_through_the_tables(tables):
    labels = np.array(["to the left of", "left_of", "Above", "to the left of", "inside of a box"])
    found = match_labels(["above", "left_of"], labels, tables)
    assert found.y.tolist() == [1, 1, 0, 1, -1]
    assert found.renamed == {"to the left of": "left_of", "Above": "above"}
    assert found.without_class == {"inside of a box": 1}


def test_the_classes_can_have_the_words_and_the_target_the_labels(tables):
    found = match_labels(["to the left of", "over it"], np.array(["left_of", "above"]), tables)
    assert found.y.tolist() == [0, -1]


def test_two_classes_with_the_same_words_match_none(tables):
    """Their own names still do."""
    classes = ["left of", "to the left of", "above"]
    found = match_labels(classes, np.array(["left_of", "left of", "to the left of"]), tables)
    assert found.y.tolist() == [-1, 0, 1]
    assert found.without_class == {"left_of": 1} and found.renamed == {}
    # A third class with these words does not make them match again.
    again = match_labels(["left of", "to the left of", "Left Of"], np.array(["left_of"]), tables)
    assert again.y.tolist() == [-1]


def test_a_label_of_no_table_matches_by_its_own_words(tables):
    found = match_labels(["Near  To It"], np.array(["near to it"]), tables)
    assert found.y.tolist() == [0]
