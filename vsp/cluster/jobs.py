"""The stages of a run as jobs of a batch system: their commands, resources and environment."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from hashlib import sha256
from pathlib import Path

from vsp.choices import ALL
from vsp.cluster import SCHEDULERS
from vsp.cluster.contract import Job, Query, Scheduler, States, TaskState, array_and_task
from vsp.cluster.local import Local
from vsp.cluster.probe_choice import ProbeChoice
from vsp.cluster.stages import (
    EFFECTS,
    EXTRACT,
    ORDER,
    PROBE,
    PROBE_PARTS,
    REPORT,
    STAGES,
    VERIFY,
    job_name,
)
from vsp.config import Profile
from vsp.errors import ConfigError
from vsp.storage.journal import TaskIdentity
from vsp.storage.ledger import Ledger
from vsp.storage.run import Run
from vsp.storage.together import companions_there
from vsp.utils.import_path import folder_of_vsp

# Tasks look for checkpoints where the shell that plans the run does.
_INHERITED = ("HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "XDG_CACHE_HOME")


def scheduler_of(profile: Profile) -> Scheduler:
    scheduler: Scheduler = SCHEDULERS.load(profile.scheduler)()
    return scheduler


def current_task() -> TaskIdentity:
    """The identity of this process as a task of a batch system; empty if it is not one."""
    return current_scheduler()[1]


def current_scheduler() -> tuple[Scheduler, TaskIdentity]:
    """The batch system that runs this process, and its task there; `Local` if there is none."""
    own = SCHEDULERS.own_names()
    # Installed packages are searched only if no scheduler of vsp knows the process.
    return _identify(own) or _identify(SCHEDULERS.names()) or (Local(), TaskIdentity())


def _identify(schedulers: Iterable[str]) -> tuple[Scheduler, TaskIdentity] | None:
    for name in schedulers:
        with suppress(ConfigError):  # a package with a scheduler that cannot be imported
            scheduler: Scheduler = SCHEDULERS.load(name)()
            task = scheduler.current_task(os.environ)
            if task is not None:
                return scheduler, task
    return None


def log_folder(run: Run, profile: Profile) -> Path:
    return Path(profile.logs).absolute() if profile.logs else run.folder.absolute() / "logs"


def script_path(run: Run, stage: str) -> Path:
    return run.folder / "jobs" / f"{stage}.sh"


def job_owner(run: Run) -> str:
    """The id by which a batch system finds the jobs of a run: a hash of its plan and its folder.

    A copy of the folder has the same plan, but jobs of the original do not work in the copy.
    """
    return sha256(f"{run.plan.id} {run.folder.resolve()}".encode()).hexdigest()[:32]


def extract_job(run: Run, profile: Profile, retry_failed: bool = False) -> Job:
    """The array whose task numbers are the shards."""
    retry = ("--retry-failed",) if retry_failed else ()
    again = ("--requeue", str(profile.max_requeues)) if profile.requeue else ()
    return Job(
        stage=EXTRACT,
        name=job_name(EXTRACT, run.name),
        run_id=job_owner(run),
        command=_command(run, EXTRACT, *retry, *again, "--shard"),
        logs=log_folder(run, profile),
        resources=profile,
        n_tasks=len(run.plan.shard_starts),
        throttle=profile.throttle,
        signal_seconds=profile.signal_seconds,
        modules=profile.modules,
        environment=_environment(profile, profile.cpus_per_task),
        import_from=_import_from(),
    )


def chain(
    run: Run,
    profile: Profile,
    stages: Sequence[str] = STAGES,
    probe_tasks: int = 0,
    partial: bool = False,
    retry_failed: bool = False,
    choice: ProbeChoice = ProbeChoice(),  # noqa: B008 - frozen
) -> list[Job]:
    """The jobs of `stages` in their order. `partial`: probes leave out missing and failed rows.

    `choice` is how they probe; the report is of the settings that it makes.
    """
    if {PROBE, EFFECTS} & {*stages}:
        _ = run.results  # raises RunError if they have no place
    cores = ("--n-jobs", str(profile.cpu.cpus_per_task))
    several = choice.position is None and len(run.plan.stored_positions) > 1
    every = ("--position", ALL) if several and ALL not in choice.words else ()
    # Fitted layers are kept, so a probe that is requeued goes on; a verification would start over.
    again = ("--requeue", str(profile.max_requeues)) if profile.requeue and profile.cpu.time else ()
    probe = (*choice.words, *cores, *every, *(("--partial",) if partial else ()), *again)
    jobs = []
    if EXTRACT in stages:
        jobs.append(extract_job(run, profile, retry_failed))
    if VERIFY in stages:
        jobs.append(_cpu_job(run, profile, VERIFY, _command(run, VERIFY, *cores)))
    if PROBE in stages and probe_tasks:
        command = _command(run, PROBE, *probe, "--part")
        jobs.append(_cpu_job(run, profile, PROBE_PARTS, command, probe_tasks))
    if PROBE in stages:
        jobs.append(_cpu_job(run, profile, PROBE, _command(run, PROBE, *probe)))
    if EFFECTS in stages:
        jobs.append(_cpu_job(run, profile, EFFECTS, _command(run, EFFECTS)))
    if REPORT in stages:
        shown = (word for one in choice.settings(run) for word in ("--probe", one))
        report = _cpu_job(run, profile, REPORT, _command(run, REPORT, *shown, "--save"))
        one = report.resources.model_copy(update={"cpus_per_task": 1})
        jobs.append(replace(report, resources=one))
    return jobs


@dataclass(frozen=True, slots=True)
class LastJob:
    """A command of vsp that runs after the end of several runs, such as the table of a sweep."""

    stage: str  # begins the names of the job, of its script and of its log
    words: tuple[str, ...]  # of the command, without `vsp`
    folder: Path  # of the script and the logs


def last_job(last: LastJob, runs: Sequence[Run], profile: Profile) -> Job:
    """The job of a command about these runs; it runs in the folder that it is sent from."""
    owner = sha256(" ".join(map(job_owner, runs)).encode()).hexdigest()[:32]
    logs = Path(profile.logs).absolute() if profile.logs else last.folder.absolute() / "logs"
    return Job(
        stage=last.stage,
        name=f"{last.stage}-{owner[:8]}",
        run_id=owner,
        command=(sys.executable, "-P", "-m", "vsp", *last.words),
        logs=logs,
        resources=profile.cpu_resources().model_copy(update={"cpus_per_task": 1}),
        modules=profile.modules,
        environment=_environment(profile, 1),
        import_from=_import_from(),
    )


def task_states(
    run: Run, scheduler: Scheduler, ledgers: Iterable[Ledger] = (), ended: bool = True
) -> States:
    """The states of the run's tasks in the batch system; only active tasks unless `ended`.

    Active extractions of runs that are extracted together with it are tasks of the run too. Ledgers
    tell the numbers of jobs that the batch system may have forgotten.
    """
    known = own_task_states(run, scheduler, ledgers, ended)
    joint = joint_extractions(run, scheduler)
    return States((*joint.tasks, *known.tasks), known.problem or joint.problem)


def own_task_states(
    run: Run, scheduler: Scheduler, ledgers: Iterable[Ledger] = (), ended: bool = True
) -> States:
    """As `task_states`, without the tasks of runs that are extracted together with it."""
    return scheduler.states(_query(run, ORDER, _first_shards(ledgers), ended))


def joint_extractions(run: Run, scheduler: Scheduler) -> States:
    """The active extractions of the other runs that are extracted together with it."""
    tasks, problem = list[TaskState](), ""
    for other in () if scheduler.runs_here else companions_there(run):
        found = scheduler.states(_query(other, (EXTRACT,), {}, ended=False))
        tasks += found.active(EXTRACT)
        problem = problem or found.problem
    return States(tuple(tasks), problem)


def _query(run: Run, stages: Sequence[str], jobs: Mapping[str, int], ended: bool) -> Query:
    return Query(
        run_id=job_owner(run),
        stages={job_name(stage, run.name): stage for stage in stages},
        n_tasks=len(run.plan.shard_starts),
        since=datetime.fromisoformat(run.plan.created).astimezone(),
        jobs=jobs,
        ended=ended,
    )


def _first_shards(ledgers: Iterable[Ledger]) -> dict[str, int]:
    """Number of an array job → the shard of its task 0, from the journals."""
    first_shards = {}
    for shard, ledger in enumerate(ledgers):
        for life in ledger.lives:
            job, task = array_and_task(life.job or "")
            if task is not None and job.isalnum():  # a journal may be a stranger's
                first_shards[job] = shard - task
    return first_shards


def _command(run: Run, *words: str) -> tuple[str, ...]:
    stage, *options = words
    folder = str(run.folder.absolute())
    # -P: Python imports nothing from the folder that the job is sent from.
    return (sys.executable, "-P", "-m", "vsp", stage, "--run", folder, *options)


def _cpu_job(
    run: Run, profile: Profile, stage: str, command: tuple[str, ...], n_tasks: int | None = None
) -> Job:
    return Job(
        stage=stage,
        name=job_name(stage, run.name),
        run_id=job_owner(run),
        command=command,
        logs=log_folder(run, profile),
        resources=profile.cpu_resources(),
        n_tasks=n_tasks,
        number=f"{{}}/{n_tasks}",
        throttle=profile.throttle,
        signal_seconds=profile.signal_seconds if "--requeue" in command else None,
        modules=profile.modules,
        environment=_environment(profile, 1),  # one process per core
        import_from=_import_from(),
    )


def _import_from() -> str:
    folder = folder_of_vsp()
    if os.pathsep in folder:
        raise ConfigError(
            f"{folder!a}: holds this vsp, and PYTHONPATH cannot name a folder with a colon; move it"
        )
    return folder


def _environment(profile: Profile, n_threads: int) -> dict[str, str]:
    inherited = {
        name: str(Path(value).expanduser().absolute())
        for name in _INHERITED
        if (value := os.environ.get(name))
    }
    return {
        # By default, libraries start one thread per core, although other tasks share the node.
        "OMP_NUM_THREADS": str(n_threads),
        "HF_HUB_OFFLINE": "1",  # checkpoints were on disk when the run was planned
        **inherited,
        **profile.environment,
    }
