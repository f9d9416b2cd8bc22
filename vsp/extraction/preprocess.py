"""Samples → what a model reads, in worker processes that run ahead of the device."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from vsp.errors import DatasetError, InputError
from vsp.extraction.batches import SampleBatch
from vsp.models import Group, Picture, Processor, Row, group
from vsp.storage.manifest import Sample
from vsp.utils.images import open_region, open_rgb

_GRACE = 2.0  # seconds
_AHEAD = 2  # batches that wait ready for each worker


@dataclass(frozen=True, slots=True)
class Prepared:
    """A batch that the device can take; rows in the order in which its states will come."""

    rows: tuple[int, ...]
    groups: tuple[Group, ...]
    failures: dict[int, str]  # reasons for the other rows of the batch


def prepare(processor: Processor, batch: SampleBatch) -> Prepared:
    """Open each image of a batch once. A row that cannot be used is left to `failures`."""
    rows: list[int] = []
    groups: list[Group] = []
    failures: dict[int, str] = {}
    opened: tuple[tuple[str, str], Picture, tuple[int, int]] | None = None
    for samples in batch:
        first = next(iter(samples.values()))
        good: dict[int, Row] = {}
        try:
            if opened is None or opened[0] != (first.image, first.depth):
                opened = ((first.image, first.depth), *_picture(processor, first))
        except (DatasetError, InputError) as error:
            failures |= dict.fromkeys(samples, str(error))
            continue
        _, picture, size = opened
        for row, sample in samples.items():
            try:
                good[row] = make_row(processor, picture, sample, size)
            except (DatasetError, InputError) as error:
                failures[row] = str(error)
        if good:
            groups.append(group(picture, list(good.values())))
            rows += good
    return Prepared(tuple(rows), tuple(groups), failures)


def _picture(processor: Processor, sample: Sample) -> tuple[Picture, tuple[int, int]]:
    image, digest = open_rgb(sample.image)
    if digest != sample.image_sha256:
        raise DatasetError(f"image {sample.image!r} was changed since the plan")
    return make_picture(processor, image, sample.depth), image.size


def make_picture(processor: Processor, image: Image.Image, depth: str = "") -> Picture:
    """The picture, with the depth picture at that path if there is one."""
    extras: dict[str, Any] = {"depth": open_rgb(depth)[0]} if depth else {}
    return processor.picture(image, **extras)


def make_row(processor: Processor, picture: Picture, sample: Sample, size: tuple[int, int]) -> Row:
    """The sample's row; `size` (width, height) is its image's."""
    if not sample.regions:
        return processor.row(picture, sample.prompt)
    regions = np.stack([open_region(region, size) for region in sample.regions])
    extras: dict[str, Any] = {"regions": regions}
    return processor.row(picture, sample.prompt, **extras)


@contextmanager
def prepared(
    processor: Processor, batches: Iterable[SampleBatch], workers: int
) -> Iterator[Iterator[Prepared]]:
    """The batches in their order, made ready by `workers` processes (0: by this one, in turn).

    The processes are forked at once, as torch's own data loaders are: before weights are loaded
    and a GPU is taken, which they must not touch.
    """
    if workers == 0:
        yield (prepare(processor, batch) for batch in batches)
        return
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("fork"), _start, (processor,))
    try:
        yield _in_order(pool, batches, workers * _AHEAD)
    finally:
        pool.shutdown(cancel_futures=True)


def _in_order(
    pool: ProcessPoolExecutor, batches: Iterable[SampleBatch], ahead: int
) -> Iterator[Prepared]:
    jobs = iter(batches)
    waiting: deque[Future[Prepared]] = deque()

    def submit(n: int) -> None:
        for _, batch in zip(range(n), jobs, strict=False):
            waiting.append(pool.submit(_prepare, batch))

    submit(ahead)

    def results() -> Iterator[Prepared]:
        while waiting:
            ready = waiting.popleft().result()
            submit(1)
            yield ready

    return results()


_processor: Processor  # of a worker


def _start(processor: Processor) -> None:
    """Make a worker ready; it ends when its parent does, however that ended."""
    global _processor
    threading.Thread(target=_end_with_parent, daemon=True).start()
    for number in (signal.SIGINT, signal.SIGUSR1):  # the parent's to answer
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _end_later)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    if "torch" in sys.modules:
        import torch

        torch.set_num_threads(1)  # of more, a forked process would wait for threads it has not
    _processor = processor


def _end_later(*_: object) -> None:
    """A batch system may signal every process of a task: the parent is to end in order first."""
    threading.Timer(_GRACE, os._exit, (1,)).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _prepare(batch: SampleBatch) -> Prepared:
    return prepare(_processor, batch)
