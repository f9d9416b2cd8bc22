"""Runs that are extracted together: a picture that several runs show is encoded once for all of them.

The batches of such runs are cut from the rows of all of them, so that they are fixed by their plans.
A batch is computed again if any of its rows is pending in any run; each run writes and journals its
own rows. Rows have the keys of `vsp.extraction.batches`. A run alone is the only one of its own.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from vsp.extraction.row_writer import RowWriter, Written
from vsp.models.contract import Outputs, Pending, Recorded
from vsp.storage.array import Screened
from vsp.storage.plan import Plan
from vsp.storage.run import Run


def keys_of(runs: Sequence[Run], rows: Mapping[int, Collection[int]]) -> set[int]:
    """The keys of rows: number of a run → its rows."""
    return {row * len(runs) + number for number, of_run in rows.items() for row in of_run}


def rows_by_run(runs: Sequence[Run], keys: Collection[int]) -> dict[int, set[int]]:
    """The rows of keys: number of a run → its rows; runs without any are left out."""
    rows: dict[int, set[int]] = {}
    for key in sorted(keys):
        row, number = divmod(key, len(runs))
        rows.setdefault(number, set()).add(row)
    return rows


def recorded_by(plans: Sequence[Plan]) -> Recorded:
    """What runs record in each forward pass."""
    answers = [plan.answers for plan in plans if plan.answers is not None]
    return Recorded(
        tuple(dict.fromkeys(one for plan in plans for one in plan.stored_positions)),
        max((one.n_options for one in answers), default=0),
        any(one.lens for one in answers),
    )


@dataclass(frozen=True)
class JointWriter:
    """Writes the pending rows of one shard of runs, those of each run with a writer of its own."""

    writers: Mapping[
        int, RowWriter
    ]  # number of the run → its writer; runs without pending rows: none
    plans: Sequence[Plan]
    unflushed: deque[Future[dict[int, Written]]] = field(default_factory=deque)

    def screen(self, keys: Sequence[int], outputs: Pending) -> dict[int, dict[str, Screened]]:
        """The values of each array of each run, checked and checksummed."""
        found = outputs()
        return {
            number: writer.screen(self._own(number, keys, found))
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
        n_runs = len(self.plans)
        for number, writer in self.writers.items():
            writer.mark_failed(
                {key // n_runs: why for key, why in failures.items() if key % n_runs == number}
            )

    def compare(self, key: int, column: int, batch: Pending, alone: Pending) -> None:
        """Record how far the last token of a batch's row `column` is from that of the row alone."""
        row, number = divmod(key, len(self.plans))
        self.writers[number].compare(row, batch(), alone(), column)

    def set_token_limit(self, limit: int) -> None:
        """Note the most tokens of a forward pass that fit the device."""
        for writer in self.writers.values():
            writer.journal.set_token_limit(limit)

    def _of(self, keys: Sequence[int]) -> dict[int, RowWriter]:
        """The writers of the runs that have rows among `keys`."""
        there = {key % len(self.plans) for key in keys}
        return {number: writer for number, writer in self.writers.items() if number in there}

    def _rows(self, number: int, keys: Sequence[int]) -> list[int]:
        n_runs = len(self.plans)
        return [key // n_runs for key in keys if key % n_runs == number]

    def _own(self, number: int, keys: Sequence[int], outputs: Outputs) -> Outputs:
        """What was recorded of the rows of one run."""
        if len(self.plans) == 1:
            return outputs
        columns = [i for i, key in enumerate(keys) if key % len(self.plans) == number]
        answers = self.plans[number].answers
        n_options = 0 if answers is None else answers.n_options
        return Outputs(
            {position: states[:, columns] for position, states in outputs.states.items()},
            None if outputs.answers is None else outputs.answers[columns, :n_options],
            None if outputs.lens is None else outputs.lens[:, columns, :n_options],
        )
