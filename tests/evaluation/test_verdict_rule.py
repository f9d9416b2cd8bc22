"""The table by which evidence becomes a verdict, row by row."""

from __future__ import annotations

import pytest

from vsp.evaluation.verdict_evidence import Evidence
from vsp.evaluation.verdict_rule import decide

LOOKS = {
    "chance": "yes",
    "blank": "yes",
    "names": "yes",
    "mirrored": "yes",
    "swapped": "yes",
    "changed": "yes",
}
WORDS = {
    "chance": "yes",
    "blank": "no",
    "names": "no",
    "mirrored": "no",
    "swapped": "yes",
    "changed": "yes",
}
# What the evidence shows → the verdict.
TABLE = [
    (LOOKS, "grounded"),
    ({**LOOKS, "names": None}, "grounded"),
    ({**LOOKS, "mirrored": "does not apply"}, "grounded"),
    ({**LOOKS, "swapped": "does not apply"}, "grounded"),
    ({**LOOKS, "mirrored": "does not apply", "swapped": "does not apply"}, "undecided"),
    ({**LOOKS, "shuffled": "yes"}, "grounded"),
    *[({**LOOKS, one: "open"}, "undecided") for one in ("chance", "blank", "names", "mirrored", "swapped")],
    *[({**LOOKS, one: "no"}, "undecided") for one in ("chance", "mirrored", "swapped")],
    *[({**LOOKS, one: "missing"}, "undecided") for one in ("blank", "mirrored", "swapped")],
    ({**LOOKS, "shuffled": "no"}, "undecided"),
    ({**LOOKS, "names": "no"}, "undecided"),  # blank pictures and names contradict each other
    (WORDS, "words alone"),
    ({**WORDS, "changed": "no"}, "words alone"),
    ({**WORDS, "blank": "open"}, "words alone"),  # the names alone suffice
    ({**WORDS, "names": "open"}, "words alone"),
    ({**WORDS, "mirrored": "missing"}, "words alone"),
    ({**WORDS, "mirrored": "yes"}, "undecided"),  # follows the picture all the same
    ({**WORDS, "chance": "open"}, "undecided"),
    ({**WORDS, "chance": "no"}, "undecided"),
    ({**WORDS, "chance": "no", "changed": "no"}, "prior"),
    ({**WORDS, "chance": "open", "changed": "no"}, "prior"),
    ({**WORDS, "chance": "no", "changed": "no", "mirrored": "yes"}, "undecided"),
    ({"chance": "yes", "blank": "open", "mirrored": "open", "changed": "no"}, "prior"),
    ({**LOOKS, "changed": "no"}, "undecided"),  # a score that falls without a changed prediction
    ({}, "undecided"),
]  # fmt: skip


@pytest.mark.parametrize(("found", "expected"), TABLE)
def test_evidence_becomes_the_verdict_of_the_table(found, expected):
    evidence = {
        question: Evidence(question, finding) for question, finding in found.items() if finding
    }
    name, why = decide(evidence)
    assert name == expected
    assert why
    assert "None" not in why


def test_the_clause_names_what_is_missing_or_open():
    evidence = {one: Evidence(one, finding) for one, finding in LOOKS.items()}
    evidence["mirrored"] = Evidence("mirrored", "missing", "no such run")
    evidence["blank"] = Evidence("blank", "open")
    name, why = decide(evidence)
    assert name == "undecided"
    assert why == ("the score is not clearly above that of blank pictures; mirrored: no such run")
