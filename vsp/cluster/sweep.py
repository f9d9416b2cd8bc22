"""Submits many runs as one chain: the stages of each run, then one job after the end of all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from vsp.cluster.contract import After, Query, Scheduler, TaskState, array_and_task
from vsp.cluster.jobs import (
    LastJob,
    joint_extractions,
    last_job,
    own_task_states,
    scheduler_of,
)
from vsp.cluster.needed_stages import finished_words, last_written, probed_since
from vsp.cluster.shell import write_script
from vsp.cluster.stages import EXTRACT, PROBE, TABLE, VERIFY, log_name
from vsp.cluster.submit import Options, RefusedError, Say, submit, unfinished
from vsp.cluster.submitted import known_submissions, probing_submission
from vsp.config import Profile
from vsp.errors import RunError, SchedulerError
from vsp.storage.blank_run import is_blank
from vsp.storage.ledger import Ledger
from vsp.storage.run import Run
from vsp.utils.files import disk_errors

_FOLDER = Path("scratch/.sweep")  # script and logs of the table


@dataclass(frozen=True, slots=True)
class SweepJobs:
    """What became of the submission of a sweep."""

    waits: bool  # jobs are in the queue, so that the last job comes later
    problems: tuple[str, ...]  # of runs that cannot be submitted, or whose stages failed here


@dataclass(frozen=True, slots=True)
class _RunJobs:
    """What was submitted for one run."""

    waiting: tuple[str, ...] = ()  # its jobs that were queued already
    new: tuple[str, ...] = ()
    extracting: tuple[str, ...] = ()  # those among them that extract rows
    problem: str = ""


def submit_sweep(
    runs: Sequence[Run],
    profile: Profile,
    options: Options,
    work: Path,
    say: Say,
    last: LastJob | None = None,
    first: Mapping[str, str] | None = None,
) -> SweepJobs:
    """Submit what each run still needs up to its probes, then `last` after the end of all.

    `last` is by default the table of what the runs found. `first` names for a run an earlier one of
    `runs`, whose extraction ends before the probes of the run start. Runs with queued or running jobs are not
    submitted again; the last job waits for them too. A run that cannot be submitted does not stop the
    others. Raises SchedulerError, naming the runs submitted so far, if the batch system refuses.
    """
    scheduler = scheduler_of(profile)
    found: list[_RunJobs] = []
    by_name = {run.name: run for run in runs}
    for run in runs:
        extracting = {one.name: of_one.extracting for one, of_one in zip(runs, found, strict=False)}
        together = [one.name for one in run.plan.together if one.id != run.plan.id]
        before = by_name.get((first or {}).get(run.name, ""))
        of_run = replace(
            options,
            before_probes=() if before is None else extracting.get(before.name, ()),
            extracted_by=tuple(
                dict.fromkeys(job for name in together for job in extracting.get(name, ()))
            ),
        )
        try:
            found.append(_submit_run(run, profile, of_run, scheduler, say, before))
        except SchedulerError as error:
            done = [one.name for one, jobs in zip(runs, found, strict=False) if jobs.new]
            raise SchedulerError(f"run {run.name}: {_refused(error, done)}") from None
    jobs = [job for one in found for job in (*one.waiting, *one.new)]
    if jobs:
        has_new = any(one.new for one in found)
        _submit_last(
            last or sweep_table(runs, work, options), runs, profile, scheduler, jobs, say, has_new
        )
    return SweepJobs(bool(jobs), tuple(one.problem for one in found if one.problem))


def sweep_table(runs: Sequence[Run], work: Path, options: Options) -> LastJob:
    """The job that shows what the probes of a sweep found."""
    setting = options.probe.shown
    shown = () if setting is None else ("--probe", setting)
    return LastJob(TABLE, ("runs", "--peaks", *shown, *(run.name for run in runs)), work / _FOLDER)


def _submit_run(
    run: Run,
    profile: Profile,
    options: Options,
    scheduler: Scheduler,
    say: Say,
    before: Run | None,
) -> _RunJobs:
    """Submit what one run needs, unless its jobs wait or run. Raises SchedulerError if it is refused.

    Its probes use answers of the run `before` it.
    """
    others = joint_extractions(run, scheduler).tasks
    joint = tuple(dict.fromkeys((*options.extracted_by, *_numbers(others))))
    active = [one for one in own_task_states(run, scheduler, ended=False).tasks if one.active]
    if active:
        waiting = _numbers(active)
        say(f"run {run.name}: not submitted again, jobs {', '.join(waiting)} run or wait")
        extracting = _numbers([one for one in active if one.stage == EXTRACT])
        return _RunJobs(waiting, (), (*joint, *extracting), _other_probe(run, options))
    ledgers = run.ledgers()
    stages = _stages(ledgers, options, others)
    if finished_words(run, ledgers, options.probe):
        if before is None or not _answers_since(run, before, ledgers, options):
            say(f"run {run.name}: is finished")
            return _RunJobs()
        say(f"run {run.name}: is probed again, because it uses newer answers of run {before.name}")
        stages = (PROBE,)
    else:
        say(
            f"run {run.name}:" + (f" job {', '.join(joint)} extracts its rows too" if joint else "")
        )
    known = known_submissions(run)[0]
    options = replace(options, stages=stages, extracted_by=joint)
    problem = _problem(run, profile, options, say)
    new = [one for one in known_submissions(run)[0] if one not in known]
    sent = [(stage, job) for one in new for stage, jobs in one.jobs.items() for job in jobs]
    extracts = tuple(job for stage, job in sent if stage == EXTRACT)
    return _RunJobs((), tuple(job for _, job in sent), (*joint, *extracts), problem)


def _answers_since(run: Run, before: Run, ledgers: Sequence[Ledger], options: Options) -> bool:
    """Whether the answers of the blank run `before` are newer than the probes of a run, or will be."""
    if not is_blank(run.plan, before.plan):
        return False
    probed = probed_since(run, ledgers, options.probe) or 0.0
    # Journals and results have the clocks of different hosts.
    return bool(options.before_probes) or last_written(before) > probed + 1


def _problem(run: Run, profile: Profile, options: Options, say: Say) -> str:
    """Submit the run. Returns why it was not submitted, or what failed here; "" if nothing did."""
    try:
        submit(run, profile, options, say)
    except RunError as error:
        return str(error)
    except SchedulerError as error:
        if not scheduler_of(profile).runs_here:
            raise
        return f"run {run.name}: {error}"
    return ""


def _numbers(tasks: Sequence[TaskState]) -> tuple[str, ...]:
    """The numbers of the jobs that these tasks are of."""
    return tuple(dict.fromkeys(array_and_task(one.job)[0] for one in tasks))


def _other_probe(run: Run, options: Options) -> str:
    """Why the queued jobs of the run are not what is asked for now; empty if they are."""
    last = probing_submission(known_submissions(run)[0])
    if last is None or last.probe == options.probe.words:
        return ""
    return (
        f"run {run.name}: its jobs probe {', '.join(last.settings)}; give the same command again when "
        "they have ended"
    )


def _stages(
    ledgers: Sequence[Ledger], options: Options, others: Sequence[TaskState]
) -> tuple[str, ...]:
    """The stages up to the probes, without the extraction if it is finished or submitted already.

    `others` are the active extractions of runs that are extracted together with this one. Jobs that
    were submitted just now extract all shards, and may not be listed yet.
    """
    left = unfinished(ledgers, options.retry_failed) - {one.shard for one in others}
    all_shards = {*options.extracted_by} - {*_numbers(others)}
    return (EXTRACT, VERIFY, PROBE) if left and not all_shards else (VERIFY, PROBE)


def _submit_last(
    last: LastJob,
    runs: Sequence[Run],
    profile: Profile,
    scheduler: Scheduler,
    jobs: Sequence[str],
    say: Say,
    has_new: bool,
) -> None:
    """Submit the last job, unless no job is new and an earlier such job is still queued."""
    job = last_job(last, runs, profile)
    if not has_new:
        asked = Query(
            job.run_id, {job.name: job.stage}, 1, datetime.now().astimezone(), ended=False
        )
        for task in scheduler.states(asked).active(job.stage):
            say(f"{job.stage}: job {task.job} is queued already")
            return
    script = last.folder / f"{job.name}.sh"
    with disk_errors(job.logs):
        job.logs.mkdir(parents=True, exist_ok=True)
    write_script(script, scheduler.script(job))
    (call,) = scheduler.calls(job, script)
    sent = scheduler.send(call, After(ended=tuple(jobs)))
    log = job.logs / log_name(job.stage, sent.job)
    say(f"{job.stage}: job {sent.job} waits for the end of all; it writes {log}")


def _refused(error: SchedulerError, done: Sequence[str]) -> str:
    """Why a run was refused, what was submitted before that, and the command that goes on."""
    reason, so_far = str(error), ""
    if isinstance(error, RefusedError):
        reason, so_far = error.reason, error.so_far
    others = f"runs submitted before it: {', '.join(done)}" if done else ""
    sent = "; ".join(filter(None, (so_far, others))) or "nothing was submitted"
    return f"{reason}; {sent}; the same command goes on"
