"""Slurm: one batch script per job; large arrays are split into submissions of MaxArraySize tasks.

Every submission has the comment `vsp:RUN_ID:STAGE:FIRST`. From it and `squeue`, vsp knows which
shard a task works on, without files of its own and for any user.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from vsp.cluster.contract import (
    After,
    Call,
    Job,
    Query,
    Sent,
    States,
    TaskState,
    array_and_task,
)
from vsp.cluster.shell import environment_lines, path_argument
from vsp.cluster.slurm_states import (
    COMMENT,
    job_tasks,
    squeue_tasks,
    submission_order,
    task_state,
)
from vsp.cluster.stages import log_name
from vsp.errors import SchedulerError
from vsp.storage.journal import TaskIdentity
from vsp.utils.text import format_ranges, shorten

DEFAULT_MAX_ARRAY_SIZE = 1001  # Slurm's default, used if scontrol does not answer
_SEND_TIMEOUT = (
    120  # seconds; long, because after a lost answer nobody knows whether the job is queued
)
_ASK_TIMEOUT = 10  # seconds
_NOT_CONFIGURED = (
    "Slurm is installed on this machine but not configured for a cluster; use a machine of the "
    "cluster, or set `scheduler: local` in the profile"
)
_SQUEUE = (
    "JobArrayID:|,State:|,NodeList:|,exit_code:|,RestartCnt:|,Comment:|,"
    "SubmitTime:|,StartTime:|,EndTime:|,Reason:|"
)
_SACCT = "JobID,State,NodeList,ExitCode,JobName,Comment,Submit,Start,End"


class Slurm:
    """Submits with sbatch, asks squeue and sacct; see `vsp.cluster.contract.Scheduler`."""

    runs_here = False
    _configured: bool | None = None  # None: no command has been asked yet

    @cached_property
    def _limit(self) -> int:
        return max_array_size()

    def script(self, job: Job) -> str:
        from simple_slurm import Slurm as SlurmOptions  # not needed by `vsp status`

        options = {key: value for key, value in self._options(job).items() if value is not None}
        for key, value in options.items():
            if isinstance(value, str) and _has_control(value):
                raise SchedulerError(f"{key} {value!a}: holds a control character; remove it")
        header = str(SlurmOptions(**options).script(shell="/bin/bash", convert=False))
        # sbatch takes values of --exclusive, --nice and some others only after an equals sign.
        directives = re.sub(r"^(#SBATCH --\S+) +(?=\S)", r"\1=", header, flags=re.MULTILINE)
        return "\n".join((directives, *_body(job), ""))

    def _options(self, job: Job) -> dict[str, object]:
        resources = job.resources
        further = {key: _quoted(value) for key, value in resources.further_options.items()}
        options: dict[str, object] = {
            "job_name": _quoted(job.name),
            "comment": _comment(job, 0),
            "output": _log_pattern(job),
            "open_mode": "append",  # a requeued task keeps the log of its first start
            "requeue": not further.get("no_requeue"),
            "ntasks": 1,
            "cpus_per_task": resources.cpus_per_task,
            "partition": _quoted(resources.partition),
            "account": _quoted(resources.account),
            "qos": _quoted(resources.qos),
            "constraint": _quoted(resources.constraint),
            "time": _quoted(resources.time),
            "gres": _quoted(resources.gres),
            "mem": _quoted(resources.mem),
            **further,
        }
        if job.n_tasks is not None:
            options["array"] = _array(range(min(job.n_tasks, self._limit)), job.throttle)
        if job.signal_seconds is not None and resources.time is not None:
            # B: to the batch shell only; `exec` has turned it into the worker.
            options["signal"] = f"B:USR1@{job.signal_seconds}"
        return options

    def calls(self, job: Job, script: Path, tasks: Collection[int] | None = None) -> list[Call]:
        if job.n_tasks is None:
            return [Call(job.stage, None, ("sbatch", path_argument(script)))]
        blocks: dict[int, list[int]] = {}
        for task in sorted(range(job.n_tasks) if tasks is None else tasks):
            blocks.setdefault(task - task % self._limit, []).append(task)
        return [
            Call(job.stage, tuple(block), self._command(job, script, first, block, tasks is None))
            for first, block in blocks.items()
        ]

    def _command(
        self, job: Job, script: Path, first: int, block: list[int], whole: bool
    ) -> tuple[str, ...]:
        """The sbatch command of one block; the script itself has the options of the first block."""
        options, arguments = [], []
        if first or not whole:
            options.append(f"--array={_array([task - first for task in block], job.throttle)}")
        if first:
            options.append(f"--comment={_comment(job, first)}")
            arguments.append(str(first))
        return ("sbatch", *options, path_argument(script), *arguments)

    def line(self, call: Call, after: After, name: str = "") -> str:
        # Job numbers may be shell variables, so dependencies are not quoted.
        program, *arguments = call.command
        parsable = ["--parsable"] if name else []
        words = [program, *parsable, *_dependency(after), *map(shlex.quote, arguments)]
        return f"{name}=$({' '.join(words)})" if name else " ".join(words)

    def send(self, call: Call, after: After) -> Sent:
        program, *arguments = call.command
        answer = _sbatch([program, "--parsable", *_dependency(after), *arguments])
        number = re.search(r"^(\d+)(;\S+)?$", answer, re.MULTILINE)  # number;cluster
        if number is None:
            said = shorten(repr(answer.strip()))
            raise SchedulerError(f"sbatch answered {said}, not a job's number")
        return Sent(number[1])

    def states(self, query: Query) -> States:
        """From squeue; for jobs that the controller has forgotten, from accounting, if there is any."""
        if self._configured is False:
            return States((), _NOT_CONFIGURED)
        tasks, others, *problems = _squeue(query)
        self._configured = _NOT_CONFIGURED not in problems
        if query.ended and self._configured:  # otherwise accounting would say the same
            accounted, problem = self._sacct(query)
            tasks = _with_users(tasks, accounted)
            seen = others | {task.job for task in tasks}
            # If squeue answers, it knows all active tasks: ignore others that accounting lists.
            no_answer = any(problems)
            tasks += [t for t in accounted if t.job not in seen and (no_answer or not t.active)]
            # A cluster without accounting is not a problem to report.
            problems += [problem] if "storage is disabled" not in problem else []
        tasks.sort(key=lambda task: submission_order(task.job))
        return States(tuple(tasks), "; ".join(filter(None, problems)))

    def current_task(self, environment: Mapping[str, str]) -> TaskIdentity | None:
        if not {"SLURM_JOB_ID", "SLURM_ARRAY_JOB_ID", "SLURMD_NODENAME"} & set(environment):
            return None
        job = environment.get("SLURM_JOB_ID")
        if "SLURM_ARRAY_JOB_ID" in environment:
            job = f"{environment['SLURM_ARRAY_JOB_ID']}_{environment['SLURM_ARRAY_TASK_ID']}"
        return TaskIdentity(
            job=job,
            node=environment.get("SLURMD_NODENAME"),
            restarts=int(environment.get("SLURM_RESTART_COUNT", 0)),
        )

    def requeue(self, job: str) -> bool:
        _, problem = _ask(["scontrol", "requeue", job])
        if problem:
            raise SchedulerError(problem)
        return True

    def has_queue(self) -> bool:
        if shutil.which("sbatch") is None:
            return False
        if self._configured is None:
            _, problem = _ask(["scontrol", "show", "config"])
            self._configured = problem != _NOT_CONFIGURED
        return self._configured

    def _sacct(self, query: Query) -> tuple[list[TaskState], str]:
        """The answer of accounting: own jobs by name, jobs of other users by number."""
        names = ",".join(query.stages)
        # sacct expects the local time of the cluster.
        since = query.since.astimezone().strftime("%Y-%m-%dT%H:%M:%S")
        selections = [[f"--name={names}", f"--starttime={since}"]]
        jobs = [job for job in query.jobs if re.fullmatch(r"\d{1,10}", job, re.ASCII)]
        if jobs:
            selections.append([f"--jobs={','.join(jobs)}"])
        tasks: dict[str, TaskState] = {}
        for options in selections:
            command = ["sacct", "--noheader", "--parsable2", "--allocations", f"--format={_SACCT}"]
            answer, problem = _ask([*command, *options])
            if problem:
                return list(tasks.values()), problem
            for line in answer.splitlines():
                tasks |= {task.job: task for task in self._sacct_tasks(line, query)}
        return list(tasks.values()), ""

    def _sacct_tasks(self, line: str, query: Query) -> Iterator[TaskState]:
        fields = [*line.split("|"), *[""] * 9][:9]
        job, state, node, exit_code, name, comment, *times = fields
        stage = query.stages.get(name)
        known = COMMENT.fullmatch(comment)
        if stage is None or (known and known["run"] != query.run_id):
            return
        first = int(known["first"]) if known else self._first(job, query)
        for number, task in job_tasks(job):
            shard = None if task is None or first is None else first + task
            yield task_state(
                number, stage, shard, state, node=node, exit_code=exit_code, times=times
            )

    def _first(self, job: str, query: Query) -> int | None:
        """The shard of an array's task 0. Accounting keeps comments only on some clusters."""
        known = query.jobs.get(array_and_task(job)[0])
        return 0 if known is None and query.n_tasks <= self._limit else known


