"""The options of `vsp plan` in a study: as typed, as its file holds them, and as a plan reads them."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any, NoReturn

from vsp.cli.arguments import add_model_options
from vsp.cli.planning import add_computed, add_jobs
from vsp.datasets.prompts import STYLES
from vsp.errors import ConfigError

PROFILE = "profile"  # an option of the jobs that is not kept in a study


def add_plan_options(parser: argparse.ArgumentParser) -> None:
    """Add the options. An option that is not typed is absent from the namespace."""
    computed = parser.add_argument_group("what is computed, for all runs")
    _add_computed(computed)
    jobs = parser.add_argument_group("where and how all runs are computed")
    add_jobs(jobs)
    for group in (computed, jobs):
        for action in group._group_actions:
            if action.dest != PROFILE:
                action.help = str(action.help).replace("%(default)s", str(action.default))
                action.default = argparse.SUPPRESS


def _add_computed(group: argparse._ArgumentGroup) -> None:
    add_model_options(group)
    group.add_argument(
        "--prompt", choices=STYLES, help="prompt style (default: as `vsp plan` chooses it)"
    )
    add_computed(group)


def typed_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """The options that were typed, as a study's file holds them."""
    found = {}
    for action in _plan_parser()._actions:
        if action.dest in arguments and action.dest != PROFILE:
            found[_name(action)] = _plain(getattr(arguments, action.dest))
    return found


def _name(action: argparse.Action) -> str:
    return action.option_strings[0].removeprefix("--")


def _plain(value: Any) -> Any:
    """The value as YAML holds it."""
    if isinstance(value, tuple):  # positions and modules
        return ",".join(value)
    if isinstance(value, list):  # --option KEY=VALUE
        return dict(value)
    return value if isinstance(value, bool | int) else str(value)


def parsed_options(options: Mapping[str, Any], source: str) -> argparse.Namespace:
    """The options of a study as `vsp plan` parses them, with its defaults for the others.

    Raises ConfigError, naming `source`, for a value that `vsp plan` refuses.
    """
    parser = _plan_parser()
    words = []
    for name, value in options.items():
        if isinstance(value, dict):
            words += [f"--{name}={key}={_yaml(one)}" for key, one in value.items()]
        elif value is True:
            words.append(f"--{name}")
        elif value is not False:
            words.append(f"--{name}={value}")
        elif name == "answers":
            words.append("--no-answers")
    try:
        return parser.parse_args(words)
    except _RefusedError as error:
        raise ConfigError(f"{source}: plan: {error}") from None


def _yaml(value: Any) -> str:
    """A value in one line of YAML."""
    import yaml

    text: str = yaml.safe_dump(value, default_flow_style=True, width=1 << 20)
    return text.strip().removesuffix("...").strip()


class _RefusedError(Exception):
    """The message of argparse about an option."""


class _PlanParser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise _RefusedError(message)


def _plan_parser() -> argparse.ArgumentParser:
    """The options of `vsp plan` with its defaults."""
    parser = _PlanParser(add_help=False, allow_abbrev=False)
    group = parser.add_argument_group("plan")
    _add_computed(group)
    add_jobs(group)
    return parser
