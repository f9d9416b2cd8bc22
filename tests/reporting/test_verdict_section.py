"""The verdict on the page: its figures are those of the verdict, and every text stays text."""

from __future__ import annotations

import json

import pytest
from reporting.test_verdict_page import study_of

from vsp.reporting.page.document import page
from vsp.reporting.page.verdict_section import verdict_section
from vsp.reporting.verdict_page import verdict_sentence

MARKUP = "</script><script>alert(1)</script>"


def test_without_a_verdict_there_is_no_section():
    assert verdict_section(None) is None


def test_the_table_behind_the_chart_has_every_piece_of_evidence():
    verdict = study_of()
    (chart,) = verdict_section(verdict).charts
    evidence = [
        one
        for subject in verdict.subjects
        for of in (subject.overall, *subject.classes)
        for one in of.evidence
    ]
    assert len(chart.table.rows) == len(evidence)
    for row, one in zip(chart.table.rows, evidence, strict=True):
        assert row[5:8] == [one.value, one.low, one.high]
        assert row[9:11] == [one.p_corrected, one.p_margin_corrected]


def test_the_chart_draws_a_point_for_each_difference_and_chooses_rows_by_class():
    verdict = study_of()
    (chart,) = verdict_section(verdict).charts
    drawn = chart.spec["data"]["values"]
    known = [
        one
        for of in (verdict.subjects[0].overall, *verdict.subjects[0].classes)
        for one in of.evidence
        if one.value is not None
    ]
    assert [one["value"] for one in drawn] == [one.value for one in known]
    rows, subjects = chart.controls
    assert [one.value for one in rows.options] == ["0", "1", "2"]
    assert {one["of"] for one in drawn} == {"0", "1", "2"}
    assert [one.value for one in subjects.options] == ["probe"]  # no answers


def test_the_sentence_stands_first_and_a_class_with_markup_stays_text():
    verdict = study_of(MARKUP)
    shown = page("a study", [verdict_section(verdict)])
    assert MARKUP not in shown
    assert verdict_sentence(verdict).split(":")[0] in shown.replace("&#x27;", "'")
    assert "No figures" not in shown
    assert "no figures, the run stores none" in shown


@pytest.mark.parametrize("role", ["data", "table"])
def test_the_figures_are_json_without_nan(role):
    (chart,) = verdict_section(study_of()).charts
    values = chart.spec["data"]["values"] if role == "data" else list(chart.table.rows)
    json.dumps(values, allow_nan=False)
