"""Submits the runs of `vsp sweep` as one chain: the stages of each run, then one table of all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from vsp.cluster.contract import After, Query, array_and_task
from vsp.cluster.jobs import scheduler_of, table_job, task_states
from vsp.cluster.needed_stages import finished_words
from vsp.cluster.shell import write_script
from vsp.cluster.stages import EXTRACT, PROBE, TABLE, VERIFY, log_name
from vsp.cluster.submit import Options, Say, submit, unfinished
from vsp.cluster.submitted import known_submissions
from vsp.config import Profile
from vsp.errors import RunError, SchedulerError
from vsp.storage.run import Run
from vsp.utils.files import disk_errors

FOLDER = Path("scratch/.sweep")  # script and logs of the table


@dataclass(frozen=True, slots=True)
class SweepJobs:
    """What became of the submission of a sweep."""

    waits: bool  # jobs are in the queue, so that the table comes later
    problems: tuple[str, ...]  # of runs that cannot be submitted, or whose stages failed here


def submit_sweep(
    runs: Sequence[Run], profile: Profile, options: Options, work: Path, say: Say
) -> SweepJobs:
    """Submit what each run still needs up to its probes, then the table after the end of all.

    Runs with queued or running jobs are not submitted again; the table waits for them too. A run that
    cannot be submitted does not stop the others. Raises SchedulerError, naming the runs submitted so
    far, if the batch system refuses.
    """
    scheduler = scheduler_of(profile)
    jobs: list[str] = []
    problems: list[str] = []
    has_new = False
    for n, run in enumerate(runs):
        states = task_states(run, scheduler, ended=False)
        active = {array_and_task(task.job)[0]: None for task in states.tasks if task.active}
        if active:
            say(f"run {run.name}: not submitted again, jobs {', '.join(active)} run or wait")
            jobs += active
            continue
        ledgers = run.ledgers()
        if finished_words(run, ledgers):
            say(f"run {run.name}: is finished")
            continue
        say(f"run {run.name}:")
        before = len(known_submissions(run)[0])
        try:
            is_extracted = not unfinished(ledgers, options.retry_failed)
            stages = (VERIFY, PROBE) if is_extracted else (EXTRACT, VERIFY, PROBE)
            submit(run, profile, replace(options, stages=stages), say)
        except SchedulerError as error:
            if scheduler.has_queue():
                raise SchedulerError(f"run {run.name}: {error}; {_so_far(runs[:n])}") from None
            problems.append(f"run {run.name}: {error}")
        except RunError as error:
            problems.append(str(error))
        for submission in known_submissions(run)[0][before:]:
            has_new = True
            jobs += [job for numbers in submission.jobs.values() for job in numbers]
    if jobs:
        _submit_table(runs, profile, jobs, work, say, has_new)
    return SweepJobs(bool(jobs), tuple(problems))


def _submit_table(
    runs: Sequence[Run], profile: Profile, jobs: Sequence[str], work: Path, say: Say, has_new: bool
) -> None:
    """Submit the job of the table, unless no job is new and an earlier table job is still queued."""
    scheduler, folder = scheduler_of(profile), work / FOLDER
    job = table_job(runs, profile, folder)
    if not has_new:
        asked = Query(job.run_id, {job.name: TABLE}, 1, datetime.now().astimezone(), ended=False)
        for task in scheduler.states(asked).active(TABLE):
            say(f"{TABLE}: job {task.job} is queued already")
            return
    script = folder / f"{job.name}.sh"
    with disk_errors(job.logs):
        job.logs.mkdir(parents=True, exist_ok=True)
    write_script(script, scheduler.script(job))
    (call,) = scheduler.calls(job, script)
    sent = scheduler.send(call, After(ended=tuple(jobs)))
    say(
        f"{TABLE}: job {sent.job} waits for the end of all; it writes {job.logs / log_name(TABLE, sent.job)}"
    )


def _so_far(runs: Sequence[Run]) -> str:
    done = ", ".join(run.name for run in runs)
    return f"{f'submitted already: {done}' if done else 'nothing was submitted'}; the same command goes on"
