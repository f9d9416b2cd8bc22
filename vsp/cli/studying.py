"""`vsp study`: a question about a model, the runs that answer it, one chain and one report."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vsp.cli.arguments import add_command, add_n_jobs, model_config
from vsp.cli.asked_study import asked_study
from vsp.cli.data import verb
from vsp.cli.failed_plan import recorded_plan
from vsp.cli.output import print_cautions, print_line
from vsp.cli.planning import add_probe_tasks, plan_request, say_planned
from vsp.cli.study_options import add_plan_options, parsed_options
from vsp.cli.study_probe import keep_setting, study_choice, study_setting
from vsp.cli.submitted_probe import add_submitted_probe
from vsp.errors import ConfigError, RunError, SchedulerError
from vsp.utils.signals import stoppable

if TYPE_CHECKING:
    from vsp.cluster.probe_choice import ProbeChoice
    from vsp.config import ModelConfig
    from vsp.extraction.plan_request import PlanRequest
    from vsp.extraction.study import StudyRun
    from vsp.storage.run import Run
    from vsp.storage.study import Study

NO_CONTROLS = "none"  # a value of --with


def add_commands(subparsers: Any) -> None:
    parser = add_command(
        subparsers,
        "study",
        _study,
        "ask one question of a model: plan its runs with all controls, submit all, and report as one",
        example="vsp study --model llava15 --checkpoint /shared/llava-1.5-7b-hf --dataset data/vrd\n"
        "vsp study --model small --dataset data/raw/demo --with blank,mirrored --submit\n"
        "vsp study --model small --dataset data/raw/demo --submit -- --probe mass-mean\n"
        "vsp study llava15-vrd",
        guide="docs/study.md",
        interrupted="what is planned and computed is kept; `vsp study NAME` goes on",
    )
    parser.add_argument(
        "study",
        nargs="?",
        metavar="NAME",
        help="a file in studies/: plan what is missing, and submit what each run needs",
    )
    _add_question(parser.add_argument_group("what is asked"))
    form = parser.add_mutually_exclusive_group()
    form.add_argument(
        "--submit",
        action="store_true",
        help="also submit what each run needs, and a last job that reports; with `scheduler: "
        "local`, all stages run here (default with NAME; without it, only plan)",
    )
    form.add_argument(
        "--dry-run", action="store_true", help="list the runs; write, plan and submit nothing"
    )
    form.add_argument(
        "--finish",
        action="store_true",
        help="do the work of the last job of a study: judge the probes of the original on the other runs, "
        "and report",
    )
    add_probe_tasks(parser)
    add_n_jobs(parser, "processes that draw the pictures of variants")
    add_plan_options(parser)
    add_submitted_probe(parser)


def _add_question(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--model", metavar="NAME", help="the model of a new study, as `vsp plan --model` takes it"
    )
    group.add_argument(
        "--dataset",
        metavar="DIR",
        help="folder with metadata.json and images/ (default: data/raw/spatial)",
    )
    group.add_argument(
        "--with",
        dest="controls",
        type=_controls,
        metavar="LIST",
        help="controls, from blank,mirrored,names,shuffled,swapped,untrained, or none (default: all "
        "that the dataset and the model allow)",
    )
    group.add_argument(
        "--on",
        nargs="+",
        action="extend",
        metavar="DIR",
        help="other datasets, on which the probes of the original are judged",
    )
    group.add_argument(
        "--name", metavar="NAME", help="name of the study (default: from model and dataset)"
    )
    group.add_argument("--question", metavar="TEXT", help="the question, which begins the report")


def _controls(text: str) -> tuple[str, ...]:
    if text == NO_CONTROLS:
        return ()
    names = tuple(dict.fromkeys(text.split(",")))
    if not all(name.strip() for name in names):
        raise argparse.ArgumentTypeError(f"{text!r} has an empty name; write names as a,b")
    return names


def _study(arguments: argparse.Namespace) -> None:
    from vsp.storage.study import study_path, write_study

    work = Path()
    study, is_new = asked_study(arguments, work)
    choice = study_choice(study, is_new, work, (), arguments.probe_tasks)
    if arguments.finish:
        _check_finish(arguments)
        keep_setting(study, choice, work)
        finish(study, work)
        return
    base = _base_request(arguments, study, work)
    study = _with_controls(arguments, study, base.model, is_new, work)
    if arguments.dry_run:
        _list_runs(study, base, choice, work)
        return
    if is_new:
        print_line(f"wrote {write_study(study, work)}")
    arguments.interrupted = (
        f"what is planned and computed is kept; `vsp study {study.name}` goes on"
    )
    with recorded_plan(arguments.words, work):
        runs = _plan_all(arguments, study, base, choice, work)
    keep_setting(study, choice, work)
    if not (arguments.submit or arguments.study):
        print_line(
            f"next: `vsp study {study.name}{_job_options(arguments)}` submits all; "
            f"{study_path(study.name, work)} can be edited"
        )
        return
    _submit_all(arguments, study, runs, work)


def _check_finish(arguments: argparse.Namespace) -> None:
    """Raise ConfigError for an option that applies to jobs; --finish submits none."""
    if options := _job_options(arguments).strip():
        raise ConfigError(f"{options}: applies to jobs, and --finish submits none; leave it out")


def _job_options(arguments: argparse.Namespace) -> str:
    """The profile and the number of tasks as they are typed."""
    words = [] if arguments.profile is None else ["--profile", str(arguments.profile)]
    words += ["--probe-tasks", str(arguments.probe_tasks)] if arguments.probe_tasks else []
    return f" {shlex.join(words)}" if words else ""


def _base_request(arguments: argparse.Namespace, study: Study, work: Path) -> PlanRequest:
    """The plan of the original, without a name."""
    from vsp.storage.study import study_path

    parsed = parsed_options(study.options, str(study_path(study.name, work)))
    profile, _ = _profile(arguments, study, work)
    model = model_config(parsed, study.model)
    request = plan_request(parsed, model, work / study.dataset, parsed.prompt, profile)
    return replace(request, model_name=study.model)


def _profile(arguments: argparse.Namespace, study: Study, work: Path) -> tuple[Any, Path | None]:
    """The profile that was named, or else that of the last submission of a run of the study."""
    from vsp.cli.profile_choice import profile_of

    for run in _present(study, work) if arguments.profile is None else []:
        profile, path = profile_of(run, None, log=False)
        if path is not None:
            return profile, path
    from vsp.cli.arguments import read_profile

    return read_profile(arguments.profile, log=False), arguments.profile


def _present(study: Study, work: Path) -> list[Run]:
    """The runs of the study that are planned."""
    from contextlib import suppress

    from vsp.storage.run import Run

    runs = []
    for name in study.runs.values():
        with suppress(RunError):
            runs.append(Run.open(work / "scratch" / name))
    return runs


def _with_controls(
    arguments: argparse.Namespace, study: Study, model: ModelConfig, is_new: bool, work: Path
) -> Study:
    """The study with its controls; says which are left out by default, and why."""
    from vsp.extraction.study import check_controls, check_datasets, known_controls, why_not
    from vsp.utils.spelling import unknown_name

    known = known_controls()
    for control in study.variants:
        if control not in known:
            raise ConfigError(f"with {unknown_name('control', control, known)}")
    check_datasets(study, work)
    dataset = work / study.dataset
    if not is_new:
        return study
    if arguments.controls is not None:
        check_controls(study.variants, dataset, model)
        return study
    reasons = {control: why_not(control, dataset, model) for control in known}
    for control, why in reasons.items():
        if why:
            print_line(f"left out: {control}: {why}")
    return replace(study, variants=tuple(one for one, why in reasons.items() if not why))


def _list_runs(study: Study, base: PlanRequest, choice: ProbeChoice, work: Path) -> None:
    from vsp.cluster.needed_stages import finished_words
    from vsp.extraction.study import find_runs

    for one in find_runs(study, base, work, _needed_setting(study, choice)):
        state = "new"
        if one.kept:
            state = "its results are there, its states were removed"
        elif one.run is not None:
            ledgers = one.run.ledgers()
            n_done = sum(ledger.n_done for ledger in ledgers)
            n_rows = one.run.plan.n_samples
            finished = finished_words(one.run, ledgers, choice)
            state = "finished" if finished else f"{n_done:,} of {n_rows:,} rows are extracted"
        print_line(f"{one.name}: {state}, dataset {one.request.dataset}")
    if study.probe:
        print_line(f"probed with {shlex.join(study.probe)}")


def _needed_setting(study: Study, choice: ProbeChoice) -> str:
    """The setting that kept results need; empty for any, if the study names no options of the probe."""
    return study_setting(choice) if study.probe else ""


def _plan_all(
    arguments: argparse.Namespace,
    study: Study,
    base: PlanRequest,
    choice: ProbeChoice,
    work: Path,
) -> list[StudyRun]:
    """Make the datasets that are missing, and plan the runs that are missing."""
    from vsp.evaluation.study_stage import is_finished
    from vsp.extraction.study import make_datasets, plan_study

    def say_dataset(fresh: bool, what: str, notes: list[str]) -> None:
        print_cautions(notes)
        print_line(f"{verb(fresh)} {what}")

    with stoppable() as stop:
        with stop.free():  # a signal unwinds, so that temporary files are removed
            make_datasets(study, work, arguments.n_jobs, say_dataset)
        runs = plan_study(
            study,
            base,
            work,
            not is_finished(study, work),
            stop.hold,
            stop.free,
            _say_run,
            _needed_setting(study, choice),
        )
        with stop.free():  # raises for a signal that came since the last run has its name
            pass
    return runs


def _say_run(one: StudyRun) -> None:
    if one.planned is not None:
        say_planned(one.planned)
    elif one.kept:
        print_line(f"run {one.name}: is finished; its states were removed, its results are kept")
    else:
        print_line(f"planned already: {one.name}")


def _submit_all(
    arguments: argparse.Namespace, study: Study, found: Sequence[StudyRun], work: Path
) -> None:
    from vsp.cluster.jobs import LastJob
    from vsp.cluster.stages import STUDY
    from vsp.cluster.submit import Options
    from vsp.cluster.sweep import submit_sweep

    profile, path = _profile(arguments, study, work)
    print_cautions([profile.code_note] if profile.code_note else [])
    runs = _in_order(found)
    options = Options(
        probe_tasks=arguments.probe_tasks,
        profile=None if path is None else str(path),
        probe=study_choice(study, False, work, runs, arguments.probe_tasks),
    )
    last = LastJob(STUDY, ("study", study.name, "--finish"), work / "scratch" / ".study")
    say: Callable[[str], None] = print_line
    jobs = submit_sweep(runs, profile, options, work, say, last, _first(study))
    if jobs.waits:
        names = " ".join(study.runs.values())
        print_line(
            f"`vsp runs {names}` shows their progress, `vsp report --study {study.name}` their results"
        )
    else:
        print_line()
        finish(study, work, jobs.problems)
    if jobs.problems:
        raise SchedulerError(
            f"{len(jobs.problems)} of {len(found)} runs are not finished; mend that, and go on with `vsp "
            f"study {study.name}`",
            jobs.problems,
        )


def _in_order(found: Sequence[StudyRun]) -> list[Run]:
    """The runs with states; blank pictures first, because the original's answers are corrected by its answers."""
    runs = sorted(found, key=lambda one: one.role != "blank")
    return [one.run for one in runs if one.run is not None]


