"""Batch systems: a scheduler turns a job into a script, sends it, and says what became of it.

A new one is a file with a class of these five methods and a line in the table.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Protocol

from vsp.config import Resources
from vsp.utils.registry import Registry

SCHEDULERS = Registry(
    "scheduler",
    "vsp.schedulers",
    {
        "slurm": "vsp.cluster.slurm:Slurm",
        "local": "vsp.cluster.local:Local",
    },
)


@dataclass(frozen=True, slots=True)
class Job:
    """A stage of a run: an array of tasks that differ only in their number, or a single task."""

    stage: str
    name: str  # by which a person knows it in the batch system's lists
    run_id: str
    command: tuple[str, ...]
    logs: Path
    resources: Resources = field(default_factory=Resources)
    n_tasks: int | None = None  # of an array
    number: str = "{}"  # an array task's last argument; its number goes into the braces
    throttle: int | None = None  # array tasks at once
    warning: int | None = None  # seconds before the time limit at which it wants to be told
    modules: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Call:
    """One submission: a whole job, or some tasks of its array."""

    stage: str
    tasks: tuple[int, ...] | None  # numbers in the job; None: it is no array
    command: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class After:
    """What a submission waits for, as job numbers of the batch system."""

    ok: tuple[str, ...] = ()  # have to end well, or it is cancelled
    ended: tuple[str, ...] = ()  # have to end, well or not


@dataclass(frozen=True, slots=True)
class Sent:
    """A submission that was taken."""

    job: str  # its number; empty where it ran here and has ended
    problem: str = ""  # how it failed, where that is known already


@dataclass(frozen=True, slots=True)
class Query:
    """Whose tasks are asked for."""

    run_id: str
    stages: Mapping[str, str]  # job name → stage
    n_tasks: int  # of the extract stage
    since: datetime  # no job of the run is older
    jobs: Mapping[str, int] = field(default_factory=dict)  # known already: number → first shard
    ended: bool = True  # also those that ended; else only what is queued or running


@dataclass(frozen=True, slots=True)
class TaskState:
    """What the batch system knows of one task."""

    job: str  # 123, or 123_4 for a task of an array
    stage: str
    shard: int | None  # its number in the stage's array: of extract, the shard
    state: str  # PENDING, RUNNING, COMPLETED, FAILED, TIMEOUT, …: Slurm's words
    active: bool  # queued or running: it may still come to something
    reason: str = ""
    node: str = ""
    exit_code: str | None = None  # 1:0, or 0:15 for a signal
    restarts: int | None = None


@dataclass(frozen=True, slots=True)
class States:
    """All that is known of a run's tasks, in the order of their submission."""

    tasks: tuple[TaskState, ...] = ()
    problem: str = ""  # why this may not be all, in one line

    def latest(self, stage: str) -> dict[int | None, TaskState]:
        """Number → the task to speak of: one that is active, or else the last that was sent."""
        tasks = sorted((t for t in self.tasks if t.stage == stage), key=lambda task: task.active)
        return {task.shard: task for task in tasks}

    def active(self, stage: str) -> list[TaskState]:
        return [task for task in self.tasks if task.active and task.stage == stage]


class Scheduler(Protocol):
    def script(self, job: Job) -> str:
        """The text of a batch script. Raises SchedulerError for what it cannot express."""
        ...

    def calls(self, job: Job, script: Path, tasks: Collection[int] | None = None) -> list[Call]:
        """The submissions that run all tasks of the job, or only `tasks` of its array."""
        ...

    def line(self, call: Call, after: After, name: str = "") -> str:
        """A submission as one types it in a shell; its number then is in the variable `name`."""
        ...

    def send(self, call: Call, after: After) -> Sent:
        """Submit. Raises SchedulerError, in the batch system's own words, if it refuses."""
        ...

    def states(self, query: Query) -> States:
        """What is known of a run's tasks, in bounded time; never raises for want of an answer."""
        ...
