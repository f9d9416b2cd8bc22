"""Words that a misspelt text may mean."""

import pytest

from vsp.utils.spelling import misspelt

KNOWN = ["left of", "to the left of", "right of", "on the right of", "on top of", "above", "below",
         "behind", "in front of", "on", "under", "underneath", "over"]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("right off", "right of"), ("rigth of", "right of"), ("abvoe", "above"), ("aboe", "above"),
        ("behine", "behind"), ("ontop of", "on top of"), ("undernaeth", "underneath"),
        ("in fornt of", "in front of"),
    ],
)  # fmt: skip
def test_typing_errors_are_found(text, meant):
    assert misspelt(text, KNOWN) == meant


@pytest.mark.parametrize(
    "text",
    ["in", "near", "cover", "not left of", "at the top of", "on the end of", "beside", "", "wear",
     "standing under", "x" * 10_000, "of left"],
)  # fmt: skip
def test_other_words_mean_no_known_one(text):
    assert misspelt(text, KNOWN) == ""


def test_the_nearest_word_is_chosen():
    assert misspelt("belov", ["belong", "below"]) == "below"
