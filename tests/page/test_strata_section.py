"""Strata on the page: their figures, their gaps, and why there are none."""

from __future__ import annotations

import re
import shutil

import pytest
from helpers.large_study import large_study

from vsp.errors import ConfigError
from vsp.evaluation.strata import strata_of
from vsp.reporting.page.page_run import read_page_run
from vsp.reporting.page.page_strata import strata_of_runs
from vsp.reporting.page.strata_section import strata_section
from vsp.storage.find_results import find_results


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    folder = tmp_path_factory.mktemp("strata")
    large_study(folder)
    return folder


def _run(work, role="original"):
    return read_page_run(role, find_results(f"large-{role}", work))


def test_the_charts_and_the_gaps_have_the_figures_of_the_strata(work):
    run = _run(work)
    section = strata_section(strata_of_runs([run], "scene"))
    assert [one.title for one in section.charts] == [
        "Accuracy by scene", "Accuracy by usual-label", "Accuracy by box-cue",
    ]  # fmt: skip
    for chart, field in zip(section.charts, ("scene", "usual-label", "box-cue"), strict=True):
        strata = strata_of(run.results, field)
        shares = [share for one in strata.strata for share in (one.knows, one.says)]
        drawn = [(one["value"], one["low"], one["high"]) for one in chart.spec["data"]["values"]]
        assert drawn == [(one.value, one.low, one.high) for one in shares]
        assert [row[0] for row in chart.table.rows] == [one.name for one in strata.strata]
        (gap,) = strata.gaps
        for share in (gap.knows, gap.says):
            for value in (share.value, share.low, share.high, share.p_corrected):
                assert f'title="{value!r}"' in section.after_html
    assert {row[0] for row in section.charts[2].table.rows} == {"consistent", "counter-intuitive"}


def test_the_gap_of_the_first_run_is_said_in_words_and_the_strata_are_explained(work):
    section = strata_section(strata_of_runs([_run(work), _run(work, "blank")], "scene"))
    gap = strata_of(_run(work).results, "scene").gaps[0].knows
    said = (
        f"Accuracy by scene of original, kitchen minus street: {gap.value:+.3f} [{gap.low:+.3f}, "
    )
    assert said in section.body_html
    assert [one.value for one in section.charts[0].controls[0].options] == ["original", "blank"]
    assert "usual-label: the label is the most frequent one" in section.after_html


def test_a_field_that_no_record_has_is_an_error(work):
    with pytest.raises(ConfigError, match=re.escape("--by field 'scen' is not known")):
        strata_of_runs([_run(work)], "scen")


def test_runs_without_records_are_named_with_the_reason(work, tmp_path):
    copy = tmp_path / "project"
    shutil.copytree(work / "results", copy / "results")
    dataset = work / "data"
    dataset.rename(work / "away")
    try:
        results = find_results("large-original", copy)
        strata = strata_of_runs([read_page_run("one", results)])
    finally:
        (work / "away").rename(dataset)
    (why,) = strata.notes
    assert why.startswith("strata of one: ") and "are both gone" in why and str(work) not in why
    section = strata_section(strata)
    assert not section.charts and f"Not shown: {why}." in section.body_html
    assert strata.left_out == ()


def test_a_probe_of_numbers_has_no_strata(work, tmp_path):
    from helpers import made

    run = read_page_run("n", made.made(tmp_path / "results" / "n", made.numbers()))
    assert strata_section(strata_of_runs([run])) is None
    with pytest.raises(ConfigError, match="numbers"):
        strata_of_runs([run], "scene")
