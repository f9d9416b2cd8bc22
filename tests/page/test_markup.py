"""Markup and the document: text stays text, keys are unique, the policy holds the hashes."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser

import pytest
from helpers.page_results import HOSTILE

from vsp.reporting.page.document import page
from vsp.reporting.page.markup import Html, joined, json_block, own_script, own_style, tag, text
from vsp.reporting.page.section import Chart, Section, Table


class _Reader(HTMLParser):
    """The elements, attributes and texts of a document."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.texts: list[str] = []
        self.feed(source)

    def handle_starttag(self, name, attributes):
        self.tags.append((name, dict(attributes)))

    def handle_data(self, data):
        self.texts.append(data)


@pytest.mark.parametrize("hostile", [*HOSTILE, "<!--", "]]>", "\x00\x1b[7m", "‮", "&amp;", "'"])
def test_a_text_is_a_text_in_an_element_and_in_an_attribute(hostile):
    read = _Reader(tag("p", hostile, title=hostile))
    assert [name for name, _ in read.tags] == ["p"] and set(read.tags[0][1]) == {"title"}
    (shown,) = read.texts
    assert shown == read.tags[0][1]["title"] and (shown == hostile or "\\" in shown)


def test_html_is_not_escaped_twice_and_none_is_left_out():
    inner = tag("b", "a < b")
    assert tag("p", inner, None, [" and ", inner]) == "<p><b>a &lt; b</b> and <b>a &lt; b</b></p>"
    assert isinstance(joined([inner]), Html) and text("<") == "&lt;"


@pytest.mark.parametrize("name", ["onclick", "style", "srcdoc"])
def test_no_attribute_runs_code(name):
    with pytest.raises(ValueError, match="has no attribute"):
        tag("p", **{name: "x"})


@pytest.mark.parametrize("hostile", [*HOSTILE, "<!--<script>", "\u2028", "\ud800"])
def test_data_cannot_end_its_element_and_is_read_back(hostile):
    block = json_block("data-x", {"name": hostile, "score": 0.1 + 0.2})
    (body,) = re.fullmatch(
        r"<script type=\"application/json\" id=\"data-x\">(.*)</script>", block
    ).groups()
    assert not re.search(r"[<>&\u2028\u2029]", body) and body.isprintable()
    assert json.loads(body) == {"name": hostile, "score": 0.1 + 0.2}


@pytest.mark.parametrize("body", ["a</SCRIPT>", "<!-- a", "a\r\nb"])
def test_a_script_that_a_browser_would_read_otherwise_is_refused(body):
    with pytest.raises(ValueError, match="a script must not hold"):
        own_script(body)


def test_a_style_sheet_with_markup_is_refused():
    with pytest.raises(ValueError, match="a style sheet must not hold"):
        own_style("</style>")


def _section(key: str, chart: str) -> Section:
    shown = Chart(chart, {"mark": "point"}, "A chart", "of nothing", Table(("a",), [("b",)]))
    return Section(key, "A title", charts=[shown])


@pytest.mark.parametrize("keys", [("a", "x", "a", "y"), ("a", "x", "b", "x")])
def test_two_parts_with_one_key_are_refused(keys):
    with pytest.raises(ValueError, match=r"used twice on the page: (a|chart-x)"):
        page("A page", [_section(*keys[:2]), _section(*keys[2:])])


def test_the_policy_has_the_hash_of_each_script_and_style_and_nothing_else():
    source = page("A page", [_section("a", "x")])
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', source)[1]
    policy = policy.replace("&#x27;", "'")
    bodies = {
        name: re.findall(rf"<{name}>(.*?)</{name}>", source, re.DOTALL)
        for name in ("script", "style")
    }
    assert len(bodies["script"]) == 5 and len(bodies["style"]) == 1
    for name, found in bodies.items():
        digests = [
            base64.b64encode(hashlib.sha256(one.encode()).digest()).decode() for one in found
        ]
        listed = " ".join(f"'sha256-{one}'" for one in digests)
        assert f"{name}-src {listed};" in policy
    assert policy.startswith("default-src 'none'; ") and "unsafe" not in policy


def test_a_page_without_charts_has_no_bundle():
    assert len(page("A page", [Section("a", "A title")])) < 30_000
