"""The queued and running jobs of runs, for commands that look at many runs or remove one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from vsp.cluster.contract import Scheduler, TaskState
from vsp.cluster.jobs import task_states
from vsp.cluster.stages import EXTRACT, ORDER
from vsp.storage.run_list import ListedRun

_AT_ONCE = 8  # questions to the batch system
_WAITING = "queued"


@dataclass(frozen=True, slots=True)
class Activity:
    """The queued and running tasks of a run."""

    tasks: tuple[TaskState, ...] = ()  # queued and running ones of the batch system
    here: tuple[bool | None, ...] = ()  # journals without an end: True running, None perhaps
    problem: str = ""  # why jobs of the batch system may be missing here

    @property
    def is_certain(self) -> bool:
        """Whether a task is known to be queued or running."""
        return bool(self.tasks) or True in self.here

    def words(self) -> str:
        """ "extract 2 running, 3 queued; probe 1 queued"; empty if nothing works on the run."""
        parts = [f"{EXTRACT} {here}" for here in self._here()]
        for stage in ORDER:
            tasks = [task for task in self.tasks if task.stage == stage]
            parts += [f"{stage} {_counts(tasks)}"] if tasks else []
        return "; ".join(parts)

    def short_words(self) -> str:
        """The same for all stages together: "2 running, 4 queued"."""
        counts = [_counts(self.tasks)] if self.tasks else []
        return ", ".join([*self._here(), *counts])

    def _here(self) -> list[str]:
        """That a task runs here, unless the batch system knows it."""
        if not self.here or any(task.phase != _WAITING for task in self.tasks):
            return []
        return ["running" if True in self.here else "running?"]


def _counts(tasks: Sequence[TaskState]) -> str:
    """ "2 running, 3 queued"."""
    phases = Counter(task.phase for task in tasks)
    return ", ".join(f"{n} {phase}" for phase, n in sorted(phases.items(), reverse=True))


def activities(runs: Sequence[ListedRun], scheduler: Scheduler) -> list[Activity]:
    """The activity of each run.

    If the batch system does not answer for the first run, it is not asked for the others.
    """
    asked = [listed for listed in runs if listed.run is not None and not listed.run.plan.imported]
    if not asked:
        return [Activity(here=listed.lives) for listed in runs]
    first = activity(asked[0], scheduler)
    found = {asked[0].name: first}
    if not first.problem:
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            others = pool.map(lambda listed: activity(listed, scheduler), asked[1:])
            found |= {one.name: other for one, other in zip(asked[1:], others, strict=True)}
    return [
        found.get(listed.name, Activity(here=listed.lives, problem=first.problem))
        for listed in runs
    ]


def activity(listed: ListedRun, scheduler: Scheduler) -> Activity:
    """The activity of one run."""
    here = listed.lives
    if listed.run is None:
        return Activity(here=here)
    states = task_states(listed.run, scheduler, ended=False)
    return Activity(tuple(task for task in states.tasks if task.active), here, states.problem)
