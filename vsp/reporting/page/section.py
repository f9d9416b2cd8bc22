"""The parts of the page: a section, its charts, and the controls and the table of a chart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from vsp.reporting.page.markup import Html

Cell = str | int | float | None  # floats show all digits in `title`, and `digits` of them as text


@dataclass(frozen=True, slots=True)
class Table:
    """A table: what a chart shows, for readers who do not see it."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]  # the first cell of a row is its heading
    caption: str = ""
    digits: int = 3  # of floats


@dataclass(frozen=True, slots=True)
class Option:
    """One choice of a control."""

    value: str  # what the chart gets
    label: str
    chosen: bool = True
    color: int | None = None  # 1 to 8: the line of this colour stands before the label
    dash: str = ""  # dashed or dotted: the look of that line


@dataclass(frozen=True, slots=True)
class Control:
    """Check boxes or a list that set a parameter of a chart's specification.

    Check boxes set it to the array of the chosen values; a list (`one`) sets it to the chosen value.
    Values are strings.
    """

    parameter: str
    title: str
    options: Sequence[Option]
    one: bool = False


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart: a Vega-Lite specification, with words and a table for those who do not see it.

    Colours of a specification are variables of the page's style sheet, as `var(--c1)`, so that they
    fit light, dark and print: --c1 to --c8 for series, --ink, --muted, --line, --heat, --heat-minus.
    """

    key: str  # unique on the page: letters, digits and hyphens
    spec: Mapping[str, Any]
    title: str
    description: str
    table: Table
    controls: Sequence[Control] = ()
    height: str = "medium"  # of the space kept before it is drawn: low, medium or high


class Sentence(NamedTuple):
    """A sentence of the methods section."""

    text: str
    cites: tuple[str, ...] = ()  # keys of REFERENCES


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the page with a heading: text, then charts, then text."""

    key: str  # unique on the page; the address #key leads here
    title: str
    body_html: Html = Html("")  # noqa: RUF009  (a str does not change)
    charts: Sequence[Chart] = ()
    after_html: Html = Html("")  # noqa: RUF009
    data: Mapping[str, Any] = field(default_factory=dict)  # JSON in the element `data-NAME`
    scripts: Sequence[str] = ()  # further files of vsp/web, which run after page.js
    styles: Sequence[str] = ()
    methods: Sequence[Sentence] = ()  # how what it shows was computed
    left_out: Sequence[str] = ()  # what could not be read, and why; the writing command says it too


@dataclass(frozen=True, slots=True)
class Page:
    """A page as text, and what it leaves out."""

    text: str
    left_out: tuple[str, ...] = ()  # of all sections, for the command that writes the page
