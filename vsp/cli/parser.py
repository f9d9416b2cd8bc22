"""The parser of the command line: argparse, with errors of one line that name what was meant.

Options and positional arguments may come in any order, and no option may be abbreviated: a script
with `--n` would change its meaning with the next option that begins so.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from itertools import takewhile
from typing import Any, NoReturn

from vsp.cli.help_text import HelpFormatter
from vsp.cli.output import print_aside
from vsp.utils.spelling import did_you_mean, nearest_names, unknown_name

EVERY_COMMAND = "with every command"  # title of the options that all commands have
_MOST_COMMANDS = 3  # that are named as those which have an option


class Parser(argparse.ArgumentParser):
    """The parser of `vsp`, and those of its commands, which argparse makes of the same class."""

    root: Parser | None = None  # that of `vsp`; None: this one
    takes_rest = (
        False  # whether words after "--" are kept as `rest`, for a parser of another command
    )
    lenient = False  # for shell completion, which parses a line that is not complete

    def __init__(self, *arguments: Any, **options: Any) -> None:
        options.setdefault("allow_abbrev", False)
        options.setdefault("formatter_class", HelpFormatter)
        super().__init__(*arguments, **options)
        self._between = False  # inside parse_known_intermixed_args, which parses in two steps

    def error(self, message: str) -> NoReturn:
        """End with exit code 2, where the help is, and what is wrong in one line."""
        name = self.prog.removeprefix("vsp").strip()
        arguments = "OPTIONS" if name else "COMMAND"
        print_aside(f"usage: {self.prog} {arguments}; `{_help(name)}` lists them")
        print_aside(f"{self.prog}: {message}")
        sys.exit(2)

    def format_help(self) -> str:
        """The help text; the options of every command come last, which add_command adds first."""
        self._action_groups.sort(key=lambda group: group.title == EVERY_COMMAND)
        return super().format_help()

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[Any, list[str]]:
        """Parse a command: options and positional arguments in any order, nothing unknown."""
        if self._between or Parser.lenient:
            return super().parse_known_args(args, namespace)
        words = sys.argv[1:] if args is None else list(args)
        if self.takes_rest:
            own, rest = _split_rest(words)
            self.set_defaults(rest=rest)
            words = own
        own = [*takewhile(lambda word: word.startswith("-"), words)] if self.commands() else words
        self._check_options(own)
        if self.commands():
            return super().parse_known_args(words, namespace)
        found, unknown = self._parse_mixed(words, namespace)
        for one in unknown:
            if one != "--":
                self.error(f"argument '{one}' is one too many; {self._positional()}")
        return found, []

    def commands(self) -> dict[str, Parser]:
        """The commands below this one by name; of `vsp dataset`: show."""
        for action in self._actions:
            if isinstance(action, argparse._SubParsersAction):
                return dict(action.choices)
        return {}

    def adopt_commands(self) -> None:
        """Let the parsers of all commands know each other by this one."""
        for parser in self.all_commands().values():
            parser.root = self

    def options(self) -> set[str]:
        """The long options: --run, --json, …"""
        return {option for option in self._option_string_actions if option.startswith("--")}

    def all_commands(self) -> dict[str, Parser]:
        """The commands that take options by their words: generate, dataset show, …"""
        found: dict[str, Parser] = {}
        for name, parser in self.commands().items():
            below = parser.all_commands()
            found |= {f"{name} {one}": other for one, other in below.items()} or {name: parser}
        return found

    def _parse_mixed(self, words: Sequence[str], namespace: Any) -> tuple[Any, list[str]]:
        """First all options, then the positional arguments.

        argparse then takes the positional arguments out of a help text, forgets "--", and refuses a
        positional argument that excludes an option.
        """
        positional = self._get_positional_actions()
        groups = self._mutually_exclusive_groups
        excludes = any(one in group._group_actions for group in groups for one in positional)
        if excludes or {"-h", "--help", "--"} & set(words):
            return super().parse_known_args(words, namespace)
        self._between = True
        try:
            return self.parse_known_intermixed_args(words, namespace)
        finally:
            self._between = False

    def _check_options(self, words: Sequence[str]) -> None:
        """Refuse the first unknown option, before argparse misses the one that it was meant to be."""
        for word in words:
            if word == "--":
                return
            option = word.partition("=")[0]
            if option.startswith("--") and " " not in option and option not in self.options():
                self.error(f"option {option} is not known; {self._advice(option)}")

    def _positional(self) -> str:
        """The positional arguments that the command takes."""
        names = [str(one.metavar or one.dest) for one in self._get_positional_actions()]
        return f"{self.prog} takes {' and '.join(names) or 'options only'}"

    def _advice(self, option: str) -> str:
        """The nearest options of this command; otherwise those whose help has the word, and the
        commands that have this option.
        """
        names = [one.removeprefix("--") for one in self.options()]
        near = nearest_names(option.removeprefix("--"), names)
        if near:
            return f"did you mean {' or '.join(f'--{one}' for one in near)}?"
        commands = (self.root or self).all_commands()
        having = [name for name, parser in commands.items() if option in parser.options()]
        about = self._about(option.removeprefix("--"))
        if having:
            more = ", …" if len(having) > _MOST_COMMANDS else ""
            named = ", ".join(f"`vsp {name}`" for name in having[:_MOST_COMMANDS])
            return f"{f'{about}; {option}' if about else 'it'} is an option of {named}{more}"
        return f"`{_help(self.prog.removeprefix('vsp').strip())}` lists the options"

    def _about(self, word: str) -> str:
        """ "use `--generate N` (number of rows)": the option that takes a number of what the word names."""
        for one in self._actions:
            begins = re.match(
                rf"(number of|use only the first N) {re.escape(word)}\b", one.help or ""
            )
            if begins and one.option_strings:
                return f"use `{one.option_strings[-1]} {one.metavar or 'N'}` ({begins[0]})"
        return ""

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """Refuse a value that is no choice; argparse calls this for each value."""
        if action.choices is None or value in action.choices:
            return
        known = [str(one) for one in action.choices]
        if isinstance(action, argparse._SubParsersAction):
            near = did_you_mean(str(value), known)
            name = self.prog.removeprefix("vsp").strip()
            message = (
                f"command {value!r} is not known; {near or f'`{_help(name)}` lists the commands'}"
            )
            raise argparse.ArgumentError(None, message)
        what = "/".join(action.option_strings) or str(action.metavar or action.dest)
        raise argparse.ArgumentError(None, unknown_name(what, str(value), known))


def _split_rest(words: Sequence[str]) -> tuple[list[str], tuple[str, ...]]:
    """The words before the first "--", and those after it."""
    end = words.index("--") if "--" in words else len(words)
    return list(words[:end]), tuple(words[end + 1 :])


def _help(command: str) -> str:
    return f"vsp help {command}".rstrip()
