"""`vsp bench`: how fast a model extracts on this machine, compared with plain transformers.

All ways process the same rows. They take turns for several rounds, so that other load on the
machine slows all of them alike; the median round counts.
"""

from __future__ import annotations

import ctypes
import gc
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vsp import models
from vsp.config import ModelConfig
from vsp.extraction.batches import batches_with
from vsp.extraction.extract import default_workers, extract_shard
from vsp.extraction.plan import PlanRequest, plan_run
from vsp.extraction.preprocess import prepare, prepared
from vsp.models.contract import Loaded
from vsp.storage.run import Run
from vsp.utils.allocator import keep_freed_blocks
from vsp.utils.images import open_rgb
from vsp.utils.progress import progress

_TRANSFORMERS = ("transformers, one by one", "transformers, batched")
_VSP, _VSP_UNSHARED = "vsp", "vsp --no-sharing"
_PREPARATION = ("preparation", 0)
_ROUNDS = 3
_MEAN_ROWS, _MAX_ROWS = 5.5, 23  # per image, as in VRD's spatial relations (Kaggle layout)
_SIZE = (640, 480)
_SMALL_BLOCK = 1 << 16  # bytes; the allocator returns larger ones at once where memory is measured


@dataclass(frozen=True, slots=True)
class BenchRequest:
    """The options of `vsp bench`."""

    model: ModelConfig
    dataset: Path | None = None  # None: synthetic photographs and questions
    prompt: str | None = None
    n_rows: int = 128
    batch_sizes: tuple[int, ...] = (4, 16, 64)
    workers: int | None = None


@dataclass(frozen=True, slots=True)
class Way:
    """One way to compute the states, and its measurements."""

    name: str
    batch: int  # images with their rows; for transformers and --no-sharing: rows
    rows_per_second: float | None  # None: out of memory
    peak_bytes: int | None  # above the memory in use before; None if it cannot be measured
    times_plain: float | None = None  # rows/s divided by those of transformers, one by one
    of_bare: float | None = None  # rows/s divided by those of the forward passes alone
    bare_peak_bytes: int | None = None  # peak_bytes of the forward passes alone


@dataclass(frozen=True, slots=True)
class Bench:
    """The measurements of all ways on one set of rows."""

    title: str
    n_rows: int
    n_images: int
    ways: tuple[Way, ...]
    # Largest difference between vsp's and transformers' states, relative to the layer's maximum.
    difference: float | None
    on_gpu: bool
    # What one core can prepare, from image files to tokens and bytes; the device is not used.
    pictures_per_core: float  # per second of CPU time
    forward_rows_per_second: float | None  # the fastest forward passes alone; None: not measured

    @property
    def best(self) -> Way | None:
        """The fastest of vsp's ways."""
        own = [way for way in self.ways if way.name not in _TRANSFORMERS and way.rows_per_second]
        return max(own, key=lambda way: way.rows_per_second or 0.0, default=None)


def bench(request: BenchRequest, scratch: Path) -> list[Bench]:
    """Measure all ways. Writes temporary files to `scratch`, the disk that holds real runs."""
    scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=scratch, prefix=".bench.") as folder:
        work = Path(folder)
        if request.dataset is not None:
            sets = {"rows of the dataset": request.dataset}
        else:
            sets = {
                "rows with an image of their own": work / "own",
                "rows that share images as in VRD": work / "shared",
            }
            _write_dataset(work / "own", [1] * request.n_rows)
            _write_dataset(work / "shared", rows_per_image(request.n_rows))
        plans = {title: _BenchRuns(request, path, work) for title, path in sets.items()}
        loaded = models.load(request.model)
        return [_measure(title, rows, loaded) for title, rows in plans.items()]


def rows_per_image(n_rows: int) -> list[int]:
    """Rows of each image, `n_rows` in total: a geometric distribution with VRD's mean."""
    rng = np.random.default_rng(0)
    counts: list[int] = []
    while (left := n_rows - sum(counts)) > 0:
        counts.append(min(int(rng.geometric(1 / _MEAN_ROWS)), _MAX_ROWS, left))
    return counts


