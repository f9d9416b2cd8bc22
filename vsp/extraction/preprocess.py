"""Prepares batches for the model, in worker processes that run ahead of the device."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from vsp.errors import DatasetError, InputError
from vsp.extraction.batches import SampleBatch
from vsp.extraction.positions import NAMES, places_of
from vsp.models.contract import Picture, Processor, PromptGroup, TokenizedPrompt, prompt_group
from vsp.storage.manifest import Sample
from vsp.utils.images import open_region, open_rgb
from vsp.utils.signals import follow_parent

_AHEAD = 2  # prepared batches in the queue, per worker


@dataclass(frozen=True, slots=True)
class Prepared:
    """A batch ready for the model; `rows` are in the order of the states."""

    rows: tuple[int, ...]
    groups: tuple[PromptGroup, ...]
    failures: dict[int, str]  # row that cannot be used → reason


def prepare(processor: Processor, batch: SampleBatch) -> Prepared:
    """Prepare a batch; opens each image once. Rows that cannot be used go to `failures`."""
    rows: list[int] = []
    groups: list[PromptGroup] = []
    failures: dict[int, str] = {}
    opened: _Opened | None = None
    for samples in batch:
        good: dict[int, TokenizedPrompt] = {}
        opened, unusable = _open_one(processor, list(samples.values()), opened)
        failed = {row: _files(one) for row, one in samples.items() if _files(one) in unusable}
        failures |= {row: unusable[files] for row, files in failed.items()}
        if opened is None:
            continue
        _, picture, size = opened
        for row, sample in samples.items():
            if row in failed:
                continue
            try:
                good[row] = _planned_row(processor, picture, sample, size)
            except (DatasetError, InputError, MemoryError) as error:
                failures[row] = _reason(error)
        if good:
            groups.append(prompt_group(picture, list(good.values())))
            rows += good
    return Prepared(tuple(rows), tuple(groups), failures)


_Files = tuple[str, str]  # an image and its depth picture
_Opened = tuple[_Files, Picture, tuple[int, int]]


def _files(sample: Sample) -> _Files:
    return sample.image, sample.depth


def _open_one(
    processor: Processor, samples: Sequence[Sample], before: _Opened | None
) -> tuple[_Opened | None, dict[_Files, str]]:
    """The picture of a group, and why some files of it cannot be used; `before` is used again.

    Rows of one run have one file. Runs that are extracted together may have a file each, with the same
    content; the first one that can be used is read for all rows whose files were not tried.
    """
    unusable: dict[_Files, str] = {}
    for sample in samples:
        files = _files(sample)
        if files in unusable:
            continue
        if before is not None and before[0] == files:
            return before, unusable
        try:
            return (files, *_picture(processor, sample)), unusable
        except (DatasetError, InputError, MemoryError) as error:
            unusable[files] = _reason(error)
    return None, unusable


def _reason(error: DatasetError | InputError | MemoryError) -> str:
    if isinstance(error, MemoryError):
        return f"out of memory while its image is prepared {error}".rstrip()
    return str(error)


def _picture(processor: Processor, sample: Sample) -> tuple[Picture, tuple[int, int]]:
    image, digest = open_rgb(sample.image)
    if digest != sample.image_sha256:
        raise DatasetError(f"image {sample.image!r} was changed since the plan")
    return make_picture(processor, image, sample.depth), image.size


def make_picture(processor: Processor, image: Image.Image, depth: str = "") -> Picture:
    """The processor's picture of an image, and of the depth picture at `depth` if given."""
    return processor.picture(image, depth=open_rgb(depth)[0] if depth else None)


def make_row(
    processor: Processor, picture: Picture, sample: Sample, size: tuple[int, int]
) -> TokenizedPrompt:
    """The tokens of a sample's prompt; `size` is the (width, height) of its image."""
    if not sample.regions:
        return processor.row(picture, sample.prompt)
    regions = np.stack([open_region(region, size) for region in sample.regions])
    return processor.row(picture, sample.prompt, regions)


def _planned_row(
    processor: Processor, picture: Picture, sample: Sample, size: tuple[int, int]
) -> TokenizedPrompt:
    """`make_row` with the options and the positions that the plan found."""
    row = make_row(processor, picture, sample, size)
    if not sample.option_tokens and not sample.tokens_of:
        return row
    places = _planned_places(processor, picture, row, sample, size)
    return replace(row, options=sample.option_tokens, places=places)


def _planned_places(
    processor: Processor,
    picture: Picture,
    row: TokenizedPrompt,
    sample: Sample,
    size: tuple[int, int],
) -> dict[str, tuple[int, ...]]:
    """The places of each planned position. Those of names are in the manifest as they are."""
    planned = dict(sample.tokens_of)
    places: dict[str, tuple[int, ...]] = {
        name: (planned[name],) for name in NAMES if name in planned
    }
    others = [position for position in planned if position not in places]
    places |= places_of(processor, picture, row, sample, size, others)
    for position in others:
        if len(places[position]) != planned[position]:
            raise InputError(
                f"position {position} has {len(places[position])} tokens, planned were "
                f"{planned[position]}; plan the run again"
            )
    return places


@contextmanager
def prepared(
    processor: Processor, batches: Iterable[SampleBatch], workers: int
) -> Iterator[Iterator[Prepared]]:
    """Yield the prepared batches in order; `workers` processes prepare them (0: this process).

    The processes are forked at once, as torch's data loaders are: before the weights are loaded
    and the GPU is initialised, because a forked process must not use the GPU.
    """
    if workers == 0:
        yield (prepare(processor, batch) for batch in batches)
        return
    fork, arguments = multiprocessing.get_context("fork"), (os.getpid(), processor)
    pool = ProcessPoolExecutor(workers, fork, _start, arguments)
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


_processor: Processor  # set in each worker process


def _start(parent: int, processor: Processor) -> None:
    """Set up a worker process of the process `parent`."""
    global _processor
    follow_parent(parent)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    if "torch" in sys.modules:
        import torch

        torch.set_num_threads(
            1
        )  # a forked process has no other threads, and would wait for them for ever
    _processor = processor


def _prepare(batch: SampleBatch) -> Prepared:
    return prepare(_processor, batch)
