"""Progress of long work: a live bar on a terminal, a line every 30 seconds in a log file."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from vsp.escaping import one_line
from vsp.utils.quiet import is_quiet
from vsp.utils.text import format_clock, shorten

if TYPE_CHECKING:
    from rich.console import RenderableType

_EVERY = 30.0  # seconds between two lines of a log
_SHORTEST = 5  # characters of a bar, and of what is done, on a narrow terminal


@contextmanager
def progress(what: str, unit: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """Yield `advance(n)`, and show count, rate and time left on stderr until the block ends.

    `total` is None if the amount of work is not known. --quiet shows nothing.
    """
    if is_quiet():
        yield lambda n: None
    elif sys.stderr.isatty():
        with _bar(what, unit, total) as advance:
            yield advance
    else:
        with _lines(what, unit, total) as advance:
            yield advance


@contextmanager
def _bar(what: str, unit: str, total: int | None) -> Iterator[Callable[[int], None]]:
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        Task,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.table import Column

    from vsp.utils.terminal import Page, printing_above, text_line

    class Rate(ProgressColumn):
        def render(self, task: Task) -> RenderableType:
            speed = task.finished_speed or task.speed
            return text_line(f"{speed:,.1f} {unit}/s" if speed else "")

    console = Page(sys.stderr)
    figures = 2 * len(str(total)) + len(f"{unit} 1,000,000.0/s 0:00:00 ") + 3
    what = shorten(one_line(what), max(console.width - figures - 2, _SHORTEST))
    has_bar = console.width - figures - len(what) > _SHORTEST
    columns: tuple[ProgressColumn, ...] = (
        TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True)),
        *([BarColumn(bar_width=None)] if has_bar else []),
        MofNCompleteColumn(table_column=Column(no_wrap=True)),
        Rate(table_column=Column(no_wrap=True)),
        TimeRemainingColumn(elapsed_when_finished=True, table_column=Column(no_wrap=True)),
    )
    with (
        printing_above(console),
        Progress(
            *columns, console=console, expand=True, redirect_stdout=False, redirect_stderr=False
        ) as bar,
    ):
        task = bar.add_task(what, total=total)
        yield lambda n: bar.advance(task, n)


@contextmanager
def _lines(what: str, unit: str, total: int | None) -> Iterator[Callable[[int], None]]:
    started = last_line = time.monotonic()
    done = 0

    def print_line() -> None:
        seconds = max(time.monotonic() - started, 1e-9)
        rate = done / seconds
        left = of = ""
        if total is not None:
            of = f"/{total}"
            left = f", {format_clock((total - done) / rate)} left" if 0 < done < total else ""
        text = f"{what}: {done}{of} {unit} in {format_clock(seconds)}, {rate:,.1f} {unit}/s{left}"
        print(one_line(text), file=sys.stderr, flush=True)

    def advance(n: int) -> None:
        nonlocal done, last_line
        done += n
        if time.monotonic() - last_line > _EVERY:
            last_line = time.monotonic()
            print_line()

    yield advance
    print_line()
