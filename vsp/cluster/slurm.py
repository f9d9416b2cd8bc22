"""Slurm: each job a batch script, an array in as many submissions as MaxArraySize asks for.

Every submission carries a comment, `vsp:RUN_ID:STAGE:FIRST`. With it `squeue` alone says which
shard a task works on, whoever sent it; nothing is written down for the purpose.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Collection, Iterator, Mapping
from functools import cached_property
from pathlib import Path

from vsp.cluster.contract import After, Call, Job, Query, Sent, States, TaskState
from vsp.errors import SchedulerError
from vsp.utils.text import format_ranges

DEFAULT_MAX_ARRAY_SIZE = 1001  # Slurm's own, where scontrol does not answer
_SEND_TIMEOUT = 120  # seconds; a busy controller takes its time, and a lost answer is worse
_ASK_TIMEOUT = 10  # seconds
_ENDED = (
    "BOOT_FAIL",
    "CANCELLED",
    "COMPLETED",
    "DEADLINE",
    "FAILED",
    "NODE_FAIL",
    "OUT_OF_MEMORY",
    "PREEMPTED",
    "REVOKED",
    "TIMEOUT",
)
_SQUEUE = "JobArrayID:|,State:|,NodeList:|,exit_code:|,RestartCnt:|,Comment:|,Reason:|"
_SACCT = "JobID,State,NodeList,ExitCode,JobName,Comment"
_COMMENT = re.compile(r"vsp:(?P<run>[^:]+):(?P<stage>[^:]+):(?P<first>\d+)")
_JOB_ID = re.compile(r"(?P<job>\d+)(?:_(?:(?P<task>\d+)|\[(?P<tasks>[\d,:-]+)(?:%\d+)?\]))?")


class Slurm:
    @cached_property
    def _limit(self) -> int:
        return max_array_size()

    def script(self, job: Job) -> str:
        from simple_slurm import Slurm as SlurmOptions  # `vsp status` does without it

        resources = job.resources
        options: dict[str, object] = {
            "job_name": job.name,
            "comment": _comment(job, 0),
            "output": _log_pattern(job),
            "open_mode": "append",  # a requeued task goes on in its log
            "requeue": True,
            "ntasks": 1,
            "cpus_per_task": resources.cpus_per_task,
            "partition": resources.partition,
            "account": resources.account,
            "qos": resources.qos,
            "constraint": resources.constraint,
            "time": resources.time,
            "gres": resources.gres,
            "mem": resources.mem,
        }
        if job.n_tasks is not None:
            options["array"] = _array(range(min(job.n_tasks, self._limit)), job.throttle)
        if job.warning is not None and resources.time is not None:
            # B: the batch shell itself, which by then is the worker.
            options["signal"] = f"B:USR1@{job.warning}"
        slurm = SlurmOptions(**{key: value for key, value in options.items() if value is not None})
        for line in _body(job):
            slurm.add_cmd(line)
        return str(slurm.script(shell="/bin/bash", convert=False))

    def calls(self, job: Job, script: Path, tasks: Collection[int] | None = None) -> list[Call]:
        if job.n_tasks is None:
            return [Call(job.stage, None, ("sbatch", str(script)))]
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
        """The script's own directives are those of the first block, whole."""
        options, arguments = [], []
        if first or not whole:
            options.append(f"--array={_array([task - first for task in block], job.throttle)}")
        if first:
            options.append(f"--comment={_comment(job, first)}")
            arguments.append(str(first))
        return ("sbatch", *options, str(script), *arguments)

    def line(self, call: Call, after: After, name: str = "") -> str:
        # Numbers of jobs may be variables here and stay unquoted; other options need no quotes.
        program, *arguments = call.command
        parsable = ["--parsable"] if name else []
        words = [program, *parsable, *_dependency(after), *map(shlex.quote, arguments)]
        return f"{name}=$({' '.join(words)})" if name else " ".join(words)

    def send(self, call: Call, after: After) -> Sent:
        program, *arguments = call.command
        answer = _sbatch([program, "--parsable", *_dependency(after), *arguments])
        found = re.search(r"^(\d+)(;\S+)?$", answer, re.MULTILINE)  # number;cluster
        if found is None:
            raise SchedulerError(f"sbatch answered {answer.strip()!r}, not a job's number")
        return Sent(found[1])

    def states(self, query: Query) -> States:
        """What the controller still knows; of jobs it forgot, accounting, where there is one."""
        tasks, *problems = _squeue(query)
        if query.ended:
            seen = {task.job for task in tasks}
            accounted, problem = self._sacct(query)
            # Where squeue answers, nothing is active that it does not know.
            blind = any(problems)
            tasks += [t for t in accounted if t.job not in seen and (blind or not t.active)]
            # Where a cluster has no accounting, that is no news.
            problems += [problem] if "storage is disabled" not in problem else []
        tasks.sort(key=lambda task: _order(task.job))
        return States(tuple(tasks), "; ".join(filter(None, problems)))

    def _sacct(self, query: Query) -> tuple[list[TaskState], str]:
        """Accounting's answer: of the user's own jobs by name, of others by number."""
        names = ",".join(query.stages)
        # Jobs carry the local time of the cluster.
        since = query.since.astimezone().strftime("%Y-%m-%dT%H:%M:%S")
        asked = [[f"--name={names}", f"--starttime={since}"]]
        if query.jobs:
            asked.append([f"--jobs={','.join(query.jobs)}"])
        tasks: dict[str, TaskState] = {}
        for options in asked:
            command = ["sacct", "--noheader", "--parsable2", "--allocations", f"--format={_SACCT}"]
            answer, problem = _ask([*command, *options])
            if problem:
                return list(tasks.values()), problem
            for line in answer.splitlines():
                tasks |= {task.job: task for task in self._accounted(line, query)}
        return list(tasks.values()), ""

    def _accounted(self, line: str, query: Query) -> Iterator[TaskState]:
        job, state, node, exit_code, name, comment = [*line.split("|"), *[""] * 6][:6]
        stage = query.stages.get(name)
        noted = _COMMENT.fullmatch(comment)
        if stage is None or (noted and noted["run"] != query.run_id):
            return
        first = int(noted["first"]) if noted else self._first(job, query)
        for number, task in _tasks(job):
            shard = None if task is None or first is None else first + task
            yield _state(number, stage, shard, state, node=node, exit_code=exit_code)

    def _first(self, job: str, query: Query) -> int | None:
        """The shard of an array's task 0: accounting keeps comments only where it is told to."""
        known = query.jobs.get(job.partition("_")[0])
        return 0 if known is None and query.n_tasks <= self._limit else known


