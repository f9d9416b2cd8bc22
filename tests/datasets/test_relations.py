"""Tables of words → labels: the shipped tables are applied to the real relations of VRD."""

from collections import Counter
from pathlib import Path

import pytest
from helpers.paths import ROOT
from helpers.real import real

from vsp.datasets.relations import INVERSE, Relations, normalize, parse_relations, read_relations
from vsp.errors import ConfigError

FOUR = ("left_of", "right_of", "above", "below")
SIX = (*FOUR, "in_front_of", "behind")


@pytest.fixture(scope="module")
def counts() -> dict[str, int]:
    """The number of rows of each relation in the training part of VRD's second layout."""
    lines = real("vrd/sg_train_relation_counts.txt").read_text().splitlines()
    return {words: int(n) for words, n in (line.rsplit(" ", 1) for line in lines)}


def _mapped(relations: Relations, counts: dict[str, int]) -> Counter[str]:
    counted: Counter[str] = Counter()
    for words, n in counts.items():
        if label := relations.label(words):
            counted[label] += n
    return counted


def test_six_exact_strings_are_those_of_the_research_project(counts):
    counted = _mapped(read_relations("6way-exact", ROOT), counts)
    assert counted.total() == 21_873
    assert counted == {
        "left_of": 1139, "right_of": 959, "above": 7083, "below": 2443, "in_front_of": 4171,
        "behind": 6078,
    }  # fmt: skip


def test_other_spellings_are_won_and_nothing_else(counts):
    exact, six = (_mapped(read_relations(name, ROOT), counts) for name in ("6way-exact", "6way"))
    assert {label: six[label] - exact[label] for label in SIX} == {
        "left_of": 21, "right_of": 19, "above": 0, "below": 3, "in_front_of": 54, "behind": 7,
    }  # fmt: skip
    # Relations with the word "left" or "right" that are not in the table.
    table = read_relations("6way", ROOT)
    left_out = {w for w in counts if {"left", "right"} & set(w.split()) and not table.label(w)}
    assert left_out == {"is right or"}


@pytest.mark.parametrize(
    ("words", "label"),
    [
        ("left of", "left_of"),
        ("on the left of", "left_of"),
        ("is to left of", "left_of"),
        ("at the left side of", "left_of"),
        (" To  the\tRIGHT of ", "right_of"),
        ("in the front of", "in_front_of"),
        ("infront", "in_front_of"),
        ("behindt", "behind"),
        ("over", ""),
        ("under", ""),
        ("beneath", ""),
        ("on top of", ""),
        ("standing behind", ""),
        ("not behind", ""),
        ("", ""),
    ],
)
def test_words_have_their_label_whatever_their_case_and_spaces(words, label):
    assert read_relations("6way", ROOT).label(words) == label


def test_the_wide_tables_take_the_optional_words_too(counts):
    for name in ("4way", "6way"):
        narrow, wide = (read_relations(n, ROOT) for n in (name, f"{name}-wide"))
        assert narrow.labels == wide.labels
        assert narrow.label_of.items() < wide.label_of.items()
        assert wide.label("over") == wide.label("on top of") == "above"
        assert wide.label("under") == wide.label("beneath") == "below"
        assert wide.label("on") == ""
    four, six = (read_relations(name, ROOT) for name in ("4way", "6way"))
    assert four.labels == FOUR and six.labels == SIX
    assert four.label_of.items() < six.label_of.items()


def test_every_shipped_table_has_labels_with_an_inverse_in_it():
    names = sorted(path.stem for path in (ROOT / "configs/relations").glob("*.yaml"))
    assert names == ["4way", "4way-wide", "6way", "6way-exact", "6way-wide", "whatsup"]
    for name in names:
        labels = read_relations(name, ROOT).labels
        assert {INVERSE[label] for label in labels} == set(labels)
    whatsup = read_relations("whatsup", ROOT)
    assert whatsup.label("on") == "on" and whatsup.label("in-front_of") == "in_front_of"


def test_ones_own_table_is_read_from_its_path(tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text('touching: [touches, "ON"]\napart: [far  from]\n')
    own = read_relations(str(path), Path("elsewhere"))
    assert own.labels == ("touching", "apart")
    assert own.label("on") == own.label("Touches") == "touching"
    assert own.label("far from") == "apart"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("left_of: [a]\nright_of: [b, ' A ']", "' A ' is listed for left_of and right_of"),
        ("on: [a]", "label True is not text; .* with quotes"),
        ("left_of: left", "left_of 'left': write a list of words"),
        ("left_of: []", r"left_of \[\]: write a list"),
        ("left_of: [on]", "left_of lists True, which is not text; put it in quotes"),
        ("left_of: [' ']", "left_of lists ' '"),
        ("{}", "has no labels"),
        ("- a", "holds a list"),
    ],
)
def test_what_is_no_table_is_refused_with_its_place(tmp_path, text, message):
    (tmp_path / "own.yaml").write_text(text)
    with pytest.raises(ConfigError, match=rf"own\.yaml: {message}"):
        read_relations(str(tmp_path / "own.yaml"), tmp_path)


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(
        ConfigError,
        match=r"'5way' is not known; did you mean 6way or 4way\? known: 4way, 4way-wide, 6way.*in configs/relations/",
    ):
        read_relations("5way", ROOT)


def test_the_normal_form_is_its_own():
    table = parse_relations("t", {"x": ["A  B"]}, "t")
    assert normalize(" A \n b") == "a b" == next(iter(table.label_of))
