"""`vsp sweep`: plan every model with every dataset and every prompt, submit all, and show one table."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vsp.cli.arguments import add_command, add_model_options, model_config, read_profile
from vsp.cli.failed_plan import recorded_plan
from vsp.cli.output import print_cautions, print_line
from vsp.cli.planning import add_computed, add_jobs, add_probe_tasks, plan_request, say_planned
from vsp.cli.run_list import show_peaks
from vsp.cli.submitted_probe import add_submitted_probe, checked_choice
from vsp.datasets.prompts import STYLES
from vsp.errors import ConfigError, SchedulerError, VspError
from vsp.utils.signals import stoppable
from vsp.utils.spelling import unknown_name

if TYPE_CHECKING:
    from vsp.extraction.plan_request import PlanRequest
    from vsp.extraction.sweep import SweptRun

_ONE_MODEL = ("checkpoint", "revision", "adapter")  # options that fit one model only


def add_commands(subparsers: Any) -> None:
    parser = add_command(
        subparsers,
        "sweep",
        _sweep,
        "plan every model with every dataset and prompt, submit all runs, and show one table",
        example="vsp sweep --models llava15,qwen2 --prompts instruction,question "
        "--datasets data/raw/a,data/raw/b\nvsp sweep --models small --prompts cloze,question --submit\n"
        "vsp sweep --models small --prompts cloze,question --submit -- --probe mass-mean",
        guide="docs/cluster.md",
        interrupted="the runs that are planned are kept; the same command goes on",
    )
    _add_swept(parser.add_argument_group("what is swept"))
    form = parser.add_mutually_exclusive_group()
    form.add_argument(
        "--submit",
        action="store_true",
        help="also submit all runs, and a table after the end of all; with `scheduler: local`, all "
        "stages run here (default: only plan)",
    )
    form.add_argument(
        "--dry-run", action="store_true", help="list the runs, and neither plan nor submit"
    )
    add_probe_tasks(parser)
    computed = parser.add_argument_group("what is computed, for all runs")
    add_model_options(computed)
    add_computed(computed)
    add_jobs(parser.add_argument_group("where and how all runs are computed"))
    add_submitted_probe(parser)


def _add_swept(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--models",
        type=_list,
        required=True,
        metavar="LIST",
        help="models as `vsp plan --model` takes them, with commas between them",
    )
    group.add_argument(
        "--prompts",
        type=_prompts,
        default=(None,),
        metavar="LIST",
        help=f"prompt styles, from {','.join(STYLES)} (default: that of `vsp plan`)",
    )
    group.add_argument(
        "--datasets",
        type=_list,
        default=("data/raw/spatial",),
        metavar="LIST",
        help="folders with metadata.json and images/ (default: data/raw/spatial)",
    )


def _list(text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(text.split(",")))
    if not all(name.strip() for name in names):
        raise argparse.ArgumentTypeError(f"{text!r} has an empty name; write names as a,b")
    return names


def _prompts(text: str) -> tuple[str, ...]:
    names = _list(text)
    unknown = [name for name in names if name not in STYLES]
    if unknown:
        raise argparse.ArgumentTypeError(unknown_name("prompt", unknown[0], STYLES))
    return names


def _sweep(arguments: argparse.Namespace) -> None:
    if len(arguments.models) > 1:
        for option in _ONE_MODEL:
            if getattr(arguments, option) is not None:
                raise ConfigError(
                    f"--{option} {getattr(arguments, option)}: fits one model, and --models names "
                    f"{len(arguments.models)}; write a file in configs/models/ for each"
                )
    if arguments.rest and not (arguments.submit or arguments.dry_run):
        raise ConfigError(f"{' '.join(arguments.rest)} after -- needs --submit")
    checked_choice(arguments.rest, (), arguments.probe_tasks)
    requests = _requests(arguments)
    if arguments.dry_run:
        _list_runs(requests)
        if arguments.rest:
            print_line(f"probed with {' '.join(arguments.rest)}")
        return
    with recorded_plan(arguments.words, Path()):
        runs = _plan_all(arguments, requests)
    arguments.interrupted = "the runs are planned; the same command goes on"
    if arguments.submit:
        _submit_all(arguments, runs)
    else:
        print_line("next: the same command with --submit, or `vsp submit RUN` for each")


def _requests(arguments: argparse.Namespace) -> list[PlanRequest]:
    """The plan of each combination. Raises an error for a model that is not known."""
    profile = read_profile(arguments.profile)
    models = {name: model_config(arguments, name) for name in arguments.models}
    every = product(models.items(), arguments.datasets, arguments.prompts)
    return [
        replace(plan_request(arguments, model, Path(one), prompt, profile), model_name=name)
        for (name, model), one, prompt in every
    ]


def _list_runs(requests: list[PlanRequest]) -> None:
    from vsp.extraction.plan_request import planned_before
    from vsp.extraction.sweep import label_of

    taken: set[str] = set()
    for request in requests:
        try:
            run = planned_before(request, Path())
        except VspError as error:
            print_line(f"cannot be planned: {label_of(request)}: {error}")
            continue
        known = (
            f"new, {_name_of_new(request, taken)}"
            if run is None
            else f"planned already, {run.name}"
        )
        print_line(f"{known}: {label_of(request)}")


def _name_of_new(request: PlanRequest, taken: set[str]) -> str:
    """The name of a run that is not planned; "NAME-…" if what differs from another run is added."""
    from vsp.extraction.run_names import stem_of

    stem = stem_of(request.model, request.model_name, request.dataset)
    is_free = stem not in taken and not any(
        os.path.lexists(Path(folder) / stem) for folder in ("scratch", "results")
    )
    taken.add(stem)
    return stem if is_free else f"{stem}-…"


def _plan_all(arguments: argparse.Namespace, requests: list[PlanRequest]) -> list[SweptRun]:
    """Plan all runs. Raises ConfigError with the reasons if some cannot be planned."""
    from vsp.extraction.sweep import plan_sweep

    with stoppable() as stop:
        planned = plan_sweep(requests, Path(), stop.hold, stop.free, _say_swept)
        with stop.free():  # raises for a signal that came since the last run has its name
            pass
    n_failed = len(requests) - len(planned.runs)
    if n_failed:
        submitted = ", so nothing is submitted" if arguments.submit else ""
        raise ConfigError(
            f"{n_failed} of {len(requests)} runs cannot be planned{submitted}; mend that, and give the "
            "same command again: runs that are planned are used again",
            planned.problems,
        )
    return list({swept.run.name: swept for swept in planned.runs}.values())


def _say_swept(swept: SweptRun) -> None:
    if swept.planned is None:
        print_line(f"planned already: {swept.run.name}")
    else:
        say_planned(swept.planned)


def _submit_all(arguments: argparse.Namespace, runs: list[SweptRun]) -> None:
    from vsp.cluster.submit import Options
    from vsp.cluster.sweep import submit_sweep

    profile = read_profile(arguments.profile, log=False)
    print_cautions([profile.code_note] if profile.code_note else [])
    named = None if arguments.profile is None else str(arguments.profile)
    every = [swept.run for swept in runs]
    probe = checked_choice(arguments.rest, every, arguments.probe_tasks)
    options = Options(probe_tasks=arguments.probe_tasks, profile=named, probe=probe)
    say: Callable[[str], None] = print_line
    jobs = submit_sweep(every, profile, options, Path(), say)
    if jobs.waits:
        names = " ".join(run.name for run in every)
        print_line(f"`vsp runs {names}` shows how far they are, and --peaks the table so far")
    else:
        print_line()
        show_peaks([run.name for run in every], Path(), probe.shown)
    if jobs.problems:
        raise SchedulerError(
            f"{len(jobs.problems)} of {len(every)} runs are not finished; mend that, and give the same "
            "command again",
            jobs.problems,
        )
