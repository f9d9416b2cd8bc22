"""The state of each stage of a run: its jobs, since when, and why.

Files tell what is finished: journals, results, the report. A batch system, if one answers, adds what
waits, runs, failed or was cancelled, and the record of submissions names jobs that it has forgotten.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from vsp.cluster.contract import States, TaskState, array_and_task
from vsp.cluster.stages import (
    EFFECTS,
    EXTRACT,
    ORDER,
    PROBE,
    REPORT,
    VERIFY,
    stages_of,
)
from vsp.cluster.status import ACTIVE, RunStatus
from vsp.cluster.submitted import Submission, probing_submission
from vsp.cluster.task_words import task_words
from vsp.errors import RunError
from vsp.storage.results import REPORT as REPORT_FILE
from vsp.storage.run import Run
from vsp.storage.sealed_summary import SUMMARY
from vsp.utils.text import format_count, format_ranges

FOUND_EFFECTS = "effects.json"  # in results/RUN/, of `vsp effects`
VERIFIED = "verified.json"  # in the run's folder, after a verification without damage


@dataclass(frozen=True, slots=True)
class StageStatus:
    """One stage: its last jobs and its state."""

    stage: str
    # done, outdated, running, queued, stopped, unfinished, failed, cancelled, ended, not started
    state: str
    jobs: tuple[str, ...] = ()  # numbers of whole jobs, not of array tasks
    since: float | None = None  # seconds since 1970
    why: str = ""
    settings: tuple[str, ...] = ()  # of the probe, folders in results/RUN/; empty: any, or none

    @property
    def active(self) -> bool:
        return self.state in ("running", "queued")


def run_stages(
    run: Run,
    status: RunStatus,
    states: States,
    sent: Sequence[Submission],
    settings: tuple[str, ...] = (),
) -> tuple[StageStatus, ...]:
    """The stages in their order; the optional one only if it was submitted.

    Probe and report are judged by the results of `settings`, or else of those that were submitted
    last; if nothing was submitted, any results count.
    """
    last = probing_submission(sent)
    settings = settings or (last.settings if last is not None else ())
    stages = [_extraction(status, states, sent)]
    usual = stages_of(run.plan.effects is not None)
    for stage in ORDER[1:]:
        known = [task for task in states.tasks if task.stage == stage]
        if stage in usual or known or _last_jobs(stage, sent):
            of_stage = () if stage == VERIFY else settings
            found = _later_stage(run, stage, status, states, sent, of_stage)
            stages.append(replace(found, settings=of_stage))
    return tuple(stages)


def _extraction(status: RunStatus, states: States, sent: Sequence[Submission]) -> StageStatus:
    counts = Counter(shard.state for shard in status.shards)
    tasks = list(states.latest(EXTRACT).values())
    active = [task for task in tasks if task.active]
    journalled = {shard.job for shard in status.shards if shard.job}
    jobs = _numbers(task.job for task in active or tasks) or _numbers(journalled)
    jobs = jobs or _last_jobs(EXTRACT, sent)
    written = max((shard.last_write or 0.0 for shard in status.shards), default=0.0) or None
    n_failed = status.count("n_failed")
    failed = f"{format_count(n_failed, 'row')} failed" if n_failed else ""
    if counts["finished"] == len(status.shards):
        return StageStatus(EXTRACT, "done", jobs, written, failed)
    if sum(counts[state] for state in ACTIVE):
        running = sum(counts[state] for state in ("running", "running?", "ending"))
        state = "running" if running else "queued"
        began = min((task.since for task in active if task.since), default=None)
        why = _counted(counts) if running else _most_common(task_words(one) for one in active)
        return StageStatus(EXTRACT, state, jobs, began, why)
    if not counts["stopped"]:
        state = "unfinished" if status.count("n_missing") < status.n_planned else "not started"
        why = _counted(counts) if state == "unfinished" else ""
        return StageStatus(EXTRACT, state, jobs, written, why)
    ended = max((task.since or 0.0 for task in tasks), default=0.0)
    why = _most_common(shard.why for shard in status.shards if shard.state == "stopped")
    return StageStatus(EXTRACT, "stopped", jobs, max(ended, written or 0.0) or None, why)


def _counted(counts: Counter[str]) -> str:
    """ "shards: 3 running, 1 queued"."""
    return f"shards: {', '.join(f'{n} {state}' for state, n in counts.items())}"


def _most_common(whys: Iterable[str]) -> str:
    counted = Counter(filter(None, whys)).most_common()
    if not counted:
        return ""
    more = len(counted) - 1
    return counted[0][0] + (f", and {format_count(more, 'other reason')}" if more else "")


def _later_stage(
    run: Run,
    stage: str,
    status: RunStatus,
    states: States,
    sent: Sequence[Submission],
    settings: tuple[str, ...],
) -> StageStatus:
    tasks = list(states.latest(stage).values())
    jobs = _numbers(task.job for task in tasks) or _last_jobs(stage, sent)
    active = [task for task in tasks if task.active]
    if active:
        running = [task for task in active if task.phase != "queued"]
        since = min((task.since for task in running or active if task.since), default=None)
        why = "" if running else _most_common(map(task_words, active))
        return StageStatus(stage, "running" if running else "queued", jobs, since, why)
    written = _written(run, stage, settings)
    failed = [task for task in tasks if task.phase == "failed"]
    ended = max((task.since or 0.0 for task in failed), default=0.0)
    if failed and not (written and ended and written > ended):
        state = "cancelled" if all(task.cancelled for task in failed) else "failed"
        return StageStatus(stage, state, jobs, ended or None, _failed_words(failed))
    if written is None:
        ends = [task.since for task in tasks if task.since and task.phase == "succeeded"]
        written = max(ends, default=None)
    if written is not None:
        return _done(stage, status, jobs, written)
    if tasks:
        return StageStatus(stage, "done", jobs)
    if jobs:
        why = "the batch system does not answer" if states.problem else "the batch system forgot it"
        return StageStatus(stage, "ended", jobs, None, f"{why}, and it left no file")
    return StageStatus(stage, "not started")


def _failed_words(failed: Sequence[TaskState]) -> str:
    said = _most_common(map(task_words, failed))
    numbers = [task.shard for task in failed if task.shard is not None]
    return f"tasks {format_ranges(numbers)}: {said}" if numbers else said


def _done(stage: str, status: RunStatus, jobs: tuple[str, ...], written: float) -> StageStatus:
    rows = max((shard.last_write or 0.0 for shard in status.shards), default=0.0)
    if rows > written + 1:  # journals and files have the clocks of different hosts
        return StageStatus(stage, "outdated", jobs, written, "rows were written since")
    return StageStatus(stage, "done", jobs, written)


def _written(run: Run, stage: str, settings: Sequence[str]) -> float | None:
    """When a finished stage left its file, in seconds since 1970; None if it is not finished.

    With `settings`, each of them needs a file, and the oldest counts; otherwise the newest of any.
    """
    if stage == VERIFY:
        return _newest([run.folder / VERIFIED], run)
    if stage not in (PROBE, EFFECTS, REPORT):
        return None
    with suppress(RunError):  # its results have no place
        if stage == EFFECTS:
            return _newest([run.results / FOUND_EFFECTS], run)
        name = SUMMARY if stage == PROBE else REPORT_FILE
        if not settings:
            return _newest(run.results.glob(f"**/{name}"), run)
        times = [_newest([run.results / one / name], run) for one in settings]
        return min((one for one in times if one is not None), default=None) if all(times) else None
    return None


def _newest(paths: Iterable[Path], run: Run) -> float | None:
    """When the newest of these files was written; files that are older than the plan do not count."""
    planned = datetime.fromisoformat(run.plan.created).timestamp()
    times = []
    for path in paths:
        with suppress(OSError):
            times.append(path.stat().st_mtime)
    return max((one for one in times if one >= planned), default=None)


def _numbers(jobs: Iterable[str]) -> tuple[str, ...]:
    """The numbers of jobs without those of array tasks, in the order of their submission."""
    numbers = {array_and_task(job)[0] for job in jobs}
    return tuple(sorted(numbers, key=lambda job: (len(job), job)))


def _last_jobs(stage: str, sent: Sequence[Submission]) -> tuple[str, ...]:
    """The jobs of the last submission that had this stage."""
    for submission in reversed(sent):
        for name, jobs in submission.jobs.items():
            if name == stage and jobs:
                return jobs
    return ()