def _squeue(query: Query) -> tuple[list[TaskState], set[str], str]:
    """The tasks of the run, and the numbers of jobs that have the same names but are of other runs.

    Accounting may keep no comments, and would count these jobs too.
    """
    command = ["squeue", "--noheader", "--array", "--all"]
    command += ["--states=all"] if query.ended else []
    command += [f"--name={','.join(query.stages)}", f"--Format={_SQUEUE}"]
    answer, problem = _ask(command)
    lines = answer.splitlines()
    tasks = [task for line in lines for task in squeue_tasks(line, query)]
    listed = {job for line in lines for job, _ in job_tasks(line.partition("|")[0])}
    return tasks, listed - {task.job for task in tasks}, problem


def _with_users(tasks: Collection[TaskState], accounted: Iterable[TaskState]) -> list[TaskState]:
    """The tasks, with the users who cancelled them, whom only accounting knows."""
    users = {task.job: task.by for task in accounted if task.by}
    return [
        replace(task, by=users[task.job]) if task.phase == "failed" and task.job in users else task
        for task in tasks
    ]


def max_array_size() -> int:
    """The number of tasks that one array may have. Slurm's MaxArraySize is the highest index + 1."""
    answer, _ = _ask(["scontrol", "show", "config"])
    setting = re.search(r"^MaxArraySize\s*=\s*(\d+)", answer, re.MULTILINE)
    size = int(setting[1]) if setting else DEFAULT_MAX_ARRAY_SIZE
    if size < 2:
        raise SchedulerError(
            f"MaxArraySize {size}: this cluster allows no job arrays; use `vsp extract`"
        )
    return size


