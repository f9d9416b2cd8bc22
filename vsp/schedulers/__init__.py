"""Batch systems: a scheduler turns a job into a script and the commands that submit it."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from vsp.config import Profile
from vsp.registry import Registry

SCHEDULERS = Registry(
    "scheduler",
    {
        "slurm": "vsp.schedulers.slurm:Slurm",
        "local": "vsp.schedulers.local:Local",
    },
)


@dataclass(frozen=True, slots=True)
class ArrayJob:
    """`n_tasks` tasks that differ only in the number appended to their command."""

    name: str
    command: tuple[str, ...]  # the task's number becomes its last argument
    n_tasks: int
    logs: Path
    profile: Profile

    def exports(self) -> list[str]:
        """The profile's environment as lines of a shell script."""
        environment = self.profile.environment
        return [f"export {name}={shlex.quote(value)}" for name, value in environment.items()]


class Scheduler(Protocol):
    def script(self, job: ArrayJob) -> str:
        """The text of a batch script that runs one task, or all of them in turn."""
        ...

    def commands(self, job: ArrayJob, script: Path) -> list[str]:
        """What to type so that every task of the job runs."""
        ...