def _write_dataset(folder: Path, counts: Sequence[int]) -> None:
    """Write JPEGs of a photograph's size, and questions of different lengths."""
    rng = np.random.default_rng(0)
    names = ("person", "traffic light", "red surfboard", "man in a hat", "tree", "old bicycle")
    relations = ("left_of", "right_of", "above", "below")
    (folder / "images").mkdir(parents=True)
    records: list[dict[str, str]] = []
    for i, n in enumerate(counts):
        small = Image.fromarray(rng.integers(0, 256, (12, 16, 3), np.uint8))
        small.resize(_SIZE, Image.Resampling.BICUBIC).save(folder / f"images/{i}.jpg", quality=90)
        for _ in range(n):
            subject, reference = rng.choice(names, 2, replace=False).tolist()
            number = len(records)
            records.append(
                {
                    "id": str(number),
                    "image_filename": f"{i}.jpg",
                    "subject": subject,
                    "reference": reference,
                    "label": relations[number % len(relations)],
                }
            )
    (folder / "metadata.json").write_text(json.dumps(records))


class _BenchRuns:
    """One dataset, with a run for each batch size, sharing images or not."""

    def __init__(self, request: BenchRequest, dataset: Path, work: Path) -> None:
        self._request = request
        self._dataset = dataset
        self._work = work
        sizes = request.batch_sizes
        self.shared = [self._plan(size, True) for size in sizes]
        self.samples = list(self.shared[0].manifest.rows())
        self.n_images = len({sample.image for sample in self.samples})
        self.alone = [self._plan(size, False) for size in sizes] if self.share_images else []
        # As many as a run of many batches would have.
        self.n_workers = default_workers(10**6) if request.workers is None else request.workers

    @property
    def share_images(self) -> bool:
        return self.n_images < len(self.samples)

    def _plan(self, batch_size: int, share: bool) -> Run:
        request = PlanRequest(
            self._dataset,
            self._request.model,
            self._request.prompt,
            n_shards=1,
            batch_size=batch_size,
            share=share,
            limit=self._request.n_rows,
        )
        return plan_run(request, self._work).run


# Processes all rows once and returns the seconds that it took.
Pass = Callable[[], float]


def _measure(title: str, rows: _BenchRuns, loaded: Loaded) -> Bench:
    samples = rows.samples
    own = {
        (name, run.plan.batch_size): run
        for name, runs in ((_VSP, rows.shared), (_VSP_UNSHARED, rows.alone))
        for run in runs
    }
    timed: dict[tuple[str, int], Pass] = {}
    plain_states: dict[str, NDArray[np.floating]] = {}
    if loaded.model.has_reference:
        for name, size in zip(_TRANSFORMERS, (1, 16), strict=True):
            timed[name, size] = _transformers_pass(loaded, samples, size, plain_states)
    for (name, size), run in own.items():
        timed[name, size] = _extraction_pass(run, loaded, rows.n_workers)
        if loaded.model.has_forward_only:
            timed[f"bare {name}", size] = _forward_pass(run, loaded)
    timed[_PREPARATION] = _preparation_pass(rows.shared[0], loaded)
    rates, peaks = _run_rounds(title, timed, len(samples))
    ways = []
    for name, size in timed:
        if not name.startswith("bare ") and (name, size) != _PREPARATION:
            bare = f"bare {name}", size
            ways.append(
                Way(
                    name=name,
                    batch=size,
                    rows_per_second=rates[name, size],
                    peak_bytes=peaks[name, size],
                    times_plain=_ratio(rates[name, size], rates.get((_TRANSFORMERS[0], 1))),
                    of_bare=_ratio(rates[name, size], rates.get(bare)),
                    bare_peak_bytes=peaks.get(bare),
                )
            )
    difference = _largest_difference(own, plain_states) if plain_states else None
    forward = [rate for (name, _), rate in rates.items() if name.startswith("bare ") and rate]
    return Bench(
        title,
        len(samples),
        rows.n_images,
        tuple(ways),
        difference,
        _cuda() is not None,
        pictures_per_core=(rates[_PREPARATION] or 0.0) * rows.n_images / len(samples),
        forward_rows_per_second=max(forward, default=None),
    )


def _run_rounds(
    title: str, timed: dict[tuple[str, int], Pass], n_rows: int
) -> tuple[dict[tuple[str, int], float | None], dict[tuple[str, int], int | None]]:
    """Rows per second and peak bytes of each way; an extra first round measures memory only."""
    seconds: dict[tuple[str, int], list[float | None]] = {way: [] for way in timed}
    peaks: dict[tuple[str, int], int | None] = {}
    with progress(f"bench {title}", "runs", len(timed) * (1 + _ROUNDS)) as advance:
        for turn in range(1 + _ROUNDS):
            # To measure memory, freed blocks return to the system at once. To measure time,
            # the process keeps them, as `vsp extract` does.
            if turn == 0:
                keep_freed_blocks(below=_SMALL_BLOCK)
            else:
                keep_freed_blocks()
            for way, run in timed.items():
                took, peak = _measure_once(run)
                if turn == 0:
                    peaks[way] = peak
                else:
                    seconds[way].append(took)
                advance(1)
    rates = {
        way: None if None in times else statistics.median(n_rows / s for s in times if s)
        for way, times in seconds.items()
    }
    return rates, peaks


