"""Tables for papers, as LaTeX and as Markdown.

A `PaperTable` holds what a table says; the writers decide how it looks. LaTeX needs the packages
booktabs and siunitx (version 3, of 2021, or later).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import isfinite

from vsp.reporting.escaping import latex_text, markdown_text, needs_unicode_latex

_UNDEFINED = "–"


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure, with its interval if it has one. None: not defined."""

    value: float | None
    low: float | None = None
    high: float | None = None


Cell = str | Estimate


@dataclass(frozen=True, slots=True)
class Column:
    """A column of figures, or of text if it has no digits."""

    name: str
    digits: int = 0
    signed: bool = False  # figures show a plus


@dataclass(frozen=True, slots=True)
class Row:
    """Cells in the order of the columns; missing ones at the end are empty."""

    cells: tuple[Cell, ...]
    bold: tuple[int, ...] = ()  # places of the cells in bold


@dataclass(frozen=True, slots=True)
class PaperTable:
    """A table with a caption. A line is drawn between two parts of its rows."""

    caption: str
    label: str  # of LaTeX, without "tab:"
    columns: tuple[Column, ...]
    parts: tuple[tuple[Row, ...], ...]


def latex_table(table: PaperTable) -> str:
    """A `table` environment for `\\input`, with a line on the packages that it needs."""
    return "\n".join(_latex_lines(table)) + "\n"


def markdown_table(table: PaperTable) -> str:
    """A table in the Markdown of GitHub and pandoc, with its caption as a paragraph below it."""
    heads = [markdown_text(column.name) for column in table.columns]
    lines = [_markdown_line(heads)]
    lines.append(_markdown_line([":--" if not one.digits else "--:" for one in table.columns]))
    for part in table.parts:
        lines += [_markdown_line(_markdown_cells(table, row)) for row in part]
    return "\n".join([*lines, "", markdown_text(table.caption)]) + "\n"


def _latex_lines(table: PaperTable) -> Iterator[str]:
    texts = [table.caption, *(column.name for column in table.columns)]
    texts += [cell for part in table.parts for row in part for cell in row.cells
              if isinstance(cell, str)]  # fmt: skip
    yield r"% needs \usepackage{booktabs} and \usepackage{siunitx} (version 3)"
    if any(map(needs_unicode_latex, texts)):
        yield "% has characters that pdfLaTeX does not know: use LuaLaTeX or XeLaTeX and a font with them"
    yield r"\begin{table}"
    yield r"  \centering"
    yield rf"  \caption{{{latex_text(table.caption)}}}"
    yield rf"  \label{{tab:{_label(table.label)}}}"
    yield r"  \begin{tabular}{@{}"
    widths = [_has_interval(table, place) for place in range(len(table.columns))]
    for place, column in enumerate(table.columns):
        yield f"    {_column_type(table, place, column, widths[place])}"
    yield r"  @{}}"
    yield r"    \toprule"
    heads = (_latex_head(*one) for one in zip(table.columns, widths, strict=True))
    yield f"    {' & '.join(heads)} \\\\"
    for part in table.parts:
        yield r"    \midrule"
        for row in part:
            yield f"    {_latex_row(table, row, widths)} \\\\"
    yield r"    \bottomrule"
    yield r"  \end{tabular}"
    yield r"\end{table}"


def _column_type(table: PaperTable, place: int, column: Column, with_interval: bool) -> str:
    """The siunitx column of figures, and a narrow column behind it for their intervals."""
    if not column.digits:
        return "l"
    values = [cell.value for cell in _figures(table, place) if cell.value is not None]
    whole = max((len(str(int(abs(value)))) for value in values), default=1)
    sign = "+" if column.signed else "-" if any(_rounded(v, column) < 0 for v in values) else ""
    options = f"table-format={sign}{whole}.{column.digits}, text-series-to-math=true"
    options += ", retain-explicit-plus=true" if column.signed else ""
    return f"S[{options}]" + (r"@{\,}l" if with_interval else "")


def _latex_head(column: Column, with_interval: bool) -> str:
    name = latex_text(column.name)
    if not column.digits:
        return name
    return rf"\multicolumn{{{2 if with_interval else 1}}}{{c}}{{{name}}}"


def _latex_row(table: PaperTable, row: Row, widths: Sequence[bool]) -> str:
    cells: list[str] = []
    for place, cell in enumerate(row.cells):
        is_bold, column = place in row.bold, table.columns[place]
        if isinstance(cell, str):
            text = latex_text(cell)
            cells.append(rf"\textbf{{{text}}}" if is_bold else text)
            continue
        figure = _figure(cell.value, column)
        shown = f"{{{latex_text(figure)}}}" if figure == _UNDEFINED else figure
        cells.append(rf"\bfseries {shown}" if is_bold else shown)
        if widths[place]:
            cells.append(_latex_interval(cell, column))
    while cells and not cells[-1]:
        cells.pop()
    return " & ".join(cells)


def _latex_interval(cell: Estimate, column: Column) -> str:
    if cell.low is None or cell.high is None:
        return ""
    low, high = _figure(cell.low, column), _figure(cell.high, column)
    return rf"$_{{[{low},\,{high}]}}$"


def _label(text: str) -> str:
    """A label that LaTeX takes as it stands."""
    return re.sub("[^A-Za-z0-9.:-]+", "-", text).strip("-") or "vsp"


def _markdown_cells(table: PaperTable, row: Row) -> list[str]:
    texts = []
    for place, cell in enumerate(row.cells):
        column = table.columns[place]
        text = markdown_text(cell) if isinstance(cell, str) else _figure(cell.value, column)
        text = f"**{text}**" if text and place in row.bold else text
        if isinstance(cell, Estimate) and cell.low is not None and cell.high is not None:
            text += f" [{_figure(cell.low, column)}, {_figure(cell.high, column)}]"
        texts.append(text)
    return texts + [""] * (len(table.columns) - len(texts))


def _markdown_line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _figure(value: float | None, column: Column) -> str:
    if value is None or not isfinite(value):
        return _UNDEFINED
    # A value that is rounded to 0 has no minus.
    return f"{_rounded(value, column):{'+' if column.signed else ''}.{column.digits}f}"


def _rounded(value: float, column: Column) -> float:
    return round(value, column.digits) + 0.0


def _figures(table: PaperTable, place: int) -> list[Estimate]:
    cells = [row.cells[place] for part in table.parts for row in part if place < len(row.cells)]
    return [cell for cell in cells if isinstance(cell, Estimate)]


def _has_interval(table: PaperTable, place: int) -> bool:
    return any(cell.low is not None for cell in _figures(table, place))
