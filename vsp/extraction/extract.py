"""`vsp extract`: the work of one array task. It marks every row of its shard as done or failed.

Worker processes decode images, the device computes, and background threads checksum, write and
journal, all at the same time.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from vsp import models
from vsp.cluster.jobs import current_task
from vsp.errors import RunError
from vsp.extraction.batches import keys_of, rows_by_run
from vsp.extraction.companions import JointWriter
from vsp.extraction.forward_parts import Computation, States, TokenLimit, single_row_groups
from vsp.extraction.preprocess import Prepared, prepared
from vsp.extraction.row_writer import BackgroundThread, RowWriter
from vsp.models.contract import VisionLanguageModel
from vsp.models.fingerprint import fingerprint
from vsp.models.placement import visible_devices
from vsp.storage.journal import Journal
from vsp.storage.ledger import Ledger, failure_of_all
from vsp.storage.plan import Plan
from vsp.storage.run import Run, Shard
from vsp.storage.together import companions_there, runs_together
from vsp.utils.allocator import keep_freed_blocks
from vsp.utils.progress import progress
from vsp.utils.signals import Stop, stoppable
from vsp.utils.text import format_ranges

_MAX_WORKERS = 8
_BATCHES_PER_WORKER = 16  # fewer are not worth the start of a process
_log = logging.getLogger(__name__)


def extract(
    run: Run, shards: Sequence[Shard], retry_failed: bool = False, workers: int | None = None
) -> None:
    """Write the values of every pending row of `shards`, also of runs that are extracted together.

    `workers` processes decode images (None: `default_workers`). It is safe to run this again, or
    twice at the same time: batches are fixed, so the same row gives the same bytes. Raises RunError
    or StoreError if the run was changed, and ModelError if there are fewer GPUs than planned, before
    any weights are loaded. Raises Stopped after a signal, once the current batch is on disk.
    """
    run.require_planned("extract")
    shards = list(dict.fromkeys(shards))
    if _is_lone_and_finished(run, shards, retry_failed):
        return
    runs = runs_together(run)
    for one in runs:  # before the journals, since a plan alone may claim many rows
        one.manifest.check_length()
        _check_writable(one)
    todo = _pending_keys(runs, shards, retry_failed)
    if not todo:
        return
    for one in runs:
        _check(one, todo)
    devices = visible_devices(run.plan.devices)
    n_rows = sum(map(len, todo.values()))
    work = computation_of(runs)
    batches = (batch for shard, rows in todo.items() for batch in work.batches(shard, rows))
    n_workers = default_workers(n_rows // run.plan.batch_size) if workers is None else workers
    keep_freed_blocks()  # before the workers are forked, which inherit it
    with (
        stoppable() as stop,
        prepared(models.read_processor(run.plan.model), batches, n_workers) as ready,
    ):
        with stop.free():
            model = models.read_model(run.plan.model, devices)
        with progress(f"extract {run.name}", "rows", n_rows) as advance:
            for shard, rows in todo.items():
                ready_batches = _until_stopped(ready, stop)
                extract_shard(runs, shard, rows, model, ready_batches, advance, work)


def pending_rows(ledger: Ledger, retry_failed: bool = False) -> list[int]:
    """Missing rows of a shard; with `retry_failed`, failed ones too."""
    return sorted([*ledger.missing, *(ledger.failed if retry_failed else ())])


def _is_lone_and_finished(run: Run, shards: Sequence[Shard], retry_failed: bool) -> bool:
    """Whether nothing is pending in a run that lost one which is extracted together with it."""
    if len(companions_there(run)) == max(len(run.plan.together) - 1, 0):
        return False
    return not any(pending_rows(ledger, retry_failed) for ledger in run.ledgers(shards))


def _pending_keys(
    runs: Sequence[Run], shards: Sequence[Shard], retry_failed: bool
) -> dict[Shard, set[int]]:
    """The keys of the pending rows of all runs, by shard; shards without any are left out."""
    ledgers = zip(*(run.ledgers(shards) for run in runs), strict=True)
    todo = {
        shard: keys_of([pending_rows(ledger, retry_failed) for ledger in of_runs])
        for shard, of_runs in zip(shards, ledgers, strict=True)
    }
    return {shard: keys for shard, keys in todo.items() if keys}


def outcome_line(run: Run, shards: Sequence[Shard]) -> str:
    """Numbers of done, failed and missing rows, in one line."""
    ledgers = run.ledgers(shards)
    done, failed, missing = (
        sum(getattr(ledger, name) for ledger in ledgers)
        for name in ("n_done", "n_failed", "n_missing")
    )
    line = f"run {run.name}: {done} rows done, {failed} failed, {missing} missing"
    return f"{line}; `vsp status` shows the reasons" if failed else line


def check_some_done(run: Run, shards: Sequence[Shard]) -> None:
    """Raise RunError if every row of `shards` failed, which one mistake causes, not the rows."""
    failure = failure_of_all(run.ledgers(shards))
    if failure:
        numbers = format_ranges({shard.index for shard in shards})
        which = f"shard {numbers}: " if len(shards) < len(run.shards) else ""
        raise RunError(f"run {run.name}: {which}{failure}")


def default_workers(n_batches: int) -> int:
    """`most_workers` with a GPU; without, none: the model needs all cores."""
    most = most_workers(len(os.sched_getaffinity(0)), n_batches)
    if most == 0:
        return 0  # do not import torch, which not every model needs
    from vsp.models.loading import on_gpu

    return most if on_gpu() else 0


def most_workers(n_cores: int, n_batches: int) -> int:
    """One process per core but one, at most 8; fewer for few batches, as each takes time to start.

    Never one: without workers, this process prepares the next batch while the GPU computes. A lone
    worker prepares no faster, and its pictures have to be sent: on two cores, with a GPU that
    waited for pictures, it gave 0.73 of the rate without.
    """
    most = min(n_cores - 1, _MAX_WORKERS, n_batches // _BATCHES_PER_WORKER)
    return most if most > 1 else 0


def extract_shard(
    runs: Sequence[Run],
    shard: Shard,
    keys: set[int],
    model: VisionLanguageModel,
    ready: Iterator[Prepared],
    advance: Callable[[int], None],
    work: Computation | None = None,
) -> None:
    """Settle the pending rows of a shard, with their batches in the order of `ready`.

    `keys` are those of the rows of `runs`, see `vsp.extraction.batches`. `work` computes them (None: as
    the plans say).
    """
    left = set(keys)
    work = computation_of(runs) if work is None else work
    with ExitStack() as stack:
        writers = {
            number: _row_writer(stack, runs[number], shard, rows, advance)
            for number, rows in rows_by_run(keys, len(runs)).items()
        }
        out = JointWriter(len(runs), writers)
        ledgers = [run.ledger(shard) for run in runs]
        memory = TokenLimit(
            min((one.token_limit for one in ledgers if one.token_limit), default=None)
        )
        to_run_alone = work.rows_alone(shard) & keys
        to_run_alone -= keys_of([ledger.batch_effects for ledger in ledgers])
        # The last thread is the only one that writes to the journals.
        with BackgroundThread() as screen, BackgroundThread() as write, BackgroundThread() as mark:
            while left:
                batch = next(ready)
                failures = dict(batch.failures)
                for part in work.parts(model, batch, memory, failures):
                    screened = screen.submit(out.screen, part.rows, part.arrays)
                    out.unflushed.append(write.submit(out.write, part.rows, screened))
                    mark.submit(out.flush)
                    for key, group in single_row_groups(part, to_run_alone):
                        alone = model.forward([group])
                        mark.submit(out.compare, key, part.rows.index(key), part.outputs, alone)
                if memory.lowered():
                    mark.submit(out.set_token_limit, memory.limit)
                mark.submit(out.mark_failed, failures)
                left -= {*batch.rows, *batch.failures}


def _row_writer(
    stack: ExitStack, run: Run, shard: Shard, rows: set[int], advance: Callable[[int], None]
) -> RowWriter:
    """The writer of the pending `rows` of one run; records a life of the shard in its journal."""
    writers = {name: stack.enter_context(store.writing()) for name, store in run.stores.items()}
    packages, task = changed_packages(run.plan), current_task()
    journal = stack.enter_context(
        Journal(run.journals, run.plan.id, shard.index, len(rows), packages, task)
    )
    # Read after this life is recorded: of two that start together, at least one sees the other.
    _log_other_lives(shard, run.ledger(shard), journal.path)
    return RowWriter(run.stores, writers, journal, rows, advance)


def computation_of(runs: Sequence[Run]) -> Computation:
    """What an extraction of runs computes. Raises RunError if changes are not those of the plan."""
    if runs[0].plan.effects is None:
        return States(runs)
    from vsp.extraction.effects_passes import EffectsOfChanges  # files that few tasks open

    return EffectsOfChanges.of(runs[0])


def changed_packages(plan: Plan) -> dict[str, str]:
    """Installed versions of the plan's libraries that differ from the planned ones."""
    installed = {name: _version(name) for name in plan.packages}
    return {name: one for name, one in installed.items() if one != plan.packages[name]}


