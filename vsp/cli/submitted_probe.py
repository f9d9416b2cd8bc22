"""The options of `vsp probe` that stand after `--` in `vsp submit`, `vsp resume` and `vsp sweep`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NoReturn

from vsp.choices import ALL, STORED_POSITIONS
from vsp.cli.arguments import add_layers, add_position
from vsp.cli.parser import Parser
from vsp.cli.probe_options import add_probe_options, probe_settings
from vsp.errors import ConfigError

if TYPE_CHECKING:
    from vsp.cluster.probe_choice import ProbeChoice
    from vsp.storage.run import Run

# Options of `vsp probe` that the submission sets, and what to do instead.
_NOT_HERE = {
    "--run": "name the run before --",
    "--n-jobs": "write cpus_per_task under `cpu` in the profile",
    "--part": "use --probe-tasks before --",
    "--partial": "use --after any before --",
    "--requeue": "write `requeue: true` in the profile",
    "--dry-run": "write it before --",
    "--quiet": "write it before --",
    "--verbose": "write it before --",
}


def add_submitted_probe(parser: argparse.ArgumentParser) -> None:
    """Let the command take options of `vsp probe` after `--`; they are `arguments.rest`."""
    assert isinstance(parser, Parser)
    parser.takes_rest = True
    parser.add_argument_group(
        "how the probe stage probes",
        "options of `vsp probe` that define a setting, after --, such as\n"
        f"  {parser.prog} … -- --probe mass-mean --repeats 10",
    )


def probe_choice(words: Sequence[str], source: str = "") -> ProbeChoice:
    """The settings that the words define. A word that `vsp probe` refuses ends the program.

    With the `source` of the words, a file, such a word raises ConfigError.
    """
    from vsp.cluster.probe_choice import ProbeChoice
    from vsp.evaluation.probe_settings import setting_name

    for word in words:
        option = word.partition("=")[0]
        if option in _NOT_HERE:
            where = f"{source}: probe: {option}" if source else f"{option} after --"
            raise ConfigError(f"{where}: {_NOT_HERE[option]}")
    arguments = _parser(source).parse_args(list(words))
    one = None if arguments.position == ALL else arguments.position
    settings = probe_settings(arguments, one or STORED_POSITIONS[0])
    names = {
        position: setting_name(replace(settings, position=position), arguments.layers)
        for position in ([one] if one else STORED_POSITIONS)
    }
    found = _with_absolute_probe(words, arguments.probe, settings.probe)
    return ProbeChoice(found, names, one, arguments.layers is not None)


def checked_choice(
    words: Sequence[str], runs: Sequence[Run], probe_tasks: int, source: str = ""
) -> ProbeChoice:
    """As `probe_choice`. Raises a VspError for what `vsp probe` would refuse for one of the runs."""
    choice = probe_choice(words, source)
    if choice.layers and probe_tasks:
        raise ConfigError(
            f"--probe-tasks {probe_tasks}: splits all layers; leave it out, or --layers after --"
        )
    if not words:
        return choice
    from vsp.evaluation.probe_work import check_settings

    arguments = _parser(source).parse_args(list(words))
    for run in runs:
        choice.settings(run)  # raises RunError for a position that the run does not have
        check_settings(probe_settings(arguments, STORED_POSITIONS[0]), run.plan.labels)
    return choice


class _FileParser(Parser):
    """A parser of words in a file, `source`."""

    source = ""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{self.source}: probe: {message}")


def _parser(source: str = "") -> Parser:
    parser = (_FileParser if source else Parser)(prog="vsp probe", add_help=False)
    if isinstance(parser, _FileParser):
        parser.source = source
    add_layers(parser)
    add_position(parser, (ALL,), default=ALL)
    add_probe_options(parser)
    return parser


def _with_absolute_probe(words: Sequence[str], typed: str, absolute: str) -> tuple[str, ...]:
    """The words with the full path of the user's file, which `vsp resume` finds from any folder."""
    named = {typed: absolute, f"--probe={typed}": f"--probe={absolute}"}
    return tuple(named.get(word, word) for word in words) if typed != absolute else tuple(words)
