"""Plans runs that show the same pictures, so that they are extracted together.

The first run is the leader. Another one joins it if row by row its picture is the leader's, its model
is the same, and its shards begin at the same rows.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import groupby
from pathlib import Path

from vsp.errors import VspError
from vsp.extraction.plan import Draft, Planned, draft_run, write_runs
from vsp.extraction.plan_request import PlanRequest
from vsp.extraction.planned_rows import CheckedDatasets
from vsp.extraction.run_names import check_name
from vsp.models.contract import count_shared
from vsp.storage.manifest import Sample
from vsp.storage.run import Run

# Values of a plan that all runs which are extracted together have in common, and what a note says of
# a run with another value.
_COMMON = {
    "model": "it has another model",
    "checkpoint_files": "its checkpoint has other files",
    "dtype": "it stores states of another type",
    "boundary": "its store has another layout",
    "shard_starts": "its shards begin at other rows",
    "modules": "it stores states of other modules",
}


def plan_together(
    requests: Sequence[PlanRequest],
    work: Path,
    hold: Callable[[], None],
    checked: CheckedDatasets,
) -> list[Planned]:
    """Plan runs, the leader first. Those that cannot join it are extracted alone, which a note says.

    The others may take their rows from the leader (`PlanRequest.rows_of`). `hold` and errors are those of
    `vsp.extraction.plan.plan_run`.
    """
    for request in requests:
        check_name(str(request.name), work)
    drafts = _drafts(requests, work, checked)
    leader, joined, alone = drafts[0], drafts[:1], list[Draft]()
    for draft in drafts[1:]:
        why = why_alone(leader, draft)
        (alone if why else joined).append(draft)
        draft.notes.append(
            f"extracted alone, not together with {leader.name}: {why}"
            if why
            else f"extracted together with {leader.name}, so that each picture is encoded once"
        )
    if len(joined) > 1:
        _count_shared_tokens(joined)
    planned = write_runs(joined, work, hold)
    for draft in alone:
        planned += write_runs([draft], work, hold)
    return planned


def plan_again(
    requests: Sequence[PlanRequest],
    waiting: Run,
    work: Path,
    hold: Callable[[], None],
    checked: CheckedDatasets,
) -> list[Planned]:
    """Plan the lost runs with which `waiting` is extracted, as they were: it has rows to extract.

    `requests` are those of all these runs, in the order of its plan. Raises RunError if a plan is no
    longer what it was.
    """
    drafts = _drafts(requests, work, checked)
    _count_shared_tokens(drafts)
    lost = [one for one in drafts if not (work / "scratch" / one.name).exists()]
    for draft in lost:
        draft.notes.append(f"planned again as it was, because {waiting.name} is extracted with it")
    return write_runs(lost, work, hold, waiting.plan.together)


def _drafts(requests: Sequence[PlanRequest], work: Path, checked: CheckedDatasets) -> list[Draft]:
    """The drafts of runs; those after the first may take their rows from it."""
    leader = _draft(requests[0], work, checked)
    with checked.rows_known(leader.name, leader.rows.samples):
        return [leader, *(_draft(request, work, checked) for request in requests[1:])]


def _draft(request: PlanRequest, work: Path, checked: CheckedDatasets) -> Draft:
    """The draft of a run. An error names it."""
    try:
        return draft_run(request, work, checked)
    except VspError as error:
        raise type(error)(f"{request.name}: {error}", error.details) from None


def why_alone(leader: Draft, other: Draft) -> str:
    """Why a run cannot be extracted together with the leader; empty if it can."""
    if not leader.values["share"]:
        return "rows about one image share nothing"
    for key, words in _COMMON.items():
        if leader.values[key] != other.values[key]:
            return words
    if (leader.values["answers"] is None) != (other.values["answers"] is None):
        return "only one of them stores answers"
    if leader.values["modules"] and leader.values["positions"] != other.values["positions"]:
        return "it stores states at other positions of modules"
    if len(leader.rows.samples) != len(other.rows.samples):
        return "it has not all rows"
    real = lru_cache(1 << 16)(os.path.realpath)
    for one, two in zip(leader.rows.samples, other.rows.samples, strict=True):
        depths = one.depth and real(one.depth), two.depth and real(two.depth)
        if one.image_sha256 != two.image_sha256 or depths[0] != depths[1]:
            return f"row {two.id!r} has another picture"
    return ""


def _count_shared_tokens(drafts: Sequence[Draft]) -> None:
    """Set in place how many first tokens the rows about an image have in common, in all runs."""
    leading = drafts[0].rows.samples

    def image(row: int) -> tuple[str, str]:
        return leading[row].image, leading[row].depth

    for _, group in groupby(range(len(leading)), key=image):
        rows = list(group)
        tails = [one.rows.counter.tail(one.rows.samples[row]) for one in drafts for row in rows]
        n_shared = tails[0][0] + count_shared([tail for _, tail in tails])
        for draft in drafts:
            _set_shared(draft.rows.samples, rows, n_shared)


def _set_shared(samples: list[Sample], rows: Sequence[int], n_shared: int) -> None:
    for row in rows:
        if samples[row].n_shared != n_shared:
            samples[row] = replace(samples[row], n_shared=n_shared)
