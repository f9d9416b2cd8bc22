"""`vsp extract`: one array task's work. Every row of the shard ends as done or as failed."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vsp import models
from vsp.errors import DatasetError, RunError
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
    """
    todo = {shard: pending(run, shard, retry_failed) for shard in shards}
    if not any(todo.values()):
        return
    _check_host(run)
    model = models.load(run.plan.model)
    n_rows = sum(map(len, todo.values()))
    with progress(f"extract {run.name}", "rows", n_rows) as advance:
        for shard, rows in todo.items():
            if rows:
                _extract_shard(run, shard, set(rows), model, advance)


def _extract_shard(
    run: Run,
    shard: Shard,
    rows: set[int],
    model: VisionLanguageModel,
    advance: Callable[[int], None],
) -> None:
    samples = dict(enumerate(run.manifest.rows(shard.start, shard.stop), start=shard.start))
    with run.store.writing() as writer, Journal(run.journals, run.plan.id, shard.index) as journal:
        for batch in run.batches(shard):
            wanted = rows.intersection(batch)
            if wanted:
                _extract_batch(
                    run, {row: samples[row] for row in batch}, wanted, model, writer, journal
                )
                advance(len(wanted))


def _extract_batch(
    run: Run,
    batch: dict[int, Sample],
    wanted: set[int],
    model: VisionLanguageModel,
    writer: Writer,
    journal: Journal,
) -> None:
    """Run the whole batch, as the plan fixed it, and keep what is `wanted` of it."""
    images, failures = _open_images(batch)
    states, too_large = _states(model, images, [batch[row].prompt for row in images])
    readable = [row for row in images if row not in too_large]
    failures |= too_large
    if readable:
        cast, reasons = run.store.screen(states)
        failures |= {readable[column]: why for column, why in reasons.items()}
        columns = [c for c, row in enumerate(readable) if row in wanted and c not in reasons]
        if columns:
            rows = [readable[c] for c in columns]
            journal.done(rows, writer.write(rows, cast[:, columns]))
    for row in sorted(wanted & failures.keys()):
        journal.failed(row, failures[row])


def _open_images(batch: dict[int, Sample]) -> tuple[dict[int, Image.Image], dict[int, str]]:
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
    return images, failures


def _states(
    model: VisionLanguageModel, images: dict[int, Image.Image], prompts: Sequence[str]
) -> tuple[NDArray[np.floating], dict[int, str]]:
    """States [layer, batch, hidden] of the rows that fit the device, and a reason for the others.

    A batch that does not fit is halved until it does.
    """
    if not images:
        return np.empty((0, 0, 0)), {}
    rows = list(images)
    try:
        return model.last_token_states(list(images.values()), prompts), {}
    except MemoryError as error:
        if len(rows) == 1:
            return np.empty((0, 0, 0)), {rows[0]: f"out of memory alone in its batch: {error}"}
    half = len(rows) // 2
    parts = [
        _states(model, {row: images[row] for row in rows[:half]}, prompts[:half]),
        _states(model, {row: images[row] for row in rows[half:]}, prompts[half:]),
    ]
    reached = [states for states, _ in parts if states.size]
    states = np.concatenate(reached, axis=1) if reached else np.empty((0, 0, 0))
    return states, parts[0][1] | parts[1][1]


def _check_host(run: Run) -> None:
    """Raise RunError where this machine would compute something else than was planned."""
    shape = models.shape(run.plan.model)
    planned = (run.plan.n_layers, run.plan.hidden_size, run.plan.compute_dtype)
    if (shape.n_layers, shape.hidden_size, shape.dtype) != planned:
        raise RunError(
            f"run {run.name}: the checkpoint now has {shape.n_layers} layers of "
            f"{shape.hidden_size} in {shape.dtype}, not {planned}; plan the run again"
        )
