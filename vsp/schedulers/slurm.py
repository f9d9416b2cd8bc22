"""Slurm: one job array, in as many submissions as MaxArraySize asks for. Pure text but for one
question to `scontrol`."""

from __future__ import annotations

import re
import shlex
import subprocess
from functools import cached_property
from pathlib import Path

from simple_slurm import Slurm as SlurmOptions

from vsp.errors import SchedulerError
from vsp.schedulers import ArrayJob

DEFAULT_MAX_ARRAY_SIZE = 1001  # Slurm's own, where scontrol does not answer
_TIMEOUT = 20  # seconds


class Slurm:
    @cached_property
    def _limit(self) -> int:
        return max_array_size()

    def script(self, job: ArrayJob) -> str:
        profile = job.profile
        options = {
            "job_name": f"vsp-{job.name}",
            "array": _array(0, min(job.n_tasks, self._limit), profile.throttle),
            "output": _log_pattern(job.logs),
            "open_mode": "append",  # a requeued task goes on in its log
            "ntasks": 1,
            "cpus_per_task": profile.cpus_per_task,
            "partition": profile.partition,
            "account": profile.account,
            "qos": profile.qos,
            "constraint": profile.constraint,
            "time": profile.time,
            "gres": profile.gres,
            "mem": profile.mem,
        }
        slurm = SlurmOptions(**{key: value for key, value in options.items() if value is not None})
        for line in _body(job):
            slurm.add_cmd(line)
        return str(slurm.script(shell="/bin/bash", convert=False))

    def commands(self, job: ArrayJob, script: Path) -> list[str]:
        limit = self._limit
        commands = [f"sbatch {shlex.quote(str(script))}"]
        for first in range(limit, job.n_tasks, limit):
            array = _array(0, min(limit, job.n_tasks - first), job.profile.throttle)
            commands.append(
                f"sbatch --array={array} --export=ALL,VSP_FIRST_TASK={first} "
                f"{shlex.quote(str(script))}"
            )
        return commands


def max_array_size() -> int:
    """How many tasks one array may hold: MaxArraySize caps the highest index, counted from 0."""
    try:
        answer = subprocess.run(
            ["scontrol", "show", "config"],
            capture_output=True,
            text=True,
            timeout=_TIMEOUT,
            check=True,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return DEFAULT_MAX_ARRAY_SIZE
    found = re.search(r"^MaxArraySize\s*=\s*(\d+)", answer, re.MULTILINE)
    size = int(found[1]) if found else DEFAULT_MAX_ARRAY_SIZE
    if size < 2:
        raise SchedulerError(
            f"MaxArraySize {size}: this cluster takes no job arrays; run `vsp extract`"
        )
    return size


def _array(first: int, stop: int, throttle: int | None) -> str:
    return f"{first}-{stop - 1}" + (f"%{throttle}" if throttle else "")


def _log_pattern(folder: Path) -> str:
    """The tasks' log files as one word of an #SBATCH line, whatever the folder is called."""
    path = str(folder)
    if "\\" in path or "\n" in path:
        raise SchedulerError(
            f"log folder {path!r}: Slurm fills in no job numbers where a path has a backslash or "
            "a line break; name another under `logs` in the profile"
        )
    literal = path.replace("%", "%%")
    # Unlike a shell, sbatch takes an escaped space for the end of a word unless it is in quotes.
    return '"' + re.sub(r"([\"'])", r"\\\1", literal) + '/%A_%a.log"'


def _body(job: ArrayJob) -> list[str]:
    lines = [f"module load {shlex.quote(module)} || exit 1" for module in job.profile.modules]
    # Libraries otherwise start a thread for every core of a node that other tasks share.
    lines.append(f"export OMP_NUM_THREADS={job.profile.cpus_per_task}")
    lines += job.exports()
    command = " ".join(map(shlex.quote, job.command))
    # exec: the worker itself then gets the signals that Slurm sends to the batch script.
    task = '"$((${SLURM_ARRAY_TASK_ID:?submit this script with sbatch} + ${VSP_FIRST_TASK:-0}))"'
    return [*lines, f"exec {command} {task}"]
