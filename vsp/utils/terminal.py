"""Prints pages to the terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from io import StringIO

from rich.console import Console, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text


def show(renderable: RenderableType) -> None:
    """Print to stdout: in colour on a terminal, otherwise plain and 80 columns wide."""
    if sys.stdout.isatty():
        Console(highlight=False).print(renderable)
        return
    plain = StringIO()
    Console(file=plain, width=80, highlight=False).print(renderable)
    print("\n".join(line.rstrip() for line in plain.getvalue().splitlines()))


def watch(page: Callable[[], RenderableType], seconds: int) -> None:
    """Redraw a page every few seconds until Ctrl-C; without a terminal, print it repeatedly."""
    if not sys.stdout.isatty():
        while True:
            show(page())
            print(flush=True)
            time.sleep(seconds)
    with (
        suppress(KeyboardInterrupt),
        Live(page(), console=Console(highlight=False), auto_refresh=False) as live,
    ):
        while True:
            time.sleep(seconds)
            live.update(page(), refresh=True)


def fact_table(facts: Mapping[str, str]) -> Table:
    """A table of two columns: name and fact."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, fact in facts.items():
        table.add_row(name, Text(fact))
    return table


def folded_text(text: str, style: str = "") -> Text:
    """Text whose long words are folded onto the next line, not cut off."""
    return Text(text, overflow="fold", style=style)
