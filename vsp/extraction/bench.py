"""`vsp bench`: how fast a model extracts on this machine, next to what else could be done.

Every way goes over the same rows. The ways take turns for a few rounds, so that a busy neighbour
slows all of them, and the middle round counts.
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
from vsp.models import Loaded
from vsp.storage.run import Run
from vsp.utils.images import open_rgb
from vsp.utils.progress import progress

_PLAIN = ("transformers, one by one", "transformers, batched")
_OWN, _OWN_ALONE = "vsp", "vsp --no-sharing"
_ROUNDS = 3
_MEAN_ROWS, _MOST_ROWS = 5.5, 23  # about an image, as VRD's spatial relations in its Kaggle layout
_SIZE = (640, 480)
_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD = -3, -1  # of glibc's mallopt
_LEAST_MAPPED, _MOST_MAPPED = 1 << 16, 1 << 25


@dataclass(frozen=True, slots=True)
class Asked:
    """What `vsp bench` is asked for."""

    model: ModelConfig
    dataset: Path | None = None  # None: pictures made for the purpose
    prompt: str | None = None
    n_rows: int = 128
    batch_sizes: tuple[int, ...] = (4, 16, 64)
    workers: int | None = None


@dataclass(frozen=True, slots=True)
class Way:
    """One way to the states of the same rows, measured."""

    name: str
    batch: int  # images with their rows; of transformers and --no-sharing: rows
    rows_per_second: float | None  # None: out of memory
    peak_bytes: int | None  # beyond what was in use before; None where it cannot be measured
    times_plain: float | None = None  # rows/s over those of one row at a time
    of_bare: float | None = None  # rows/s over those of the same forward passes alone
    bare_peak_bytes: int | None = None  # of these passes


@dataclass(frozen=True, slots=True)
class Bench:
    """All ways on one set of rows."""

    title: str
    n_rows: int
    n_images: int
    ways: tuple[Way, ...]
    difference: float | None  # of vsp's states and the plain ones: largest over its layer's largest
    on_gpu: bool

    @property
    def best(self) -> Way | None:
        """The fastest of vsp's own ways."""
        own = [way for way in self.ways if way.name not in _PLAIN and way.rows_per_second]
        return max(own, key=lambda way: way.rows_per_second or 0.0, default=None)


def bench(asked: Asked, scratch: Path) -> list[Bench]:
    """Measure, writing under `scratch`, on whose disk the states of a run would go."""
    scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=scratch, prefix=".bench.") as folder:
        work = Path(folder)
        if asked.dataset is not None:
            sets = {"rows of the dataset": asked.dataset}
        else:
            sets = {
                "rows with an image of their own": work / "own",
                "rows that share images as in VRD": work / "shared",
            }
            _write_dataset(work / "own", [1] * asked.n_rows)
            _write_dataset(work / "shared", rows_per_image(asked.n_rows))
        plans = {title: _Rows(asked, path, work) for title, path in sets.items()}
        loaded = models.load(asked.model)
        return [_measure(title, rows, loaded) for title, rows in plans.items()]


def rows_per_image(n_rows: int) -> list[int]:
    """How many rows each image has: geometric with VRD's mean, `n_rows` in all."""
    rng = np.random.default_rng(0)
    counts: list[int] = []
    while (left := n_rows - sum(counts)) > 0:
        counts.append(min(int(rng.geometric(1 / _MEAN_ROWS)), _MOST_ROWS, left))
    return counts


def _write_dataset(folder: Path, counts: Sequence[int]) -> None:
    """JPEGs of a photograph's size and questions of uneven length."""
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


class _Rows:
    """The rows of one dataset, and runs over them."""

    def __init__(self, asked: Asked, dataset: Path, work: Path) -> None:
        self._asked = asked
        self._dataset = dataset
        self._work = work
        sizes = asked.batch_sizes
        self.shared = [self._plan(size, True) for size in sizes]
        self.samples = list(self.shared[0].manifest.rows())
        self.n_images = len({sample.image for sample in self.samples})
        self.alone = [self._plan(size, False) for size in sizes] if self.share_images else []
        # As in a run of many batches.
        self.n_workers = default_workers(10**6) if asked.workers is None else asked.workers

    @property
    def share_images(self) -> bool:
        return self.n_images < len(self.samples)

    def _plan(self, batch_size: int, share: bool) -> Run:
        request = PlanRequest(
            self._dataset,
            self._asked.model,
            self._asked.prompt,
            n_shards=1,
            batch_size=batch_size,
            share=share,
            limit=self._asked.n_rows,
            name=f"{self._dataset.name}-{batch_size}-{'shared' if share else 'alone'}",
        )
        return plan_run(request, self._work).run


# Goes over all rows once; the seconds that it takes.
Timed = Callable[[], float]


