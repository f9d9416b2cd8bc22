"""`vsp submit` and `vsp resume`: submit the stages of a run; each waits for the one before it."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Literal

from vsp.cluster.contract import After, Call, Scheduler, States, TaskState, array_and_task
from vsp.cluster.jobs import chain, log_folder, scheduler_of, script_path, task_states
from vsp.cluster.needed_stages import (
    failed_rows_words,
    finished_words,
    later_stages,
    needed_stages,
    run_stages_of,
)
from vsp.cluster.probe_choice import ProbeChoice, probe_words
from vsp.cluster.shell import write_script
from vsp.cluster.stages import EXTRACT, ORDER, PROBE, PROBE_PARTS, STAGES
from vsp.cluster.submitted import Submission, add_submission
from vsp.config import Profile, parse
from vsp.errors import RunError, SchedulerError
from vsp.storage.ledger import Ledger, failure_of_all
from vsp.storage.run import Run
from vsp.storage.stored_settings import check_owner
from vsp.utils.files import disk_errors
from vsp.utils.text import format_ranges

Say = Callable[[str], None]

_ROW = "{:<12}{:<10}{:<16}{}"
_MOST_JOBS = 4  # job numbers in a line


class RefusedError(SchedulerError):
    """The batch system refuses a stage of a run."""

    def __init__(self, reason: str, so_far: str) -> None:
        super().__init__(f"{reason}; {so_far or 'nothing was submitted'}")
        self.reason = reason
        self.so_far = so_far  # what was submitted before, and the command for the rest; or empty


@dataclass(frozen=True, slots=True)
class Options:
    """Options of `vsp submit` and `vsp resume`."""

    stages: tuple[str, ...] | None = None  # None: all that the run still needs
    after: Literal["ok", "any"] = "ok"  # any: the next stage starts even if a stage failed
    probe_tasks: int = 0  # tasks of an array that fits the layers; 0: one task fits all
    retry_failed: bool = False
    dry_run: bool = False
    profile: str | None = None  # the file that was named; None: the usual one
    probe: ProbeChoice = field(default_factory=ProbeChoice)  # how the probe stage probes
    before_probes: tuple[str, ...] = ()  # jobs of another run that the probe stage lets end first
    extracted_by: tuple[str, ...] = ()  # jobs of another run that extract the rows of this one too

    @property
    def words(self) -> tuple[str, ...]:
        """Those of them that a further `vsp submit` needs to go on alike, without the stages."""
        profile = () if self.profile is None else ("--profile", shlex.quote(self.profile))
        after = ("--after", self.after) if self.after != "ok" else ()
        tasks = ("--probe-tasks", str(self.probe_tasks)) if self.probe_tasks else ()
        return (*profile, *after, *tasks)

    @property
    def wanted(self) -> tuple[str, ...]:
        return STAGES if self.stages is None else self.stages


def submit(run: Run, profile: Profile, options: Options, say: Say) -> None:
    """Submit all tasks of the stages and report progress through `say`.

    Submits nothing if the run is finished, unless stages are named. Raises RunError if shards are
    queued or running already, or if the probe would refuse the run, or to replace the results of
    another plan.
    """
    run.require_planned("submit")
    _check_probe_options(run, options)
    ledgers = run.ledgers()
    finished = finished_words(run, ledgers, options.probe) if options.stages is None else ""
    if finished and not options.retry_failed:
        if not options.dry_run:
            say(f"run {run.name} {finished}")
            return
        say(f"# run {run.name} {finished}; all scripts:")
        options = replace(options, stages=run_stages_of(run), after="any")
    if options.retry_failed and EXTRACT not in options.wanted:
        raise RunError("--retry-failed: extracts rows again; add extract to --stages")
    named = options.stages
    options = _needed(run, ledgers, options, say)
    scheduler, states = _active_tasks(run, profile, options.dry_run, say)
    active = states.active(EXTRACT)
    others = [task for task in states.tasks if task.active and task.stage in options.wanted]
    if EXTRACT in options.wanted and active:
        goes_on = _goes_on(run, ledgers, options, active, len(others) > len(active))
        raise RunError(f"run {run.name}: {_shards_of(active)} queued or running already; {goes_on}")
    if named is None and others:
        which = ", ".join(sorted({f"{one.stage} (job {one.job})" for one in others}))
        raise RunError(
            f"run {run.name}: {which} queued or running already; {_watched(run)} shows when it ends"
        )
    _send(run, profile, options, scheduler, states, None, say)


def _check_probe_options(run: Run, options: Options) -> None:
    """Raise RunError if options of the probe are given for a run of effects, which is not probed."""
    if run.plan.effects is not None and (options.probe_tasks or options.probe.words):
        given = "--probe-tasks" if options.probe_tasks else "options behind --"
        raise RunError(
            f"run {run.name}: holds effects and is not probed, so {given} cannot be used; leave them out"
        )


def _goes_on(
    run: Run, ledgers: Sequence[Ledger], options: Options, active: list[TaskState], later: bool
) -> str:
    """The commands for a run with queued shards; `later`: its later stages are queued too."""
    left = unfinished(ledgers, options.retry_failed) - {task.shard for task in active}
    advice = []
    if left:
        advice.append(f"`vsp resume --run {run.name}` submits the other unfinished shards")
    if not later:
        verb = "" if left else " submits"
        advice.append(
            f"`{later_stages(run, options.probe, *options.words)}`{verb} the later stages"
        )
    return ", ".join(advice) or f"{_watched(run)} shows when it ends"


def _watched(run: Run) -> str:
    return f"`vsp status --run {run.name} --watch`"


def _needed(run: Run, ledgers: Sequence[Ledger], options: Options, say: Say) -> Options:
    """The options with the stages that the run needs; says which ones are left out."""
    stages, remark = needed_stages(
        run,
        ledgers,
        options.stages,
        probe=options.probe,
        without_failed=options.after == "any",
        retry_failed=options.retry_failed,
    )
    if remark:
        say(f"{'# ' if options.dry_run else ''}{remark}")
    return replace(options, stages=stages)


def resume(run: Run, profile: Profile, options: Options, say: Say) -> None:
    """Submit the unfinished shards that are not queued or running, and the later stages."""
    run.require_planned("resume")
    _check_probe_options(run, options)
    ledgers = run.ledgers()
    failure = failure_of_all(ledgers)
    if failure and not options.retry_failed:
        raise RunError(f"run {run.name}: {failure}")
    open_shards = unfinished(ledgers, options.retry_failed)
    if not open_shards:
        say(_nothing_missing(run, ledgers, options.probe))
        return
    if EXTRACT not in options.wanted:
        raise RunError("--stages: `vsp resume` extracts what is missing; add extract to the stages")
    options = _needed(run, ledgers, options, say)
    scheduler, states = _active_tasks(run, profile, options.dry_run, say)
    active = [task for task in states.active(EXTRACT) if task.shard in open_shards]
    if active:
        say(f"not submitted again: {_shards_of(active)} queued or running")
    shards = sorted(open_shards - {task.shard for task in active if task.shard is not None})
    if not shards:
        say(
            f"no other shard is unfinished; `{later_stages(run, options.probe, *options.words)}` submits the later "
            "stages"
        )
        return
    _send(run, profile, options, scheduler, states, shards, say)


def _nothing_missing(run: Run, ledgers: Sequence[Ledger], probe: ProbeChoice) -> str:
    """That nothing is left to extract, and the commands that go on."""
    n_failed = sum(ledger.n_failed for ledger in ledgers)
    finished = finished_words(run, ledgers, probe)
    if finished:
        return f"run {run.name} {finished}"
    if n_failed:
        return f"run {run.name}: {failed_rows_words(run, n_failed, probe)}"
    return (
        f"run {run.name}: no row is missing; `{later_stages(run, probe)}` submits the later stages"
    )


def unfinished(ledgers: Sequence[Ledger], retry_failed: bool) -> set[int]:
    """Shards with missing rows; with `retry_failed`, also shards with failed rows."""
    return {
        index
        for index, ledger in enumerate(ledgers)
        if ledger.n_missing or (retry_failed and ledger.n_failed)
    }


def _active_tasks(run: Run, profile: Profile, dry_run: bool, say: Say) -> tuple[Scheduler, States]:
    scheduler = scheduler_of(profile)
    states = task_states(run, scheduler, ended=False)
    if states.problem and (dry_run or scheduler.has_queue()):  # otherwise the submission says why
        say(f"note: {states.problem}; a shard that is queued already may be submitted twice")
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
    if PROBE in options.wanted:
        check_owner(run.results, run.plan)  # not only hours later, when the probe starts
    partial = options.after == "any"
    retry, probe = options.retry_failed, options.probe
    jobs = chain(run, profile, options.wanted, options.probe_tasks, partial, retry, probe)
    scripts = {script_path(run, job.stage): scheduler.script(job) for job in jobs}
    logs = log_folder(run, profile)
    if options.dry_run:
        for path, script in scripts.items():
            say(f"# {path}")
            for line in script.split("\n"):
                say(line)
    else:
        with disk_errors(logs):
            logs.mkdir(parents=True, exist_ok=True)
        for path, script in scripts.items():
            write_script(path, script)
    sender = _Sender(run, scheduler, options, states, say)
    if scheduler.runs_here:  # at the end, it would be lost if this process is killed
        sender.record()
    try:
        for job in jobs:
            tasks = shards if job.stage == EXTRACT else None
            calls = scheduler.calls(job, script_path(run, job.stage), tasks)
            try:
                sender.send(job.stage, calls)
            except KeyboardInterrupt:
                raise KeyboardInterrupt(sender.describe_interrupt(job.stage)) from None
    finally:  # the jobs that were submitted before an error are in the queue
        if not scheduler.runs_here:
            sender.record()
    sender.end(logs)


class _Sender:
    """Submits stages one after the other; each waits for the one before it."""

    def __init__(
        self, run: Run, scheduler: Scheduler, options: Options, states: States, say: Say
    ) -> None:
        self._run = run
        self._scheduler = scheduler
        self._options = options
        self._say = say
        self._sent: list[str] = []  # "stage job" for each submission
        self._jobs: dict[str, list[str]] = {}  # stage → job numbers
        self._problems: list[str] = []  # of stages that ran here
        self._probed = False  # a stage that fits probes was sent
        later = [stage for stage in ORDER if stage in options.wanted and stage != EXTRACT]
        # Jobs submitted before, also by other users. The new stages need the results of earlier
        # stages, and must not run beside the same stages, which write to the same files.
        earlier = ORDER[: ORDER.index(later[0])] if later else ()
        active = [task for task in states.tasks if task.active]
        before = [task.job for task in active if task.stage in earlier]
        joint = options.extracted_by  # of which the batch system may list tasks already
        before = [job for job in before if array_and_task(job)[0] not in joint]
        self._last = (*joint, *before)
        self._others = tuple(task.job for task in active if task.stage not in earlier)

    def send(self, stage: str, calls: list[Call]) -> None:
        after = After() if stage == EXTRACT else self._after()
        if stage in (PROBE_PARTS, PROBE) and not self._probed:
            self._probed = True  # the second of them waits for the first
            after = replace(after, ended=(*after.ended, *self._options.before_probes))
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
        """Submit and return the job number; in a dry run, the shell variable that holds it."""
        if self._options.dry_run:
            self._say(self._scheduler.line(call, after, name))
            return f"${name}"
        try:
            sent = self._scheduler.send(call, after)
        except SchedulerError as error:
            raise RefusedError(f"{call.stage}: {error}", self._so_far(call.stage)) from None
        if sent.job:
            self._show(call, after, sent.job)
        else:
            self._report_end(call.stage, sent.problem)
        return sent.job

    def _so_far(self, stage: str) -> str:
        """The jobs that are in the queue, and the command that submits the others; empty without any."""
        if not self._sent:
            return ""
        return f"{self._submitted()}; `{self._rest(stage)}` submits the rest"

    def _submitted(self) -> str:
        return f"submitted already: {', '.join(self._sent)}"

    def _rest(self, stage: str) -> str:
        """The command that submits this stage and the later ones."""
        rest = [one for one in self._options.wanted if ORDER.index(one) >= ORDER.index(stage)]
        which, probe = f"--run {self._run.name}", probe_words(self._options.probe.words)
        if stage == EXTRACT:
            return f"vsp resume {which}{probe}"
        words = " ".join(("", *self._options.words))
        return f"vsp submit {which} --stages {','.join(rest)}{words}{probe}"

    def describe_interrupt(self, stage: str) -> str:
        """The state after an interrupt of this stage, and the next command; empty in a dry run."""
        if self._options.dry_run:
            return ""
        rest = self._rest(stage)
        if self._scheduler.runs_here:
            return f"{stage} did not finish; `{rest}` runs it and the later stages"
        # The batch system may have accepted the job before the interrupt.
        texts = [self._submitted()] if self._sent else []
        count = "one more" if self._sent else "one"
        texts.append(f"{count} {stage} job may be queued: check the queue, then `{rest}`")
        return "; ".join(texts)

    def _show(self, call: Call, after: After, job: str) -> None:
        if not self._sent:
            self._say(_ROW.format("stage", "job", "tasks", "waits for").rstrip())
        self._sent.append(f"{call.stage} {job}")
        self._jobs.setdefault(call.stage, []).append(job)
        tasks = "1" if call.tasks is None else format_ranges(call.tasks)
        waits = [_list(after.ok), f"the end of {_list(after.ended)}" if after.ended else ""]
        self._say(_ROW.format(call.stage, job, tasks, " and ".join(filter(None, waits))).rstrip())

    def _report_end(self, stage: str, problem: str) -> None:
        """Report a stage that ran here. Raises SchedulerError if later stages need its success."""
        if problem and self._options.after == "ok":
            raise SchedulerError(
                f"{stage}: {problem}; the reason is printed above, later stages did not run"
            )
        self._problems += [f"{stage}: {problem}"] if problem else []
        self._say(f"{stage}: {problem or 'done'}")

    def record(self) -> None:
        """Note in the run's folder what was submitted, or what begins here."""
        if self._options.dry_run or not (self._jobs or self._scheduler.runs_here):
            return
        settings = self._options.probe.settings(self._run) if PROBE in self._options.wanted else ()
        values = {
            "time": datetime.now().astimezone().isoformat(timespec="seconds"),
            "profile": self._options.profile,
            "stages": self._options.wanted,
            "after": self._options.after,
            "probe_tasks": self._options.probe_tasks,
            "probe": self._options.probe.words,
            "settings": settings,
            "jobs": self._jobs,
        }
        add_submission(self._run, parse(Submission, values, "submission"))

    def end(self, logs: Path) -> None:
        if self._sent:
            self._say(f"logs in {logs}")
        if self._problems:
            raise SchedulerError(f"{', '.join(self._problems)}; the reasons are printed above")


def _shards_of(tasks: list[TaskState]) -> str:
    """The shards and jobs of some tasks, with a verb: "shards 3,7-9 (job 12) are"."""
    numbers = [task.shard for task in tasks if task.shard is not None]
    jobs = sorted({array_and_task(task.job)[0] for task in tasks}, key=lambda job: (len(job), job))
    noun = "shard" if len(numbers) == 1 else "shards"
    verb = "is" if len(numbers) == 1 else "are"
    return f"{noun} {format_ranges(numbers)} (job {', '.join(jobs)}) {verb}"


def _list(jobs: Collection[str]) -> str:
    shown = list(jobs)[:_MOST_JOBS]
    more = [f"{len(jobs) - _MOST_JOBS} more"] if len(jobs) > _MOST_JOBS else []
    return ", ".join([*shown, *more])
