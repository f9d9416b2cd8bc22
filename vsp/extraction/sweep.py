"""Plans the runs of `vsp sweep`: every model with every dataset and every prompt.

A run that was planned with the same options before is used again. The pictures of a dataset are
checked once for all runs of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from vsp.errors import VspError
from vsp.extraction.plan import Planned, plan_run
from vsp.extraction.plan_request import PlanRequest, planned_before
from vsp.extraction.planned_rows import CheckedDatasets
from vsp.storage.run import Run


@dataclass(frozen=True, slots=True)
class SweptRun:
    """A run of a sweep; `planned` has the facts of a new one."""

    run: Run
    planned: Planned | None = None  # None: it was planned before


@dataclass(frozen=True, slots=True)
class PlannedSweep:
    """The runs of a sweep in the order of the options, and why others cannot be planned."""

    runs: tuple[SweptRun, ...]
    problems: tuple[str, ...]


def label_of(request: PlanRequest) -> str:
    """Model, dataset and prompt of a run that may have no name yet."""
    prompt = f", prompt {request.prompt}" if request.prompt else ""
    return f"{request.model_name} on {request.dataset.name or request.dataset}{prompt}"


def plan_sweep(
    requests: Sequence[PlanRequest],
    work: Path,
    hold: Callable[[], None],
    free: Callable[[], AbstractContextManager[None]],
    done: Callable[[SweptRun], None],
) -> PlannedSweep:
    """Plan all runs; one that cannot be planned does not stop the others.

    `hold` and `free` are those of `vsp.utils.signals.Stop`: a signal may end a plan. `done` gets each
    run as soon as it is planned.
    """
    checked = CheckedDatasets()
    runs: list[SweptRun] = []
    problems: list[str] = []
    for request in requests:
        try:
            before = planned_before(request, work)
            if before is not None:
                swept = SweptRun(before)
            else:
                with free():
                    planned = plan_run(request, work, hold, checked)
                swept = SweptRun(planned.run, planned)
        except VspError as error:
            problems += [f"{label_of(request)}: {error}", *(f"  {one}" for one in error.details)]
            continue
        runs.append(swept)
        done(swept)
    return PlannedSweep(tuple(runs), tuple(problems))
