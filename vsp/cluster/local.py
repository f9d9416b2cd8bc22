"""No batch system: the tasks run one after the other on this machine."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Collection, Mapping
from pathlib import Path

from vsp.cluster.contract import After, Call, Job, Query, Sent, States
from vsp.cluster.shell import environment_lines, path_argument
from vsp.storage.journal import TaskIdentity

# The arguments are the numbers of the tasks; without arguments, all tasks run. As in a batch system,
# the other tasks still run when one fails. A signal ends all of them.
_LOOP = """\
status=0
[ $# -gt 0 ] || set -- {tasks}
for task in "$@"; do
  {command} || { status=$?; [ "$status" -le 128 ] || break; }
done
exit "$status"
"""


class Local:
    """Runs the script of a job in this shell; see `vsp.cluster.contract.Scheduler`."""

    runs_here = True

    def script(self, job: Job) -> str:
        lines = ["#!/bin/bash", *environment_lines(job.environment, job.import_from)]
        command = shlex.join(job.command)
        if job.n_tasks is None:
            return "\n".join([*lines, f"exec {command}"]) + "\n"
        numbers = f"{{0..{job.n_tasks - 1}}}"
        task = f'"{job.number.format("$task")}"'
        loop = _LOOP.replace("{tasks}", numbers).replace("{command}", f"{command} {task}")
        return "\n".join([*lines, loop])

    def calls(self, job: Job, script: Path, tasks: Collection[int] | None = None) -> list[Call]:
        if job.n_tasks is None:
            return [Call(job.stage, None, ("bash", path_argument(script)))]
        numbers = sorted(range(job.n_tasks) if tasks is None else tasks)
        arguments = () if tasks is None else tuple(map(str, numbers))
        return [Call(job.stage, tuple(numbers), ("bash", path_argument(script), *arguments))]

    def line(self, call: Call, after: After, name: str = "") -> str:
        return shlex.join(call.command)

    def send(self, call: Call, after: After) -> Sent:
        """Run the call and wait for its end."""
        status = subprocess.run(call.command, check=False).returncode
        return Sent("", f"exit code {status}" if status else "")

    def states(self, query: Query) -> States:
        return States()  # everything that ran here has ended

    def current_task(self, environment: Mapping[str, str]) -> TaskIdentity | None:
        return None

    def requeue(self, job: str) -> bool:
        return False

    def has_queue(self) -> bool:
        return False
