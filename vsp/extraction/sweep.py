"""Plans the runs of `vsp sweep`: every model with every dataset and every prompt.

A run that was planned with the same options before is used again. The pictures of a dataset are
checked once for all runs of it, and encoded once for all prompts that a model is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from vsp.errors import VspError
from vsp.extraction.plan import Draft, Planned, draft_run
from vsp.extraction.plan_request import PlanRequest, planned_before, request_key
from vsp.extraction.plan_together import write_together
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
    for _, group in groupby(requests, key=lambda one: (one.model, one.dataset)):
        for found in _plan_group(list(group), work, hold, free, checked):
            if isinstance(found, SweptRun):
                runs.append(found)
                done(found)
            else:
                problems += found
    return PlannedSweep(tuple(runs), tuple(problems))


def _plan_group(
    requests: Sequence[PlanRequest],
    work: Path,
    hold: Callable[[], None],
    free: Callable[[], AbstractContextManager[None]],
    checked: CheckedDatasets,
) -> list[SweptRun | list[str]]:
    """Plan the runs of one model and dataset, in order, or say why one cannot be planned.

    New runs are extracted together, so that each picture is encoded once for all prompts.
    """
    found: dict[int, SweptRun | list[str]] = {}
    drafts: dict[int, Draft] = {}
    keys = [request_key(request) for request in requests]
    for i, request in enumerate(requests):
        if keys.index(keys[i]) < i:  # a dataset may be named twice, as a and ./a
            continue
        try:
            before = planned_before(request, work)
            if before is not None:
                found[i] = SweptRun(before)
                continue
            with free():
                drafts[i] = draft_run(request, work, checked, drafts.values())
        except VspError as error:
            found[i] = _problem(request, error)
    planned = [one.run.name for one in found.values() if isinstance(one, SweptRun)]
    if planned and len(drafts) == 1:
        (draft,) = drafts.values()
        draft.notes.append(f"extracted alone, not together with {planned[0]}: planned before")
    try:
        if drafts:
            with free():
                written = write_together(list(drafts.values()), work, hold)
            found |= {i: SweptRun(one.run, one) for i, one in zip(drafts, written, strict=True)}
    except VspError as error:
        found |= {i: _problem(requests[i], error) for i in drafts}
    for i, key in enumerate(keys):
        if i not in found:
            of_same = found[keys.index(key)]
            found[i] = SweptRun(of_same.run) if isinstance(of_same, SweptRun) else of_same
    return [found[i] for i in range(len(requests))]


def _problem(request: PlanRequest, error: VspError) -> list[str]:
    return [f"{label_of(request)}: {error}", *(f"  {one}" for one in error.details)]
