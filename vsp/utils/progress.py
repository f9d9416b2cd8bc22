"""Progress of long work: a live bar on a terminal, a line every 30 seconds in a log file."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from vsp.utils.text import format_clock

_EVERY = 30.0  # seconds between two lines of a log


@contextmanager
def progress(what: str, unit: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """Yield `advance(n)`, and show count, rate and time left on stderr until the block ends.

    `total` is None if the amount of work is not known.
    """
    if sys.stderr.isatty():
        with _bar(what, unit, total) as advance:
            yield advance
    else:
        with _lines(what, unit, total) as advance:
            yield advance


@contextmanager
def _bar(what: str, unit: str, total: int | None) -> Iterator[Callable[[int], None]]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        Task,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            speed = task.finished_speed or task.speed
            return Text(f"{speed:,.1f} {unit}/s" if speed else "")

    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        Rate(),
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    with Progress(*columns, console=Console(stderr=True), expand=True) as bar:
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
        print(text, file=sys.stderr, flush=True)

    def advance(n: int) -> None:
        nonlocal done, last_line
        done += n
        if time.monotonic() - last_line > _EVERY:
            last_line = time.monotonic()
            print_line()

    yield advance
    print_line()
