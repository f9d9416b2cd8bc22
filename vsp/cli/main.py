"""The entry point: parses a command line, runs the command, turns errors into exit codes.

Every array task imports this package over a network file system, and `vsp --help` must answer at
once. Therefore commands import their stages inside their handlers.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vsp import __version__
from vsp.cli import (
    answering,
    axes,
    bench,
    data,
    effects,
    evaluating,
    exporting,
    importing,
    models,
    patching,
    planning,
    probing,
    removing,
    results,
    run_list,
    runs,
    steering,
    studying,
    sweeping,
    viewing,
)
from vsp.cli.arguments import add_command, add_saying
from vsp.cli.failed_plan import note_failed_plan
from vsp.cli.output import print_aside, print_cause
from vsp.cli.parser import Parser
from vsp.errors import VspError
from vsp.utils.import_path import leave_out_working_folder
from vsp.utils.quiet import is_verbose, saying
from vsp.utils.signals import Stopped
from vsp.utils.streams import escape_output

# Modules with commands, in the order of `vsp --help`.
FAMILIES = (
    data,
    importing,
    models,
    planning,
    sweeping,
    studying,
    run_list,
    removing,
    runs,
    answering,
    probing,
    evaluating,
    steering,
    patching,
    axes,
    effects,
    results,
    viewing,
    exporting,
    bench,
)
PLANNING = ("plan", "sweep", "study")  # commands after which the newest run is a new one
_WORKFLOW = """\
the usual order:
  vsp generate --config spatial         or `vsp import` for real photographs
  vsp dataset show data/raw/spatial     counts, and a sheet of pictures
  vsp plan --model llava15 --checkpoint DIR
  vsp submit                            extract, verify, probe and report on Slurm
  vsp status --watch
  vsp resume                            submit what is unfinished

without Slurm:
  vsp extract; vsp verify; vsp probe; vsp report --plot accuracy.png

`vsp help COMMAND` shows the options of a command.
"""


def console() -> None:
    """The command line of this process: arguments from `sys.argv`, exit codes to the shell."""
    leave_out_working_folder()  # the `vsp` script of an older installation begins here
    escape_output()
    if "_ARGCOMPLETE" in os.environ:  # a shell asks for completions
        from vsp.cli.completion import complete

        complete(make_parser())
    try:
        code = main(sys.argv[1:])
        # The command has ended. While the interpreter ends, Ctrl-C would kill it without a message.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    except KeyboardInterrupt:
        print_aside("vsp: interrupted")
        code = 130
    sys.exit(code)


def main(argv: Sequence[str]) -> int:
    """Run one command and return its exit code.

    A VspError is printed on stderr in one line, after its details; the code is then 1.
    """
    try:
        try:
            return _run(argv)
        finally:  # also after `--help`, which ends the program
            if sys.stdout is not None:
                sys.stdout.flush()
    except VspError as error:  # stdout cannot be written
        print_aside(f"vsp: {error}")
        return 1
    except BrokenPipeError:  # the reader of a pipe has ended
        return 141


def _run(argv: Sequence[str]) -> int:
    parser = make_parser()
    try:
        arguments = parser.parse_args(argv)
    except SystemExit as end:
        command = next((word for word in argv if not word.startswith("-")), "")
        if end.code == 2 and command in PLANNING:
            note_failed_plan(argv, Path())
        raise
    quiet, verbose = "quiet" in arguments, "verbose" in arguments
    if quiet and verbose:
        parser.error("--quiet and --verbose exclude each other; keep one of them")
    arguments.words = tuple(word for word in argv if word not in ("--quiet", "--verbose"))
    with saying(quiet, verbose):
        return _handle(arguments)


def _handle(arguments: argparse.Namespace) -> int:
    """Call the command's handler, and print what ends it."""
    from vsp.cli.log_messages import print_log_messages  # `vsp --help` does not load logging

    print_log_messages()
    try:
        arguments.handler(arguments)
    except VspError as error:
        if is_verbose():
            print_cause(error)
        for detail in error.details:
            print_aside(f"  {detail}")
        print_aside(f"vsp: {error}")
        return 1
    except Stopped as stopped:
        print_aside(f"vsp: {stopped}; {arguments.interrupted}")
        return 128 + stopped.number
    except KeyboardInterrupt as interrupt:
        # A command that knows more than the general sentence raises it with the interrupt.
        print_aside(f"vsp: interrupted; {str(interrupt) or arguments.interrupted}")
        return 130
    return 0


def make_parser() -> Parser:
    """The parser of all commands."""
    parser = Parser(
        prog="vsp",
        description="Where inside a vision-language model is the knowledge of spatial relations?",
        epilog=_WORKFLOW,
    )
    parser.add_argument("--version", action="version", version=f"vsp {__version__}")
    add_saying(parser)
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for family in FAMILIES:
        family.add_commands(subparsers)
    _add_help(subparsers, parser)
    parser.adopt_commands()
    return parser


def _add_help(subparsers: Any, parser: Parser) -> None:
    """Add `vsp help`, which shows the help of a command as `vsp COMMAND --help` does."""

    def show(arguments: argparse.Namespace) -> None:
        parser.parse_args([*arguments.command, "--help"])

    command = add_command(
        subparsers,
        "help",
        show,
        "show all commands, or the options of a command",
        example="vsp help\nvsp help dataset show",
        guide="docs/troubleshooting.md",
        interrupted="nothing was changed",
    )
    command.add_argument(
        "command", nargs="*", metavar="COMMAND", help="a command, as plan (default: all commands)"
    )
