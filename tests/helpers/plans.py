"""Plans one checkpoint after the other in this process, and prints what became of each.

`python plans.py WORK DATASET NAME=OPTIONS…`: one line of JSON for each name, with the exit code, what
was printed on stderr, the seconds, and the largest memory of this process and of its children so far.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import resource
import sys
import time
import traceback
from pathlib import Path

from vsp.cli.main import main


def _peak() -> int:
    """Bytes of memory, at most so far."""
    # RUSAGE_SELF would count the test process too, from which this one was started.
    with Path("/proc/self/status").open() as file:
        own = next(int(line.split()[1]) for line in file if line.startswith("VmHWM:"))
    return 1024 * (own + resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)


def _plan(name: str, options: list[str], dataset: str) -> dict[str, object]:
    said, start = io.StringIO(), time.process_time()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        try:
            code = main(["plan", *options, "--dataset", dataset, "--limit", "4", "--run", name])
        except BaseException:  # noqa: BLE001 - the test shows it
            code = -1
            traceback.print_exc(file=said)
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = time.process_time() - start
    return {"code": code, "stderr": said.getvalue(), "seconds": seconds, "peak": _peak(),
            "children": children.ru_utime + children.ru_stime}  # fmt: skip


if __name__ == "__main__":
    os.chdir(sys.argv[1])
    for one in sys.argv[3:]:
        name, _, options = one.partition("=")
        print(
            json.dumps({"name": name, **_plan(name, json.loads(options), sys.argv[2])}), flush=True
        )
