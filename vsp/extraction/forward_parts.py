"""Takes a prepared batch through the model, in parts that fit the device's memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from vsp.extraction.batches import SampleBatch, batches_with, keys_of, rows_to_run_alone
from vsp.extraction.preprocess import Prepared
from vsp.models.contract import (
    Outputs,
    Pending,
    PromptGroup,
    Recorded,
    VisionLanguageModel,
    n_padded_tokens,
    prompt_group,
)
from vsp.storage.plan import Plan, states_name
from vsp.storage.run import Run, Shard

Arrays = Callable[[], Mapping[str, NDArray[np.floating]]]  # waits for the device


@dataclass(frozen=True, slots=True)
class Part:
    """Rows whose values are complete once the device is done."""

    rows: tuple[int, ...]
    arrays: Arrays  # name of the array → values [layer, row, hidden]
    groups: tuple[PromptGroup, ...] = ()  # of states
    outputs: Pending | None = None  # likewise


@dataclass
class TokenLimit:
    """The most tokens per forward pass that fit the device's memory; None: not known yet."""

    limit: int | None
    _journalled: int | None = field(init=False)

    def __post_init__(self) -> None:
        self._journalled = self.limit

    def allows(self, groups: Sequence[PromptGroup]) -> bool:
        return self.limit is None or n_padded_tokens(groups) <= self.limit

    def lower(self, groups: Sequence[PromptGroup]) -> None:
        """Halve the limit after `groups` did not fit."""
        n_tokens = n_padded_tokens(groups)
        self.limit = min(self.limit or n_tokens, n_tokens) // 2

    def lowered(self) -> bool:
        """Whether the limit changed since the last call."""
        changed, self._journalled = self.limit != self._journalled, self.limit
        return changed


class Computation(Protocol):
    """What an extraction computes of the rows of a run: their states, or the effects of changes.

    Rows have the keys of `vsp.extraction.batches`: runs with the same pictures are extracted together.
    """

    def batches(self, shard: Shard, rows: set[int]) -> Sequence[SampleBatch]:
        """The samples of each batch with at least one of `rows`; the batches stay whole."""
        ...

    def rows_alone(self, shard: Shard) -> set[int]:
        """Rows that are also run alone, to measure the batch effect."""
        ...

    def parts(
        self,
        model: VisionLanguageModel,
        batch: Prepared,
        memory: TokenLimit,
        failures: dict[int, str],
    ) -> Iterator[Part]:
        """Run the batch. Failed rows are added to `failures`: row → reason."""
        ...


@dataclass(frozen=True, slots=True)
class States:
    """The states and the answers of a run, or of runs that are extracted together."""

    runs: Sequence[Run]

    def batches(self, shard: Shard, rows: set[int]) -> Sequence[SampleBatch]:
        return batches_with(self.runs, shard, rows)

    def rows_alone(self, shard: Shard) -> set[int]:
        return keys_of([rows_to_run_alone(shard)] * len(self.runs))

    def parts(
        self,
        model: VisionLanguageModel,
        batch: Prepared,
        memory: TokenLimit,
        failures: dict[int, str],
    ) -> Iterator[Part]:
        """Run the batch, in halves if it does not fit. A single row that does not fit fails."""
        recorded = recorded_by([run.plan for run in self.runs])
        waiting = [(batch.rows, batch.groups)] if batch.rows else []
        while waiting:
            rows, groups = waiting.pop()
            if memory.allows(groups) or len(rows) == 1:
                try:
                    pending = model.forward(groups, recorded)
                    yield Part(rows, _waiting(pending), groups, pending)
                    continue
                except MemoryError as error:
                    if len(rows) == 1:
                        failures[rows[0]] = out_of_memory(error)
                        continue
                    memory.lower(groups)
            waiting += reversed(_halves(rows, groups))


def out_of_memory(error: MemoryError) -> str:
    """The reason of a row that does not fit alone."""
    return f"out of memory alone in its batch: {error}"


def recorded_by(plans: Sequence[Plan]) -> Recorded:
    """What runs record in each forward pass."""
    answers = [plan.answers for plan in plans if plan.answers is not None]
    return Recorded(
        tuple(dict.fromkeys(one for plan in plans for one in plan.stored_positions)),
        max((one.n_options for one in answers), default=0),
        any(one.lens for one in answers),
    )


def single_row_groups(part: Part, wanted: set[int]) -> Iterator[tuple[int, PromptGroup]]:
    """Each row in `wanted`, with a group of that row alone and without answer options."""
    prompts = [(group.picture, prompt) for group in part.groups for prompt in group.rows]
    for row, (picture, prompt) in zip(part.rows, prompts, strict=True) if wanted else ():
        if row in wanted:
            yield row, prompt_group(picture, [replace(prompt, options=())])


def _waiting(pending: Pending) -> Arrays:
    return lambda: state_arrays(pending())


def state_arrays(outputs: Outputs) -> dict[str, NDArray[np.floating]]:
    """The values by the name of the array that takes them: [layer, row, hidden] of states.

    Those of options are [1, row, option] and [1, row, option × layer].
    """
    arrays = {states_name(position): states for position, states in outputs.states.items()}
    if outputs.answers is not None:
        arrays["answers"] = outputs.answers[None]
    if outputs.lens is not None:
        n_layers, n_rows, n_options = outputs.lens.shape
        by_row = outputs.lens.transpose(1, 2, 0)
        arrays["lens"] = by_row.reshape(1, n_rows, n_options * n_layers)
    return arrays


def _halves(
    rows: tuple[int, ...], groups: tuple[PromptGroup, ...]
) -> list[tuple[tuple[int, ...], tuple[PromptGroup, ...]]]:
    """Split a batch between groups; a single group between its rows."""
    first: tuple[PromptGroup, ...]
    second: tuple[PromptGroup, ...]
    if len(groups) == 1:
        first, second = ((group,) for group in groups[0].halves())
    else:
        first, second = groups[: len(groups) // 2], groups[len(groups) // 2 :]
    n_first = sum(len(group.rows) for group in first)
    return [(rows[:n_first], first), (rows[n_first:], second)]
