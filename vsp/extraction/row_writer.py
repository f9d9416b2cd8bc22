"""Takes states from the device to the disk in background threads.

Rows are screened and checksummed, written, flushed, and marked in the journal, in that order. Each
step has a thread of its own: while the disk writes one batch, the checksums of the next are
computed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vsp.choices import LAST
from vsp.models.contract import Outputs
from vsp.storage.array import Screened, Store, Writer
from vsp.storage.journal import Journal
from vsp.storage.plan import states_name

_MAX_WAITING = 2  # waiting calls; more would keep the states of too many batches in memory


class BackgroundThread:
    """Runs calls in the order of submission; a context manager.

    `submit` blocks while too many calls wait. An error of a call is raised by a later `submit` or
    at the end of the block, which also finishes all submitted calls if the block fails.
    """

    def __enter__(self) -> BackgroundThread:
        self._pool = ThreadPoolExecutor(1)
        self._waiting: deque[Future[Any]] = deque()
        return self

    def submit(self, call: Callable[..., Any], *arguments: object) -> Future[Any]:
        self._waiting.append(self._pool.submit(call, *arguments))
        while len(self._waiting) > _MAX_WAITING:
            self._waiting.popleft().result()
        return self._waiting[-1]

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()
        for call in self._waiting:
            call.result()


@dataclass(frozen=True, slots=True)
class Written:
    """Rows of a batch that were written but not flushed yet, and rows that failed."""

    rows: Sequence[int]
    checksums: list[list[int]]  # [array, row]
    failures: dict[int, str]


@dataclass(frozen=True)
class RowWriter:
    """Writes the pending rows of a shard and marks them in its journal."""

    stores: Mapping[str, Store]
    writers: Mapping[str, Writer]  # of the same arrays
    journal: Journal
    pending: set[int]  # rows to write; the other rows of a batch are only computed with them
    advance: Callable[[int], None]  # reports rows as settled

    def screen(self, arrays: Mapping[str, NDArray[np.floating]]) -> dict[str, Screened]:
        """The values of each array, checked and checksummed."""
        return {name: store.screen(arrays[name]) for name, store in self.stores.items()}

    def write(self, rows: Sequence[int], batch: dict[str, Screened]) -> Written:
        """Write those of a batch's `rows` that are pending and finite; the others fail."""
        failures = {
            rows[column]: _in_array(reason, name)
            for name in reversed(batch)
            for column, reason in batch[name].reasons.items()
        }
        good = sorted(
            (row, column)
            for column, row in enumerate(rows)
            if row in self.pending and row not in failures
        )
        if not good:
            return Written((), [[] for _ in batch], failures)
        good_rows, columns = zip(*good, strict=True)
        finite = {name: one.take(columns) for name, one in batch.items()}
        for name, values in finite.items():
            self.writers[name].write(good_rows, values)
        return Written(good_rows, [one.checksums for one in finite.values()], failures)

    def settle(self, batches: Sequence[Written]) -> None:
        """Flush what was written, and mark the rows of these batches."""
        rows = [row for batch in batches for row in batch.rows]
        if rows:
            for writer in self.writers.values():
                writer.flush()
            of_arrays = zip(*(batch.checksums for batch in batches), strict=True)
            self.journal.mark_done(rows, [list(chain(*parts)) for parts in of_arrays])
            self.advance(len(rows))
        for batch in batches:
            self.mark_failed(batch.failures)

    def mark_failed(self, failures: Mapping[int, str]) -> None:
        """Mark pending rows as failed: row → reason."""
        for row in sorted(failures.keys() & self.pending):
            self.journal.mark_failed(row, failures[row])
            self.advance(1)

    def compare(self, row: int, in_batch: Outputs, alone: Outputs, column: int) -> None:
        """Record how far the last token of a batch's row `column` is from that of the row alone."""
        first, second = in_batch.states[LAST][:, column], alone.states[LAST][:, 0]
        self.journal.add_batch_effect(row, *_differences(first, second))


def _in_array(reason: str, name: str) -> str:
    return reason if name == states_name(LAST) else f"{name}: {reason}"


def _differences(
    batch: NDArray[np.floating], alone: NDArray[np.floating]
) -> tuple[list[float], list[float]]:
    """Largest difference of two [layer, hidden] arrays in each layer: absolute, and relative.

    The relative difference is divided by the layer's largest value.
    """
    absolute = np.abs(batch.astype(np.float64) - alone).max(axis=1)
    largest = np.abs(alone).max(axis=1)
    relative = np.divide(absolute, largest, out=np.zeros_like(absolute), where=largest > 0)
    return absolute.tolist(), relative.tolist()
