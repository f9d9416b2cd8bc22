"""The gallery and the projection say what they leave out, and why something cannot be shown."""

from __future__ import annotations

import base64
from io import BytesIO

import pytest
from helpers import made
from helpers.gallery_run import N_ROWS, gallery_run
from PIL import Image

from vsp.reporting.page.gallery_section import gallery_section
from vsp.reporting.page.page_run import read_page_run
from vsp.reporting.page.projection_section import projection_section
from vsp.storage.results import Results


@pytest.fixture(scope="module")
def looked(tmp_path_factory) -> Results:
    return gallery_run(tmp_path_factory.mktemp("looked"))


def _gallery(results, n_rows=200):
    section = gallery_section([read_page_run("looked", results)], n_rows)
    return section.data["gallery"], section.body_html


def test_rows_beyond_the_limit_are_left_out_and_counted(looked):
    data, words = _gallery(looked, 10)
    assert len(data["rows"]) == 10 and f"10 of {N_ROWS} tested rows" in words
    assert f"The other {N_ROWS - 10} are left out" in words and "--gallery N shows more" in words
    assert f"All {N_ROWS} tested rows" in _gallery(looked)[1]
    assert gallery_section([read_page_run("looked", looked)], 0) is None


def test_a_picture_that_many_rows_share_is_in_the_page_once_and_small(looked):
    data, _ = _gallery(looked)
    assert len(data["pictures"]) == N_ROWS - 2
    assert {row.get("picture") for row in data["rows"]} == {None, *range(N_ROWS - 2)}
    head, _, body = data["pictures"][0].partition(",")
    assert head == "data:image/webp;base64"
    with Image.open(BytesIO(base64.b64decode(body))) as picture:
        assert picture.size == (48, 30)


def test_the_same_results_give_the_same_gallery(looked):
    assert _gallery(looked, 12) == _gallery(looked, 12)


def test_without_its_run_the_gallery_has_no_pictures_and_says_so(work):
    results = made.made(work / "results" / "small")
    data, words = _gallery(results)
    assert "run small is not in scratch/ any more" in words and data["pictures"] == []
    assert all("prompt" not in row and row["why"] for row in data["rows"])
    section = projection_section([read_page_run("small", results)])
    assert section.charts == () and "run small is not in scratch/ any more" in section.body_html


def test_numbers_have_neither_gallery_nor_projection(work):
    run = read_page_run("size", made.made(work / "results" / "size", made.numbers()))
    assert gallery_section([run]) is None and projection_section([run]) is None


def test_the_projection_has_the_selected_layer_and_says_what_is_left_out(looked):
    run = read_page_run("looked", looked)
    (chart,) = projection_section([run]).charts
    layers = [option.label for option in chart.controls[0].options]
    assert any("(selected)" in one for one in layers) and len(layers) <= 6
    assert len(chart.spec["data"]["values"]) == N_ROWS // 3


def test_the_limit_is_an_option_of_the_page(looked, vsp, work):
    address = str(looked.folder)
    few = vsp("report", address, "--html", "few.html", "--gallery", 3)
    none = vsp("report", address, "--html", "none.html", "--gallery", 0)
    assert few.returncode == none.returncode == 0, few.stderr + none.stderr
    assert "3 of 48 tested rows" in (work / "few.html").read_text()
    assert 'id="data-gallery"' not in (work / "none.html").read_text()
    refused = vsp("report", address, "--gallery", 3)
    assert refused.returncode == 1
    assert refused.stderr == "vsp: --gallery 3 needs --html FILE\n"
