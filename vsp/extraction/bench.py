"""`vsp bench`: how fast a model extracts on this machine, compared with plain transformers.

All ways process the same rows. They take turns for several rounds, so that other load on the
machine slows all of them alike; the median round counts.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vsp import models
from vsp.choices import LAST, Module, Position, Start
from vsp.config import ModelConfig
from vsp.extraction.answer_options import NO_ANSWERS
from vsp.extraction.batches import batches_with
from vsp.extraction.bench_dataset import rows_per_image, write_dataset
from vsp.extraction.extract import default_workers, extract_shard
from vsp.extraction.plan import plan_run
from vsp.extraction.plan_request import PlanRequest
from vsp.extraction.preprocess import prepare, prepared
from vsp.models.contract import Loaded
from vsp.storage.run import Run
from vsp.utils.allocator import keep_freed_blocks
from vsp.utils.files import temporary_folder
from vsp.utils.images import open_rgb
from vsp.utils.peak_memory import PeakMemory, cuda
from vsp.utils.progress import progress

_TRANSFORMERS = ("transformers, one by one", "transformers, batched")
_VSP, _VSP_UNSHARED = "vsp", "vsp --no-sharing"  # states of the last token, and no answers
_BARE = "bare "  # begins the name of the forward passes alone of a way
_PREPARATION = ("preparation", 0)
_ROUNDS = 3
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
    positions: tuple[Position, ...] = (LAST,)  # each further one is a way of its own
    answers: bool | None = None  # as in PlanRequest; False: no way records answers
    answer_start: Start = "auto"
    lens: bool = False  # also measure the lens
    modules: tuple[Module, ...] = ()  # likewise


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
    # Time divided by that of `vsp` with the same batch: the cost of what else is recorded. The median
    # over the rounds.
    times_vsp: float | None = None


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
    # Tokens of each answer option; None: no answers, or options that differ by row.
    option_tokens: tuple[int, ...] | None = None
    notes: tuple[str, ...] = ()  # what is not measured

    @property
    def best(self) -> Way | None:
        """The fastest of the ways that record the last token's states and nothing else."""
        own = [w for w in self.ways if w.name in (_VSP, _VSP_UNSHARED) and w.rows_per_second]
        return max(own, key=lambda way: way.rows_per_second or 0.0, default=None)


def bench(request: BenchRequest, scratch: Path) -> list[Bench]:
    """Measure all ways. Writes temporary files to `scratch`, the disk that holds real runs."""
    scratch.mkdir(parents=True, exist_ok=True)
    with temporary_folder(scratch, ".bench.") as work:
        if request.dataset is not None:
            sets = {"rows of the dataset": request.dataset}
        else:
            sets = {
                "rows with an image of their own": work / "own",
                "rows that share images as in VRD": work / "shared",
            }
            write_dataset(work / "own", [1] * request.n_rows)
            write_dataset(work / "shared", rows_per_image(request.n_rows))
        plans = {title: _BenchRuns(request, path, work) for title, path in sets.items()}
        loaded = models.load(request.model)
        return [_measure(title, rows, loaded) for title, rows in plans.items()]


class _BenchRuns:
    """One dataset, with runs of each way of vsp, one for each batch size."""

    def __init__(self, request: BenchRequest, dataset: Path, work: Path) -> None:
        self._request = request
        self._dataset = dataset
        self._work = work
        self.notes: list[str] = []
        self.plain = self._plans(answers=False)
        self.samples = list(self.plain[0].manifest.rows())
        self.n_images = len({sample.image for sample in self.samples})
        self.by_way = {_VSP: self.plain, **self._recording()}
        if self.n_images < len(self.samples):
            self.by_way[_VSP_UNSHARED] = self._plans(share=False, answers=False)
        # As many as a run of many batches would have.
        self.n_workers = default_workers(10**6) if request.workers is None else request.workers

    def _recording(self) -> dict[str, list[Run]]:
        """Name of each way that records more than states of the last token → its runs."""
        request, name = self._request, _VSP
        ways: dict[str, list[Run]] = {}
        answers: dict[str, Any] = {"answers": False}
        if request.answers is not False:
            answers = {"answers": request.answers, "answer_start": request.answer_start}
            runs = self._plans(**answers)
            if runs[0].plan.answers is not None:
                name = f"{_VSP}, answers"
                ways[name] = runs
        for position in request.positions:
            if position != LAST:
                positions = (LAST, position)
                ways[f"{name}, {position}"] = self._plans(**answers, positions=positions)
        for module in request.modules:
            ways[f"{name}, {module}"] = self._plans(**answers, modules=(module,))
        if request.lens:
            ways[f"{_VSP}, answers, lens"] = self._plans(**answers, lens=True)
        return ways

    def _plans(self, **changes: Any) -> list[Run]:
        """A run for each batch size; notes that something is not recorded are kept."""
        runs = []
        for size in self._request.batch_sizes:
            request = PlanRequest(
                self._dataset,
                self._request.model,
                self._request.prompt,
                n_shards=1,
                batch_size=size,
                limit=self._request.n_rows,
                **changes,
            )
            planned = plan_run(request, self._work)
            runs.append(planned.run)
            new = [note for note in planned.notes if note.startswith(NO_ANSWERS)]
            self.notes += [note for note in new if note not in self.notes]
        return runs

    @property
    def option_tokens(self) -> tuple[int, ...] | None:
        """Tokens of each option of all rows; None without answers, or if options differ by row."""
        answers = self.by_way.get(f"{_VSP}, answers", self.plain)[0].plan.answers
        return tuple(len(one.tokens) for one in answers.options) if answers else None


