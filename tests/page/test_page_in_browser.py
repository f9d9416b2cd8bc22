"""The page of runs in a headless Chromium: it is drawn, it asks for nothing, and everybody can use it."""

from __future__ import annotations

import re

import pytest
from helpers.page_results import HOSTILE, rich_results, write_page


@pytest.fixture(scope="module")
def shown(open_page, one_run):
    with open_page(one_run) as opened:
        yield opened


@pytest.fixture(scope="module")
def compared(open_page, several_runs):
    with open_page(several_runs) as opened:
        yield opened


def _tip_in_the_middle(opened, chart):
    """The text beside the pointer in the middle of a chart."""
    svg = opened.page.locator(f"#chart-{chart} svg")
    svg.scroll_into_view_if_needed()
    place = svg.bounding_box()
    opened.page.mouse.move(place["x"] + place["width"] / 2, place["y"] + place["height"] / 2)
    tip = opened.page.locator("#vg-tooltip-element.visible")
    tip.wait_for(timeout=5000)
    return tip.inner_text()


def test_the_page_makes_no_request_and_logs_nothing(shown, compared):
    for opened in (shown, compared):
        assert opened.errors == []
        assert len(opened.requests) == 1 and opened.requests[0].startswith("file:")


def test_the_policy_lets_no_other_code_run(shown):
    ran = shown.page.evaluate(
        """async () => {
            const own = document.createElement("script");
            own.textContent = "window.ran = 1";
            document.body.append(own);
            const made = () => { try { new Function("window.ran = 2")(); } catch { /* refused */ } };
            // Later: what Playwright runs itself may make code from text.
            await new Promise((done) => setTimeout(() => { made(); done(); }, 1));
            return window.ran ?? 0;
        }"""
    )
    assert not ran and any("Content Security Policy" in one for one in shown.errors)
    shown.errors.clear()


def test_every_chart_is_drawn(shown):
    assert shown.count(".chart svg") == 3
    # probe, says, words alone and chance; the cited layer is a diamond.
    assert shown.marks("curves", "line") == 4 + 1
    assert shown.marks("curves", "symbol") == 13 + 1
    assert shown.marks("curves", "area") == 2
    assert shown.marks("classes", "line") == 8
    assert shown.marks("confusion", "rect") == 16


def test_a_box_is_unchecked_with_the_keyboard_and_its_line_goes(shown):
    box = shown.page.locator("input[data-chart=curves][value=says]")
    before = shown.marks("curves", "line"), shown.marks("curves", "area")
    box.focus()
    shown.page.keyboard.press("Space")
    shown.settle()
    assert (shown.marks("curves", "line"), shown.marks("curves", "area")) == (
        before[0] - 1,
        before[1] - 1,
    )
    shown.page.keyboard.press("Space")
    shown.settle()
    assert (shown.marks("curves", "line"), shown.marks("curves", "area")) == before


def test_labels_and_knows_and_says_are_chosen_with_the_keyboard(shown):
    for value, left in (("0", 6), ("says", 3)):
        shown.page.locator(f"input[data-chart=classes][value='{value}']").focus()
        shown.page.keyboard.press("Space")
        shown.settle()
        assert shown.marks("classes", "line") == left


def test_another_layer_has_another_confusion_matrix(shown):
    def counts():
        return shown.page.locator("#chart-confusion .mark-text text").all_text_contents()

    at_peak = counts()
    shown.page.locator("select[data-chart=confusion]").select_option("0")
    shown.settle()
    assert len(counts()) == len(at_peak) and counts() != at_peak


def test_runs_are_hidden_and_shown(compared):
    lines = compared.marks("curves", "line")
    compared.page.locator("input[data-parameter=runs][value=second]").focus()
    compared.page.keyboard.press("Space")
    compared.settle()
    assert compared.marks("curves", "line") == lines - 2  # the probe and chance


def test_the_pointer_shows_the_figures_of_a_layer(shown):
    words = _tip_in_the_middle(shown, "curves")
    assert re.search(r"layer:?\s*6", words) and re.search(
        r"probe \(knows\):?\s*\d\.\d{3} \[", words
    )


