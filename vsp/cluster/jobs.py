"""The stages of a run as jobs of a batch system: their commands, resources and environment."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from vsp.cluster.contract import SCHEDULERS, Job, Query, Scheduler, States
from vsp.config import Profile
from vsp.storage.journal import Ledger
from vsp.storage.run import Run

EXTRACT, VERIFY, PROBE, REPORT = STAGES = ("extract", "verify", "probe", "report")
PARTS = "probe-parts"  # the layers in parts, before the probe that merges them; asked for with it
ORDER = (EXTRACT, VERIFY, PARTS, PROBE, REPORT)

# A list of jobs shows a name's first eight letters: the stage comes first.
_NAMES = {
    EXTRACT: "vsp-{}",
    VERIFY: "verify-{}",
    PARTS: "parts-{}",
    PROBE: "probe-{}",
    REPORT: "report-{}",
}
# Where the planning shell finds checkpoints, tasks find them.
_INHERITED = ("HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "XDG_CACHE_HOME")


def scheduler_of(profile: Profile) -> Scheduler:
    scheduler: Scheduler = SCHEDULERS.load(profile.scheduler)()
    return scheduler


def log_folder(run: Run, profile: Profile) -> Path:
    return Path(profile.logs).absolute() if profile.logs else run.folder.absolute() / "logs"


def log_name(stage: str, job: str) -> str:
    """The log file of a task: `job` is 123, or 123_4 for a task of an array."""
    return f"{stage}-{job}.log"


def script_path(run: Run, stage: str) -> Path:
    return run.folder / "jobs" / f"{stage}.sh"


def extract_job(run: Run, profile: Profile, retry_failed: bool = False) -> Job:
    """The array whose task numbers are the shards."""
    retry = ("--retry-failed",) if retry_failed else ()
    return Job(
        stage=EXTRACT,
        name=_NAMES[EXTRACT].format(run.name),
        run_id=run.plan.id,
        command=_command(run, EXTRACT, *retry, "--shard"),
        logs=log_folder(run, profile),
        resources=profile,
        n_tasks=len(run.plan.shard_starts),
        throttle=profile.throttle,
        warning=profile.signal_seconds,
        modules=profile.modules,
        environment=_environment(profile, profile.cpus_per_task),
    )


def chain(
    run: Run,
    profile: Profile,
    stages: Sequence[str] = STAGES,
    probe_tasks: int = 0,
    partial: bool = False,
    retry_failed: bool = False,
) -> list[Job]:
    """The jobs of `stages` in their order. `partial`: probes leave out rows that are not done."""
    cores = ("--n-jobs", str(profile.cpu.cpus_per_task))
    probe = (*cores, *(("--partial",) if partial else ()))
    jobs = []
    if EXTRACT in stages:
        jobs.append(extract_job(run, profile, retry_failed))
    if VERIFY in stages:
        jobs.append(_cpu_job(run, profile, VERIFY, _command(run, VERIFY, *cores)))
    if PROBE in stages and probe_tasks:
        command = _command(run, PROBE, *probe, "--part")
        jobs.append(_cpu_job(run, profile, PARTS, command, probe_tasks))
    if PROBE in stages:
        jobs.append(_cpu_job(run, profile, PROBE, _command(run, PROBE, *probe)))
    if REPORT in stages:
        report = _cpu_job(run, profile, REPORT, _command(run, REPORT))
        one = report.resources.model_copy(update={"cpus_per_task": 1})
        jobs.append(replace(report, resources=one))
    return jobs


def task_states(
    run: Run, scheduler: Scheduler, ledgers: Iterable[Ledger] = (), ended: bool = True
) -> States:
    """What the batch system knows of the run's tasks; ledgers name jobs that it may have forgotten.

    Only what is queued or running unless `ended`.
    """
    return scheduler.states(
        Query(
            run_id=run.plan.id,
            stages={name.format(run.name): stage for stage, name in _NAMES.items()},
            n_tasks=len(run.plan.shard_starts),
            since=datetime.fromisoformat(run.plan.created),
            jobs=_first_shards(ledgers),
            ended=ended,
        )
    )


def _first_shards(ledgers: Iterable[Ledger]) -> dict[str, int]:
    """Array job → the shard of its task 0, as journals tell."""
    found = {}
    for shard, ledger in enumerate(ledgers):
        for life in ledger.lives:
            job, _, task = (life.job or "").partition("_")
            if task.isdecimal():
                found[job] = shard - int(task)
    return found


def _command(run: Run, *words: str) -> tuple[str, ...]:
    stage, *options = words
    folder = str(run.folder.absolute())
    return (sys.executable, "-m", "vsp", stage, "--run", folder, *options)


def _cpu_job(
    run: Run, profile: Profile, stage: str, command: tuple[str, ...], n_tasks: int | None = None
) -> Job:
    return Job(
        stage=stage,
        name=_NAMES[stage].format(run.name),
        run_id=run.plan.id,
        command=command,
        logs=log_folder(run, profile),
        resources=profile.cpu_resources(),
        n_tasks=n_tasks,
        number=f"{{}}/{n_tasks}",
        throttle=profile.throttle,
        modules=profile.modules,
        environment=_environment(profile, 1),  # a process a core
    )


def _environment(profile: Profile, n_threads: int) -> dict[str, str]:
    inherited = {
        name: str(Path(value).expanduser().absolute())
        for name in _INHERITED
        if (value := os.environ.get(name))
    }
    return {
        # Libraries otherwise start a thread for every core of a node that other tasks share.
        "OMP_NUM_THREADS": str(n_threads),
        "HF_HUB_OFFLINE": "1",  # checkpoints were on disk when the run was planned
        **inherited,
        **profile.environment,
    }