def _first(study: Study) -> dict[str, str]:
    """The run whose extraction the probes of another wait for: answers are corrected by its answers."""
    from vsp.storage.study import ORIGINAL

    return {study.runs[ORIGINAL]: study.runs["blank"]} if "blank" in study.runs else {}


def finish(study: Study, work: Path, problems: Sequence[str] = ()) -> None:
    """Compute what the report needs of several runs, then show and keep the report.

    Raises RunError at the end if a run has no results, unless `problems` say why already.
    """
    from vsp.evaluation.study_stage import finish_study
    from vsp.reporting.saved_study import save_study
    from vsp.reporting.study_facts import missing_runs, study_facts
    from vsp.reporting.study_report import study_page
    from vsp.utils.terminal import show

    with stoppable() as stop, stop.free():
        finish_study(study, work, print_line)
    facts = study_facts(study, work)
    paths, left_out = save_study(facts, work)
    for path in paths:
        print_line(f"wrote {path}")
    print_cautions([f"the page leaves out {one}" for one in left_out])
    print_line()
    show(study_page(facts))
    missing = missing_runs(facts)
    if missing and not problems:
        raise RunError(
            f"study {study.name}: {len(missing)} of {len(facts.runs)} runs have no results: "
            f"{', '.join(missing)}; `vsp study {study.name}` goes on"
        )
