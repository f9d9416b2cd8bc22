"""The run that a command acts on: the one that the user named, or else the newest."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING

from vsp.cli.output import print_notes

if TYPE_CHECKING:
    from vsp.storage.results import Results
    from vsp.storage.run import Run


def chosen_run(arguments: argparse.Namespace) -> Run:
    """The run in `scratch/` that `arguments.run` names; None: the newest run, which a note names.

    Raises RunError if there is no such run, or if none is named and the last plan failed.
    """
    from vsp.storage.run import find_run

    work = Path()
    run = find_run(arguments.run, work)
    if arguments.run is None:
        _require_no_failed_plan(work, run.name, run.plan.created)
        _say_newest(run.name, run.plan.created)
    return run


def chosen_results(arguments: argparse.Namespace) -> Results:
    """The results of the run that `arguments.run` names; None: those of the newest run, which a note names.

    `arguments.position` and `arguments.probe` choose among its results.

    Raises RunError as `chosen_run` does.
    """
    from vsp.storage.find_results import find_results
    from vsp.storage.stored_settings import choose_setting

    work = Path()
    if arguments.run is None and any((work / "scratch").glob("*/plan.json")):
        run = chosen_run(arguments)  # first, because the newest run may have no results
        return choose_setting(run.results, arguments.position, arguments.probe)
    results = find_results(arguments.run, work, arguments.position, arguments.probe)
    if arguments.run is None:
        created = _created(results)
        _require_no_failed_plan(work, results.name, created)
        _say_newest(results.name, created)
    return results


def _created(results: Results) -> str:
    """The date of the plan of these results; empty if they do not say."""
    from vsp.storage.plan import is_date

    plan = results.summary().get("plan")
    created = str(plan.get("created")) if isinstance(plan, dict) else ""
    return created if is_date(created) else ""


def _require_no_failed_plan(work: Path, newest: str, created: str) -> None:
    """Raise RunError if the last plan failed, since the newest run is then an older one."""
    from vsp.cli.failed_plan import failed_plan
    from vsp.errors import RunError

    failed = failed_plan(work)
    if failed is None or (created and _seconds(created) > failed[1]):
        return
    raise RunError(
        f"{failed[0]} ({_age(failed[1])}), so the newest run is an older one, {newest}; plan "
        f"again, or name the run: vsp COMMAND {newest}"
    )


def _say_newest(name: str, created: str) -> None:
    planned = f", planned {_age(_seconds(created))}" if created else ""
    print_notes([f"run {name} (newest{planned})"])


def _seconds(created: str) -> float:
    from datetime import datetime

    return datetime.fromisoformat(created).timestamp()


def _age(then: float) -> str:
    """ "3 min ago"."""
    seconds = max(time.time() - then, 0)
    for unit, size in (("s", 1), ("min", 60), ("h", 3600)):
        if seconds < 100 * size:
            return f"{seconds / size:.0f} {unit} ago"
    return f"{seconds / 86400:.0f} days ago"
