"""No batch system: a script that runs the tasks one after another on this machine."""

from __future__ import annotations

import shlex
from pathlib import Path

from vsp.schedulers import ArrayJob


class Local:
    def script(self, job: ArrayJob) -> str:
        command = " ".join(map(shlex.quote, job.command))
        loop = f'for task in $(seq 0 {job.n_tasks - 1}); do\n  {command} "$task"\ndone'
        return "\n".join(["#!/bin/bash", "set -e", *job.exports(), loop]) + "\n"

    def commands(self, job: ArrayJob, script: Path) -> list[str]:
        return [f"bash {shlex.quote(str(script))}"]