@cache
def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "none"


def _until_stopped(ready: Iterator[Prepared], stop: Stop) -> Iterator[Prepared]:
    """Yield the batches; a signal raises Stopped between two of them."""
    while True:
        with stop.free():
            batch = next(ready, None)
        if batch is None:
            return
        yield batch


def _check(run: Run, shards: Iterable[Shard]) -> None:
    """Raise RunError or StoreError unless run, checkpoint and arrays are as planned."""
    _check_writable(run)
    changed = changed_packages(run.plan)
    if changed:
        listed = ", ".join(
            f"{name} {one} (planned {run.plan.packages[name]})" for name, one in changed.items()
        )
        _log.warning("other versions than the plan's, last bits may differ: %s", listed)
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


def _check_writable(run: Run) -> None:
    for store in run.stores.values():
        store.check_writable()


def _log_other_lives(shard: Shard, ledger: Ledger, own: Path) -> None:
    """Log damaged journal lines, and other tasks that are still working on the shard.

    `own` is the journal of this task.
    """
    for damage in ledger.damage:
        _log.warning(damage)
    for life in ledger.lives:
        if life.running is not False and life.path != own:
            job = f"job {life.job}, " if life.job else ""
            verb = "is" if life.running else "may be"
            _log.info(
                f"shard {shard.index} {verb} running already ({job}process {life.pid} on "
                f"{life.host}); both write the same bytes, so one is enough"
            )