def _measure(title: str, rows: _Rows, loaded: Loaded) -> Bench:
    samples = rows.samples
    own = {
        (name, run.plan.batch_size): run
        for name, runs in ((_OWN, rows.shared), (_OWN_ALONE, rows.alone))
        for run in runs
    }
    timed: dict[tuple[str, int], Timed] = {}
    plain_states: dict[str, NDArray[np.floating]] = {}
    if hasattr(loaded.model, "plain"):
        for name, size in zip(_PLAIN, (1, 16), strict=True):
            timed[name, size] = _plain(loaded, samples, size, plain_states)
    for (name, size), run in own.items():
        timed[name, size] = _extraction(run, loaded, rows.n_workers)
        if hasattr(loaded.model, "bare"):
            timed[f"bare {name}", size] = _bare(run, loaded)
    rates, peaks = _rounds(title, timed, len(samples))
    ways = []
    for name, size in timed:
        if not name.startswith("bare "):
            bare = f"bare {name}", size
            ways.append(
                Way(
                    name,
                    size,
                    rates[name, size],
                    peaks[name, size],
                    _over(rates[name, size], rates.get((_PLAIN[0], 1))),
                    _over(rates[name, size], rates.get(bare)),
                    peaks.get(bare),
                )
            )
    difference = _difference(own, plain_states) if plain_states else None
    return Bench(title, len(samples), rows.n_images, tuple(ways), difference, _cuda() is not None)


def _rounds(
    title: str, timed: dict[tuple[str, int], Timed], n_rows: int
) -> tuple[dict[tuple[str, int], float | None], dict[tuple[str, int], int | None]]:
    """Rows per second and peak bytes of each way; memory is watched in a first round, untimed."""
    seconds: dict[tuple[str, int], list[float | None]] = {way: [] for way in timed}
    peaks: dict[tuple[str, int], int | None] = {}
    with progress(f"bench {title}", "runs", len(timed) * (1 + _ROUNDS)) as advance:
        for turn in range(1 + _ROUNDS):
            # What is freed goes back to the system at once while memory is watched, and stays
            # at hand, as in a long run, while time is.
            _keep_freed(below=_LEAST_MAPPED if turn == 0 else _MOST_MAPPED)
            for way, run in timed.items():
                took, peak = _observed(run)
                if turn == 0:
                    peaks[way] = peak
                else:
                    seconds[way].append(took)
                advance(1)
    rates = {
        way: None if None in found else statistics.median(n_rows / s for s in found if s)
        for way, found in seconds.items()
    }
    return rates, peaks


def _keep_freed(below: int) -> None:
    """Let glibc keep what is freed of blocks below so many bytes; elsewhere nothing happens."""
    try:
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(_M_MMAP_THRESHOLD, below)
        libc.mallopt(_M_TRIM_THRESHOLD, 2 * below)  # as glibc itself sets the one by the other
    except (OSError, AttributeError):
        return


def _observed(run: Timed) -> tuple[float | None, int | None]:
    """Seconds and peak bytes of one pass over the rows; no seconds if memory was out."""
    peak = _Peak()
    try:
        return run(), peak.bytes()
    except MemoryError:
        return None, None


def _over(rate: float | None, other: float | None) -> float | None:
    return rate / other if rate and other else None


def _plain(
    loaded: Loaded, samples: Sequence[Any], size: int, states: dict[str, NDArray[np.floating]]
) -> Timed:
    """What a script does: open, process, run, keep the last token of all hidden states."""
    from vsp.models.capture import memory_errors

    processor: Any = loaded.processor
    model: Any = loaded.model

    def run() -> float:
        started = time.perf_counter()
        with memory_errors():
            for start in range(0, len(samples), size):
                part = samples[start : start + size]
                images = [open_rgb(sample.image)[0] for sample in part]
                found = model.plain(processor.plain(images, [sample.prompt for sample in part]))
                if size == 1:
                    states[part[0].id] = found[:, 0]
        return time.perf_counter() - started

    return run


def _extraction(run: Run, loaded: Loaded, n_workers: int) -> Timed:
    """A whole shard as a task does it, from image files to rows in the journal.

    The start of the workers counts too, though a longer run would not feel it.
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


def _bare(run: Run, loaded: Loaded) -> Timed:
    """The forward passes of a run alone, on tensors made before: its ceiling."""
    from vsp.models.capture import memory_errors

    (shard,) = run.shards
    model: Any = loaded.model
    batches = batches_with(run, shard, set(range(shard.start, shard.stop)))
    with memory_errors():
        passes = [model.bare(prepare(loaded.processor, batch).groups) for batch in batches]

    def forward() -> float:
        started = time.perf_counter()
        with memory_errors():
            for one in passes:
                one()
        return time.perf_counter() - started

    return forward


def _difference(own: dict[tuple[str, int], Run], plain: dict[str, NDArray[np.floating]]) -> float:
    """How far any run's states are from the plain ones, over the largest of their layer."""
    largest = 0.0
    for run in own.values():
        expected = np.stack([plain[sample.id] for sample in run.manifest.rows()], axis=1)
        for layer, states in enumerate(expected):
            off = np.abs(run.store.layer(layer) - states).max() / np.abs(states).max()
            largest = max(largest, float(off))
    return largest


class _Peak:
    """Memory in use beyond what was in use when this was made; of a GPU where there is one."""

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
            Path("/proc/self/clear_refs").write_text("5")  # forget the process's highest use
        except OSError:
            self._before = -1
        else:
            self._before = _status("VmRSS")

    def bytes(self) -> int | None:
        if self._cuda is not None:
            return int(self._cuda.max_memory_allocated() - self._before)
        return None if self._before < 0 else max(_status("VmHWM") - self._before, 0)


def _cuda() -> Any:
    """torch's view of a GPU, if the model brought torch and there is one."""
    torch = sys.modules.get("torch")
    return torch.cuda if torch and torch.cuda.is_available() else None


def _status(field: str) -> int:
    """A field of Linux' account of this process, in bytes."""
    lines: Iterable[str] = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(field + ":"))
