"""Batches are prepared in this process and in worker processes."""

import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vsp import models
from vsp.extraction.batches import batches_with
from vsp.extraction.plan import PlanRequest, plan_run
from vsp.extraction.preprocess import prepare, prepared
from vsp.utils.images import open_rgb


@pytest.fixture
def run(work, write_dataset, checkpoint):
    """16 rows about 6 images, in one shard."""
    records = [
        {"id": str(i), "image_filename": f"{i % 6}.png", "label": "ab"[i % 2], "prompt": "far " * i}
        for i in range(1, 17)
    ]
    model = models.resolve("llava15", checkpoint=str(checkpoint), quantization="none")
    return plan_run(PlanRequest(write_dataset(records), model, batch_size=2, n_shards=1), work).run


def _batches(run):
    return batches_with([run], run.shards[0], set(range(16)))


def test_a_group_has_one_picture_and_its_rows_in_order(run):
    processor = models.read_processor(run.plan.model)
    samples = list(run.manifest.rows())
    seen = []
    for batch in _batches(run):
        ready = prepare(processor, batch)
        assert not ready.failures
        assert [tuple(group) for group in batch] == [
            ready.rows[i : i + len(group.rows)]
            for i, group in zip(_starts(ready.groups), ready.groups, strict=True)
        ]
        seen += ready.rows
        asked = [row for group in ready.groups for row in group.rows]
        for number, row in zip(ready.rows, asked, strict=True):
            assert len(row.tokens) == samples[number].n_tokens
        for rows, group in zip(batch, ready.groups, strict=True):
            image = open_rgb(samples[next(iter(rows))].image)[0]
            expected = processor.picture(image)
            assert (group.picture.arrays["pixel_values"] == expected.arrays["pixel_values"]).all()
            if len(rows) > 1:
                assert group.n_shared >= max(samples[row].n_shared for row in rows)
    assert sorted(seen) == list(range(16))


def _starts(groups):
    return np.cumsum([0, *(len(group.rows) for group in groups)])[:-1]


def test_what_is_wrong_with_an_image_fails_its_rows_and_with_a_prompt_its_row(run):
    processor = models.read_processor(run.plan.model)
    (batch, *_) = _batches(run)
    first, *others = batch
    broken = {row: replace(sample, image="/none.png") for row, sample in first.items()}
    ready = prepare(processor, [broken, *others])
    assert ready.failures.keys() == first.keys()
    assert all("/none.png' cannot be read" in why for why in ready.failures.values())
    assert ready.rows == tuple(row for group in others for row in group)
    row = next(iter(first))
    long = {**first, row: replace(first[row], prompt="far " * 3000)}
    ready = prepare(processor, [long])
    assert list(ready.failures) == [row] and "over the context of 2048" in ready.failures[row]
    assert ready.rows == tuple(other for other in first if other != row)


def test_workers_give_the_same_batches_in_the_same_order(run):
    processor = models.read_processor(run.plan.model)
    with prepared(processor, _batches(run), workers=0) as ready:
        here = list(ready)
    with prepared(processor, _batches(run), workers=3) as ready:
        there = list(ready)
    assert len(here) > 3
    for one, other in zip(here, there, strict=True):
        assert one.rows == other.rows
        for group, same in zip(one.groups, other.groups, strict=True):
            assert group.rows == same.rows
            pixels = [g.picture.arrays["pixel_values"] for g in (group, same)]
            assert (pixels[0] == pixels[1]).all()


def test_only_a_few_batches_are_made_ahead(run):
    taken = []

    def batches():
        for batch in _batches(run) * 20:
            taken.append(batch)
            yield batch

    with prepared(models.read_processor(run.plan.model), batches(), workers=2) as ready:
        for n in range(1, 10):
            next(ready)
            assert len(taken) <= n + 2 * 2


def test_a_worker_that_fails_for_a_bug_keeps_its_traceback(run, monkeypatch):
    monkeypatch.setattr("vsp.extraction.preprocess.make_row", lambda *_: 1 / 0)
    with (
        prepared(models.read_processor(run.plan.model), _batches(run), workers=1) as ready,
        pytest.raises(ZeroDivisionError),
    ):
        next(ready)


def test_workers_end_with_their_parent_however_it_ended(run, work):
    command = [sys.executable, "-m", "vsp", "extract", "--run", run.name, "--workers", "2"]
    # Large images, so that the workers are still busy when the parent ends.
    noise = np.random.default_rng(0).integers(0, 256, (3000, 3000, 3), np.uint8)
    Image.fromarray(noise).save(work / "own/images/0.png", compress_level=1)
    for image in range(1, 6):
        shutil.copy(work / "own/images/0.png", work / f"own/images/{image}.png")
    process = subprocess.Popen(command, cwd=work, stderr=subprocess.DEVNULL)
    workers = _until(lambda: _children(process.pid), 60)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert len(workers) == 2
    _until(lambda: not any(_alive(pid) for pid in workers), 30)


def _children(pid):
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
        found = [int(child) for child in text.split()]
    except FileNotFoundError:
        return []
    return found if len(found) == 2 else []


def _alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def _until(condition, seconds):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.05)
    raise AssertionError(f"not within {seconds} s (pid {os.getpid()})")


class _WithoutMemory:
    """A processor for which its picture number `number`, from 1, is too large."""

    def __init__(self, processor, number):
        self._processor, self._left = processor, number

    def picture(self, image, depth=None):
        self._left -= 1
        if self._left == 0:
            raise MemoryError("(9 GB)")
        return self._processor.picture(image, depth=depth)

    def __getattr__(self, name):
        return getattr(self._processor, name)


def test_an_image_that_takes_too_much_memory_fails_its_rows_alone(run):
    batch = next(batch for batch in _batches(run) if len(batch) > 1)
    first, second, *others = batch
    ready = prepare(_WithoutMemory(models.read_processor(run.plan.model), 2), batch)
    assert ready.failures == dict.fromkeys(
        second, "out of memory while its image is prepared (9 GB)"
    )
    assert ready.rows == tuple(row for group in (first, *others) for row in group)
