"""Labels of rows."""

import pytest
from helpers.paths import ROOT

from vsp.datasets.importers.annotations import Relation, Thing
from vsp.datasets.importers.row_records import row_label
from vsp.datasets.relations import read_relations


@pytest.mark.parametrize(
    ("relation", "label"),
    [
        (Relation(Thing("a"), "Left  of", Thing("b")), "left_of"),
        (Relation(Thing("a"), "on", Thing("b")), ""),
        (Relation(None, "left of", Thing("b")), ""),
        (Relation(Thing("a"), "left of", Thing("")), ""),
        (Relation(Thing("a"), "", Thing("b")), ""),
        (Relation(Thing("a"), "", Thing("b"), label="near"), "near"),
        (Relation(None, "", None, prompt="Where?", label="near"), "near"),
        (Relation(None, "", None, prompt="Where?"), ""),
        (Relation(None, "", None, label="near"), ""),
        (Relation(Thing("a"), "left of", Thing("b"), prompt="True?", label="yes"), "yes"),
        (Relation(Thing("a"), "on", Thing("b"), prompt="True?", label="yes"), ""),
    ],
)
def test_a_rows_label_is_its_own_or_that_of_its_words(relation, label):
    assert row_label(relation, read_relations("6way", ROOT)) == label
