"""Assembles one HTML file that makes no request and runs under a strict content-security policy."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Sequence
from functools import cache
from importlib.resources import files

from vsp.reporting.page.elements import chart_figure, paragraphs
from vsp.reporting.page.markup import Child, Html, joined, json_block, own_script, own_style, tag
from vsp.reporting.page.packing import packed_spec
from vsp.reporting.page.section import Section

# In this order: each needs those before it.
BUNDLES = ("vega.js", "vega-lite.js", "vega-interpreter.js", "vega-embed.js")
_STYLE, _SCRIPT = "page.css", "page.js"


def page(
    title: str, sections: Sequence[Section], lead: Child = None, figure_svg: bytes | None = None
) -> str:
    """One file with these sections, as text.

    `lead` stands under the title. `figure_svg` is shown where no script runs. The same input gives the
    same bytes. Raises ValueError if two sections or charts have the same key.
    """
    _check_keys(sections)
    charts = {
        chart.key: packed_spec(chart.spec) for section in sections for chart in section.charts
    }
    bundles = BUNDLES if charts else ()
    scripts = [web_file(f"vendor/{name}") for name in bundles]
    scripts += [web_file(name) for name in (_SCRIPT, *_further(one.scripts for one in sections))]
    styles = [web_file(name) for name in (_STYLE, *_further(one.styles for one in sections))]
    data = {name: value for section in sections for name, value in section.data.items()}
    body = [
        tag("a", "Skip to the results", href="#results", class_="skip"),
        _header(title, sections, lead),
        tag(
            "main",
            _without_script(figure_svg),
            *(_section(one) for one in sections),
            id="results",
            tabindex=-1,
        ),
        json_block("charts", charts),
        *(json_block(f"data-{name}", value) for name, value in data.items()),
        *map(own_script, scripts),
    ]
    head = [
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy(scripts, styles)),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("meta", name="referrer", content="no-referrer"),
        tag("title", title),
        *map(own_style, styles),
    ]
    whole = tag("html", tag("head", *head), tag("body", *body), lang="en", class_="no-script")
    return f"<!doctype html>\n{whole}\n"


def policy(scripts: Iterable[str], styles: Iterable[str]) -> str:
    """A policy that allows these scripts and style sheets, pictures in the page, and nothing else."""
    return (
        f"default-src 'none'; script-src {_hashes(scripts)}; style-src {_hashes(styles)}; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )


@cache
def web_file(name: str) -> str:
    """The text of a file in vsp/web."""
    return (files("vsp") / "web" / name).read_text(encoding="utf-8")


def _hashes(texts: Iterable[str]) -> str:
    digests = (hashlib.sha256(one.encode()).digest() for one in texts)
    return " ".join(f"'sha256-{base64.b64encode(one).decode()}'" for one in digests)


def _further(names: Iterable[Sequence[str]]) -> list[str]:
    """Names of several sections, each once."""
    return list(dict.fromkeys(name for some in names for name in some))


def _check_keys(sections: Sequence[Section]) -> None:
    keys = [section.key for section in sections]
    keys += [f"chart-{chart.key}" for section in sections for chart in section.charts]
    keys += [f"data-{name}" for section in sections for name in section.data]
    twice = sorted({key for key in keys if keys.count(key) > 1})
    if twice:
        raise ValueError(f"used twice on the page: {', '.join(twice)}")


def _header(title: str, sections: Sequence[Section], lead: Child) -> Html:
    links = [tag("li", tag("a", one.title, href=f"#{one.key}")) for one in sections]
    themes = [
        tag(
            "label",
            tag("input", type="radio", name="theme", value=value, checked=value == "auto"),
            tag("span", words),
        )
        for value, words in (("auto", "Auto"), ("light", "Light"), ("dark", "Dark"))
    ]
    theme = tag("fieldset", tag("legend", "Colours"), *themes, class_="theme")
    return tag(
        "header",
        tag("h1", title),
        lead,
        tag(
            "div",
            tag("nav", tag("ul", *links), aria_label="Sections"),
            theme,
            class_="bar",
        ),
    )


def _section(section: Section) -> Html:
    heading = f"{section.key}-heading"
    return tag(
        "section",
        tag("h2", section.title, id=heading),
        section.body_html,
        paragraphs([f"Left out: {one}." for one in section.left_out], class_="caution"),
        *map(chart_figure, section.charts),
        section.after_html,
        id=section.key,
        aria_labelledby=heading,
    )


def _without_script(figure_svg: bytes | None) -> Html:
    """What stands in the place of the charts where no script runs."""
    words = tag(
        "p",
        "This browser runs no scripts, so the charts of this page are not drawn. "
        "The tables hold the same figures.",
    )
    picture = None
    if figure_svg is not None:
        source = f"data:image/svg+xml;base64,{base64.b64encode(figure_svg).decode()}"
        picture = tag("img", src=source, alt="Score of each layer, also in the tables below")
    return joined([tag("noscript", tag("div", words, picture, class_="without-script"))])
