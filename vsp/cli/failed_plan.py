"""A record of the last `vsp plan` of a folder; a plan that succeeds removes it.

A pasted chain `vsp plan …; vsp extract; vsp report` must not go on with an older run when its plan
fails. So commands that act on the newest run refuse while the record is there.
"""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

RECORD = Path("scratch/.failed-plan.json")
_MOST = 1 << 16  # bytes of the record
_WORDS = 60  # characters of the command in a message


@contextmanager
def recorded_plan(words: Sequence[str], work: Path) -> Iterator[None]:
    """Keep a record of the command in `words` unless the block succeeds."""
    note_failed_plan(words, work, running=True)
    planned = False
    try:
        yield
        planned = True
    finally:
        if not planned:
            note_failed_plan(words, work)
    with suppress(OSError):
        (work / RECORD).unlink()


def note_failed_plan(words: Sequence[str], work: Path, running: bool = False) -> None:
    """Write the record, if the folder has a run that a command could take for the new one."""
    from datetime import UTC, datetime

    from vsp.errors import DiskError
    from vsp.utils.files import write_json

    files = ("scratch/*/plan.json", "results/*/summary.json", "results/*/*/summary.json")
    if not any(True for pattern in files for _ in work.glob(pattern)):
        return
    now = datetime.now(UTC).isoformat(timespec="seconds")
    with suppress(DiskError, OSError):  # the plan itself reports a folder that is not writable
        write_json(work / RECORD, {"words": list(words), "time": now, "pid": os.getpid() * running})


def failed_plan(work: Path) -> tuple[str, float] | None:
    """A sentence about the last plan, and its time, if it failed or did not end; otherwise None."""
    from datetime import datetime

    from vsp.storage.plan import is_date
    from vsp.utils.reading import read_bounded

    try:
        values = json.loads(read_bounded(work / RECORD, _MOST))
        words, time, pid = values["words"], str(values["time"]), values["pid"]
        command = shlex.join(["vsp", *map(str, words)])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    if not is_date(time):
        return None
    command = command if len(command) <= _WORDS else f"{command[:_WORDS]} …"
    state = "has not ended, or was killed" if pid else "failed"
    return f"`{command}` {state}", datetime.fromisoformat(time).timestamp()
