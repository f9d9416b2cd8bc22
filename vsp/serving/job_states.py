"""The jobs of runs for the index, asked of the batch system rarely and beside the requests.

Journals are read at each request. The batch system is asked at most once in some seconds, in a thread of
its own: a request waits for a short time, and otherwise shows what was known before.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from threading import Event, Lock, Thread

from vsp.cluster.contract import Scheduler
from vsp.cluster.run_jobs import Activity, activities
from vsp.errors import VspError
from vsp.storage.run_list import ListedRun

_SECONDS = 30.0  # between two questions
_WAIT = 2.0  # seconds that a request waits for an answer


@dataclass(frozen=True, slots=True)
class _Answer:
    """What the batch system said last."""

    of_run: Mapping[str, Activity] = field(default_factory=dict)
    at: float | None = None  # seconds since 1970; None: nothing yet
    problem: str = ""


class JobStates:
    """What works on the runs of a project folder."""

    def __init__(self, scheduler: Scheduler | None, seconds: float = _SECONDS) -> None:
        """Without a scheduler, only journals are read."""
        self._scheduler = scheduler
        self._seconds = seconds
        self._lock = Lock()
        self._answer = _Answer()
        self._asked: float | None = None  # monotonic
        self._answered = Event()
        self._answered.set()
        self._sent = frozenset[str]()  # the runs of the last question

    def of(self, listed: Sequence[ListedRun]) -> tuple[list[Activity], list[str]]:
        """The activity of each run, and notes about what may be missing."""
        planned = [one for one in listed if _may_have_jobs(one)]
        if self._scheduler is None or not planned:
            return [Activity(here=one.lives) for one in listed], []
        self._ask(planned)
        in_time = self._answered.wait(_WAIT)
        answer = self._answer
        found = [replace(answer.of_run.get(one.name, Activity()), here=one.lives) for one in listed]
        return found, _notes(answer, in_time)

    def _ask(self, planned: Sequence[ListedRun]) -> None:
        """Begin a question, unless one was begun in the last seconds about the same runs."""
        names = frozenset(one.name for one in planned)
        with self._lock:
            now = time.monotonic()
            is_recent = self._asked is not None and now - self._asked < self._seconds
            if not self._answered.is_set() or (is_recent and names <= self._sent):
                return
            self._asked, self._sent = now, names
            self._answered.clear()
        Thread(target=self._answer_of, args=(planned,), daemon=True).start()

    def _answer_of(self, planned: Sequence[ListedRun]) -> None:
        assert self._scheduler is not None
        try:
            found = activities(planned, self._scheduler)
            names = (one.name for one in planned)
            problems = dict.fromkeys(one.problem for one in found if one.problem)
            self._answer = _Answer(
                dict(zip(names, found, strict=True)), time.time(), "; ".join(problems)
            )
        except (VspError, OSError) as error:
            self._answer = replace(self._answer, problem=str(error))
        finally:
            self._answered.set()


def _may_have_jobs(listed: ListedRun) -> bool:
    """Whether the run was planned here: its scripts may also be sent by hand."""
    return listed.run is not None and listed.run.plan.imported is None


def _notes(answer: _Answer, in_time: bool) -> list[str]:
    notes = [f"{answer.problem}; queued jobs are not shown"] if answer.problem else []
    if not in_time:
        known = "nothing is known of jobs yet"
        if answer.at is not None:
            known = f"jobs are those of {time.strftime('%H:%M:%S', time.localtime(answer.at))}"
        notes.append(f"the batch system has not answered yet, so {known}; load this page again")
    return notes
