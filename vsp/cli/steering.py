"""`vsp steer`: plan a run of answers while a direction is added to states, or a label erased."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from vsp.choices import LAST, POSITIONS
from vsp.cli.arguments import add_command, add_run, at_least
from vsp.cli.chosen_run import chosen_run
from vsp.cli.effect_options import add_effect_options, chosen_layers, plan_and_say

if TYPE_CHECKING:
    from vsp.extraction.effects_plan import EffectsRequest
    from vsp.storage.changes import Directions, Erasers
    from vsp.storage.effects import Kind, Setting
    from vsp.storage.run import Run

ERASERS = ("leace", "inlp", "random")
FEWEST_RANDOM = 20  # random controls that a claim needs
_SCALES = (1.0, 2.0, 4.0)


def add_commands(subparsers: Any) -> None:
    parser = add_command(
        subparsers,
        "steer",
        _steer,
        "plan the answers of a run while a direction is added to its hidden states, or a label erased",
        example="vsp steer llava15-spatial --layers 8-20 --scale 0.5 1 2 4\n"
        "vsp steer llava15-spatial --erase leace --layers 12,16,20",
        guide="docs/interventions.md",
        interrupted="the unfinished run was removed; the same command starts over",
    )
    add_run(parser)
    parser.add_argument(
        "--position",
        choices=POSITIONS,
        default=LAST,
        metavar="NAME",
        help=f"tokens whose states are changed, at a position that RUN has recorded, from "
        f"{','.join(POSITIONS)} (default: {LAST})",
    )
    _add_directions(parser)
    parser.add_argument(
        "--erase",
        choices=ERASERS,
        help="take the label out of the states instead of adding a direction, with the eraser of this "
        "method",
    )
    parser.add_argument(
        "--random",
        type=at_least(0),
        default=FEWEST_RANDOM,
        metavar="N",
        help="random directions of equal norm, or random subspaces of equal rank, beside it "
        "(default: %(default)s, which a claim needs)",
    )
    parser.add_argument(
        "--partial",
        action="store_true",
        help="fit directions and erasers although rows of RUN are missing or failed",
    )
    add_effect_options(parser, "the random directions and the drawn rows")


def _add_directions(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("the direction")
    group.add_argument(
        "--direction",
        metavar="probe|mean-difference|FILE",
        help="difference of two labels' weights in the saved probe, difference of their mean states, "
        "or a file of directions by layer (default: mean-difference)",
    )
    group.add_argument(
        "--probe",
        metavar="NAME",
        help="the results whose saved probe gives the direction, a folder in results/RUN/; with "
        "--direction probe (default: the newest)",
    )
    group.add_argument(
        "--scale",
        type=_scale,
        nargs="+",
        metavar="X",
        help="multiples of the direction (default: 1 2 4)",
    )
    group.add_argument(
        "--target",
        metavar="LABEL",
        help="label that all other rows are steered to (default: for each label the next one, "
        "for the last label the first one)",
    )
    group.add_argument(
        "--unrelated",
        metavar="FIELD",
        help="field of the dataset's records whose direction is a control (default: the labels of a "
        "control task)",
    )


def _scale(text: str) -> float:
    from math import isfinite

    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not isfinite(value) or abs(value) > 1e6:
        raise argparse.ArgumentTypeError(f"{text!r}: write a number, such as 0.5 or -2")
    return value


def _steer(arguments: argparse.Namespace) -> None:
    _check(arguments)

    def request() -> tuple[EffectsRequest, list[str]]:
        from vsp.extraction.effects_plan import check_can_change

        run = chosen_run(arguments)
        check_can_change(run, "steer")
        run.states(arguments.position)
        if arguments.erase is not None:
            return _erasure(arguments, run)
        return _direction(arguments, run)

    plan_and_say(arguments, request)


def _check(arguments: argparse.Namespace) -> None:
    """Raise ConfigError for options that do not go together."""
    from vsp.errors import ConfigError

    if arguments.erase is not None:
        for name in ("direction", "probe", "scale", "target", "unrelated"):
            if getattr(arguments, name) is not None:
                raise ConfigError(
                    f"--{name} is about a direction, and --erase {arguments.erase} adds none; leave one "
                    "of them out"
                )
        if arguments.erase == "random" and arguments.random == 0:
            raise ConfigError("--erase random needs a random subspace; use --random 1 or more")
    if arguments.probe is not None and arguments.direction != "probe":
        raise ConfigError("--probe names saved probes; add --direction probe")


def _few_random(n_random: int) -> list[str]:
    if n_random >= FEWEST_RANDOM:
        return []
    return [f"{n_random} random controls: too few for a claim, which needs {FEWEST_RANDOM} or more"]


def _direction(arguments: argparse.Namespace, run: Run) -> tuple[EffectsRequest, list[str]]:
    from vsp.evaluation.directions import steering_directions
    from vsp.storage.effects import Setting

    directions = steering_directions(
        run,
        layers=chosen_layers(run, arguments.layers),
        position=arguments.position,
        kind=arguments.direction or "mean-difference",
        target=arguments.target,
        n_random=arguments.random,
        unrelated=arguments.unrelated,
        seed=arguments.seed,
        probe=arguments.probe,
        partial=arguments.partial,
    )
    scales = tuple(dict.fromkeys(arguments.scale or _SCALES))
    settings = [Setting(name=name, scale=scale) for name in directions.names for scale in scales]
    return _request(arguments, run, "steer", directions, settings, directions.target_of)


def _erasure(arguments: argparse.Namespace, run: Run) -> tuple[EffectsRequest, list[str]]:
    from vsp.evaluation.effect_rows import next_label
    from vsp.evaluation.erasers import erasers
    from vsp.storage.effects import Setting

    fitted = erasers(
        run,
        layers=chosen_layers(run, arguments.layers),
        position=arguments.position,
        kind=arguments.erase,
        n_random=arguments.random,
        seed=arguments.seed,
        partial=arguments.partial,
    )
    settings = [Setting(name=name, scale=1.0) for name in fitted.names]
    return _request(arguments, run, "erase", fitted, settings, next_label(run.plan.labels).get)


def _request(
    arguments: argparse.Namespace,
    run: Run,
    kind: Kind,
    fitted: Directions | Erasers,
    settings: Sequence[Setting],
    target_of: Callable[[str], str | None],
) -> tuple[EffectsRequest, list[str]]:
    """The run to plan on the rows on which `fitted` was not fitted, and notes about it."""
    from vsp.evaluation.effect_rows import choose_rows
    from vsp.extraction.effects_plan import EffectsRequest

    rows = choose_rows(
        run,
        fitted.fitted_on.tested,
        lambda _, sample: target_of(sample.label),
        arguments.rows,
        arguments.seed,
    )
    request = EffectsRequest(
        run=run,
        kind=kind,
        layers=fitted.layers,
        position=arguments.position,
        settings=tuple(settings),
        rows=rows.row,
        targets=rows.target,
        changes=fitted.arrays(),
        seed=arguments.seed,
    )
    return request, [*fitted.notes, *rows.notes, *_few_random(arguments.random)]
