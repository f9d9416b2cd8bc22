import sys

import pytest
from helpers.hostile import FORGED_LINE, HARMFUL, OF_RICH, TEXT
from helpers.terminals import printed, run_in_terminal
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from vsp.escaping import one_line
from vsp.utils.terminal import fact_table, folded_text, text_line, text_lines


def _shown(renderable, width=1000):
    return printed(renderable, width)


def _table(cell, header="x", **options):
    table = Table(**options)
    table.add_column(header)
    table.add_row(cell)
    return table


@pytest.mark.parametrize(
    "renderable",
    [
        TEXT, text_line(TEXT), folded_text(TEXT), text_lines([TEXT, "b"]), _table(TEXT),
        _table(text_line(TEXT)), _table("a", header=TEXT), fact_table({TEXT: "a"}),
        fact_table({"a": TEXT}), fact_table({"a": [TEXT, "b"]}), Panel(TEXT), _table("a" * 400, title=TEXT, caption=TEXT),
    ],
)  # fmt: skip
def test_a_page_shows_text_as_it_is_wherever_it_stands(renderable):
    shown = _shown(renderable)
    assert one_line(TEXT) in shown and not HARMFUL.search(shown)


def test_text_that_was_not_escaped_is_escaped_at_the_end():
    shown = _shown(Text("a\x1b[7mb\u202e"))
    assert shown == "a\\x1b[7mb\\u202e\n"


@pytest.mark.parametrize("width", [30, 60, 200])
def test_columns_are_as_wide_as_the_escaped_text_and_figures_are_whole(width):
    table = Table(box=None)
    table.add_column("name", overflow="fold")
    table.add_column("n", justify="right", no_wrap=True)
    table.add_row(text_line(TEXT), "123,456,789")
    lines = _shown(table, width).splitlines()
    assert max(map(len, lines)) <= width and lines[1].endswith(" 123,456,789 ")
    folded = "".join(line[1 : width - 13].rstrip() for line in lines[1:])
    assert (
        folded.replace(" ", "") == one_line(TEXT).replace(" ", "")[: len(folded.replace(" ", ""))]
    )


_LIVE = """
import sys
from vsp.utils.streams import escape_output
escape_output()
from vsp.utils import terminal
from vsp.utils.progress import progress
text = {text!r}
if {which!r} == "bar":
    with progress(text, text, 3) as advance:
        print("out", text)
        print("err", text, file=sys.stderr)
        advance(3)
else:
    def page():
        print("out", text)
        print("err", text, file=sys.stderr)
        return terminal.folded_text(text), False
    def sleep(seconds):
        if done: raise KeyboardInterrupt
        done.append(1)
    done = []
    terminal.time.sleep = sleep
    terminal.watch(page, 1)
print("after", text)
"""


@pytest.mark.parametrize("which", ["bar", "page"])
def test_a_live_display_shows_no_command_of_the_text_beside_it(which):
    code = _LIVE.format(text=TEXT.replace("\n", ""), which=which)
    status, raw = run_in_terminal([sys.executable, "-c", code], 1000)
    shown = OF_RICH.sub("", raw)
    text = one_line(TEXT.replace("\n", ""))
    assert status == 0 and not HARMFUL.search(shown) and not FORGED_LINE.search(shown)
    for place in ("out", "err", "after"):
        assert f"{place} {text}" in shown
    assert shown.count(text) > 3  # in the bar or page, too
    assert "\x1b[?25l" in raw and "\x1b[?25h" in raw  # a live display was on
