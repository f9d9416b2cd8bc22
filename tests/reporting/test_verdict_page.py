"""The verdict in the terminal: the sentence, whole numbers at every width, and text as text."""

from __future__ import annotations

import json
import re

import pytest
from helpers.terminals import printed

from vsp.evaluation.verdict import Evidence, StudyVerdict, SubjectVerdict, Verdict, VerdictSettings
from vsp.reporting.verdict_page import verdict_json, verdict_page, verdict_sentence

HOSTILE = "left \x1b[31m of\n[bold]\u202e" + "long" * 40


def _evidence(question, value, finding):
    return Evidence(
        question, finding, value=value, low=value - 0.012, high=value + 0.034, first=0.876,
        other=0.876 - value, p=0.0005, p_corrected=0.0035, p_margin=0.5, p_margin_corrected=1.0,
        n_rows=1234, n_groups=567,
    )  # fmt: skip


def _verdict(name, of_class=""):
    found = (
        _evidence("chance", 0.512, "yes"),
        _evidence("blank", 0.487, "yes"),
        _evidence("mirrored", -0.111, "no"),
        Evidence("swapped", "does not apply", "no label changes"),
        _evidence("changed", 0.333, "yes"),
    )
    return Verdict(name, f"because of {name}", of_class, 0.876, 0.811, 0.912, 1234, 567, found)


def study_of(first_class=HOSTILE):
    """A verdict about a probe with two classes, and a model without answers."""
    classes = tuple(_verdict("undecided", one) for one in (first_class, "above"))
    none = Verdict("undecided", "the run stores none", "", None, None, None, 0, 0, ())
    return StudyVerdict(
        "study-original", "accuracy", "logistic, treatment center", (5, 6), VerdictSettings(),
        (
            SubjectVerdict("probe", _verdict("grounded"), classes),
            SubjectVerdict("answer", none, (), "the run stores none"),
        ),
        {"mirrored": "no such run"},
    )  # fmt: skip


def _shown(width):
    return printed(verdict_page(study_of()), width)


@pytest.mark.parametrize("width", [60, 80, 200])
def test_no_number_is_cut_at_any_width(width):
    page = _shown(width)
    assert max(len(line.rstrip()) for line in page.splitlines()) <= width
    assert not re.search(r"[\d.,]…", page)
    numbers = re.findall(r"\d\.\d+", page)
    assert all(re.fullmatch(r"\d\.\d{3,4}|0\.0?5", one) for one in numbers)
    for figure in ("0.876", "+0.487", "[+0.475, +0.521]", "0.0035", "-0.111"):
        assert figure in page
    assert "\x1b" not in page
    assert "\u202e" not in page


def test_columns_that_do_not_fit_are_named():
    assert "Not shown at this width" in _shown(60)
    assert "[+0.475, +0.521]" in _shown(200)
    assert "Not shown at this width" not in _shown(200)


def test_the_sentence_says_the_verdict_of_probe_and_answer():
    assert verdict_sentence(study_of()) == (
        "What the probe reads is grounded in the picture: because of grounded. "
        "Undecided for the model's own answers: the run stores none."
    )


def test_the_page_says_what_is_missing_and_why_a_class_is_undecided():
    page = " ".join(_shown(80).split())
    assert "mirrored: no such run." in page
    assert "probe, above: because of undecided." in page
    assert "No figures: the run stores none." in page
    assert "layers 5–6 selected on training rows" in page


def test_the_json_has_every_figure():
    found = json.loads(json.dumps(verdict_json(study_of())))
    first = found["subjects"][0]["overall"]["evidence"][1]
    assert (first["value"], first["p_corrected"], first["finding"]) == (0.487, 0.0035, "yes")
