"""The gallery and the projection in a headless Chromium: filters, links, keyboard, hostile texts."""

from __future__ import annotations

import json
from urllib.parse import quote

import pytest
from helpers.gallery_run import BREAKS, CHANGED, GONE, N_ROWS, ODD_IDS, ODD_NAME, gallery_run
from helpers.page_results import write_page
from helpers.served import serving

from vsp.evaluation.row_verdicts import row_verdicts
from vsp.reporting.answer_rows import answered_rows
from vsp.reporting.page.packing import unpacked_spec


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return gallery_run(tmp_path_factory.mktemp("gallery"))


@pytest.fixture(scope="module")
def path(results, tmp_path_factory):
    return write_page(tmp_path_factory.mktemp("page") / "page.html", [results])


@pytest.fixture(scope="module")
def shown(open_page, path):
    with open_page(path) as opened:
        yield opened


@pytest.fixture
def gallery(shown):
    """The page with all rows shown and no row in its address."""
    shown.page.evaluate("history.replaceState(null, '', location.pathname)")
    if shown.page.locator("#gallery-reset").is_enabled():
        shown.page.locator("#gallery-reset").click()
    return shown.page


def _cards(page):
    return page.locator(".card:visible").count()


def _said(page):
    return page.locator("#gallery-count").inner_text()


def _choose(page, key, value):
    page.locator(f"#gallery-{key}").select_option(value)


def test_every_tested_row_is_a_card_with_picture_boxes_and_a_bar_for_each_layer(shown, gallery):
    assert _cards(gallery) == N_ROWS and _said(gallery) == f"{N_ROWS} rows are shown."
    cards = gallery.locator(".card")
    assert gallery.locator(".card .frame img").count() == N_ROWS - 2
    whole = cards.nth(0)
    assert whole.locator("svg.strip rect").count() == 5
    assert whole.locator(".frame rect.subject").count() == 1
    box = whole.locator(".frame rect.subject").evaluate("(one) => one.getAttribute('width')")
    assert float(box) == 12.5
    gallery.wait_for_function(
        "() => [...document.images].every((one) => one.complete && one.naturalWidth)"
    )
    assert shown.errors == [] and len(shown.requests) - _of_data(shown) == 1


def _of_data(opened):
    return sum(url.startswith("data:") for url in opened.requests)


def test_a_picture_that_is_gone_or_changed_is_said_in_its_place(gallery):
    words = gallery.locator(".picture.none").all_inner_texts()
    assert len(words) == 2
    assert any(GONE in one for one in words) and any("changed since" in one for one in words)
    assert CHANGED  # of the other one


def test_the_filters_give_the_rows_that_the_report_counts(gallery, results):
    verdicts = row_verdicts(results)
    counts = {
        "wrong": int((~verdicts.knows).sum()),
        "right": int(verdicts.knows.sum()),
        "knows": len(answered_rows(results, "knows-not-says")),
        "says": len(answered_rows(results, "says-not-knows")),
    }
    assert all(counts.values())
    for kind, n in counts.items():
        _choose(gallery, "kind", kind)
        assert _cards(gallery) == n
        assert _said(gallery) == f"{n} of {N_ROWS} rows are shown."
    marks = gallery.locator(".card:visible .verdicts li:first-child.wrong").count()
    assert marks == counts["says"]


def test_rows_are_filtered_by_label_and_by_a_field_of_the_records(gallery):
    _choose(gallery, "label", "=left_of")
    assert _cards(gallery) == N_ROWS // 3
    names = dict(
        zip(gallery.locator("#gallery-field option").all_inner_texts(), range(-1, 99), strict=False)
    )
    assert {"scene", "crowded", "subject"} <= names.keys()
    _choose(gallery, "field", str(names["scene"]))
    values = gallery.locator("#gallery-value option").all_inner_texts()
    assert f"{BREAKS} ({N_ROWS // 4})" in values
    _choose(gallery, "value", f"={BREAKS}")
    assert 0 < _cards(gallery) < N_ROWS // 3
    gallery.locator("#gallery-reset").click()
    assert _cards(gallery) == N_ROWS and gallery.locator("#gallery-value").is_disabled()


def test_filters_work_with_the_keyboard_and_are_announced(gallery):
    kind = gallery.locator("#gallery-kind")
    kind.focus()
    kind.press("ArrowDown")
    assert kind.input_value() == "wrong" and _cards(gallery) < N_ROWS
    said = gallery.locator("#gallery-count")
    assert said.get_attribute("aria-live") == "polite"
    gallery.locator("#gallery-reset").focus()
    gallery.keyboard.press("Enter")
    assert _cards(gallery) == N_ROWS


