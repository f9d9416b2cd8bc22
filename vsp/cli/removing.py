"""`vsp rm`: remove the states of runs, and their results if wanted."""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vsp.cli.arguments import add_command, add_profile, read_profile
from vsp.cli.output import print_aside, print_cautions, print_line
from vsp.errors import ConfigError, RunError

if TYPE_CHECKING:
    from vsp.cluster.run_jobs import Activity
    from vsp.extraction.removal import Removal
    from vsp.storage.run_list import ListedRun

_UNITS = {"h": 3600, "d": 86400, "w": 7 * 86400}


def add_commands(subparsers: Any) -> None:
    parser = add_command(
        subparsers,
        "rm",
        _rm,
        "remove the states of runs, and free their disk space; results are kept unless asked for",
        example="vsp rm llava15-spatial\nvsp rm llava15-trial --results\n"
        "vsp rm --older-than 30d --keep-results --dry-run",
        guide="docs/cluster.md",
        interrupted="`vsp runs` lists what is left",
    )
    parser.add_argument("runs", nargs="*", metavar="RUN", help="run in scratch/ or results/")
    parser.add_argument(
        "--older-than",
        type=_seconds,
        metavar="AGE",
        help="all runs of which no file was written for that long, as 30d, 2w or 12h",
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--results", action="store_true", help="also remove the folder in results/")
    what.add_argument(
        "--keep-results", action="store_true", help="keep the folder in results/ (default)"
    )
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.add_argument(
        "--dry-run", action="store_true", help="show what would be removed, and remove nothing"
    )
    add_profile(parser)


def _rm(arguments: argparse.Namespace) -> None:
    from vsp.extraction.removal import plan_removal
    from vsp.storage.remove_folder import remove_folders
    from vsp.utils.text import format_bytes, format_count

    listed = _chosen(arguments)
    planned = [plan_removal(one, Path(), arguments.results) for one in listed]
    removals = [removal for removal in planned if removal is not None]
    for one, removal in zip(listed, planned, strict=True):
        if removal is None and arguments.older_than is None:
            raise RunError(
                f"run {one.name}: has no states here, only results; `vsp rm {one.name} --results` removes "
                "them"
            )
    if not removals:
        old = ": no run here is that old" if arguments.older_than is not None else ""
        print_line(f"nothing to remove{old}")
        return
    for line in (line for removal in removals for line in removal.lines):
        print_line(line)
    total = format_bytes(sum(removal.n_bytes for removal in removals))
    if arguments.dry_run:
        print_line(f"dry run: nothing was removed; {total} would be freed")
        return
    if not arguments.yes:
        _ask(f"remove {format_count(len(removals), 'run')}, {total}? [y/N] ")
        _require_unchanged(arguments, removals)
    _remove_all(removals, remove_folders)
    print_line(f"removed {format_count(len(removals), 'run')}, {total} freed")


def _remove_all(removals: list[Removal], remove: Any) -> None:
    for n, removal in enumerate(removals):
        try:
            remove(removal.folders)
        except KeyboardInterrupt:
            done = ", ".join(one.name for one in removals[:n]) or "no run"
            raise KeyboardInterrupt(
                f"{done} was removed whole, {removal.name} perhaps in part: `vsp runs` lists what is left"
            ) from None


def _require_unchanged(arguments: argparse.Namespace, removals: list[Removal]) -> None:
    """Raise an error if a run was used while the question was open."""
    still = {one.name for one in _chosen(arguments)}
    used = [removal.name for removal in removals if removal.name not in still]
    if used:
        raise RunError(f"{', '.join(used)}: used since the question; nothing was removed")


def _chosen(arguments: argparse.Namespace) -> list[ListedRun]:
    """The runs to remove. Raises an error if none is named, or a named one is in use."""
    from vsp.cli.run_list import known_runs
    from vsp.cluster.jobs import scheduler_of
    from vsp.cluster.run_jobs import activities
    from vsp.storage.run_list import list_runs

    work = Path()
    if bool(arguments.runs) == (arguments.older_than is not None):
        raise ConfigError("vsp rm: name runs, or say --older-than AGE; one of the two")
    listed = list_runs(work, known_runs(arguments.runs, work) if arguments.runs else None)
    if arguments.older_than is not None:
        before = time.time() - arguments.older_than
        listed = [one for one in listed if 0 < one.written < before]
    scheduler = scheduler_of(read_profile(arguments.profile, log=False))
    activity_of = zip(listed, activities(listed, scheduler), strict=True)
    used = {one.name: _why_in_use(activity, scheduler.has_queue()) for one, activity in activity_of}
    _add_needed(listed, used)
    for one in listed:
        if used[one.name] and arguments.runs:
            raise RunError(f"run {one.name}: {used[one.name]}")
        if used[one.name]:
            print_cautions([f"run {one.name} is left as it is: {used[one.name]}"])
    return [one for one in listed if not used[one.name]]


def _add_needed(listed: Sequence[ListedRun], used: dict[str, str]) -> None:
    """Add to `used` why runs must stay for rows of others; a run that stays may need further ones."""
    from vsp.storage.together import why_needed

    changed = True
    while changed:
        removed, changed = [name for name, why in used.items() if not why], False
        for one in listed:
            if not used[one.name] and one.run is not None:
                used[one.name] = why_needed(one.run, removed)
                changed = changed or bool(used[one.name])


def _why_in_use(activity: Activity, has_queue: bool) -> str:
    """Why a run must not be removed now; empty if nothing works on it."""
    if activity.tasks:
        return f"its jobs run or wait: {activity.words()}; cancel them or wait"
    if activity.here:
        sure = "a task extracts" if True in activity.here else "a task on another host may extract"
        return f"{sure} its rows; end it or wait two minutes after its end"
    if activity.problem and has_queue:
        return f"the batch system does not say whether its jobs run: {activity.problem}; try again"
    return ""


def _ask(question: str) -> None:
    """Return if the user agrees. Raises RunError otherwise, and without a terminal."""
    if not sys.stdin.isatty():
        raise RunError(
            "vsp rm: there is no terminal to ask; add --yes to remove without a question"
        )
    print_aside(question)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise RunError("nothing was removed")


def _seconds(text: str) -> float:
    """The argument type of an age: 30d, 2w, 12h."""
    parts = re.fullmatch(r"(\d{1,5})([hdw])", text, re.ASCII)
    if parts is None or not int(parts[1]):
        raise argparse.ArgumentTypeError(f"{text!r} must be an age, as 30d, 2w or 12h")
    return float(int(parts[1]) * _UNITS[parts[2]])
