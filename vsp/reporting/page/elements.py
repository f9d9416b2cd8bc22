"""Elements that several sections have: paragraphs, facts, tables, disclosures, charts with controls."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from vsp.reporting.page.markup import Child, Html, joined, tag
from vsp.reporting.page.section import Cell, Chart, Control, Option, Table

_LONG = 24  # characters of a text that a narrow column would fold into many lines


def paragraphs(lines: Iterable[Child], class_: str | None = None) -> Html:
    return joined(tag("p", line, class_=class_) for line in lines)


def facts(pairs: Mapping[str, Child]) -> Html:
    """Names and values, one pair a line."""
    return tag(
        "dl", *(joined([tag("dt", name), tag("dd", value)]) for name, value in pairs.items())
    )


def disclosure(summary: str, *body: Child, open_: bool = False) -> Html:
    """A heading that opens and closes what is under it."""
    return tag("details", tag("summary", summary), *body, open=open_)


def table(shown: Table, name: str = "") -> Html:
    """A table that scrolls by itself where the page is narrow; `name` says what it is if it has no caption."""
    numeric = _numeric(shown)
    head = [
        tag("th", one, scope="col", class_=_class(number))
        for one, number in zip(shown.columns, numeric, strict=True)
    ]
    body = [_row(row, numeric, shown.digits) for row in shown.rows]
    caption = tag("caption", shown.caption) if shown.caption else None
    whole = tag("table", caption, tag("thead", tag("tr", *head)), tag("tbody", *body))
    label = shown.caption or name or "table"
    return tag("div", whole, class_="scroll", tabindex=0, role="region", aria_label=label)


def _numeric(shown: Table) -> list[bool]:
    """Whether a column has numbers, and no text."""
    columns = [[row[place] for row in shown.rows] for place in range(len(shown.columns))]
    return [
        any(isinstance(cell, (int, float)) for cell in column)
        and not any(isinstance(cell, str) for cell in column)
        for column in columns
    ]


def _class(is_number: bool) -> str | None:
    return "number" if is_number else None


def _row(row: Sequence[Cell], numeric: Sequence[bool], digits: int) -> Html:
    cells = [tag("th", _cell_text(row[0], digits), scope="row", class_=_class(numeric[0]))]
    for cell, number in zip(row[1:], numeric[1:], strict=True):
        # The style sheet places a cell with a title as a number: that is shorter than a class in each.
        title = repr(cell) if isinstance(cell, float) else None
        is_long = isinstance(cell, str) and len(cell) > _LONG
        class_ = "words" if is_long else None if title else _class(number)
        cells.append(tag("td", _cell_text(cell, digits), class_=class_, title=title))
    return tag("tr", *cells)


def _cell_text(cell: Cell, digits: int) -> str:
    if cell is None:
        return "–"
    return f"{cell:.{digits}f}" if isinstance(cell, float) else str(cell)


def chart_figure(chart: Chart) -> Html:
    """The place of a chart, its controls, and the table behind it. page.js draws the chart."""
    place = tag(
        "div",
        id=f"chart-{chart.key}",
        class_=f"chart {chart.height}",
        role="img",
        aria_label=f"{chart.title}. {chart.description}",
    )
    controls = [_control(chart.key, control) for control in chart.controls]
    return tag(
        "figure",
        tag("figcaption", tag("strong", chart.title), " ", tag("span", chart.description)),
        tag("div", *controls, class_="controls") if controls else None,
        place,
        disclosure("Show as a table", table(chart.table, chart.title)),
        class_="with-chart",
    )


def _control(chart: str, control: Control) -> Html:
    bound = {"data_chart": chart, "data_parameter": control.parameter}
    if control.one:
        name = f"{chart}-{control.parameter}"
        choices = [
            tag("option", one.label, value=one.value, selected=one.chosen)
            for one in control.options
        ]
        label = tag("label", control.title, for_=name)
        return tag("div", label, tag("select", *choices, id=name, **bound), class_="list")
    boxes = [
        tag(
            "label",
            tag("input", type="checkbox", value=one.value, checked=one.chosen, **bound),
            _swatch(one),
            tag("span", one.label),
        )
        for one in control.options
    ]
    return tag("fieldset", tag("legend", control.title), *boxes)


def _swatch(option: Option) -> Html | None:
    """A short line in the option's colour."""
    if option.color is None:
        return None
    look = f"swatch c{option.color} {option.dash}".rstrip()
    return tag("span", class_=look, aria_hidden="true")
