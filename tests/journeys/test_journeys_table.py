"""The table of all actions, README.md in this folder, is that of the journeys."""

import sys
from pathlib import Path

from helpers.journey import actions, broken_lines, table

HERE = Path(__file__).parent
HEAD = (HERE / "README.md").read_text().partition("\n## ")[0]


def test_the_table_lists_every_action_of_the_journeys():
    assert (HERE / "README.md").read_text() == page(), f"write it with python {__file__}"


def test_the_actions_are_numbered_without_a_gap():
    numbers = [number for number, *_ in actions(HERE)]
    assert numbers == list(range(1, len(numbers) + 1)) and len(numbers) >= 110


def test_a_line_of_a_table_that_leaves_the_terminal_is_found():
    row = "layer  accuracy  " + "0.250  " * 10
    assert list(broken_lines(row, 60)) == [row] and not list(broken_lines(row, 200))
    assert not list(broken_lines("note: " + "a sentence  " * 10, 60))


def page() -> str:
    """The text of README.md: its beginning as it is, and the table."""
    return f"{HEAD.rstrip()}\n\n{table(HERE)}"


if __name__ == "__main__":
    (HERE / "README.md").write_text(page())
    sys.exit()
