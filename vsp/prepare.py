"""Samples → what a model reads, in worker processes that run ahead of the device."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
from PIL import Image

from vsp.config import ModelConfig
from vsp.errors import DatasetError, InputError
from vsp.images import open_region, open_rgb
from vsp.manifest import Sample
from vsp.models import Group, Picture, Processor, Row, grouped, read_processor

_AHEAD = 2  # batches that wait ready for each worker


@dataclass(frozen=True, slots=True)
class Prepared:
    """A batch that the device can take; rows in the order in which its states will come."""

    rows: tuple[int, ...]
    groups: tuple[Group, ...]
    failures: dict[int, str]  # reasons for the other rows of the batch


def prepare(processor: Processor, batch: Mapping[int, Sample], share: bool) -> Prepared:
    """Open each image of a batch once. A row that cannot be used is left to `failures`."""
    rows: list[int] = []
    groups: list[Group] = []
    failures: dict[int, str] = {}
    for _, items in groupby(batch.items(), key=lambda item: item[1].image):
        good: dict[int, Row] = {}
        samples = dict(items)
        try:
            picture, size = _picture(processor, next(iter(samples.values())))
        except (DatasetError, InputError) as error:
            failures |= dict.fromkeys(samples, str(error))
            continue
        for row, sample in samples.items():
            try:
                good[row] = make_row(processor, picture, sample, size)
            except (DatasetError, InputError) as error:
                failures[row] = str(error)
        groups += grouped(picture, list(good.values()), share)
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
    model: ModelConfig, batches: Iterable[Mapping[int, Sample]], share: bool, workers: int
) -> Iterator[Iterator[Prepared]]:
    """The batches in their order, made ready by `workers` processes (0: by this one, in turn).

    The processes start at once, so they are ready when the weights are.
    """
    if workers == 0:
        processor = read_processor(model)
        yield (prepare(processor, batch, share) for batch in batches)
        return
    context = multiprocessing.get_context("forkserver")  # a fork after torch ran could hang
    context.set_forkserver_preload(["vsp.models.auto", "vsp.prepare", "torch"])
    pool = ProcessPoolExecutor(workers, context, _start, (model,))
    try:
        yield _in_order(pool, batches, share, workers * _AHEAD)
    finally:
        pool.shutdown(cancel_futures=True)


def _in_order(
    pool: ProcessPoolExecutor, batches: Iterable[Mapping[int, Sample]], share: bool, ahead: int
) -> Iterator[Prepared]:
    jobs = iter(batches)
    waiting: deque[Future[Prepared]] = deque()

    def submit(n: int) -> None:
        for _, batch in zip(range(n), jobs, strict=False):
            waiting.append(pool.submit(_prepare, batch, share))

    submit(ahead)

    def results() -> Iterator[Prepared]:
        while waiting:
            ready = waiting.popleft().result()
            submit(1)
            yield ready

    return results()


_processor: Processor  # of a worker


def _start(model: ModelConfig) -> None:
    """Make a worker ready; it ends when its parent does, however that ended."""
    global _processor
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _processor = read_processor(model)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _prepare(batch: Mapping[int, Sample], share: bool) -> Prepared:
    return prepare(_processor, batch, share)