# Processes all rows once and returns the seconds that it took.
Pass = Callable[[], float]


@dataclass(frozen=True, slots=True)
class _Measured:
    """The rounds of one way."""

    seconds: list[float | None]  # None: out of memory
    peak_bytes: int | None

    def rate(self, n_rows: int) -> float | None:
        """Rows per second, the median over the rounds."""
        times = [n_rows / s for s in self.seconds if s]
        return statistics.median(times) if len(times) == len(self.seconds) else None

    def times(self, other: _Measured) -> float | None:
        """Time divided by that of another way in the same round, the median over the rounds."""
        pairs = list(zip(self.seconds, other.seconds, strict=True))
        ratios = [own / its for own, its in pairs if own and its]
        return statistics.median(ratios) if len(ratios) == len(pairs) else None


def _measure(title: str, rows: _BenchRuns, loaded: Loaded) -> Bench:
    n_rows = len(rows.samples)
    plain_states: dict[str, NDArray[np.floating]] = {}
    measured = _run_rounds(title, _passes(rows, loaded, plain_states))
    rates = {way: one.rate(n_rows) for way, one in measured.items()}
    ways = [
        _way(name, size, measured, rates)
        for name, size in measured
        if not name.startswith(_BARE) and (name, size) != _PREPARATION
    ]
    difference = _largest_difference(rows, plain_states) if plain_states else None
    forward = [rate for (name, _), rate in rates.items() if name.startswith(_BARE) and rate]
    return Bench(
        title,
        n_rows,
        rows.n_images,
        tuple(ways),
        difference,
        cuda() is not None,
        pictures_per_core=(rates[_PREPARATION] or 0.0) * rows.n_images / n_rows,
        forward_rows_per_second=max(forward, default=None),
        option_tokens=rows.option_tokens or None,
        notes=tuple(rows.notes),
    )


def _passes(
    rows: _BenchRuns, loaded: Loaded, plain_states: dict[str, NDArray[np.floating]]
) -> dict[tuple[str, int], Pass]:
    """The passes to measure, by way and batch size; those of transformers fill `plain_states`."""
    passes: dict[tuple[str, int], Pass] = {}
    if loaded.model.has_reference:
        for name, size in zip(_TRANSFORMERS, (1, 16), strict=True):
            passes[name, size] = _transformers_pass(loaded, rows.samples, size, plain_states)
    for name, runs in rows.by_way.items():
        for run in runs:
            size = run.plan.batch_size
            passes[name, size] = _extraction_pass(run, loaded, rows.n_workers)
            if loaded.model.has_forward_only and name in (_VSP, _VSP_UNSHARED):
                passes[_BARE + name, size] = _forward_pass(run, loaded)
    passes[_PREPARATION] = _preparation_pass(rows.plain[0], loaded)
    return passes


def _way(
    name: str,
    size: int,
    measured: Mapping[tuple[str, int], _Measured],
    rates: Mapping[tuple[str, int], float | None],
) -> Way:
    way, bare, vsp = (name, size), (_BARE + name, size), (_VSP, size)
    records_more = name not in (*_TRANSFORMERS, _VSP, _VSP_UNSHARED)
    return Way(
        name=name,
        batch=size,
        rows_per_second=rates[way],
        peak_bytes=measured[way].peak_bytes,
        times_plain=_ratio(rates[way], rates.get((_TRANSFORMERS[0], 1))),
        of_bare=_ratio(rates[way], rates.get(bare)),
        bare_peak_bytes=measured[bare].peak_bytes if bare in measured else None,
        times_vsp=measured[way].times(measured[vsp]) if records_more else None,
    )


def _run_rounds(title: str, timed: dict[tuple[str, int], Pass]) -> dict[tuple[str, int], _Measured]:
    """Measure each way in turns; an extra first round measures memory only."""
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
    return {way: _Measured(seconds[way], peaks[way]) for way in timed}


def _measure_once(run: Pass) -> tuple[float | None, int | None]:
    """Seconds and peak bytes of one pass over the rows; None if it ran out of memory."""
    peak = PeakMemory()
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
        batches = batches_with([run], shard, rows)
        with prepared(loaded.processor, batches, n_workers) as ready:
            extract_shard([run], shard, rows, loaded.model, ready, lambda _: None)
        return time.perf_counter() - started

    return extract


def _preparation_pass(run: Run, loaded: Loaded) -> Pass:
    """Prepare all batches in this process, as a worker does; CPU time, so that it counts one core."""
    (shard,) = run.shards
    batches = batches_with([run], shard, set(range(shard.start, shard.stop)))

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
    batches = batches_with([run], shard, set(range(shard.start, shard.stop)))
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


def _largest_difference(rows: _BenchRuns, plain: dict[str, NDArray[np.floating]]) -> float:
    """Largest difference of any run's states from transformers', relative to the layer's maximum."""
    largest = 0.0
    for run in chain.from_iterable(rows.by_way.values()):
        expected = np.stack([plain[sample.id] for sample in run.manifest.rows()], axis=1)
        for layer, states in enumerate(expected):
            off = np.abs(run.store.layer(layer) - states).max() / np.abs(states).max()
            largest = max(largest, float(off))
    return largest
