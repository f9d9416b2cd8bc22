"""Prints pages to the terminal.

Pages hold names and errors from files of others. Their text becomes a `Text` of rich in `text_line`
and `text_lines` only, escaped (`vsp.escaping`): before the layout, so that widths are right. `Page`
is the console of all pages; it reads no markup and escapes what passed these functions by.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from io import StringIO, TextIOBase
from typing import IO, Any, cast

from rich.console import Console, ConsoleOptions, RenderableType
from rich.file_proxy import FileProxy
from rich.live import Live
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from vsp.escaping import escaped, one_line
from vsp.utils.streams import EscapingStream


def text_line(text: str = "", style: str = "", no_wrap: bool | None = None) -> Text:
    """Text of one line, escaped; a long line is wrapped between words."""
    return Text(one_line(text), style=style, no_wrap=no_wrap)


def text_lines(lines: Iterable[str], style: str = "") -> Text:
    """Lines of text, escaped."""
    return Text("\n".join(map(one_line, lines)), style=style)


def folded_text(text: str, style: str = "") -> Text:
    """Text of one line, escaped; long words are folded onto the next line, not cut off."""
    return Text(one_line(text), overflow="fold", style=style)


def fact_table(facts: Mapping[str, str | Sequence[str]]) -> Table:
    """A table of two columns: name and fact, of one line or of several."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, fact in facts.items():
        table.add_row(name, text_lines([fact] if isinstance(fact, str) else fact))
    return table


class Page(Console):
    """A console of rich that prints text as it is: escaped, without markup, emoji codes or links.

    It writes past the escaping of the stream, because it makes commands of its own.
    """

    def __init__(self, stream: IO[str], width: int | None = None) -> None:
        terminal = None if stream.isatty() else False
        super().__init__(
            file=_past_escaping(stream), width=width, force_terminal=terminal, highlight=False
        )

    def render_str(self, text: str, **options: Any) -> Text:
        """Text of one line; rich calls this for every str, in a table too."""
        kept = {key: options[key] for key in ("style", "justify", "overflow") if key in options}
        return Text(one_line(text), **kept)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterator[Segment]:
        """The segments of a renderable; escapes text that is not escaped yet."""
        for segment in super().render(renderable, options):
            if segment.control is None:
                yield Segment(escaped(segment.text), segment.style)
            else:
                yield segment


class _PastEscaping(TextIOBase):
    """Writes to a stream without its escaping."""

    def __init__(self, stream: EscapingStream) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        self._stream.write_raw(text)
        return len(text)

    def flush(self) -> None:
        self._stream.flush()

    def isatty(self) -> bool:
        return self._stream.isatty()

    def fileno(self) -> int:
        return self._stream.fileno()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._stream.encoding


def _past_escaping(stream: IO[str]) -> IO[str]:
    stream = getattr(stream, "rich_proxied_file", stream)  # that of an outer live display
    if isinstance(stream, EscapingStream):
        return cast(IO[str], _PastEscaping(stream))
    return stream


def show(renderable: RenderableType) -> None:
    """Print to stdout: in colour on a terminal, otherwise plain and 80 columns wide."""
    if sys.stdout.isatty():
        Page(sys.stdout).print(renderable)
        return
    print(plain_text(renderable))


def plain_text(renderable: RenderableType) -> str:
    """A page without colours, 80 columns wide, without spaces at the ends of lines."""
    plain = StringIO()
    Page(plain, width=80).print(renderable)
    return "\n".join(line.rstrip() for line in plain.getvalue().split("\n")[:-1])


def watch(page: Callable[[], tuple[RenderableType, bool]], seconds: int) -> None:
    """Redraw a page every few seconds until it is the last one, which `page` says, or Ctrl-C.

    Without a terminal, print it repeatedly.
    """
    if not sys.stdout.isatty():
        while True:
            drawn, is_last = page()
            show(drawn)
            sys.stdout.flush()
            if is_last:
                return
            print(flush=True)
            time.sleep(seconds)
    drawn, is_last = page()
    console = Page(sys.stdout)
    with (
        suppress(KeyboardInterrupt),
        printing_above(console),
        Live(
            drawn,
            console=console,
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=False,
        ) as live,
    ):
        while not is_last:
            time.sleep(seconds)
            drawn, is_last = page()
            live.update(drawn, refresh=True)


class _Above(FileProxy):
    """Prints above a live display of rich what is written to a stream, escaped."""

    def write(self, text: str) -> int:
        super().write(escaped(text))
        return len(text)


@contextmanager
def printing_above(console: Page) -> Iterator[None]:
    """While a live display is on: print above it what is written to stdout and stderr.

    The display needs `redirect_stdout=False, redirect_stderr=False`: rich's own redirection obeys
    commands for the terminal in what is written.
    """
    before = sys.stdout, sys.stderr
    above = [cast(Any, _Above(console, stream)) for stream in before]
    sys.stdout, sys.stderr = (
        new if old.isatty() else old for new, old in zip(above, before, strict=True)
    )
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
        for stream in above:
            stream.flush()
