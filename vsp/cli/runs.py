"""Commands about a run: extract, submit, resume, status, logs and verify."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from vsp.cli.arguments import (
    add_command,
    add_n_jobs,
    add_profile,
    add_requeue,
    add_retry_failed,
    add_run,
    add_run_option,
    add_workers,
    at_least,
    run_option,
)
from vsp.cli.chosen_run import chosen_run
from vsp.cli.output import print_line, print_notes, print_text
from vsp.cli.profile_choice import profile_of
from vsp.cli.status import add_status
from vsp.cli.submitting import add_submission_commands
from vsp.cluster.stages import EXTRACT
from vsp.utils.signals import stoppable

if TYPE_CHECKING:
    from vsp.extraction.verify import Verified
    from vsp.storage.run import Run


def add_commands(subparsers: Any) -> None:
    _add_extract(subparsers)
    add_submission_commands(subparsers)
    add_status(subparsers)
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
    add_requeue(parser)
    add_workers(parser)


def _extract(arguments: argparse.Namespace) -> None:
    from vsp.cluster.requeue import with_requeues
    from vsp.extraction.extract import check_some_done, extract, outcome_line
    from vsp.storage.together import companions_there

    run = chosen_run(arguments)
    shards = run.shards if arguments.shard is None else [run.shard(i) for i in arguments.shard]

    def work() -> None:
        extract(run, shards, arguments.retry_failed, arguments.workers)

    with_requeues(work, run, EXTRACT, arguments.requeue, print_line)
    for one in (run, *companions_there(run)):
        print_line(outcome_line(one, shards))
    check_some_done(run, shards)


def _add_logs(subparsers: Any) -> None:
    parser = add_command(
        subparsers,
        "logs",
        _logs,
        "show the last lines of the log of every failed task, or of one shard",
        example="vsp logs\nvsp logs llava15-spatial 3 --lines 100",
        guide="docs/troubleshooting.md",
        interrupted="nothing was changed",
    )
    parser.add_argument(
        "which",
        nargs="*",
        metavar="RUN|SHARD",
        help="a run in scratch/ (default: the newest run), the number of a shard, or both; a run whose "
        "name is a number needs --run",
    )
    parser.add_argument(
        "--lines", type=at_least(1), default=20, metavar="N", help="lines of each log (default: 20)"
    )
    add_run_option(parser, "run in scratch/, or its path")
    add_profile(parser)


def _logs(arguments: argparse.Namespace) -> None:
    from vsp.cluster.jobs import log_folder, scheduler_of, task_states
    from vsp.cluster.logs import failed_logs, not_started, shard_log
    from vsp.cluster.status import run_status

    shard = _shard_to_log(arguments)
    run = chosen_run(arguments)
    profile, _ = profile_of(run, arguments.profile, log=False)
    if shard is not None:
        run.shard(shard)  # raises if there is no such shard
    ledgers = run.ledgers()
    states = task_states(run, scheduler_of(profile), ledgers)
    status, folder = run_status(run, ledgers, states), log_folder(run, profile)
    if shard is None:
        logs = failed_logs(status, states, folder, arguments.lines)
    else:
        logs = [shard_log(status, folder, shard, arguments.lines)]
    for log in logs:
        print_line(f"== {log.title}")
        print_line(f"== {log.path}")
        print_text("\n".join((*log.lines, "")))
    never = not_started(states, folder) if shard is None else ""
    if never:
        print_line(f"run {run.name}: {never}")
    elif not logs:
        print_line(f"run {run.name}: no task of the batch system failed; the logs are in {folder}")


def _shard_to_log(arguments: argparse.Namespace) -> int | None:
    """The shard among the words of the command; a run among them becomes that of --run."""
    from vsp.errors import ConfigError

    shards = [word for word in arguments.which if word.isdecimal()]
    runs = [word for word in arguments.which if not word.isdecimal()]
    runs += [] if arguments.run is None else [arguments.run]
    for what, named in {"shards": shards, "runs": runs}.items():
        if len(set(named)) > 1:
            raise ConfigError(f"several {what} are named: {', '.join(named)}; name one")
    arguments.run = runs[0] if runs else None
    return int(shards[0]) if shards else None


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
    from vsp.utils.text import format_ranges

    run = chosen_run(arguments)
    for store in run.stores.values() if arguments.repair else ():
        if store.repair_header():
            print_line(f"run {run.name}: wrote a new header of {store.path}")
    with stoppable() as stop, stop.free():  # a signal unwinds, so that workers end
        verified = verify(run, arguments.n_jobs)
    for line in _verified_lines(run.name, verified):
        print_line(line)
    if not verified.bad:
        _note_verified(run, verified)
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


def _note_verified(run: Run, verified: Verified) -> None:
    """Leave the file by which `vsp status` knows that the rows were checked."""
    from vsp.cluster.run_stages import VERIFIED
    from vsp.errors import DiskError
    from vsp.utils.files import write_json

    try:
        write_json(run.folder / VERIFIED, {"rows": verified.n_checked})
    except DiskError as error:
        print_notes([f"`vsp status` will not know of this check: {error}"])


def _verified_lines(run: str, verified: Verified) -> list[str]:
    from vsp.utils.text import format_bytes

    result = f"{verified.n_bad} are damaged" if verified.bad else "all match"
    rate = verified.n_bytes / max(verified.seconds, 1e-9)
    return [
        f"run {run}: {verified.n_checked:,} rows checked: {result}; {verified.n_failed:,} failed and "
        f"{verified.n_missing:,} missing rows have no states",
        f"{format_bytes(verified.n_bytes)} in {verified.seconds:.1f} s, {format_bytes(rate)}/s",
    ]
