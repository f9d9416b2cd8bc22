"""Tables that leave out whole columns on a narrow terminal, so that no number is cut."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.measure import Measurement
from rich.table import Table

from vsp.utils.terminal import folded_text, text_line


@dataclass(frozen=True, slots=True)
class Column:
    """The head and the cells of a column, and when it is left out."""

    head: str
    cells: Sequence[RenderableType]
    rank: int = 0  # the column with the highest rank is left out first; 0: it always stays
    is_bar: bool = False  # it takes the width that the others leave

    def width(self, console: Console, options: ConsoleOptions) -> int:
        """The fewest characters that the column takes."""
        widths = [Measurement.get(console, options, cell) for cell in self.cells]
        found = [one.minimum if self.is_bar else one.maximum for one in widths]
        return max([len(self.head), *found])


@dataclass(frozen=True, slots=True)
class FittingTable:
    """A table with the columns that fit; a line below it names those that were left out."""

    columns: Sequence[Column]
    styles: Sequence[str]  # of each row

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        shown = self._fitting(console, options)
        table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 1, 0, 0))
        for column in shown:
            if column.is_bar:
                table.add_column(column.head)
            else:
                table.add_column(column.head, justify="right", no_wrap=True)
        for style, *cells in zip(self.styles, *(column.cells for column in shown), strict=True):
            table.add_row(*cells, style=style)
        yield table
        missing = [column.head for column in self.columns if column not in shown]
        if missing:
            yield folded_text(f"Not shown at this width: {', '.join(missing)}.")

    def _fitting(self, console: Console, options: ConsoleOptions) -> list[Column]:
        shown = list(self.columns)
        while True:
            width = sum(column.width(console, options) + 1 for column in shown) - 1
            optional = [column for column in shown if column.rank]
            if width <= options.max_width or not optional:
                return shown
            shown.remove(max(optional, key=lambda column: column.rank))


def figure_cells(figures: Sequence[str]) -> list[RenderableType]:
    """Cells of figures, on one line each."""
    return [text_line(figure) for figure in figures]