@pytest.mark.parametrize("row", ODD_IDS)
def test_a_link_leads_to_its_row_whatever_its_id(gallery, row):
    """The link that the page makes, and the one that a person makes of the id."""
    number = ODD_IDS.index(row)
    _choose(gallery, "kind", "wrong" if gallery.locator(".card").nth(number).locator(
        ".verdicts li.right").count() else "right")  # fmt: skip
    href = gallery.locator(".card").nth(number).locator("a.row-link").get_attribute("href")
    assert href == "#row=" + quote(row, safe="!'()*~-._")
    gallery.evaluate("(address) => { location.hash = address; }", href)
    gallery.wait_for_function("() => document.activeElement.classList.contains('card')")
    assert _focused(gallery) == number
    assert gallery.locator(".card.target").count() == 1


def _focused(page):
    return page.evaluate("[...document.querySelectorAll('.card')].indexOf(document.activeElement)")


def test_a_shared_address_opens_at_its_row(open_page, path):
    for address in (path.as_uri() + "#row=row_40", path.as_uri() + "#row=" + quote(BREAKS)):
        with open_page(address) as opened:
            opened.page.wait_for_function("() => document.activeElement.classList.contains('card')")
            card = opened.page.locator(".card.target")
            place = card.bounding_box()
            assert place["y"] < 900 and place["y"] + place["height"] > 0
            assert opened.page.evaluate("window.broken") is None and opened.errors == []


def test_an_address_of_no_row_is_said_as_text(gallery):
    gallery.evaluate("(id) => { location.hash = '#row=' + encodeURIComponent(id); }", BREAKS + "!")
    gallery.wait_for_function(
        "() => document.getElementById('gallery-count').textContent.includes('not in')"
    )
    assert BREAKS in _said(gallery)
    gallery.evaluate("location.hash = '#row=%E0%A4%A'")  # no address that a page makes
    gallery.wait_for_function(
        "() => document.getElementById('gallery-count').textContent.endsWith('%A')"
    )


def test_hostile_texts_are_text(gallery, shown):
    words = gallery.locator("#gallery").inner_text()
    assert BREAKS in words and "\u202e" not in words and "\\u202egnp" in words
    assert any(ODD_NAME in one for one in gallery.locator(".frame text").all_text_contents())
    assert gallery.evaluate("window.broken") is None
    assert gallery.locator("#gallery b:not(.verdicts b), #gallery script").count() == 0
    assert shown.errors == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_serious_violation(open_page, results, tmp_path, scheme):
    few = write_page(tmp_path / "page.html", [results], gallery=8)
    with open_page(few, color_scheme=scheme) as opened:
        opened.page.evaluate(
            "document.querySelectorAll('.card:nth-child(-n+4) details').forEach((one) => one.open = true)"
        )
        assert opened.violations() == []


@pytest.mark.parametrize("width", [400, 1000, 1600])
def test_no_width_scrolls_sideways(open_page, path, width):
    with open_page(path, viewport={"width": width, "height": 900}) as opened:
        assert opened.page.evaluate("document.documentElement.scrollWidth") == width


def test_the_projection_has_a_mark_for_each_held_out_row_and_changes_with_layer_and_method(shown):
    drawn = "#chart-projection .mark-symbol.role-mark > *"
    n = shown.count(drawn)
    specs = json.loads(shown.page.locator("#charts").text_content())
    data = unpacked_spec(specs["projection"])["data"]["values"]
    assert n == len(data) == N_ROWS // 3

    def places():
        marks = shown.page.locator(drawn)
        return [marks.nth(i).get_attribute("transform") for i in range(3)]

    before = places()
    for parameter in ("method", "layer"):
        chosen = shown.page.locator(f"select[data-chart=projection][data-parameter={parameter}]")
        others = {*chosen.locator("option").evaluate_all("(all) => all.map((one) => one.value)")}
        chosen.select_option((others - {chosen.input_value()}).pop())
        shown.settle()
        assert places() != before and shown.count(drawn) == n
        before = places()
    assert shown.errors == []


def test_the_server_shows_the_same_without_an_error_or_a_foreign_request(open_page, results):
    with serving(results.home.parent.parent) as served, open_page(f"{served.url}/") as opened:
        page = opened.page
        assert opened.violations() == []
        page.locator("a[href='/run/looked']").click()
        page.wait_for_selector("html[data-drawn]")
        page.wait_for_selector(".card")
        assert _cards(page) == N_ROWS
        assert opened.count(".chart svg") >= 3
        page.locator("#gallery-kind").select_option("wrong")
        assert 0 < _cards(page) < N_ROWS
        page.goto(f"{served.url}/none")
        foreign = [u for u in opened.requests if not u.startswith((served.url + "/", "data:"))]
        assert foreign == []
        assert [one for one in opened.errors if "404" not in one] == []
