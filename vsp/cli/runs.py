"""Commands about a run: extract, submit, resume, status, logs and verify."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vsp.cli.arguments import (
    add_command,
    add_n_jobs,
    add_profile,
    add_retry_failed,
    add_run,
    add_workers,
    at_least,
    read_profile,
    run_option,
)
from vsp.cli.output import print_json, print_line, print_notes, print_text
from vsp.cluster.stages import STAGES
from vsp.utils.signals import stoppable
from vsp.utils.spelling import unknown_name

if TYPE_CHECKING:
    from rich.console import RenderableType

    from vsp.cluster.submit import Options
    from vsp.config import Profile
    from vsp.extraction.verify import Verified


def add_commands(subparsers: Any) -> None:
    _add_extract(subparsers)
    _add_submit(subparsers)
    _add_resume(subparsers)
    _add_status(subparsers)
    _add_logs(subparsers)
    _add_verify(subparsers)


def _add_extract(subparsers: Any) -> None:
    parser = add_command(
        subparsers,
        "extract",
        _extract,
        "compute and store the hidden states of all missing rows; can be repeated safely",
        example="vsp extract\nvsp extract --run llava15-spatial --shard 3",
        guide="docs/storage.md",
        interrupted="rows written so far are kept; the same command continues",
    )
    add_run(parser)
    parser.add_argument(
        "--shard",
        type=at_least(0),
        action="append",
        metavar="N",
        help="only this shard; may be repeated (default: all shards, one after the other)",
    )
    add_retry_failed(parser)
    add_workers(parser)


def _extract(arguments: argparse.Namespace) -> None:
    from vsp.extraction.extract import check_some_done, extract, outcome_line
    from vsp.storage.run import find_run

    run = find_run(arguments.run, Path())
    shards = run.shards if arguments.shard is None else [run.shard(i) for i in arguments.shard]
    extract(run, shards, arguments.retry_failed, arguments.workers)
    print_line(outcome_line(run, shards))
    check_some_done(run, shards)


def _add_submit(subparsers: Any) -> None:
    parser = add_command(
        subparsers,
        "submit",
        _submit,
        "submit extraction and the stages after it to the batch system",
        example="vsp submit\nvsp submit --dry-run\n"
        "vsp submit --after any --stages extract,probe,report",
        guide="docs/cluster.md",
        interrupted="no job was submitted; the same command starts over",
    )
    _add_submission(parser)


def _submit(arguments: argparse.Namespace) -> None:
    from vsp.cluster.submit import submit
    from vsp.storage.run import find_run

    run = find_run(arguments.run, Path())
    submit(run, _profile_of_jobs(arguments), _submit_options(arguments), print_line)


def _add_resume(subparsers: Any) -> None:
    parser = add_command(
        subparsers,
        "resume",
        _resume,
        "submit the unfinished shards, and the stages after them",
        example="vsp resume\nvsp resume --retry-failed --profile jobs/long.yaml",
        guide="docs/cluster.md",
        interrupted="no job was submitted; the same command starts over",
    )
    _add_submission(parser)


def _resume(arguments: argparse.Namespace) -> None:
    from vsp.cluster.submit import resume
    from vsp.storage.run import find_run

    run = find_run(arguments.run, Path())
    resume(run, _profile_of_jobs(arguments), _submit_options(arguments), print_line)


def _add_submission(parser: argparse.ArgumentParser) -> None:
    add_run(parser)
    add_profile(parser)
    parser.add_argument(
        "--stages",
        type=_stages,
        default=STAGES,
        metavar="LIST",
        help=f"stages to submit, from {','.join(STAGES)} (default: all)",
    )
    parser.add_argument(
        "--after",
        choices=("ok", "any"),
        default="ok",
        help="any: a stage also starts if the one before it failed, and the probe leaves out "
        "missing and failed rows (default: %(default)s)",
    )
    parser.add_argument(
        "--probe-tasks",
        type=at_least(0),
        default=0,
        metavar="N",
        help="fit the layers in an array of N tasks (default: in one task)",
    )
    add_retry_failed(parser)
    parser.add_argument(
        "--dry-run", action="store_true", help="print scripts and commands, and submit nothing"
    )


def _profile_of_jobs(arguments: argparse.Namespace) -> Profile:
    """The profile; a note names what in it can decide which code the tasks run."""
    profile = read_profile(arguments.profile)
    print_notes([profile.code_note] if profile.code_note else [])
    return profile


def _submit_options(arguments: argparse.Namespace) -> Options:
    from vsp.cluster.submit import Options

    return Options(
        stages=arguments.stages,
        after=arguments.after,
        probe_tasks=arguments.probe_tasks,
        retry_failed=arguments.retry_failed,
        dry_run=arguments.dry_run,
    )


def _stages(text: str) -> tuple[str, ...]:
    names = text.split(",")
    unknown = [name for name in names if name not in STAGES]
    if unknown:
        raise argparse.ArgumentTypeError(unknown_name("stage", unknown[0], STAGES))
    return tuple(stage for stage in STAGES if stage in names)


def _add_status(subparsers: Any) -> None:
    parser = add_command(
        subparsers,
        "status",
        _status,
        "show the progress of each shard, why shards stopped, and how to continue",
        example="vsp status\nvsp status --watch 5",
        guide="docs/cluster.md",
        interrupted="nothing was changed",
    )
    add_run(parser)
    add_profile(parser)
    parser.add_argument("--all", action="store_true", help="show every shard of a large run")
    form = parser.add_mutually_exclusive_group()
    form.add_argument(
        "--watch",
        type=at_least(1),
        nargs="?",
        const=5,
        metavar="SECONDS",
        help="refresh every SECONDS (5 if not given) until Ctrl-C",
    )
    form.add_argument("--json", action="store_true", help="print JSON")


def _status(arguments: argparse.Namespace) -> None:
    from vsp.cluster.jobs import scheduler_of, task_states
    from vsp.cluster.status import RunStatus, run_status
    from vsp.reporting.status_page import next_commands, status_json, status_page
    from vsp.storage.run import find_run
    from vsp.utils.terminal import show, watch

    run = find_run(arguments.run, Path())
    scheduler = scheduler_of(read_profile(arguments.profile, log=False))

    def read_status() -> RunStatus:
        ledgers = run.ledgers()
        return run_status(run, ledgers, task_states(run, scheduler, ledgers))

    def draw_page() -> RenderableType:
        status = read_status()
        commands = next_commands(status, scheduler.has_queue(), arguments.run or run.name)
        commands = commands if run.plan.imported is None else []  # nothing can be computed again
        return status_page(status, arguments.all, commands)

    if arguments.json:
        print_json(status_json(read_status()))
    elif arguments.watch is not None:
        watch(draw_page, arguments.watch)
    else:
        show(draw_page())


def _add_logs(subparsers: Any) -> None:
    parser = add_command(
        subparsers,
        "logs",
        _logs,
        "show the last lines of the log of every failed task, or of one shard",
        example="vsp logs\nvsp logs 3 --lines 100",
        guide="docs/troubleshooting.md",
        interrupted="nothing was changed",
    )
    parser.add_argument(
        "shard", type=at_least(0), nargs="?", metavar="SHARD", help="number of a shard"
    )
    parser.add_argument(
        "--lines", type=at_least(1), default=20, metavar="N", help="lines of each log (default: 20)"
    )
    add_run(parser)
    add_profile(parser)


def _logs(arguments: argparse.Namespace) -> None:
    from vsp.cluster.jobs import log_folder, scheduler_of, task_states
    from vsp.cluster.logs import failed_logs, shard_log
    from vsp.cluster.status import run_status
    from vsp.storage.run import find_run

    run = find_run(arguments.run, Path())
    profile = read_profile(arguments.profile, log=False)
    if arguments.shard is not None:
        run.shard(arguments.shard)  # raises if there is no such shard
    ledgers = run.ledgers()
    states = task_states(run, scheduler_of(profile), ledgers)
    status, folder = run_status(run, ledgers, states), log_folder(run, profile)
    if arguments.shard is None:
        logs = failed_logs(status, states, folder, arguments.lines)
    else:
        logs = [shard_log(status, folder, arguments.shard, arguments.lines)]
    for log in logs:
        print_line(f"== {log.title}")
        print_line(f"== {log.path}")
        print_text("\n".join((*log.lines, "")))
    if not logs:
        print_line(f"run {run.name}: no task of the batch system failed; the logs are in {folder}")


def _add_verify(subparsers: Any) -> None:
    parser = add_command(
        subparsers,
        "verify",
        _verify,
        "read all stored states from disk and compare every row with its checksum",
        example="vsp verify --n-jobs 8\nvsp verify --repair",
        guide="docs/storage.md",
        interrupted="stored states are unchanged; the same command starts over",
    )
    add_run(parser)
    add_n_jobs(parser, "worker processes")
    parser.add_argument(
        "--repair",
        action="store_true",
        help="write a damaged header of the array again, and mark damaged rows as missing, so that "
        "the next extraction computes them again",
    )


def _verify(arguments: argparse.Namespace) -> None:
    from vsp.errors import StoreError
    from vsp.extraction.verify import repair, verify
    from vsp.storage.run import find_run
    from vsp.utils.text import format_ranges

    run = find_run(arguments.run, Path())
    for store in run.stores.values() if arguments.repair else ():
        if store.repair_header():
            print_line(f"run {run.name}: wrote a new header of {store.path}")
    with stoppable() as stop, stop.free():  # a signal unwinds, so that workers end
        verified = verify(run, arguments.n_jobs)
    for line in _verified_lines(run.name, verified):
        print_line(line)
    if not verified.bad:
        return
    where = [
        f"shard {shard}: rows {format_ranges(rows)} of {file}"
        for (shard, file), rows in verified.damage.items()
    ]
    option = run_option(arguments)
    if not arguments.repair:
        raise StoreError(
            f"run {run.name}: {verified.n_bad} rows do not match their checksums; "
            f"`vsp verify{option} --repair` marks them as missing",
            where,
        )
    repair(run, verified.bad)
    for line in where:
        print_line(line)
    again = (
        f"`vsp resume{option}` or `vsp extract{option}` computes them again"
        if run.plan.imported is None
        else "remove the run and import its states again to have them"
    )
    print_line(f"marked {verified.n_bad} rows as missing; {again}")


def _verified_lines(run: str, verified: Verified) -> list[str]:
    from vsp.utils.text import format_bytes

    result = f"{verified.n_bad} are damaged" if verified.bad else "all match"
    rate = verified.n_bytes / max(verified.seconds, 1e-9)
    return [
        f"run {run}: {verified.n_checked:,} rows checked: {result}; {verified.n_failed:,} failed and "
        f"{verified.n_missing:,} missing rows have no states",
        f"{format_bytes(verified.n_bytes)} in {verified.seconds:.1f} s, {format_bytes(rate)}/s",
    ]
