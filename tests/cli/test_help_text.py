"""Help fits the terminal, and its example commands are still read by a shell as they were."""

import re
import shlex

import pytest

from vsp.cli.help_text import fitted
from vsp.cli.main import make_parser

COMMANDS = {"": make_parser()} | make_parser().all_commands()


@pytest.mark.parametrize("width", [60, 80, 200])
def test_no_line_of_help_is_longer_than_the_terminal(width, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(width))
    parsers = {"": make_parser()} | make_parser().all_commands()
    too_long = [
        (name, line)
        for name, parser in parsers.items()
        for line in parser.format_help().splitlines()
        if len(line) > width
        and not re.search(r"\S,\S+,\S|\.\.\.\]", line)  # argparse breaks no list
    ]
    assert not too_long
    assert width < 80 or all(
        len(line) <= width
        for parser in parsers.values()
        for line in parser.format_help().splitlines()
    )


@pytest.mark.parametrize("width", [45, 60, 80])
def test_a_shell_reads_a_wrapped_example_as_the_same_command(width):
    for parser in COMMANDS.values():
        _, found, examples = (parser.epilog or "").partition("example:\n")
        if not found:
            continue
        text = examples.partition("\n\nguide:")[0]
        wrapped = "\n".join(part for line in text.splitlines() for part in fitted(line, width))
        assert _words(wrapped) == _words(text)


def _words(text):
    """The words of each command; spaces within quotes count once."""
    lines = text.replace("\\\n", "").splitlines()
    words = [shlex.split(line, comments=True) for line in lines]
    return [[" ".join(word.split()) for word in line] for line in words if line]


def test_an_explanation_that_does_not_fit_stands_below_its_command():
    assert fitted("  vsp submit          extract, verify and report", 42) == [
        "  vsp submit          extract, verify and", "                      report",
    ]  # fmt: skip
    assert fitted("  vsp submit          extract, verify and report", 35) == [
        "  vsp submit", "      extract, verify and report",
    ]  # fmt: skip