def test_hostile_names_are_text_wherever_they_stand(compared):
    page = compared.page
    page.locator("select[data-chart=classes][data-parameter=run]").select_option("hostile")
    page.locator("select[data-chart=confusion][data-parameter=run]").select_option("hostile")
    compared.settle()
    words = _tip_in_the_middle(compared, "classes")
    assert all(name in words for name in HOSTILE[:3])
    assert page.evaluate("window.broken") is None
    assert page.locator("h1").inner_text() == page.title() == HOSTILE[0]
    assert page.locator("body img, body iframe").count() == 0
    shown = page.locator("#classes, body").first.inner_text()
    drawn = page.locator("#chart-confusion svg").text_content()
    for name in HOSTILE:
        assert name in shown
        assert name[:12] in drawn
    assert compared.errors == []


def test_labels_that_mean_something_to_the_charts_are_labels(open_page, tmp_path):
    """`image` and `title` are fields of a tip, `layer` one of the data, and `a.b[0]` a path."""
    labels = ("image", "title", "layer", "a.b[0]\"'\\</script>\u202e\n")
    last = "a.b[0]\"'\\</script>\\u202e\\n"
    results = rich_results(tmp_path / "results/odd", labels)
    with open_page(write_page(tmp_path / "page.html", [results])) as opened:
        words = _tip_in_the_middle(opened, "classes")
        assert re.search(r"layer:?\s*6", words)
        for name in (*labels[:3], last):
            assert re.search(re.escape(f"{name}, knows") + r":?\s*\d\.\d{3}", words), name
        assert opened.marks("classes", "line") == 8
        opened.page.locator("input[data-chart=classes][value='3']").uncheck()
        opened.settle()
        assert opened.marks("classes", "line") == 6
        assert last in opened.page.locator("figure:has(#chart-classes) .controls").inner_text()
        drawn = opened.page.locator("#chart-confusion svg").text_content()
        assert last[:20] in drawn and "\u202e" not in drawn
        assert opened.marks("confusion", "rect") == 16
        assert opened.errors == [] and len(opened.requests) == 1


@pytest.mark.parametrize(("scheme", "rules"), [("light", ()), ("dark", ("color-contrast",))])
def test_axe_finds_no_serious_violation(open_page, one_run, scheme, rules):
    with open_page(one_run, color_scheme=scheme) as opened:
        opened.page.evaluate(
            "document.querySelectorAll('details').forEach((one) => one.open = true)"
        )
        assert opened.violations(*rules) == []


def test_the_theme_is_chosen_and_charts_follow(shown):
    def color(selector):
        return shown.page.eval_on_selector(selector, "(one) => getComputedStyle(one).fill")

    tick = "#chart-curves .role-axis-label text"
    before = color(tick)
    shown.page.locator("input[name=theme][value=dark]").check()
    assert color(tick) != before
    shown.page.locator("input[name=theme][value=auto]").check()
    assert color(tick) == before


def test_without_scripts_the_curves_are_a_picture(open_page, one_run):
    with open_page(one_run, java_script_enabled=False) as opened:
        picture = opened.page.locator("noscript img")
        assert picture.is_visible()
        assert picture.evaluate("(one) => one.complete && one.naturalWidth") > 300
        assert not opened.page.locator(".controls").first.is_visible()
        assert opened.errors == []


@pytest.mark.parametrize("width", [400, 1000, 1600])
def test_no_width_scrolls_sideways(open_page, several_runs, width):
    with open_page(several_runs, viewport={"width": width, "height": 900}) as opened:
        assert opened.page.evaluate("document.documentElement.scrollWidth") == width


def test_print_has_the_tables_and_light_colours(open_page, one_run):
    with open_page(one_run, color_scheme="dark") as opened:
        opened.page.emulate_media(media="print", color_scheme="dark")
        opened.page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
        assert opened.count("details:not([open])") == 0
        paper = opened.page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert paper == "rgb(255, 255, 255)"
        opened.page.evaluate("window.dispatchEvent(new Event('afterprint'))")
        assert opened.count("details[open]") == 0
