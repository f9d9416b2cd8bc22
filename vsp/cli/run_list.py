"""`vsp runs`: all runs of this folder."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from vsp.cli.arguments import add_command, add_profile, read_profile
from vsp.cli.output import print_json, print_line, print_notes


def add_commands(subparsers: Any) -> None:
    parser = add_command(
        subparsers,
        "runs",
        _runs,
        "list all runs of this folder: what was planned, extracted and found, size and jobs",
        example="vsp runs\nvsp runs llava15-spatial llava15-blank\nvsp runs --json",
        guide="docs/cluster.md",
        interrupted="nothing was changed",
    )
    parser.add_argument(
        "runs", nargs="*", metavar="RUN", help="run in scratch/ or results/ (default: all)"
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument(
        "--peaks",
        action="store_true",
        help="only what was found, with the settings in which the runs differ, in the order given",
    )
    form.add_argument("--json", action="store_true", help="print JSON")
    add_profile(parser)


def _runs(arguments: argparse.Namespace) -> None:
    from vsp.cluster.jobs import scheduler_of
    from vsp.cluster.run_jobs import activities
    from vsp.reporting.runs_page import RunRow, runs_json, runs_page
    from vsp.storage.run_list import leftovers, list_runs, run_names
    from vsp.utils.terminal import show

    work = Path()
    if arguments.peaks:
        names = known_runs(arguments.runs, work) or run_names(work)
        show_peaks(names, work)
        return
    listed = list_runs(work, known_runs(arguments.runs, work) if arguments.runs else None)
    scheduler = scheduler_of(read_profile(arguments.profile, log=False))
    found = activities(listed, scheduler)
    rows = [RunRow(one, activity) for one, activity in zip(listed, found, strict=True)]
    problems = {activity.problem: None for activity in found if activity.problem}
    notes = [f"{problem}; queued jobs are not shown" for problem in problems]
    notes += [
        f"{folder}: was left by a plan or removal that was killed, or is still at work; if it was "
        "killed, remove the folder"
        for folder in leftovers(work)
    ]
    if arguments.json:
        print_json(runs_json(rows))
        print_notes(notes)
        return
    if not rows:
        print_line(f"{work.absolute()}: holds no run; `vsp plan` makes one")
    show(runs_page(rows, notes))


def show_peaks(names: list[str], work: Path) -> None:
    """Show the table of what these runs found."""
    from vsp.cluster.run_jobs import Activity
    from vsp.reporting.runs_page import RunRow, peaks_page
    from vsp.storage.run_list import listed_run
    from vsp.utils.terminal import show

    show(peaks_page([RunRow(listed_run(work, name), Activity()) for name in names]))


def known_runs(names: list[str], work: Path) -> list[str]:
    """The names without repeats. Raises RunError, with the nearest names, for an unknown one."""
    from vsp.errors import RunError
    from vsp.storage.run import close_names
    from vsp.storage.run_list import run_names

    known = run_names(work)
    for name in names:
        if name not in known:
            raise RunError(
                f"{name}: no such run in scratch/ and results/; {close_names(name, known)}"
            )
    return list(dict.fromkeys(names))
