"""`vsp submit` and `vsp resume`: send the stages of a run, each behind the one before."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from vsp.cluster.contract import After, Call, Scheduler, States, TaskState
from vsp.cluster.jobs import (
    EXTRACT,
    ORDER,
    STAGES,
    chain,
    log_folder,
    scheduler_of,
    script_path,
    task_states,
)
from vsp.config import Profile
from vsp.errors import RunError, SchedulerError
from vsp.storage.run import Run
from vsp.utils.files import write_text
from vsp.utils.text import format_ranges

Say = Callable[[str], None]

_ROW = "{:<12}{:<10}{:<16}{}"
_SHOWN = 4  # numbers of jobs in a line


@dataclass(frozen=True, slots=True)
class Options:
    """What `vsp submit` and `vsp resume` are asked for."""

    stages: tuple[str, ...] = STAGES
    after: Literal["ok", "any"] = "ok"  # how a stage has to end for the next one to start
    probe_tasks: int = 0  # parts of the layers that are fitted on nodes of their own; 0: none
    retry_failed: bool = False
    dry_run: bool = False


def submit(run: Run, profile: Profile, options: Options, say: Say) -> None:
    """Send all tasks of the stages. Raises RunError if shards are at work already."""
    scheduler, states = _ask(run, profile, say)
    working = states.active(EXTRACT)
    if EXTRACT in options.stages and working:
        raise RunError(
            f"run {run.name}: {_named(working)} queued or running already; `vsp resume` sends "
            "what else is missing, `vsp submit --stages verify,probe,report` what comes after"
        )
    _send(run, profile, options, scheduler, states, None, say)


def resume(run: Run, profile: Profile, options: Options, say: Say) -> None:
    """Send the shards that are not finished, unless they are at work, and what comes after."""
    open_shards = unfinished(run, options.retry_failed)
    if not open_shards:
        say(
            f"run {run.name}: no row is missing; `vsp submit --stages verify,probe,report` does "
            "the rest"
        )
        return
    scheduler, states = _ask(run, profile, say)
    working = [task for task in states.active(EXTRACT) if task.shard in open_shards]
    if working:
        say(f"not sent again: {_named(working)} queued or running")
    shards = sorted(open_shards - {task.shard for task in working if task.shard is not None})
    if not shards:
        say(
            "no other shard is unfinished; `vsp submit --stages verify,probe,report` puts the "
            "rest behind them"
        )
        return
    _send(run, profile, options, scheduler, states, shards, say)


def unfinished(run: Run, retry_failed: bool) -> set[int]:
    """Shards with missing rows, or also with failed ones."""
    return {
        index
        for index, ledger in enumerate(run.ledgers())
        if ledger.n_missing or (retry_failed and ledger.n_failed)
    }


def _ask(run: Run, profile: Profile, say: Say) -> tuple[Scheduler, States]:
    scheduler = scheduler_of(profile)
    states = task_states(run, scheduler, ended=False)
    if states.problem:
        say(f"note: {states.problem}; a shard that is queued already may be sent twice")
    return scheduler, states


def _send(
    run: Run,
    profile: Profile,
    options: Options,
    scheduler: Scheduler,
    states: States,
    shards: Collection[int] | None,
    say: Say,
) -> None:
    partial = options.after == "any"
    jobs = chain(run, profile, options.stages, options.probe_tasks, partial, options.retry_failed)
    scripts = {script_path(run, job.stage): scheduler.script(job) for job in jobs}
    logs = log_folder(run, profile)
    if options.dry_run:
        for path, script in scripts.items():
            say(f"# {path}\n{script}")
    else:
        logs.mkdir(parents=True, exist_ok=True)
        for path, script in scripts.items():
            write_text(path, script, executable=True)
    sender = _Sender(scheduler, options, states, say)
    for job in jobs:
        tasks = shards if job.stage == EXTRACT else None
        sender.send(job.stage, scheduler.calls(job, script_path(run, job.stage), tasks))
    sender.end(logs)


class _Sender:
    """Sends one stage behind the other."""

    def __init__(self, scheduler: Scheduler, options: Options, states: States, say: Say) -> None:
        self._scheduler = scheduler
        self._options = options
        self._say = say
        self._numbers: list[str] = []  # what was sent, as a user should read it
        self._problems: list[str] = []  # of stages that ran here
        later = [stage for stage in ORDER if stage in options.stages and stage != EXTRACT]
        # What was sent before, by whomever: earlier stages are waited for like our own, and the
        # same ones, which write where ours will write, until they have ended.
        earlier = ORDER[: ORDER.index(later[0])] if later else ()
        active = [task for task in states.tasks if task.active]
        self._last = tuple(task.job for task in active if task.stage in earlier)
        self._others = tuple(task.job for task in active if task.stage not in earlier)

    def send(self, stage: str, calls: list[Call]) -> None:
        after = After() if stage == EXTRACT else self._after()
        names = [f"{stage.replace('-', '_')}{i or ''}" for i in range(len(calls))]
        sent = [self._one(call, after, name) for call, name in zip(calls, names, strict=True)]
        new = tuple(job for job in sent if job)
        if stage == EXTRACT:
            self._last += new
        else:
            self._last, self._others = new, ()

    def _after(self) -> After:
        if self._options.after == "any":
            return After(ended=self._last + self._others)
        return After(ok=self._last, ended=self._others)

    def _one(self, call: Call, after: After, name: str) -> str:
        """The number of the job, or the variable that holds it where nothing is sent."""
        if self._options.dry_run:
            self._say(self._scheduler.line(call, after, name))
            return f"${name}"
        try:
            sent = self._scheduler.send(call, after)
        except SchedulerError as error:
            raise SchedulerError(f"{call.stage}: {error}; {self._so_far(call.stage)}") from None
        if sent.job:
            self._show(call, after, sent.job)
        else:
            self._judge(call.stage, sent.problem)
        return sent.job

    def _so_far(self, stage: str) -> str:
        """What a user should know who mends the cause of a refusal."""
        if not self._numbers:
            return "nothing was sent"
        rest = ",".join(
            one for one in self._options.stages if ORDER.index(one) >= ORDER.index(stage)
        )
        command = "vsp resume" if stage == EXTRACT else f"vsp submit --stages {rest}"
        return f"sent already: {', '.join(self._numbers)}; `{command}` sends the rest"

    def _show(self, call: Call, after: After, job: str) -> None:
        if not self._numbers:
            self._say(_ROW.format("stage", "job", "tasks", "waits for").rstrip())
        self._numbers.append(f"{call.stage} {job}")
        tasks = "1" if call.tasks is None else format_ranges(call.tasks)
        waits = [_list(after.ok), f"the end of {_list(after.ended)}" if after.ended else ""]
        self._say(_ROW.format(call.stage, job, tasks, " and ".join(filter(None, waits))).rstrip())

    def _judge(self, stage: str, problem: str) -> None:
        """Of a stage that has run here."""
        if problem and self._options.after == "ok":
            raise SchedulerError(
                f"{stage}: {problem}; its reason is above, nothing was run after it"
            )
        self._problems += [f"{stage}: {problem}"] if problem else []
        self._say(f"{stage}: {problem or 'done'}")

    def end(self, logs: Path) -> None:
        if self._numbers:
            self._say(f"logs in {logs}")
        if self._problems:
            raise SchedulerError(f"{', '.join(self._problems)}; reasons are above")


def _named(tasks: list[TaskState]) -> str:
    numbers = [task.shard for task in tasks if task.shard is not None]
    jobs = sorted({task.job.partition("_")[0] for task in tasks}, key=int)
    noun = "shard" if len(numbers) == 1 else "shards"
    verb = "is" if len(numbers) == 1 else "are"
    return f"{noun} {format_ranges(numbers)} (job {', '.join(jobs)}) {verb}"


def _list(jobs: Collection[str]) -> str:
    shown = list(jobs)[:_SHOWN]
    more = [f"{len(jobs) - _SHOWN} more"] if len(jobs) > _SHOWN else []
    return ", ".join([*shown, *more])
