"""Options and answers of multiple-choice questions are read or refused."""

import re
from pathlib import Path

import pytest

from vsp.datasets.importers.field_texts import text_list
from vsp.datasets.importers.multiple_choice import ChoiceReader, read_options
from vsp.errors import ConfigError, DatasetError

SIDES = ["left of", "right of", "behind"]


def _choice(options, answer, /, **chosen):
    reader = ChoiceReader(chosen)
    return reader.choice("Where?", read_options(options), answer)


@pytest.mark.parametrize(
    ("answer", "label"),
    [
        ("behind", "behind"), (" behind\n", "behind"), ("B", "right of"), ("(C)", "behind"),
        ("A.", "left of"), ("c", "behind"), ("(b)", "right of"), ("(B) ", "right of"), (0, "left of"), (2, "behind"), ("1", "right of"),
        (2.0, "behind"), (None, ""), ("", ""),
    ],
)  # fmt: skip
def test_the_label_is_the_text_of_the_option_that_the_answer_names(answer, label):
    choice = _choice(SIDES, answer)
    assert (choice.label, choice.options, choice.unusable) == (label, tuple(SIDES), "")


@pytest.mark.parametrize(
    ("form", "answer", "label"),
    [("text", "3", "3"), ("letter", "B", "3"), ("index0", 1, "3"), ("index1", "2", "3")],
)
def test_an_option_says_how_the_answer_is_written(form, answer, label):
    assert _choice(["2", "3", "4"], answer, answer=form).label == label


@pytest.mark.parametrize(
    ("options", "answer", "reason"),
    [
        (SIDES, "above", "no-such-option"), (SIDES, "D", "no-such-option"),
        (SIDES, 7, "no-such-option"), (SIDES, "hidden", "no-such-option"),
        (["yes", "yes "], "yes", "unclear-options"), (["yes"], "yes", "unclear-options"),
    ],
)  # fmt: skip
def test_a_row_without_one_right_option_is_unusable(options, answer, reason):
    assert _choice(options, answer).unusable == reason


@pytest.mark.parametrize(
    ("options", "answer", "what"),
    [
        (["2", "0", "1"], "1", "the text of one option and the number of another"),
        ([2, 0, 1], 1, "the text of one option and the number of another"),
        (["B", "A"], "A", "the text of one option and the letter of another"),
        (SIDES, 3, "numbers may count from 1; use --option answer=index0 or answer=index1"),
        (SIDES, True, "has answer True; write text"),
        (SIDES, ["A"], "write text"),
    ],
)
def test_an_answer_that_can_be_read_in_two_ways_is_refused(options, answer, what):
    with pytest.raises(DatasetError, match=re.escape(what)):
        _choice(options, answer)


@pytest.mark.parametrize("answer", ["A", "(B)", "c.", "Z"])
def test_a_letter_is_a_label_only_if_answers_are_said_to_be_texts(answer):
    with pytest.raises(DatasetError, match="and no options; give the options that letters stand"):
        ChoiceReader({}).choice("Which letter is it?", None, answer)
    assert ChoiceReader({"answer": "text"}).choice("Which?", None, answer).label == answer
    assert ChoiceReader({}).choice("Which?", None, "AB").label == "AB"


def test_numbers_that_are_never_0_are_refused_at_the_end_of_the_file():
    reader = ChoiceReader({})
    for answer in (1, 2, 2):
        reader.choice("Where?", read_options(SIDES), answer)
    with pytest.raises(DatasetError, match="none of 3 answers that are numbers is 0"):
        reader.check_numbers(Path("own.jsonl"))
    reader.choice("Where?", read_options(SIDES), 0)
    reader.check_numbers(Path("own.jsonl"))


@pytest.mark.parametrize(
    ("written", "texts"),
    [
        (["a", 2, 2.5], ("a", "2", "2.5")),
        ({"A": "left", "C": "right"}, ("left", "right")),
        ('["a", "b;c"]', ("a", "b;c")),
        ("['it''s', \"b'c\"]".replace("''", "\\'"), ("it's", "b'c")),
        ("left | right", ("left", "right")),
        ("left;right of it", ("left", "right of it")),
        (["A. left", "B. right"], ("left", "right")),
        (["(A) left", "(B) right"], ("left", "right")),
        (["A. left", "C. right"], ("A. left", "C. right")),
        (["on/above", "below"], ("on/above", "below")),
    ],
)
def test_options_are_read_in_the_order_of_the_source(written, texts):
    assert read_options(written).texts == texts


def test_letters_of_a_mapping_are_its_own():
    assert _choice({"A": "left", "C": "right"}, "C").label == "right"
    assert _choice(["A. left", "B. right"], "B. right").label == "right"


@pytest.mark.parametrize(
    ("written", "what"),
    [
        ("left", "contain neither | nor ;"), ("a|b;c", "contain both | and ;"), (3, "a list"),
        ("[left, right]", 'write ["left", "right"]'), ("{left}", "not JSON"), (["", "b"], "empty"),
        ([["a"]], "write text"), (["a\ud800", "b"], "cannot be encoded"), (None, "a list"),
        (["left", float("nan")], "has option nan"), (list(range(2000)), "at most 1,024"),
    ],
)  # fmt: skip
def test_options_of_another_form_are_refused(written, what):
    with pytest.raises(DatasetError, match=re.escape(what)):
        read_options(written)


def test_the_prompt_lists_the_options_without_letters_unless_the_question_alone_is_asked():
    assert _choice(SIDES, 0).prompt == (
        "Where?\nOptions:\nleft of\nright of\nbehind\nAnswer with one of the options."
    )
    assert _choice(SIDES, 0, prompt="question").prompt == "Where?"
    with pytest.raises(ConfigError, match="prompt=letters is not known; use one of options, quest"):
        _choice(SIDES, 0, prompt="letters")


def test_a_list_with_very_many_entries_is_read_no_further_than_asked():
    text = "[" + "'a.jpg', " * 1_000_000 + "'b.jpg']"
    assert text_list(text, most=2) == ["a.jpg", "a.jpg"]
    assert text_list("['a', 'b') ]", 9) is None and text_list("a", 9) is None


def test_a_number_may_be_written_with_a_zero_behind_the_point():
    """pandas writes a column of numbers with an empty cell so."""
    assert _choice(["a", "b", "c"], "1.0").label == "b"
    assert _choice(["a", "b", "c"], "3.0", answer="index1").label == "c"
