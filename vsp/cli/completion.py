"""Completes a command line for the shell, by argcomplete: commands, options, and names of what is here.

Each press of the tab key runs vsp, so nothing is imported or read that only a command needs.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from vsp.choices import MODEL_FAMILIES, MODULES, POSITIONS, STORED_POSITIONS
from vsp.cli.parser import Parser
from vsp.cli.state_files import STATES
from vsp.cluster.stages import EFFECTS, STAGES
from vsp.datasets import IMPORTERS, VARIANTS
from vsp.escaping import one_line
from vsp.probes import PROBES
from vsp.utils.config_files import config_names

Names = Callable[[], Iterable[str]]


def complete(parser: Parser) -> None:
    """Print the completions of the line that the shell hands over in variables, and exit."""
    try:
        import argcomplete
    except ImportError:
        sys.exit(1)  # the command itself must not run
    Parser.lenient = True
    for name, command in parser.all_commands().items():
        for action in command._actions:
            known = _names_for(name, action, parser)
            if known is not None:
                action.completer = _completer(known)  # type: ignore[attr-defined]
    argcomplete.autocomplete(parser, always_complete_options=False)
    sys.exit(1)  # reached only if the shell hands over nothing


def _completer(known: Names) -> Callable[..., list[str]]:
    def names(**_: Any) -> list[str]:
        return [name for name in known() if one_line(name) == name]

    return names


def _names_for(command: str, action: argparse.Action, parser: Parser) -> Names | None:
    """The names that an argument takes; None: those of its choices, or files."""
    if command == "plan" and action.dest == "run":
        return tuple  # a new name
    if command == "help" and action.dest == "command":
        return lambda: parser.commands()
    if command == "compare" and action.dest == "positions":
        return lambda: STORED_POSITIONS
    by_argument: dict[str, Names] = {
        "run": _runs,
        "which": _runs,
        "runs": _runs,
        "on": _runs,
        "model": lambda: [*MODEL_FAMILIES, *config_names("configs/models", Path())],
        "config": lambda: config_names("configs", Path(), "_dataset.yaml"),
        "relations": lambda: config_names("configs/relations", Path()),
        "probe": PROBES.own_names,
        "variant": VARIANTS.own_names,
        "source": lambda: [*IMPORTERS.own_names(), STATES],
        "positions": lambda: POSITIONS,
        "position": lambda: STORED_POSITIONS,
        "modules": lambda: MODULES,
        "stages": lambda: (*STAGES, EFFECTS),
        "dataset": _datasets,
        "of": _datasets,
    }
    return by_argument.get(action.dest)


def _runs() -> list[str]:
    """Names of runs in scratch/ and of results in results/, which need no run any more."""
    files = [*Path("scratch").glob("*/plan.json"), *Path("results").glob("*/summary.json")]
    of_settings = Path("results").glob("*/*/summary.json")
    return sorted(
        {*(one.parent.name for one in files), *(one.parent.parent.name for one in of_settings)}
    )


def _datasets() -> list[str]:
    """Folders of datasets in data/, and the folders here."""
    found = [*Path("data").glob("*/metadata.json"), *Path("data").glob("*/*/metadata.json")]
    here = [f"{path}/" for path in Path().iterdir() if path.is_dir() and path.name[0] != "."]
    return sorted({str(path.parent) for path in found} | set(here))
