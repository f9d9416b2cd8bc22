"""What was submitted for a run: `submitted.json` in its folder, one entry for each submission.

`vsp resume` takes profile and options from it, and `vsp status` the jobs that the batch system forgot.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter, ValidationError

from vsp.cluster.stages import EXTRACT, PROBE, STAGES, STAGES_OF_EFFECTS
from vsp.config import Frozen
from vsp.errors import RunError
from vsp.storage.run import Run
from vsp.utils.files import write_text
from vsp.utils.reading import read_json, unreadable

_MOST = 200  # submissions that are kept, the last ones
Stage = Literal["extract", "verify", "probe-parts", "probe", "effects", "report"]
Word = Annotated[str, Field(max_length=4096)]
Setting = Annotated[str, Field(pattern=r"^[A-Za-z0-9_,-][A-Za-z0-9_.,-]{0,150}$")]
Job = Annotated[str, Field(min_length=1, max_length=100)]


class Submission(Frozen):
    """One `vsp submit` or `vsp resume` that reached a batch system, or that began here."""

    time: Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d\d:\d\d$")]
    profile: str | None  # the file that was named; None: the usual one
    stages: tuple[Stage, ...]
    after: Literal["ok", "any"]
    probe_tasks: Annotated[int, Field(ge=0, lt=2**31)]
    probe: tuple[Word, ...] = ()  # options of `vsp probe`
    settings: tuple[Setting, ...] = ()  # folders in results/RUN/; empty in older files
    jobs: Mapping[Stage, tuple[Job, ...]]

    def words(self, names: Collection[str]) -> str:
        """These of its options as they are written on a command line, without defaults."""
        given: dict[str, str | None] = {
            "profile": self.profile,
            "stages": None if set(self.stages) in _WHOLE else ",".join(self.stages),
            "after": None if self.after == "ok" else self.after,
            "probe_tasks": str(self.probe_tasks) if self.probe_tasks else None,
        }
        words = [
            word
            for name, value in given.items()
            if name in names and value is not None
            for word in (f"--{name.replace('_', '-')}", value)
        ]
        return shlex.join(
            [*words, *(("--", *self.probe) if self.probe and "probe" in names else ())]
        )

    @property
    def minute(self) -> str:
        """When it was submitted, in the time of this machine."""
        return datetime.fromisoformat(self.time).astimezone().strftime("%Y-%m-%d %H:%M")


_WHOLE = (set(STAGES), set(STAGES_OF_EFFECTS))
_SUBMISSIONS = TypeAdapter(tuple[Submission, ...])


def submissions(run: Run) -> tuple[Submission, ...]:
    """The submissions of a run, oldest first. Raises RunError if their file cannot be read."""
    path = _path(run)
    try:
        return _SUBMISSIONS.validate_python(read_json(path))
    except (FileNotFoundError, NotADirectoryError):
        return ()
    except OSError as error:
        raise RunError(f"{path}: {unreadable(error)}; remove it") from None
    except (ValidationError, ValueError, RecursionError):
        raise RunError(
            f"{path}: is not a list of submissions; remove it, and name profile and options again"
        ) from None


def last_submission(sent: Sequence[Submission]) -> Submission | None:
    """The last one that had the extraction, whose options `vsp resume` uses again."""
    return next((one for one in reversed(sent) if EXTRACT in one.stages), None)


def probing_submission(sent: Sequence[Submission]) -> Submission | None:
    """The last one that had the probe stage."""
    return next((one for one in reversed(sent) if PROBE in one.stages), None)


def known_submissions(run: Run) -> tuple[tuple[Submission, ...], str]:
    """The submissions that can be read, and why others cannot."""
    try:
        return submissions(run), ""
    except RunError as error:
        return (), str(error)


def add_submission(run: Run, submission: Submission) -> None:
    """Add one to the file. A damaged file is replaced: its jobs are in the queue all the same."""
    kept = [*known_submissions(run)[0], submission][-_MOST:]
    text = json.dumps([one.model_dump(mode="json") for one in kept], indent=1)
    write_text(_path(run), text + "\n")


def _path(run: Run) -> Path:
    return run.folder / "submitted.json"
