"""The command `vsp status`."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from vsp.cli.arguments import add_command, add_profile, add_run, at_least
from vsp.cli.chosen_run import chosen_run
from vsp.cli.output import print_json
from vsp.cli.profile_choice import profile_of
from vsp.errors import ConfigError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from vsp.cluster.contract import Scheduler
    from vsp.cluster.next_commands import Situation
    from vsp.storage.run import Run

_WATCH_SECONDS = 5  # between two looks at the queue


def add_status(subparsers: Any) -> None:
    parser = add_command(
        subparsers,
        "status",
        _status,
        "show the state of each stage and shard, why it stopped, and what to type next",
        example="vsp status\nvsp status --watch\nvsp status llava15-spatial --watch 60",
        guide="docs/cluster.md",
        interrupted="nothing was changed",
    )
    add_run(parser)
    add_profile(parser)
    parser.add_argument("--all", action="store_true", help="show every shard of a large run")
    form = parser.add_mutually_exclusive_group()
    form.add_argument(
        "--watch",
        type=_seconds_or_run,
        nargs="?",
        const=_WATCH_SECONDS,
        metavar="SECONDS",
        help=f"refresh every SECONDS ({_WATCH_SECONDS} if not given) until the run has ended, or Ctrl-C",
    )
    form.add_argument("--json", action="store_true", help="print JSON")


def _status(arguments: argparse.Namespace) -> None:
    from vsp.cluster.jobs import scheduler_of
    from vsp.cluster.next_commands import next_commands
    from vsp.reporting.status_page import status_json, status_page
    from vsp.utils.terminal import show, watch

    arguments.run, seconds = _watched(arguments)
    run = chosen_run(arguments)
    name = arguments.run
    scheduler = scheduler_of(profile_of(run, arguments.profile, log=False)[0])

    def draw() -> tuple[RenderableType, bool]:
        now = _read(run, scheduler, name)
        commands, is_last = next_commands(now), now.has_ended
        if seconds is not None:  # without the command that is running
            own = now.command("status", "--watch")
            commands = [one for one in commands if not one.startswith(own)]
        clock = "" if seconds is None else _clock(seconds, is_last)
        return status_page(now.status, arguments.all, commands, now.stages, clock), is_last

    if arguments.json:
        now = _read(run, scheduler, name)
        print_json(status_json(now.status, now.stages, next_commands(now)))
    elif seconds is not None:
        watch(draw, seconds)
    else:
        show(draw()[0])


def _read(run: Run, scheduler: Scheduler, name: str | None) -> Situation:
    """The state of the run now; `name` is the run as the user gave it."""
    from vsp.cluster.jobs import task_states
    from vsp.cluster.next_commands import Situation
    from vsp.cluster.run_stages import run_stages
    from vsp.cluster.status import run_status
    from vsp.cluster.submitted import known_submissions, probing_submission

    ledgers = run.ledgers()
    states = task_states(run, scheduler, ledgers)
    sent, damage = known_submissions(run)
    probing = probing_submission(sent)
    status = run_status(run, ledgers, states, damage)
    return Situation(
        status=status,
        stages=run_stages(run, status, states, sent),
        has_queue=scheduler.has_queue(),
        run=name or run.name,
        imported=run.plan.imported is not None,
        effects=run.plan.effects is not None,
        answered=not states.problem,
        probe=() if probing is None else probing.probe,
    )


def _watched(arguments: argparse.Namespace) -> tuple[str | None, int | None]:
    """The run, and the seconds between two pages of --watch; None: one page."""
    given = arguments.watch
    if not isinstance(given, str):
        return arguments.run, given
    if arguments.run is not None:
        raise ConfigError(
            f"--watch {given!a}: must be a number of seconds, because --run names the run"
        )
    return given, _WATCH_SECONDS


def _clock(seconds: int, is_last: bool) -> str:
    from datetime import datetime

    now = datetime.now().astimezone().strftime("%H:%M:%S")
    return f"{now}, {'nothing waits or runs any more' if is_last else f'again in {seconds} s; Ctrl-C ends this'}"


def _seconds_or_run(text: str) -> int | str:
    """The argument type of --watch: `vsp status --watch RUN` names a run."""
    if text.isdecimal() or not text.strip():
        return at_least(1)(text)
    return text
