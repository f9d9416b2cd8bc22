"""Narrow and wide terminals.

A user works in half a window, and on a wide screen.
"""

import pytest
from helpers.journey import User

WIDTHS = (60, 80, 200)


@pytest.fixture
def looks(project):
    """Types a command in terminals of each width; returns what is seen in each."""
    user = User(project)

    def look(number, line, expects, *shown):
        return {width: user.types(number, line, expects, *shown, columns=width) for width in WIDTHS}

    user.looks = look
    return user


def test_tables_fit_every_terminal_and_use_a_wide_one(looks):
    seen = looks.looks(131, "vsp report fake-demo", "no digit is cut; the bars use a wide terminal", "layer accuracy", "The figure to cite")  # fmt: skip
    assert _longest(seen[200]) > _longest(seen[80])
    seen = looks.looks(132, "vsp runs", "columns are left out where there is no room, and named", "fake-demo-question")  # fmt: skip
    assert "no room for" in seen[60].words and "no room for" not in seen[200].words
    looks.looks(133, "vsp status fake-demo", "shards and stages", "100% done", "extract done")
    looks.looks(134, "vsp compare fake-demo fake-demo-question", "all figures of each layer", "p corr.", "diff.")  # fmt: skip
    seen = looks.looks(135, "vsp evaluate fake-demo --on fake-demo-question", "all figures, or columns left out", "layer accuracy", "diff.")  # fmt: skip
    assert "Not shown at this width" in seen[60].words and "own" in seen[200].words
    looks.looks(136, "vsp evaluate fake-demo fake-demo-question --on fake-demo fake-demo-question", "a matrix, and a line for each pair", "trained on ↓, on →", "diff.")  # fmt: skip
    seen = looks.looks(137, "vsp models", "one line for each model where there is room", "llava-1.5-7b", "llava-hf/llava-1.5-7b-hf")  # fmt: skip
    assert "checkpoint" in seen[200].out.splitlines()[0]
    looks.looks(138, "vsp dataset show data/raw/demo", "counts and prompts", "left_of", "sheet.png")
    looks.looks(139, "vsp verify fake-demo", "one line", "96 rows checked: all match")
    looks.looks(140, "vsp logs fake-demo", "where the logs are", "logs")
    looks.looks(141, "vsp report fake-demo --rows all", "a line for each row", "margin")
    looks.looks(142, "vsp help probe", "help that fits", "--probe-option")
    looks.looks(143, "vsp plan --model fake --dataset data/raw/demo --limit 20", "facts are wrapped, commands are not", "vsp submit")  # fmt: skip
    looks.types(
        144, "vsp export fake-demo --to npz --out x.npz", "where the file is", "x.npz", columns=60
    )


def test_a_command_in_a_process_of_its_own_has_the_width_of_its_terminal(project):
    seen = User(project).types(
        145, "vsp report fake-demo; vsp runs", "two pages of 60 columns", "layer accuracy", "no room for",
        columns=60,
    )  # fmt: skip
    assert max(map(len, seen.out.splitlines())) <= 60


def _longest(seen):
    return max(map(len, seen.out.splitlines()))