def _run(
    command: list[str], timeout: int, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=timeout,
        check=False,
        env=environment,
    )


def _ask(command: list[str]) -> tuple[str, str]:
    """The output of a Slurm command, and why there is none."""
    # SQUEUE_USERS or SACCT_FORMAT in a user's shell would change the output.
    ours = {k: v for k, v in os.environ.items() if not k.startswith(("SQUEUE_", "SACCT_"))}
    environment: Mapping[str, str] = {
        **ours,
        "SLURM_BITSTR_LEN": "0",  # long ranges in full
        "SLURM_TIME_FORMAT": "%s",  # seconds since 1970
    }
    try:
        done = _run(command, _ASK_TIMEOUT, environment)
    except subprocess.TimeoutExpired:
        return "", f"{command[0]}: no answer in {_ASK_TIMEOUT} s"
    except OSError:
        return "", f"{command[0]}: not found on this machine"
    if done.returncode:
        return "", _error_line(
            done.stderr, command[0]
        ) or f"{command[0]}: exit code {done.returncode}"
    return done.stdout, ""


def _sbatch(command: list[str]) -> str:
    try:
        done = _run(command, _SEND_TIMEOUT)
    except subprocess.TimeoutExpired:
        raise SchedulerError(
            f"sbatch: no answer in {_SEND_TIMEOUT} s; before you submit again, check with squeue "
            "whether the job is queued"
        ) from None
    except OSError:
        raise SchedulerError(
            "sbatch: not found on this machine; submit from a machine with Slurm, or set "
            "`scheduler: local` in the profile"
        ) from None
    if done.returncode:
        raise SchedulerError(
            _error_line(done.stderr, "sbatch") or f"sbatch: exit code {done.returncode}"
        )
    return done.stdout


