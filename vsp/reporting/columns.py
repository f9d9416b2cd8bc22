"""Tables that leave out whole columns on a narrow terminal, so that no number is cut."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len
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
    folds_to: int = 0  # a text that may be folded to this many characters; 0: it stays on one line

    def widths(self, console: Console, options: ConsoleOptions) -> tuple[int, int]:
        """The fewest characters that the column takes, with its head on several lines, and the most."""
        cells = [Measurement.get(console, options, cell) for cell in self.cells]
        most = max([cell_len(self.head), *(cell.maximum for cell in cells)])
        if self.is_bar:
            return max([cell_len(self.head), *(cell.minimum for cell in cells)]), most
        if self.folds_to:
            return min(most, self.folds_to), most
        words = map(cell_len, self.head.split())
        return max([*words, *(cell.maximum for cell in cells)], default=0), most


@dataclass(frozen=True, slots=True)
class FittingTable:
    """A table with the columns that fit; a line below it names those that were left out."""

    columns: Sequence[Column]
    styles: Sequence[str]  # of each row
    gap: int = 1  # spaces between columns

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        widths = self._fitting(
            [column.widths(console, options) for column in self.columns], options
        )
        shown = [column for column, width in zip(self.columns, widths, strict=True) if width]
        table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, self.gap, 0, 0))
        for column, width in zip(self.columns, widths, strict=True):
            if width:
                is_figure = not (column.is_bar or column.folds_to)
                table.add_column(
                    text_line(column.head),
                    justify="right" if is_figure else "left",
                    overflow="fold",
                    width=width,
                    vertical="top",
                )
        for style, *cells in zip(self.styles, *(column.cells for column in shown), strict=True):
            table.add_row(*cells, style=style)
        yield table
        missing = [c.head for c, width in zip(self.columns, widths, strict=True) if not width]
        if missing:
            yield folded_text(f"Not shown at this width: {', '.join(missing)}.")

    def _fitting(self, limits: Sequence[tuple[int, int]], options: ConsoleOptions) -> list[int]:
        """The width of each column; 0: it is left out."""
        widths = [least for least, _ in limits]
        while self._room(widths, options) < 0:
            optional = [i for i, column in enumerate(self.columns) if column.rank and widths[i]]
            if not optional:
                return widths
            widths[max(optional, key=lambda i: self.columns[i].rank)] = 0
        # Heads get the rest first, then texts, then bars.
        order = sorted(
            range(len(widths)), key=lambda i: (self.columns[i].is_bar, self.columns[i].folds_to > 0)
        )
        for i in order:
            if widths[i]:
                room = self._room(widths, options)
                widths[i] = min(limits[i][1], widths[i] + room)
        return widths

    def _room(self, widths: Sequence[int], options: ConsoleOptions) -> int:
        shown = [width for width in widths if width]
        return options.max_width - sum(shown) - self.gap * (len(shown) - 1)


def figure_cells(figures: Sequence[str]) -> list[RenderableType]:
    """Cells of figures, on one line each."""
    return [text_line(figure) for figure in figures]