def _measure_once(run: Pass) -> tuple[float | None, int | None]:
    """Seconds and peak bytes of one pass over the rows; None if it ran out of memory."""
    peak = _PeakMemory()
    try:
        return run(), peak.bytes()
    except MemoryError:
        return None, None


def _ratio(rate: float | None, other: float | None) -> float | None:
    return rate / other if rate and other else None


def _transformers_pass(
    loaded: Loaded, samples: Sequence[Any], size: int, states: dict[str, NDArray[np.floating]]
) -> Pass:
    """What a short script does: open, preprocess, run, keep the last token of all hidden states."""
    from vsp.models.capture import memory_errors

    def run() -> float:
        started = time.perf_counter()
        with memory_errors():
            for start in range(0, len(samples), size):
                part = samples[start : start + size]
                images = [open_rgb(sample.image)[0] for sample in part]
                prompts = [sample.prompt for sample in part]
                last = loaded.model.reference_states(loaded.processor, images, prompts)
                if size == 1:
                    states[part[0].id] = last[:, 0]
        return time.perf_counter() - started

    return run


def _extraction_pass(run: Run, loaded: Loaded, n_workers: int) -> Pass:
    """Extract a whole shard as an array task does, from image files to rows in the journal.

    The time includes the start of the worker processes, which is negligible in a long run.
    """
    (shard,) = run.shards
    rows = set(range(shard.start, shard.stop))

    def extract() -> float:
        started = time.perf_counter()
        batches = batches_with(run, shard, rows)
        with prepared(loaded.processor, batches, n_workers) as ready:
            extract_shard(run, shard, rows, loaded.model, ready, lambda _: None)
        return time.perf_counter() - started

    return extract


def _preparation_pass(run: Run, loaded: Loaded) -> Pass:
    """Prepare all batches in this process, as a worker does; CPU time, so that it counts one core."""
    (shard,) = run.shards
    batches = batches_with(run, shard, set(range(shard.start, shard.stop)))

    def prepare_all() -> float:
        started = time.process_time()
        for batch in batches:
            prepare(loaded.processor, batch)
        return time.process_time() - started

    return prepare_all


def _forward_pass(run: Run, loaded: Loaded) -> Pass:
    """Only the forward passes of a run, on prepared tensors: an upper bound of its speed."""
    from vsp.models.capture import memory_errors

    (shard,) = run.shards
    batches = batches_with(run, shard, set(range(shard.start, shard.stop)))
    with memory_errors():
        passes = [
            loaded.model.forward_only(prepare(loaded.processor, batch).groups) for batch in batches
        ]

    def forward() -> float:
        started = time.perf_counter()
        with memory_errors():
            for one in passes:
                one()
        return time.perf_counter() - started

    return forward


def _largest_difference(
    own: dict[tuple[str, int], Run], plain: dict[str, NDArray[np.floating]]
) -> float:
    """Largest difference of any run's states from transformers', relative to the layer's maximum."""
    largest = 0.0
    for run in own.values():
        expected = np.stack([plain[sample.id] for sample in run.manifest.rows()], axis=1)
        for layer, states in enumerate(expected):
            off = np.abs(run.store.layer(layer) - states).max() / np.abs(states).max()
            largest = max(largest, float(off))
    return largest


class _PeakMemory:
    """Peak memory above the memory in use at construction; the GPU's if there is one."""

    def __init__(self) -> None:
        gc.collect()
        self._cuda = _cuda()
        if self._cuda is not None:
            self._cuda.empty_cache()
            self._cuda.reset_peak_memory_stats()
            self._before = self._cuda.memory_allocated()
            return
        try:
            ctypes.CDLL("libc.so.6").malloc_trim(0)
            Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM, the process's peak
        except OSError:
            self._before = -1
        else:
            self._before = _process_memory("VmRSS")

    def bytes(self) -> int | None:
        if self._cuda is not None:
            return int(self._cuda.max_memory_allocated() - self._before)
        return None if self._before < 0 else max(_process_memory("VmHWM") - self._before, 0)


def _cuda() -> Any:
    """`torch.cuda`, if the model has imported torch and there is a GPU."""
    torch = sys.modules.get("torch")
    return torch.cuda if torch and torch.cuda.is_available() else None


def _process_memory(field: str) -> int:
    """A field of /proc/self/status, in bytes."""
    lines: Iterable[str] = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(field + ":"))
