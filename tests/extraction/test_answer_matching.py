"""The option that a free text names: what must match, and what must not."""

import pytest

from vsp.extraction.answer_matching import AMBIGUOUS, NO_OPTION, Match, match_option, words

SIDES = ("left of", "right of", "above", "below")
PLACES = ("on", "on the left", "in front of", "front")
MATCHED = [
    ("left of", SIDES, "left of", "exact"),
    (" Left  OF.\n", SIDES, "left of", "exact"),
    ("left_of", SIDES, "left of", "exact"),
    ("**“Above”**!", SIDES, "above", "exact"),
    ("ＡＢＯＶＥ。", SIDES, "above", "exact"),
    ("above\u200b\x00", SIDES, "above", "exact"),
    ("Below the circle", SIDES, "below", "prefix"),
    ("above—clearly above", SIDES, "above", "prefix"),
    ("Right of, not left of", SIDES, "right of", "prefix"),
    ("The answer is: left of.", SIDES, "left of", "contained"),
    ("It is 'above'", SIDES, "above", "contained"),
    ("on the left", PLACES, "on the left", "exact"),
    ("On the left side", PLACES, "on the left", "prefix"),
    ("It is on the left of it.", PLACES, "on the left", "contained"),
    ("It stands in front of it", PLACES, "in front of", "contained"),
    ("on the table, on the left", PLACES, "on the left", "contained"),
    ("3", ("2", "3", "-3"), "3", "exact"),
    ("-3.", ("2", "3", "-3"), "-3", "exact"),
    ("50%", ("50", "50%"), "50%", "exact"),
    ("1.5", ("1", "5", "1.5"), "1.5", "exact"),
    ("no", ("no", "no_one"), "no", "exact"),
    ("It doesn’t fit", ("doesn't fit", "fits"), "doesn't fit", "contained"),
    ("Größer", ("GRÖSSER", "kleiner"), "GRÖSSER", "exact"),
]
UNMATCHED = [
    ("", SIDES, NO_OPTION),
    ("\x1b[2J\u202e\ud800", SIDES, NO_OPTION),
    ("left", SIDES, NO_OPTION),  # a part of an option
    ("aboveboard", SIDES, NO_OPTION),
    ("leftof", SIDES, NO_OPTION),
    ("left side of", SIDES, NO_OPTION),
    ("It is above or below", SIDES, AMBIGUOUS),
    ("I say yes", ("Yes", "yes."), AMBIGUOUS),
    ("yes", ("Yes", "yes."), AMBIGUOUS),
    ("anything", (), NO_OPTION),
    ("...", ("...", "?"), NO_OPTION),  # options without a word
]


@pytest.mark.parametrize(("text", "options", "option", "how"), MATCHED)
def test_a_text_names_an_option(text, options, option, how):
    assert match_option(text, options) == Match(option, how)
    assert match_option(text, options[::-1]) == Match(option, how)


@pytest.mark.parametrize(("text", "options", "reason"), UNMATCHED)
def test_a_text_names_no_option_or_several(text, options, reason):
    assert match_option(text, options) == Match(None, "none", reason)


def test_words_have_no_case_and_no_punctuation_around_them():
    assert words(' — "It\'s" a_B, (c-d) … -1') == ("it's", "a", "b", "c-d", "-1")