def _squeue(query: Query) -> tuple[list[TaskState], str]:
    states = ["--states=all"] if query.ended else []
    names = ",".join(query.stages)
    answer, problem = _ask(
        [
            "squeue",
            "--noheader",
            "--array",
            "--all",
            *states,
            f"--name={names}",
            f"--Format={_SQUEUE}",
        ]
    )
    tasks = []
    for line in answer.splitlines():
        # Reasons are Slurm's words or a site's; they come last and may hold anything.
        job, state, node, status, restarts, comment, reason = [*line.split("|", 6), *[""] * 7][:7]
        noted = _COMMENT.fullmatch(comment)
        if noted is None or noted["run"] != query.run_id:
            continue
        for number, task in _tasks(job):
            shard = None if task is None else int(noted["first"]) + task
            tasks.append(
                _state(
                    number,
                    noted["stage"],
                    shard,
                    state,
                    reason=reason.rstrip("|"),
                    node=node,
                    exit_code=_exit_code(status),
                    restarts=int(restarts) if restarts.isdecimal() else None,
                )
            )
    return tasks, problem


def _state(
    job: str,
    stage: str,
    shard: int | None,
    state: str,
    reason: str = "",
    node: str = "",
    exit_code: str | None = None,
    restarts: int | None = None,
) -> TaskState:
    state = state.split()[0] if state.strip() else "UNKNOWN"  # "CANCELLED by 0"
    ended = state in _ENDED
    return TaskState(
        job=job,
        stage=stage,
        shard=shard,
        state=state,
        active=not ended,
        reason="" if reason in ("None", "(null)") else reason,
        node="" if node in ("None assigned", "(null)") else node,
        exit_code=exit_code if ended else None,
        restarts=restarts,
    )


def _tasks(job: str) -> Iterator[tuple[str, int | None]]:
    """(job number, array index) of a job as Slurm writes it: 123, 123_4, 123_[5-9%2]."""
    found = _JOB_ID.fullmatch(job.strip())
    if found is None:
        return
    if found["tasks"]:
        for index in _indices(found["tasks"]):
            yield f"{found['job']}_{index}", index
    elif found["task"]:
        yield job.strip(), int(found["task"])
    else:
        yield job.strip(), None


def _indices(text: str) -> Iterator[int]:
    """The numbers of 1,3-5 or 0-8:2."""
    for part in text.split(","):
        found = re.fullmatch(r"(\d+)(?:-(\d+)(?::(\d+))?)?", part)
        if found:
            first, last, step = int(found[1]), int(found[2] or found[1]), int(found[3] or 1)
            yield from range(first, last + 1, max(step, 1))


