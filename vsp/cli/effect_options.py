"""Options of `vsp steer` and `vsp patch`, and the last steps that both take."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from vsp.cli.arguments import (
    add_profile,
    add_seed,
    at_least,
    layer_list,
    read_profile,
)
from vsp.cli.output import print_cautions, print_line, terminal_width
from vsp.utils.signals import Stop, stoppable

if TYPE_CHECKING:
    from vsp.extraction.effects_plan import EffectsRequest
    from vsp.storage.run import Run


def add_effect_options(parser: argparse.ArgumentParser, seed_of: str) -> None:
    """Add the options of the rows and of the new run."""
    parser.add_argument(
        "--layers",
        type=some_layers,
        default=None,
        metavar="LIST",
        help="layers at which states are changed, each in its turn, as 0,8-20; 0 is the input of the "
        "first decoder layer (default: all)",
    )
    parser.add_argument(
        "--rows",
        type=at_least(1),
        metavar="N",
        help="at most N test rows: whole groups, drawn in turn from those of each label (default: all)",
    )
    add_seed(parser, seed_of)
    jobs = parser.add_argument_group("the new run")
    jobs.add_argument("--run-name", metavar="NAME", help="its name (default: from that of RUN)")
    jobs.add_argument(
        "--shards",
        type=at_least(1),
        metavar="N",
        help="number of array tasks (default: as RUN has)",
    )
    add_profile(jobs)


def some_layers(text: str) -> list[int] | None:
    """Layers as 0,8-20; None: all."""
    return None if text == "all" else layer_list(text)


def chosen_layers(run: Run, layers: list[int] | None) -> tuple[int, ...]:
    """The layers in ascending order. Raises ConfigError if the run does not have one of them."""
    from vsp.errors import ConfigError

    n_layers = run.plan.n_layers
    chosen = tuple(range(n_layers) if layers is None else sorted(set(layers)))
    if chosen[-1] >= n_layers:
        raise ConfigError(f"--layers {chosen[-1]}: run {run.name} has layers 0 to {n_layers - 1}")
    return chosen


def plan_and_say(
    arguments: argparse.Namespace, request: Callable[[], tuple[EffectsRequest, list[str]]]
) -> None:
    """Plan the run that `request` makes with its notes, and print what it computes."""
    from vsp.extraction.effects_plan import plan_effects
    from vsp.reporting.effects_summary import effects_lines

    with stoppable() as stop:
        with stop.free():  # a signal unwinds, so that the reserved array is removed
            wanted, notes = request()
            profile = read_profile(arguments.profile)
            wanted = replace(
                wanted, name=arguments.run_name, n_shards=arguments.shards, profile=profile
            )
            planned = plan_effects(wanted, Path(), stop.hold)
        arguments.interrupted = f"run {planned.run.name} is planned"
        print_cautions([*notes, *planned.notes])
        for line in effects_lines(planned, terminal_width()):
            print_line(line)
        _end(stop)


def _end(stop: Stop) -> None:
    with stop.free():  # raises for a signal that came since the run has its name
        pass
