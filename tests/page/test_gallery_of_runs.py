"""The gallery of several runs: the same row in each of them, with a picture of the chosen one."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from helpers.gallery_run import N_ROWS, gallery_run
from helpers.page_results import write_page

from vsp.evaluation.row_verdicts import row_verdicts
from vsp.reporting.page.gallery_rows import gallery_data
from vsp.reporting.page.page_run import read_page_run

N_LACKING = 3


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two runs of the same rows with other pictures; the second lacks the first rows."""
    work = tmp_path_factory.mktemp("looked")
    other = gallery_run(work, name="other", first=N_LACKING, seed=1)
    return [read_page_run(one.name, one) for one in (gallery_run(work), other)]


@pytest.fixture(scope="module")
def path(runs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    return write_page(folder / "page.html", [run.results for run in runs], by="scene")


@pytest.fixture(scope="module")
def shown(open_page, path):
    with open_page(path) as opened:
        yield opened


def _data(path):
    block = re.search(r'<script type="application/json" id="data-gallery">(.*?)</script>',
                      path.read_text(encoding="utf-8"))[1]  # fmt: skip
    return json.loads(block)


def test_a_row_has_what_the_other_run_says_of_the_same_row(runs, path):
    data = _data(path)
    other = row_verdicts(runs[1].results)
    place = {one: k for k, one in enumerate(other.id.tolist())}
    assert [one["name"] for one in data["runs"]] == ["looked", "other"]
    for row in data["rows"]:
        (further,) = row["further"]
        at = place.get(row["id"])
        assert (further is None) == (at is None)
        if at is not None:
            assert further["peak"] == str(other.peak[at]) or not str(other.peak[at]).isidentifier()
            assert further["knows"] == bool(other.knows[at])
            assert len(further["layers"]) == len(data["runs"][1]["layers"])
    assert sum(row["further"] == [None] for row in data["rows"]) == N_LACKING
    assert f"other lacks {N_LACKING} of these rows." in path.read_text(encoding="utf-8")


def test_rows_of_another_group_are_not_the_same_rows(runs):
    verdicts = row_verdicts(runs[0].results)
    elsewhere = replace(verdicts, group=np.array([f"x{one}" for one in verdicts.group]))
    found = gallery_data(runs, elsewhere, np.arange(6))
    assert found.further == () and "other has none of these rows." in found.notes


def test_pictures_are_few_and_those_left_out_are_counted(runs):
    verdicts = row_verdicts(runs[0].results)
    chosen = np.arange(4, 10)
    three = [*runs, replace(runs[1], name="third")]
    found = gallery_data(three, verdicts, chosen)
    assert len(found.values["pictures"]) == 12  # the third run has the bytes of the second
    assert not any("left out" in one for one in found.notes)
    of_two = row_verdicts(runs[1].results)
    many = gallery_data([runs[1], runs[0]], of_two, np.arange(2))
    assert len(many.values["pictures"]) == 4


def test_every_card_has_the_strips_of_both_runs_and_the_chosen_picture(shown):
    page = shown.page
    assert shown.count(".card") == N_ROWS and shown.count(".card .further") == N_ROWS
    assert shown.count(".card .further svg.strip") == N_ROWS - N_LACKING
    before = page.locator(".card .frame img").nth(8).get_attribute("src")
    page.locator("#gallery-picture").focus()
    page.keyboard.press("ArrowDown")
    after = page.locator(".card").nth(8).locator("img").get_attribute("src")
    assert after.startswith("data:image/webp") and after != before
    assert "this run lacks the row" in page.locator(".card").first.inner_text()
    page.locator("#gallery-picture").select_option("0")
    assert page.locator(".card .frame img").nth(8).get_attribute("src") == before
    assert shown.errors == []


def test_rows_are_filtered_by_stratum(shown):
    page = shown.page
    stratum = page.locator("#gallery-stratum")
    assert set(stratum.locator("optgroup").evaluate_all("(all) => all.map((one) => one.label)")) >= {
        "scene", "box-cue",
    }  # fmt: skip
    stratum.select_option("0=kitchen")
    data = _data_of(page)
    n = sum(row["strata"][0] == "kitchen" for row in data["rows"])
    assert 0 < n < N_ROWS and page.locator(".card:visible").count() == n
    assert page.locator("#gallery-reset").is_enabled()
    page.locator("#gallery-reset").click()
    assert page.locator(".card:visible").count() == N_ROWS and stratum.input_value() == ""


def _data_of(page):
    return json.loads(page.locator("#data-gallery").text_content())


def test_axe_finds_no_serious_violation_in_cards_of_several_runs(shown):
    shown.page.evaluate("document.querySelectorAll('details').forEach((one) => one.open = true)")
    assert shown.violations() == []
