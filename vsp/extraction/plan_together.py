"""Plans runs that show the same pictures, so that they are extracted together.

The first run is the leader. Another one joins it if it shows the leader's pictures, also in another
order, its model is the same, and its shards begin at the same rows.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

from vsp.errors import VspError
from vsp.extraction.batches import joint_rows, keys_by_picture
from vsp.extraction.plan import Draft, Planned, draft_run, write_runs
from vsp.extraction.plan_request import PlanRequest
from vsp.extraction.planned_rows import CheckedDatasets
from vsp.extraction.run_names import check_name
from vsp.models.contract import count_shared
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
    "share": "its rows about one image share nothing",
}
_LEAST_SHARED = 0.5  # of the rows must show a picture of the leader's rows in their shard


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
    return write_together(_drafts(requests, work, checked), work, hold)


def write_together(drafts: Sequence[Draft], work: Path, hold: Callable[[], None]) -> list[Planned]:
    """Write the runs of drafts, and give them in this order.

    The first one is the leader. Those that cannot join it are extracted alone.
    """
    leader, joined, alone = drafts[0], [drafts[0]], list[Draft]()
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
    by_name = {one.run.name: one for one in planned}
    return [by_name[draft.name] for draft in drafts]


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
    return _other_pictures(leader, other)


def _other_pictures(leader: Draft, other: Draft) -> str:
    """Why a run has too few pictures of the leader; empty if it has enough of them.

    The rows may show them in another order, but a picture is shared within a shard.
    """
    real, n_shared, n_rows = lru_cache(1 << 16)(os.path.realpath), 0, len(other.rows.samples)
    for rows in _shards(leader):
        pictures = {one.image_sha256 for one in leader.rows.samples[rows]}
        for one, two in zip(leader.rows.samples[rows], other.rows.samples[rows], strict=True):
            n_shared += two.image_sha256 in pictures
            if not (one.depth or two.depth):
                continue
            same = one.image_sha256 == two.image_sha256 and one.depth and two.depth
            if not same or real(one.depth) != real(two.depth):
                return f"row {two.id!r} has another picture or depth picture"
    if n_shared < _LEAST_SHARED * n_rows:
        return f"{n_shared:,} of {n_rows:,} rows show a picture of the same shard there"
    return ""


def _shards(draft: Draft) -> list[slice]:
    """The rows of each shard."""
    bounds = [*draft.values["shard_starts"], len(draft.rows.samples)]
    return [slice(start, stop) for start, stop in pairwise(bounds)]


def _count_shared_tokens(drafts: Sequence[Draft]) -> None:
    """Set in place how many first tokens the rows about a picture have in common, in all runs."""
    n_runs = len(drafts)
    for shard in _shards(drafts[0]):
        samples = joint_rows([one.rows.samples[shard] for one in drafts], shard.start)
        for keys in keys_by_picture(samples, n_runs):
            tails = [drafts[key % n_runs].rows.counter.tail(samples[key]) for key in keys]
            n_shared = tails[0][0] + count_shared([tail for _, tail in tails])
            for key in keys:
                row, number = divmod(key, n_runs)
                drafts[number].rows.samples[row] = replace(
                    samples[key], n_shared=n_shared if len(keys) > 1 else 0
                )
