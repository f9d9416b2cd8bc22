"""Writes the rows of runs that are extracted together: a picture that several runs show is encoded once.

The batches of such runs are cut from the rows of all of them, so that they are fixed by their plans.
A batch is computed again if any of its rows is pending in any run; each run writes and journals its
own rows. Rows have the keys of `vsp.extraction.batches`. A run alone is the only one of its own.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from vsp.extraction.forward_parts import Arrays
from vsp.extraction.row_writer import RowWriter, Written
from vsp.models.contract import Pending
from vsp.storage.array import Screened


@dataclass(frozen=True)
class JointWriter:
    """Writes the pending rows of one shard of runs, those of each run with a writer of its own."""

    n_runs: int
    writers: Mapping[
        int, RowWriter
    ]  # number of the run → its writer; runs without pending rows: none
    unflushed: deque[Future[dict[int, Written]]] = field(default_factory=deque)

    def screen(self, keys: Sequence[int], values: Arrays) -> dict[int, dict[str, Screened]]:
        """The values of each array of each run, checked and checksummed."""
        arrays = values()
        return {
            number: writer.screen(self._own(number, keys, arrays))
            for number, writer in self._of(keys).items()
        }

    def write(
        self, keys: Sequence[int], screened: Future[dict[int, dict[str, Screened]]]
    ) -> dict[int, Written]:
        """Write those rows of a batch that are pending and finite; the others fail in their run."""
        batch = screened.result()
        return {
            number: writer.write(self._rows(number, keys), batch[number])
            for number, writer in self._of(keys).items()
        }

    def flush(self) -> None:
        """Flush the batches written so far and mark their rows; waits for at least one batch."""
        batches: list[dict[int, Written]] = []
        while self.unflushed and (not batches or self.unflushed[0].done()):
            batches.append(self.unflushed.popleft().result())
        for number, writer in self.writers.items():
            writer.settle([batch[number] for batch in batches if number in batch])

    def mark_failed(self, failures: Mapping[int, str]) -> None:
        """Mark pending rows as failed, each in its run: key → reason."""
        n_runs = self.n_runs
        for number, writer in self.writers.items():
            writer.mark_failed(
                {key // n_runs: why for key, why in failures.items() if key % n_runs == number}
            )

    def compare(self, key: int, column: int, batch: Pending, alone: Pending) -> None:
        """Record how far the last token of a batch's row `column` is from that of the row alone."""
        row, number = divmod(key, self.n_runs)
        self.writers[number].compare(row, batch(), alone(), column)

    def set_token_limit(self, limit: int) -> None:
        """Note the most tokens of a forward pass that fit the device, in each run."""
        for writer in self.writers.values():
            writer.journal.set_token_limit(limit)

    def _of(self, keys: Sequence[int]) -> dict[int, RowWriter]:
        """The writers of the runs that have rows among `keys`."""
        there = {key % self.n_runs for key in keys}
        return {number: writer for number, writer in self.writers.items() if number in there}

    def _rows(self, number: int, keys: Sequence[int]) -> list[int]:
        return [key // self.n_runs for key in keys if key % self.n_runs == number]

    def _own(
        self, number: int, keys: Sequence[int], arrays: Mapping[str, NDArray[np.floating]]
    ) -> dict[str, NDArray[np.floating]]:
        """The values [layer, row, hidden] of the rows of one run.

        Another run may have more options; they are at the end.
        """
        if self.n_runs == 1:
            return dict(arrays)
        columns = [i for i, key in enumerate(keys) if key % self.n_runs == number]
        return {
            name: arrays[name][:, columns, : store.layout.hidden_size]
            for name, store in self.writers[number].stores.items()
        }
