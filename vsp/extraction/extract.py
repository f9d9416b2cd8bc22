"""`vsp extract`: one array task's work. Every row of the shard ends as done or as failed.

All at once, worker processes decode images, the device computes, and threads behind it sum states,
write them and journal them.
"""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vsp import models
from vsp.cluster.jobs import current_task
from vsp.errors import RunError
from vsp.extraction.preprocess import Prepared, SampleBatch, prepared
from vsp.models import Group, States, VisionLanguageModel
from vsp.models.fingerprint import fingerprint
from vsp.storage.array import Screened, Store, Writer
from vsp.storage.journal import Journal, Ledger
from vsp.storage.run import Plan, Run, Shard, compared_rows
from vsp.utils.progress import progress
from vsp.utils.signals import Stop, stoppable

_BEHIND = 2  # batches whose states may wait to be written
_MOST_WORKERS, _LEAST_BATCHES = 8, 16


def pending(ledger: Ledger, retry_failed: bool = False) -> list[int]:
    """Rows that are neither done nor failed; with `retry_failed`, failed ones too."""
    return sorted([*ledger.missing, *(ledger.failed if retry_failed else ())])


def extract(
    run: Run, shards: Sequence[Shard], retry_failed: bool = False, workers: int | None = None
) -> None:
    """Write the last-token states of every pending row.

    `workers` processes make batches ready; for how many see `default_workers`. Safe to run again,
    or twice at once: batches are fixed, so the same row gives the same bytes. Raises RunError or
    StoreError, before any weights are loaded, if the run was changed; Stopped after a signal, when
    the batch in hand is on disk.
    """
    shards = list(dict.fromkeys(shards))
    left = (set(pending(ledger, retry_failed)) for ledger in run.ledgers(shards))
    todo = {shard: rows for shard, rows in zip(shards, left, strict=True) if rows}
    if not todo:
        return
    _check(run, todo)
    n_rows = sum(map(len, todo.values()))
    batches = (b for shard, rows in todo.items() for b in planned_batches(run, shard, rows))
    n_workers = default_workers(n_rows // run.plan.batch_size) if workers is None else workers
    with (
        stoppable() as stop,
        prepared(models.read_processor(run.plan.model), batches, n_workers) as ready,
    ):
        with stop.free():
            model = models.read_model(run.plan.model)
        with progress(f"extract {run.name}", "rows", n_rows) as advance:
            for shard, rows in todo.items():
                extract_shard(run, shard, rows, model, _free(ready, stop), advance)


def outcome(run: Run, shards: Sequence[Shard]) -> str:
    """Rows done, failed and missing, in a line."""
    ledgers = run.ledgers(shards)
    done, failed, missing = (
        sum(getattr(ledger, name) for ledger in ledgers)
        for name in ("n_done", "n_failed", "n_missing")
    )
    line = f"run {run.name}: {done} rows done, {failed} failed, {missing} missing"
    return f"{line}; `vsp status` tells why" if failed else line


def _free(ready: Iterator[Prepared], stop: Stop) -> Iterator[Prepared]:
    """The batches; while one is waited for, a signal ends the task."""
    while True:
        with stop.free():
            batch = next(ready, None)
        if batch is None:
            return
        yield batch


def default_workers(n_batches: int) -> int:
    """One a core but one where a GPU computes; a CPU that computes has no time to spare.

    A worker takes a moment to start, and is worth it only where there are many batches.
    """
    spare = len(os.sched_getaffinity(0)) - 1
    most = min(spare, _MOST_WORKERS, n_batches // _LEAST_BATCHES)
    if most == 0:
        return 0  # without importing torch, which not every model needs
    from vsp.models.loading import on_gpu

    return most if on_gpu() else 0


def planned_batches(run: Run, shard: Shard, rows: set[int]) -> list[SampleBatch]:
    """Planned batches with a row of `rows` in them: whole, as the plan fixed them."""
    samples = dict(enumerate(run.samples(shard), start=shard.start))
    return [
        [{row: samples[row] for row in group} for group in batch]
        for batch in run.batches(samples)
        if any(rows.intersection(group) for group in batch)
    ]


def extract_shard(
    run: Run,
    shard: Shard,
    rows: set[int],
    model: VisionLanguageModel,
    ready: Iterator[Prepared],
    advance: Callable[[int], None],
) -> None:
    ledger = run.ledger(shard)
    _say(run, shard, ledger)
    left = set(rows)
    packages, task = other_packages(run.plan), current_task()
    with (
        run.store.writing() as writer,
        Journal(run.journals, run.plan.id, shard.index, len(rows), packages, task) as journal,
    ):
        out = _Out(run.store, writer, journal, rows, advance)
        memory = _Memory(ledger.limit)
        compared = compared_rows(shard) & rows - ledger.compared.keys()
        with _behind() as screen, _behind() as write, _behind() as submit:
            while left:
                batch = next(ready)
                failures = dict(batch.failures)
                for part, groups, states in _forward(model, batch, memory, failures):
                    out.waiting.append(write(out.write, part, screen(out.screen, states)))
                    submit(out.settle)
                    for row, group in _alone(part, groups, compared):
                        submit(out.compare, row, part.index(row), states, model.forward([group]))
                if memory.lowered():
                    submit(journal.limit, memory.limit)
                submit(out.failures, failures)
                left -= {*batch.rows, *batch.failures}


Part = tuple[tuple[int, ...], tuple[Group, ...], States]


@dataclass
class _Memory:
    """Tokens that the device can take at once, as far as a batch has shown; then remembered."""

    limit: int | None
    _said: int | None = field(init=False)

    def __post_init__(self) -> None:
        self._said = self.limit

    def fits(self, groups: Sequence[Group]) -> bool:
        return self.limit is None or models.n_tokens(groups) <= self.limit

    def failed(self, groups: Sequence[Group]) -> None:
        self.limit = min(self.limit or models.n_tokens(groups), models.n_tokens(groups)) // 2

    def lowered(self) -> bool:
        """Whether there is a new limit since this was asked last."""
        new, self._said = self.limit != self._said, self.limit
        return new


def _forward(
    model: VisionLanguageModel, batch: Prepared, memory: _Memory, failures: dict[int, str]
) -> Iterator[Part]:
    """The batch in parts that the device can take; a row that it cannot take alone fails."""
    waiting = [(batch.rows, batch.groups)] if batch.rows else []
    while waiting:
        rows, groups = waiting.pop()
        if memory.fits(groups) or len(rows) == 1:
            try:
                yield rows, groups, model.forward(groups)
                continue
            except MemoryError as error:
                if len(rows) == 1:
                    failures[rows[0]] = f"out of memory alone in its batch: {error}"
                    continue
                memory.failed(groups)
        waiting += reversed(_halves(rows, groups))


def _halves(
    rows: tuple[int, ...], groups: tuple[Group, ...]
) -> list[tuple[tuple[int, ...], tuple[Group, ...]]]:
    first: tuple[Group, ...]
    second: tuple[Group, ...]
    if len(groups) == 1:
        first, second = ((group,) for group in groups[0].halves())
    else:
        first, second = groups[: len(groups) // 2], groups[len(groups) // 2 :]
    n_first = sum(len(group.rows) for group in first)
    return [(rows[:n_first], first), (rows[n_first:], second)]


def _alone(
    rows: tuple[int, ...], groups: tuple[Group, ...], wanted: set[int]
) -> Iterator[tuple[int, Group]]:
    """Each wanted row as a group of its own."""
    asked = [(group.picture, row) for group in groups for row in group.rows]
    for row, (picture, prompt) in zip(rows, asked, strict=True):
        if row in wanted:
            yield row, models.group(picture, [prompt])


@dataclass(frozen=True, slots=True)
class _Written:
    """Rows of a batch on their way to the disk, and those that must not get there."""

    rows: Sequence[int]
    checksums: list[int]
    failures: dict[int, str]


@dataclass(frozen=True)
class _Out:
    """What happens behind the device: rows are screened, written, flushed and journalled.

    Each in a thread of its own: while the disk takes one batch, the next one is summed.
    """

    store: Store
    writer: Writer
    journal: Journal
    wanted: set[int]
    advance: Callable[[int], None]
    waiting: deque[Future[_Written]] = field(default_factory=deque)

    def screen(self, states: States) -> Screened:
        return self.store.screen(states())

    def write(self, part: Sequence[int], screened: Future[Screened]) -> _Written:
        """Hand the rows that the store can hold to the disk; the others fail with a reason."""
        found = screened.result()
        good = sorted(
            (row, column)
            for column, row in enumerate(part)
            if row in self.wanted and column not in found.reasons
        )
        failures = {part[column]: reason for column, reason in found.reasons.items()}
        if not good:
            return _Written((), [], failures)
        rows, columns = zip(*good, strict=True)
        some = found.take(columns)
        self.writer.write(rows, some)
        return _Written(rows, some.checksums, failures)

    def settle(self) -> None:
        """Flush and journal what was written, with one flush for all that waits for it."""
        batches: list[_Written] = []
        while self.waiting and (not batches or self.waiting[0].done()):
            batches.append(self.waiting.popleft().result())
        rows = [row for batch in batches for row in batch.rows]
        if rows:
            self.writer.flush()
            self.journal.done(rows, [crc32 for batch in batches for crc32 in batch.checksums])
            self.advance(len(rows))
        for batch in batches:
            self.failures(batch.failures)

    def failures(self, failures: dict[int, str]) -> None:
        for row in sorted(failures.keys() & self.wanted):
            self.journal.failed(row, failures[row])
            self.advance(1)

    def compare(self, row: int, column: int, together: States, alone: States) -> None:
        """Journal how far a row's states in its batch are from those it has alone."""
        self.journal.compared(row, *differences(together()[:, column], alone()[:, 0]))


def differences(
    together: NDArray[np.floating], alone: NDArray[np.floating]
) -> tuple[list[float], list[float]]:
    """Largest absolute difference of each layer [layer, hidden], and that over the largest value."""
    absolute = np.abs(together.astype(np.float64) - alone).max(axis=1)
    largest = np.abs(alone).max(axis=1)
    relative = np.divide(absolute, largest, out=np.zeros_like(absolute), where=largest > 0)
    return absolute.tolist(), relative.tolist()


def other_packages(plan: Plan) -> dict[str, str]:
    """Installed versions of libraries that are not those the run was planned with."""
    found = {name: _version(name) for name in plan.packages}
    return {name: one for name, one in found.items() if one != plan.packages[name]}


@cache
def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "none"


def _say(run: Run, shard: Shard, ledger: Ledger) -> None:
    """What a user should know of the lives before this one."""
    for damage in ledger.damage:
        print(f"note: {damage}", file=sys.stderr)
    for life in ledger.lives:
        if life.running is not False:
            job = f"job {life.job}, " if life.job else ""
            sure = "is" if life.running else "may be"
            print(
                f"note: shard {shard.index} {sure} at work already ({job}process {life.pid} on "
                f"{life.host}); both write the same bytes, one of them is enough",
                file=sys.stderr,
            )


class _behind:  # noqa: N801 - a context manager
    """Run calls one after the other in a thread; only a few may wait. Errors come back here.

    Whatever was handed over is carried out, also if the block ends early.
    """

    def __enter__(self) -> Callable[..., Future[Any]]:
        self._pool = ThreadPoolExecutor(1)
        self._waiting: deque[Future[Any]] = deque()
        return self._submit

    def _submit(self, call: Callable[..., Any], *arguments: object) -> Future[Any]:
        self._waiting.append(self._pool.submit(call, *arguments))
        while len(self._waiting) > _BEHIND:
            self._waiting.popleft().result()
        return self._waiting[-1]

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()
        for done in self._waiting:
            done.result()


def _check(run: Run, shards: Iterable[Shard]) -> None:
    """Raise unless this machine would compute what was planned, into what was planned."""
    run.store.check_writable()
    others = other_packages(run.plan)
    if others:
        listed = ", ".join(
            f"{name} {one} (planned {run.plan.packages[name]})" for name, one in others.items()
        )
        print(
            f"warning: other versions than the plan's, last bits may differ: {listed}",
            file=sys.stderr,
        )
    for shard in shards:
        run.manifest.check(shard.index)
    shape = models.shape(run.plan.model)
    planned = (run.plan.n_layers, run.plan.hidden_size, run.plan.compute_dtype)
    if (shape.n_layers, shape.hidden_size, shape.dtype) != planned:
        raise RunError(
            f"run {run.name}: the checkpoint now has {shape.n_layers} layers of "
            f"{shape.hidden_size} in {shape.dtype}, not {planned}; plan the run again"
        )
    run.check_checkpoint(fingerprint(run.plan.model))
