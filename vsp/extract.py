"""`vsp extract`: one array task's work. Every row of the shard ends as done or as failed."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vsp import models
from vsp.errors import DatasetError, InputError, RunError
from vsp.images import open_rgb
from vsp.journal import Journal
from vsp.manifest import Sample
from vsp.models import VisionLanguageModel
from vsp.plan import Run, Shard
from vsp.progress import progress
from vsp.store import Writer


def pending(run: Run, shard: Shard, retry_failed: bool = False) -> list[int]:
    """Rows of the shard that are neither done nor failed; with `retry_failed`, failed ones too."""
    ledger = run.ledger(shard)
    return sorted([*ledger.missing, *(ledger.failed if retry_failed else ())])


def extract(run: Run, shards: Sequence[Shard], retry_failed: bool = False) -> None:
    """Write the last-token states of every pending row.

    Safe to run again, or twice at once: batches are fixed, so the same row gives the same bytes.
    Raises RunError or StoreError, before any weights are loaded, if the run was changed.
    """
    todo = {shard: set(pending(run, shard, retry_failed)) for shard in shards}
    n_rows = sum(map(len, todo.values()))
    if not n_rows:
        return
    _check(run)
    model = models.load(run.plan.model)
    with progress(f"extract {run.name}", "rows", n_rows) as advance:
        for shard, rows in todo.items():
            if rows:
                _extract_shard(run, shard, rows, model, advance)


def _extract_shard(
    run: Run,
    shard: Shard,
    rows: set[int],
    model: VisionLanguageModel,
    advance: Callable[[int], None],
) -> None:
    samples = list(run.manifest.rows(shard.start, shard.stop))
    with run.store.writing() as writer, Journal(run.journals, run.plan.id, shard.index) as journal:
        for batch in run.batches(shard):
            wanted = rows.intersection(batch)
            if not wanted:
                continue
            # The whole batch is run, as the plan fixed it, even if only one row of it is wanted.
            states, failures = _read({row: samples[row - shard.start] for row in batch}, model)
            failures |= _write(
                run, {r: s for r, s in states.items() if r in wanted}, writer, journal
            )
            for row in sorted(wanted & failures.keys()):
                journal.failed(row, failures[row])
            advance(len(wanted))


def _read(
    batch: dict[int, Sample], model: VisionLanguageModel
) -> tuple[dict[int, NDArray[np.floating]], dict[int, str]]:
    """The states [layer, hidden] of each row of a batch, or the reason why there are none."""
    images: dict[int, Image.Image] = {}
    failures: dict[int, str] = {}
    for row, sample in batch.items():
        try:
            image, digest = open_rgb(sample.image)
        except DatasetError as error:
            failures[row] = str(error)
            continue
        if digest == sample.image_sha256:
            images[row] = image
        else:
            failures[row] = f"image {sample.image!r} was changed since the plan"
    prompts = {row: batch[row].prompt for row in images}
    return _forward(images, prompts, model, failures), failures


def _forward(
    images: dict[int, Image.Image],
    prompts: dict[int, str],
    model: VisionLanguageModel,
    failures: dict[int, str],
) -> dict[int, NDArray[np.floating]]:
    """The states [layer, hidden] of each row; one that the model cannot take even alone fails.

    A batch that does not fit the device, or in which a row cannot be used, is halved.
    """
    rows = list(images)
    if not rows:
        return {}
    try:
        states = model.last_token_states(list(images.values()), [prompts[row] for row in rows])
        return {row: states[:, column] for column, row in enumerate(rows)}
    except (MemoryError, InputError) as error:
        if len(rows) == 1:
            short = isinstance(error, MemoryError)
            failures[rows[0]] = (
                f"out of memory alone in its batch: {error}" if short else str(error)
            )
            return {}
    halves = rows[: len(rows) // 2], rows[len(rows) // 2 :]
    first, second = (_forward({r: images[r] for r in h}, prompts, model, failures) for h in halves)
    return first | second


def _write(
    run: Run, states: dict[int, NDArray[np.floating]], writer: Writer, journal: Journal
) -> dict[int, str]:
    """Write and journal the rows that the store can hold; the reason for each of the others."""
    if not states:
        return {}
    rows = list(states)
    cast, reasons = run.store.screen(np.stack([states[row] for row in rows], axis=1))
    good = [column for column in range(len(rows)) if column not in reasons]
    if good:
        written = [rows[column] for column in good]
        journal.done(written, writer.write(written, cast[:, good]))
    return {rows[column]: reason for column, reason in reasons.items()}


def _check(run: Run) -> None:
    """Raise unless this machine would compute what was planned, into what was planned."""
    run.store.check_writable()
    _ = run.manifest
    shape = models.shape(run.plan.model)
    planned = (run.plan.n_layers, run.plan.hidden_size, run.plan.compute_dtype)
    if (shape.n_layers, shape.hidden_size, shape.dtype) != planned:
        raise RunError(
            f"run {run.name}: the checkpoint now has {shape.n_layers} layers of "
            f"{shape.hidden_size} in {shape.dtype}, not {planned}; plan the run again"
        )
