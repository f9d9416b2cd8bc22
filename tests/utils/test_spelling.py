"""Words that a misspelt text may mean."""

import pytest

from vsp.utils.spelling import misspelt, nearest_names, unknown_name

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


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("lava15", ["llava15"]), ("LLaVA15", ["llava15"]), ("qwen", ["qwen2", "qwen3-vl"]), ("qwen_3_vl", ["qwen3-vl"]),
        ("gpt", []), ("", []), ("x" * 10_000, []),
    ],
)  # fmt: skip
def test_the_nearest_names_are_those_that_it_begins_or_that_are_most_similar(name, meant):
    assert nearest_names(name, ["qwen3-vl", "llava15", "qwen2", "spatialrgpt"]) == meant


def test_an_unknown_name_is_answered_with_the_nearest_and_all_known():
    known = ["mass-mean", "ridge"]
    assert unknown_name("probe", "rigde", known) == (
        "probe 'rigde' is not known; did you mean ridge? known: mass-mean, ridge"
    )
    assert unknown_name("probe", "x", known) == "probe 'x' is not known; known: mass-mean, ridge"


def test_of_many_known_names_a_few_are_shown_the_nearest_first():
    known = [*(f"field{i}" for i in range(20)), "color"]
    shown = unknown_name("field", "colour", known)
    assert shown.endswith(
        "color? known: color, field0, field1, field2, field3, field4, … (21 in all)"
    )