def _order(job: str) -> tuple[int, int]:
    number, _, task = job.partition("_")
    return int(number), int(task or 0)


def _exit_code(status: str) -> str | None:
    """code:signal, as sacct has it, of a status as the system call wait gives it."""
    return f"{int(status) >> 8}:{int(status) & 127}" if status.isdecimal() else None


def max_array_size() -> int:
    """How many tasks one array may hold: MaxArraySize caps the highest index, counted from 0."""
    answer, _ = _ask(["scontrol", "show", "config"])
    found = re.search(r"^MaxArraySize\s*=\s*(\d+)", answer, re.MULTILINE)
    size = int(found[1]) if found else DEFAULT_MAX_ARRAY_SIZE
    if size < 2:
        raise SchedulerError(
            f"MaxArraySize {size}: this cluster takes no job arrays; run `vsp extract`"
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
    """(answer, why there is none)."""
    # A user's SQUEUE_USERS or SACCT_FORMAT would change what is answered.
    ours = {k: v for k, v in os.environ.items() if not k.startswith(("SQUEUE_", "SACCT_"))}
    environment: Mapping[str, str] = {**ours, "SLURM_BITSTR_LEN": "0"}  # do not shorten ranges
    try:
        done = _run(command, _ASK_TIMEOUT, environment)
    except subprocess.TimeoutExpired:
        return "", f"{command[0]}: no answer in {_ASK_TIMEOUT} s"
    except OSError:
        return "", f"{command[0]}: not found on this machine"
    if done.returncode:
        return "", _words(done.stderr, command[0]) or f"{command[0]}: exit code {done.returncode}"
    return done.stdout, ""


def _sbatch(command: list[str]) -> str:
    try:
        done = _run(command, _SEND_TIMEOUT)
    except subprocess.TimeoutExpired:
        raise SchedulerError(
            f"sbatch: no answer in {_SEND_TIMEOUT} s; see with squeue whether the job is there "
            "before it is sent again"
        ) from None
    except OSError:
        raise SchedulerError(
            "sbatch: not found on this machine; submit where Slurm is, or say `scheduler: local` "
            "in the profile"
        ) from None
    if done.returncode:
        raise SchedulerError(
            _words(done.stderr, "sbatch") or f"sbatch: exit code {done.returncode}"
        )
    return done.stdout


def _words(text: str, program: str) -> str:
    """What a program of Slurm says of its failure, in one line."""
    lines = [line.strip().removeprefix(f"{program}: ").removeprefix("error: ")
             for line in text.splitlines() if line.strip()]  # fmt: skip
    return f"{program}: {'; '.join(lines)}" if lines else ""


def _comment(job: Job, first: int) -> str:
    return f"vsp:{job.run_id}:{job.stage}:{first}"


def _dependency(after: After) -> list[str]:
    parts = [
        ":".join((kind, *jobs))
        for kind, jobs in (("afterok", after.ok), ("afterany", after.ended))
        if jobs
    ]
    # Else a job whose dependency failed stays in the queue for ever.
    return [f"--dependency={','.join(parts)}", "--kill-on-invalid-dep=yes"] if parts else []


def _array(indices: Collection[int], throttle: int | None) -> str:
    return format_ranges(indices) + (f"%{throttle}" if throttle else "")


def _log_pattern(job: Job) -> str:
    """The tasks' log files as one word of an #SBATCH line, whatever the folder is called."""
    path = str(job.logs)
    if "\\" in path or "\n" in path:
        raise SchedulerError(
            f"log folder {path!r}: Slurm fills in no job numbers where a path has a backslash or "
            "a line break; name another under `logs` in the profile"
        )
    literal = path.replace("%", "%%")
    # Unlike a shell, sbatch takes an escaped space for the end of a word unless it is in quotes.
    number = "%j" if job.n_tasks is None else "%A_%a"
    return '"' + re.sub(r"([\"'])", r"\\\1", literal) + f'/{job.stage}-{number}.log"'


def _body(job: Job) -> list[str]:
    lines = [f"module load {shlex.quote(module)} || exit 1" for module in job.modules]
    lines += [f"export {name}={shlex.quote(value)}" for name, value in job.environment.items()]
    command = shlex.join(job.command)
    # exec: the worker itself then gets the signals that Slurm sends to the batch script.
    if job.n_tasks is None:
        return [*lines, f"exec {command}"]
    # The script's argument is the number of the array's first task; a requeued task keeps it.
    index = "${SLURM_ARRAY_TASK_ID:?submit this script with sbatch}"
    lines.append(f"task=$(({index} + ${{1:-0}}))")
    return [*lines, f'exec {command} "{job.number.format("$task")}"']
