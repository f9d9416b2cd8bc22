"""`vsp runs`: all runs of this folder."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from vsp.cli.arguments import add_command, add_profile, read_profile
from vsp.cli.output import print_json, print_line, print_notes
from vsp.errors import ConfigError


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
    parser.add_argument(
        "--probe",
        metavar="SETTING",
        help="with --peaks: setting of `vsp probe`, a folder in results/RUN/ such as mass-mean, or the "
        "name of a probe (default: the newest results of each run)",
    )
    add_profile(parser)


def _runs(arguments: argparse.Namespace) -> None:
    from vsp.cluster.jobs import scheduler_of
    from vsp.cluster.run_jobs import activities
    from vsp.reporting.runs_page import RunRow, runs_json, runs_page
    from vsp.storage.run_list import leftovers, list_runs, run_names
    from vsp.utils.terminal import show

    work = Path()
    if arguments.probe and not arguments.peaks:
        raise ConfigError(f"--probe {arguments.probe} needs --peaks")
    names = known_runs(arguments.runs, work) or run_names(work)
    if not names and not arguments.json:
        print_line(f"{work.absolute()}: holds no run; `vsp plan` makes one")
    elif arguments.peaks:
        show_peaks(names, work, arguments.probe)
        return
    listed = list_runs(work, names)
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
    show(runs_page(rows, notes))


def show_peaks(names: list[str], work: Path, probe: str | None) -> None:
    """Show the results of these runs, of this setting or probe, or else the newest ones."""
    from vsp.cluster.run_jobs import Activity
    from vsp.reporting.runs_page import RunRow, peaks_page
    from vsp.storage.run_list import listed_run
    from vsp.utils.terminal import show

    listed = (listed_run(work, name) for name in names)
    rows = [RunRow(one if probe is None else one.of_probe(probe), Activity()) for one in listed]
    show(peaks_page(rows, probe or ""))


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
