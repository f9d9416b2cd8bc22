"""The commands `vsp submit` and `vsp resume`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vsp.cli.arguments import (
    add_command,
    add_profile,
    add_retry_failed,
    add_run,
    at_least,
    read_profile,
)
from vsp.cli.chosen_run import chosen_run
from vsp.cli.output import print_line, print_notes
from vsp.cli.profile_choice import profile_of
from vsp.cli.submitted_probe import add_submitted_probe, checked_choice
from vsp.cluster.stages import EFFECTS, ORDER, PROBE, PROBE_PARTS, REPORT, STAGES
from vsp.utils.spelling import unknown_name

if TYPE_CHECKING:
    from vsp.cluster.submit import Options
    from vsp.cluster.submitted import Submission
    from vsp.config import Profile
    from vsp.storage.run import Run


def add_submission_commands(subparsers: Any) -> None:
    submit = add_command(
        subparsers,
        "submit",
        _submit,
        "submit extraction and the stages after it to the batch system",
        example="vsp submit\nvsp submit --dry-run\n"
        "vsp submit --after any --stages extract,probe,report\n"
        "vsp submit llava15-spatial -- --probe mass-mean --repeats 10",
        guide="docs/cluster.md",
        interrupted="no job was submitted; the same command starts over",
    )
    _add_submission(submit, "all that the run still needs", "ok", "in one task")
    resume = add_command(
        subparsers,
        "resume",
        _resume,
        "submit unfinished shards and later stages, with the options of the last submission",
        example="vsp resume\nvsp resume --retry-failed --profile jobs/long.yaml",
        guide="docs/cluster.md",
        interrupted="no job was submitted; the same command starts over",
    )
    _add_submission(resume, *["as in the last submission"] * 3)


def _add_submission(
    parser: argparse.ArgumentParser, stages: str, after: str, probe_tasks: str
) -> None:
    """The three texts say what happens without --stages, --after and --probe-tasks."""
    add_run(parser)
    add_profile(parser)
    parser.add_argument(
        "--stages",
        type=_stages,
        metavar="LIST",
        help=f"stages to submit, from {','.join(STAGES)}; of a run of effects, "
        f"{EFFECTS} instead of {PROBE} and {REPORT} (default: {stages})",
    )
    parser.add_argument(
        "--after",
        choices=("ok", "any"),
        help="any: a stage also starts if the one before it failed, and the probe leaves out "
        f"missing and failed rows (default: {after})",
    )
    parser.add_argument(
        "--probe-tasks",
        type=at_least(0),
        metavar="N",
        help=f"fit the layers in an array of N tasks; 0: in one task (default: {probe_tasks})",
    )
    add_retry_failed(parser)
    parser.add_argument(
        "--dry-run", action="store_true", help="print scripts and commands, and submit nothing"
    )
    add_submitted_probe(parser)


def _submit(arguments: argparse.Namespace) -> None:
    from vsp.cluster.submit import submit

    run = chosen_run(arguments)
    profile = read_profile(arguments.profile)
    _note_code(profile)
    submit(run, profile, _options(run, arguments, arguments.profile, None), print_line)


def _resume(arguments: argparse.Namespace) -> None:
    from vsp.cluster.submit import resume
    from vsp.cluster.submitted import last_submission, submissions

    run = chosen_run(arguments)
    last = last_submission(submissions(run))
    profile, path = profile_of(run, arguments.profile, log=True)
    if last is not None:
        _note_reused(arguments, last)
    _note_code(profile)
    resume(run, profile, _options(run, arguments, path, last), print_line)


def _note_reused(arguments: argparse.Namespace, last: Submission) -> None:
    """Say which options of the last submission are used again."""
    options = ("profile", "stages", "after", "probe_tasks")
    kept = {name for name in options if getattr(arguments, name) is None}
    reused = last.words(kept if arguments.rest else {*kept, "probe"})
    if reused:
        print_notes([f"with {reused}, as in the submission of {last.minute}"])


def _note_code(profile: Profile) -> None:
    """Name what in the profile can decide which code the tasks run."""
    print_notes([profile.code_note] if profile.code_note else [])


def _options(
    run: Run, arguments: argparse.Namespace, profile: Path | None, last: Submission | None
) -> Options:
    """The options given, or else those of `last`, or else the defaults."""
    from vsp.cluster.submit import Options

    given = {name: getattr(arguments, name) for name in ("stages", "after", "probe_tasks")}
    found = {
        name: value if value is not None else getattr(last, name, None)
        for name, value in given.items()
    }
    words = arguments.rest or (() if last is None else last.probe)
    return Options(
        **{name: value for name, value in found.items() if value is not None},
        probe=checked_choice(words, [run], found["probe_tasks"] or 0),
        retry_failed=arguments.retry_failed,
        dry_run=arguments.dry_run,
        profile=None if profile is None else str(profile),
    )


_ALL_STAGES = tuple(stage for stage in ORDER if stage != PROBE_PARTS)


def _stages(text: str) -> tuple[str, ...]:
    names = text.split(",")
    unknown = [name for name in names if name not in _ALL_STAGES]
    if unknown:
        raise argparse.ArgumentTypeError(unknown_name("stage", unknown[0], _ALL_STAGES))
    return tuple(stage for stage in _ALL_STAGES if stage in names)