def _error_line(text: str, program: str) -> str:
    """The error output of a Slurm command in one line."""
    if "Could not establish a configuration source" in text:
        return _NOT_CONFIGURED
    lines = [line.strip().removeprefix(f"{program}: ").removeprefix("error: ")
             for line in text.splitlines() if line.strip()]  # fmt: skip
    return shorten(f"{program}: {'; '.join(lines)}") if lines else ""


def _comment(job: Job, first: int) -> str:
    comment = f"vsp:{job.run_id}:{job.stage}:{first}"
    if not COMMENT.fullmatch(comment):
        raise SchedulerError(
            f"run id {job.run_id!a}: holds more than letters and digits; plan the run again"
        )
    return comment


def _dependency(after: After) -> list[str]:
    parts = [
        ":".join((kind, *jobs))
        for kind, jobs in (("afterok", after.ok), ("afterany", after.ended))
        if jobs
    ]
    # Without --kill-on-invalid-dep, a job stays queued for ever when a dependency fails.
    return [f"--dependency={','.join(parts)}", "--kill-on-invalid-dep=yes"] if parts else []


def _array(indices: Collection[int], throttle: int | None) -> str:
    return format_ranges(indices) + (f"%{throttle}" if throttle else "")


def _log_pattern(job: Job) -> str:
    """The file name pattern of the logs, quoted for an #SBATCH line."""
    path = str(job.logs)
    if "\\" in path or _has_control(path):
        raise SchedulerError(
            f"log folder {path!r}: Slurm allows no backslash and no control character in this "
            "path; set `logs` in the profile to another folder"
        )
    literal = path.replace("%", "%%")
    name = log_name(job.stage, "%j" if job.n_tasks is None else "%A_%a")
    return _in_quotes(f"{literal}/{name}")


def _has_control(text: str) -> bool:
    """Whether the text holds a line break or another control character of ASCII."""
    return any(ord(letter) < 32 or ord(letter) == 127 for letter in text)


def _quoted(value: bool | str | None) -> bool | str | None:
    """The value of an option, in quotes if it would not be one word of an #SBATCH line."""
    if isinstance(value, str) and re.search(r"[\s#\"']", value):
        return _in_quotes(value)
    return value


def _in_quotes(text: str) -> str:
    # Unlike a shell, sbatch ends a word at an escaped space, so the text is quoted.
    return '"' + re.sub(r"([\"'])", r"\\\1", text) + '"'


def _body(job: Job) -> list[str]:
    lines = [f"module load {shlex.quote(module)} || exit 1" for module in job.modules]
    lines += environment_lines(job.environment, job.import_from)
    command = shlex.join(job.command)
    # `exec`: the worker itself receives the signals that Slurm sends to the batch script.
    if job.n_tasks is None:
        return [*lines, f"exec {command}"]
    # Slurm keeps the script's argument, the first task's number, when it requeues a task.
    index = "${SLURM_ARRAY_TASK_ID:?submit this script with sbatch}"
    lines.append(f"task=$(({index} + ${{1:-0}}))")
    return [*lines, f'exec {command} "{job.number.format("$task")}"']
