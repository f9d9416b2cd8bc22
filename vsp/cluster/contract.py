"""The contract of a batch system: a protocol, and the values that it takes and returns.

Words and commands of a batch system appear only in its own file.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Literal, Protocol

from vsp.config import Resources
from vsp.storage.journal import TaskIdentity

Phase = Literal["queued", "running", "ending", "succeeded", "failed"]


@dataclass(frozen=True, slots=True)
class Job:
    """A stage of a run: one task, or an array of tasks that differ only in their number."""

    stage: str
    name: str  # as the batch system lists it
    run_id: str
    command: tuple[str, ...]
    logs: Path  # folder
    resources: Resources = field(default_factory=Resources)
    n_tasks: int | None = None  # None: not an array
    number: str = "{}"  # last argument of an array task; {} stands for its number
    throttle: int | None = None  # most array tasks that run at once
    signal_seconds: int | None = None  # send SIGUSR1 this long before the time limit
    modules: tuple[str, ...] = ()  # environment modules to load
    environment: Mapping[str, str] = field(default_factory=dict)
    import_from: str = ""  # folder with this vsp, put first in PYTHONPATH; "": none is needed


@dataclass(frozen=True, slots=True)
class Call:
    """One submission: a whole job, or some tasks of its array."""

    stage: str
    tasks: tuple[int, ...] | None  # numbers within the job; None: not an array
    command: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class After:
    """Jobs that a submission waits for."""

    ok: tuple[str, ...] = ()  # if one of these fails, the submission is cancelled
    ended: tuple[str, ...] = ()  # these must end, with success or not


@dataclass(frozen=True, slots=True)
class Sent:
    """The answer to a submission."""

    job: str  # its number; empty if the job ran here and has ended
    problem: str = ""  # how it failed, if that is known already


@dataclass(frozen=True, slots=True)
class Query:
    """A question for the states of a run's tasks."""

    run_id: str
    stages: Mapping[str, str]  # job name → stage
    n_tasks: int  # number of tasks of the extract stage
    since: datetime  # all jobs of the run are newer
    jobs: Mapping[str, int] = field(default_factory=dict)  # known array jobs: number → first shard
    ended: bool = True  # False: only queued and running tasks


@dataclass(frozen=True, slots=True)
class TaskState:
    """The state of one task in the batch system."""

    job: str  # "123", or "123_4" for a task of an array
    stage: str
    shard: int | None  # number of the task within its stage; None: not an array
    phase: Phase
    state: str  # the batch system's own word
    reason: str = ""  # the batch system's own word
    node: str = ""
    exit_code: str | None = None  # "CODE:SIGNAL"; None: zero or unknown
    restarts: int | None = None
    words: str = ""  # why it waits or how it failed, in plain words; "": not known
    cancelled: bool = False  # also if a job that it waited for did not succeed
    by: str = ""  # the user who cancelled it; "": nobody, or not known
    since: float | None = None  # seconds since 1970 at which this state began; None: not known

    @property
    def active(self) -> bool:
        """Whether the task is queued or running."""
        return self.phase in ("queued", "running", "ending")


@dataclass(frozen=True, slots=True)
class States:
    """The known tasks of a run, in the order of their submission."""

    tasks: tuple[TaskState, ...] = ()
    problem: str = ""  # why tasks may be missing here, in one line

    def latest(self, stage: str) -> dict[int | None, TaskState]:
        """Task number → its active task, or else the last one submitted."""
        tasks = sorted((t for t in self.tasks if t.stage == stage), key=lambda task: task.active)
        return {task.shard: task for task in tasks}

    def active(self, stage: str) -> list[TaskState]:
        return [task for task in self.tasks if task.active and task.stage == stage]


class Scheduler(Protocol):
    """A batch system."""

    @property
    def runs_here(self) -> bool:
        """Whether `send` runs the job here and returns at its end, without a queue."""
        ...

    def script(self, job: Job) -> str:
        """The text of a batch script. Raises SchedulerError if the job cannot be expressed."""
        ...

    def calls(self, job: Job, script: Path, tasks: Collection[int] | None = None) -> list[Call]:
        """The submissions that run all tasks of the job, or only `tasks` of its array."""
        ...

    def line(self, call: Call, after: After, name: str = "") -> str:
        """A submission as a shell command; it stores the job number in the variable `name`."""
        ...

    def send(self, call: Call, after: After) -> Sent:
        """Submit. Raises SchedulerError with the batch system's message if it refuses."""
        ...

    def states(self, query: Query) -> States:
        """The states of a run's tasks, in bounded time. Never raises: see `States.problem`."""
        ...

    def current_task(self, environment: Mapping[str, str]) -> TaskIdentity | None:
        """The task with these environment variables; None if it is not one of this system."""
        ...

    def requeue(self, job: str) -> bool:
        """Put the running task `job` back into the queue; it keeps its number, and others wait for it.

        False if there is no queue: then the caller runs the task again. Raises SchedulerError if the
        batch system refuses.
        """
        ...

    def has_queue(self) -> bool:
        """Whether jobs can be submitted to a queue from this machine: its commands are here and work."""
        ...


def array_and_task(job: str) -> tuple[str, int | None]:
    """The number of a job and, for a task of an array, its index: "123_4" → ("123", 4)."""
    array, _, task = job.partition("_")
    return array, int(task) if re.fullmatch(r"\d{1,7}", task, re.ASCII) else None
