"""`vsp answer`."""

from __future__ import annotations

import argparse
from typing import Any

from vsp.cli.arguments import add_command, add_json, add_run, at_least
from vsp.cli.chosen_run import chosen_run
from vsp.cli.output import print_json
from vsp.utils.signals import stoppable


def add_commands(subparsers: Any) -> None:
    parser = add_command(
        subparsers,
        "answer",
        _answer,
        "let the model write an answer for some rows, and find the option that it names",
        example="vsp answer --generate 200\nvsp answer --run llava15-spatial --generate 50 --tokens 64",
        guide="docs/models.md",
        interrupted="no text was kept; the same command starts over",
    )
    add_run(parser)
    parser.add_argument(
        "--generate",
        type=at_least(1),
        required=True,
        metavar="N",
        help="number of rows, one drawn from each of N equal parts of the run; the same rows every "
        "time",
    )
    parser.add_argument(
        "--tokens",
        type=at_least(1),
        default=32,
        metavar="N",
        help="most tokens of a text (default: %(default)s)",
    )
    add_json(parser)


def _answer(arguments: argparse.Namespace) -> None:
    from vsp.extraction.free_answers import free_answers, write_free_answers
    from vsp.reporting.free_answers_page import free_answers_json, free_answers_page
    from vsp.storage.results import FREE_ANSWERS
    from vsp.utils.terminal import show

    run = chosen_run(arguments)
    run.require_states("answer")
    path = run.results / FREE_ANSWERS
    with stoppable() as stop:
        with stop.free():  # a signal unwinds
            found = free_answers(run, arguments.generate, arguments.tokens)
        write_free_answers(path, found)
    if arguments.json:
        print_json(free_answers_json(found, path))
    else:
        show(free_answers_page(found, path))
