"""`vsp plan`: make a run. Everything that can go wrong does so early: it opens every image, reads the checkpoint's
configuration, reserves the disk. The run's folder is written aside and renamed when it is whole.
"""

from __future__ import annotations

import gc
import os
import re
import shutil
import tempfile
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from functools import lru_cache
from importlib.metadata import version
from itertools import groupby, pairwise
from operator import attrgetter
from pathlib import Path
from typing import Any

from PIL import Image

from vsp import __version__, models
from vsp.cluster.contract import After
from vsp.cluster.jobs import extract_job, scheduler_of, script_path
from vsp.config import NAME_PATTERN, ModelConfig, Profile, StoreDtype, parse
from vsp.datasets.metadata import read_samples
from vsp.datasets.provenance import variants_of
from vsp.errors import ConfigError, DatasetError, InputError, RunError
from vsp.extraction.batches import cut_batches, n_group_tokens
from vsp.extraction.preprocess import make_picture, make_row
from vsp.models.checkpoints import pinned
from vsp.models.fingerprint import fingerprint
from vsp.models.memory import Load, Memory, estimate, outline
from vsp.storage.array import Layout, Store
from vsp.storage.manifest import Manifest, Sample
from vsp.storage.run import FORMAT, Plan, Run, sealed_plan
from vsp.utils.files import disk_errors, sync_folder, write_json, write_text
from vsp.utils.images import open_rgb
from vsp.utils.progress import progress

SCRIPT = Path("jobs/extract_array.sh")
_PACKAGES = ("torch", "transformers", "tokenizers", "bitsandbytes", "numpy", "pillow")
_LISTED = 20  # problems of images and prompts that are shown
_WAITING = 1024  # images at most that wait to be opened
_REMEMBERED = 1 << 16  # prompts at most whose tokens are kept, for when they come again


@contextmanager
def _uncollected() -> Iterator[None]:
    """Without the garbage collector, which would go over a million samples again and again."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


@dataclass(frozen=True, slots=True)
class PlanRequest:
    """What `vsp plan` is asked for."""

    dataset: Path
    model: ModelConfig
    prompt: str | None = None  # style; None: instruction where the records allow it
    store_dtype: StoreDtype | None = None  # None: float32 only for a model that computes in it
    n_shards: int | None = None
    shard_size: int = 1024
    batch_size: int = 16
    share: bool = True
    limit: int | None = None  # only as many rows from the first
    name: str | None = None
    drop_unreadable: bool = False
    profile: Profile = field(default_factory=Profile)


@dataclass(frozen=True, slots=True)
class Planned:
    """A new run, with what its user should be told."""

    run: Run
    first_prompt: str
    notes: tuple[str, ...]
    commands: tuple[str, ...]
    free_bytes: int
    memory: Memory | None  # of the device, where the model's family can say


def plan_run(request: PlanRequest, work: Path) -> Planned:
    """Plan a run under `work`. Raises a VspError, and leaves nothing behind, if it must fail."""
    name = _free_name(request, work)
    marker = models.region_marker(request.model)
    with _uncollected():
        samples, labels, prompt = read_samples(request.dataset, request.prompt, marker)
    shape = models.shape(request.model)
    # Tasks load what was seen here.
    request = replace(request, name=name, model=pinned(request.model))
    processor = models.check(request.model)
    _check_prompts(samples, processor, request.model.family, marker)
    model = outline(request.model)
    moved = request.share and _bring_together(samples)
    if request.limit is not None:
        del samples[request.limit :]
    images = _inspected(dict.fromkeys(sample.image for sample in samples))
    counter = _Counter(processor, request.share)
    notes = _check_rows(samples, images, counter, request.drop_unreadable)
    if getattr(processor, "crops", False):
        notes += _cropped(images.values(), request.model.family)
    if moved:
        notes.append("rows about one image were brought together; ids say which row is which")
    notes += _left_over(work / "scratch")
    layout, starts = _cut(request, shape, len(samples), notes)
    values = {
        **_identity(request),
        "labels": labels,
        "prompt": prompt,
        **_shapes(shape, layout),
        "shard_starts": starts,
        "batch_tokens": request.batch_size * max(sample.n_tokens for sample in samples),
    }
    with disk_errors(work / "scratch"):
        run, commands = _write_run(values, samples, layout, request.profile, work)
    free = shutil.disk_usage(run.folder).free
    load = _largest(run, samples, counter.n_values)
    memory = estimate(model, request.model.quantization, load) if model is not None else None
    return Planned(run, samples[0].prompt, tuple(notes), tuple(commands), free, memory)


def _left_over(scratch: Path) -> list[str]:
    """Of plans that were killed, or are at work beside this one: their arrays take up disk."""
    return [
        f"{folder}: another `vsp plan` is at work there, or was killed; if none is, remove it"
        for folder in sorted(scratch.glob(".*/"))
        if re.fullmatch(r"\..+\.[a-z0-9_]{8}", folder.name)
    ]


def _cropped(images: Iterable[_Image], family: str) -> list[str]:
    n_cropped = sum(image.size[0] != image.size[1] for image in images)
    if not n_cropped:
        return []
    return [
        f"{n_cropped} images are not square; {family}'s own processor keeps their middle, and what "
        "lies at the edges is not seen"
    ]


def _cut(
    request: PlanRequest, shape: models.ModelShape, n_samples: int, notes: list[str]
) -> tuple[Layout, list[int]]:
    """The store's layout and the shards' first rows; fewer shards than asked for are noted."""
    dtype = request.store_dtype or ("float32" if shape.dtype == "float32" else "float16")
    n_shards = request.n_shards or -(-n_samples // request.shard_size)
    layout = Layout.choose(shape.n_layers, n_samples, shape.hidden_size, dtype, n_shards)
    starts = layout.shard_starts(n_shards)
    if len(starts) < n_shards:
        notes.append(
            f"{len(starts)} shards, not {n_shards}: shards begin every {layout.period} rows, "
            f"where a page of {layout.boundary} bytes can begin"
        )
    return layout, starts


def _identity(request: PlanRequest) -> dict[str, Any]:
    """What a plan holds whatever the rows are."""
    return {
        "format": FORMAT,
        "id": uuid.uuid4().hex,
        "name": request.name,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "vsp": __version__,
        "packages": {package: version(package) for package in _PACKAGES},
        "dataset": os.path.abspath(request.dataset),  # noqa: PTH100 - links stay links
        "variants": variants_of(request.dataset),
        "model": request.model,
        "checkpoint_files": fingerprint(request.model),
        "image_backend": "pil",
        "batch_size": request.batch_size,
        "share": request.share,
    }


def _shapes(shape: models.ModelShape, layout: Layout) -> dict[str, Any]:
    return {
        "compute_dtype": shape.dtype,
        "n_samples": layout.n_samples,
        "n_layers": layout.n_layers,
        "hidden_size": layout.hidden_size,
        "dtype": layout.dtype,
        "boundary": layout.boundary,
    }


@_uncollected()
def _largest(run: Run, samples: Sequence[Sample], n_values: int) -> Load:
    """The batch of the most tokens, with pictures of `n_values` numbers each."""

    def loads() -> Iterator[Load]:
        for shard in run.shards:
            mine = dict(enumerate(samples[shard.start : shard.stop], start=shard.start))
            for batch in cut_batches(run.plan, mine):
                longest = max(n_group_tokens([mine[row] for row in rows]) for rows in batch)
                n_rows = [len(rows) for rows in batch]
                size = len(batch)
                yield Load(size, longest, sum(n_rows), size * n_values, max(n_rows) > 1)

    return max(loads(), key=lambda load: (load.n_sequences * load.n_tokens, load.n_tokens))


@_uncollected()
def _write_run(
    values: dict[str, Any],
    samples: Sequence[Sample],
    layout: Layout,
    profile: Profile,
    work: Path,
) -> tuple[Run, list[str]]:
    """Write the run's folder aside, rename it, and write the batch script for it."""
    scratch, name = work / "scratch", values["name"]
    scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=scratch, prefix=f".{name}.") as aside:
        folder = Path(aside) / name
        for part in (folder, folder / "journal", folder / "logs"):
            part.mkdir()
        starts = (*values["shard_starts"], len(samples))
        manifest = Manifest.write(folder / "manifest.jsonl", samples, starts)
        written = {"manifest_offsets": manifest.offsets, "manifest_sha256": manifest.digests}
        plan = parse(Plan, {**values, **written}, "plan")
        Store(folder / "states.npy", layout, plan.identity()).create()
        run = Run(scratch / name, plan)
        job, scheduler = extract_job(run, profile), scheduler_of(profile)
        script = scheduler.script(job)
        write_text(script_path(Run(folder, plan), job.stage), script, executable=True)
        write_json(folder / "plan.json", sealed_plan(plan))
        try:
            folder.rename(run.folder)
            sync_folder(scratch)
        except OSError as error:
            raise RunError(f"{run.folder}: {error.strerror}; choose another --run") from None
    try:
        job.logs.mkdir(parents=True, exist_ok=True)
        write_text(work / SCRIPT, script, executable=True)
    except BaseException:
        shutil.rmtree(run.folder)
        raise
    return run, [scheduler.line(call, After()) for call in scheduler.calls(job, SCRIPT)]


def _free_name(request: PlanRequest, work: Path) -> str:
    if request.name is not None:
        if not re.fullmatch(NAME_PATTERN, request.name):
            raise ConfigError(f"run {request.name!r}: use letters, digits, '.', '_' and '-' only")
        if (work / "scratch" / request.name).exists():
            raise RunError(
                f"{work / 'scratch' / request.name}: is there already; "
                "remove it or choose another --run"
            )
        return request.name
    dataset = request.dataset.absolute().name
    stem = re.sub(r"[^A-Za-z0-9._-]", "-", f"{request.model.family}-{dataset}")
    name, n = stem, 1
    while (work / "scratch" / name).exists():
        n += 1
        name = f"{stem}-{n}"
    return name


def _bring_together(samples: list[Sample]) -> bool:
    """Put rows about one image next to each other, images in order of appearance.

    Whether any row had to move.
    """
    places: dict[str, int] = {}
    for sample in samples:
        places.setdefault(sample.image, len(places))
    ordered = all(places[one.image] <= places[next_.image] for one, next_ in pairwise(samples))
    samples.sort(key=lambda sample: places[sample.image])
    return not ordered


def _check_prompts(
    samples: Sequence[Sample], processor: models.Processor, family: str, marker: str
) -> None:
    """Raise DatasetError for a prompt with text that would reach the model as something else."""
    for sample in samples:
        text = sample.prompt.replace(marker, "") if marker else sample.prompt
        found = processor.reserved(text)
        if found:
            raise DatasetError(
                f"sample {sample.id!r}: its prompt holds {found!r}, which {family} reads as a "
                "token of its own; reword it"
            )


@_uncollected()
def _check_rows(
    samples: list[Sample], images: Mapping[str, _Image], counter: _Counter, drop_unreadable: bool
) -> list[str]:
    """Count the tokens of the rows; only those that can be used stay in the list.

    Returns what was wrong with the others. Raises DatasetError if anything was and should not be dropped.
    """
    problems = [image.problem for image in images.values() if image.problem]
    n_rows, n_kept = len(samples), 0
    with progress("count tokens", "rows", n_rows) as advance:
        for path, found in groupby(samples, key=attrgetter("image")):
            rows = list(found)
            if not images[path].problem:
                # In the place of rows that have been read: of a million there is room for one list.
                for sample in counter.counted(rows, images[path], problems):
                    samples[n_kept] = sample
                    n_kept += 1
            advance(len(rows))
    del samples[n_kept:]
    n_lost = n_rows - n_kept
    if problems and not drop_unreadable:
        raise DatasetError(
            f"{len(problems)} images or prompts, for {n_lost} of {n_rows} rows, cannot be "
            "used; mend them or plan with --drop-unreadable",
            details=_first(problems),
        )
    if not samples:
        raise DatasetError(
            "no row can be used; name another folder with --dataset", _first(problems)
        )
    notes = [f"dropped: {problem}" for problem in _first(problems)]
    if problems:
        notes.append(f"dropped {n_lost} of {n_rows} rows in all")
    return notes


def _first(problems: Sequence[str]) -> list[str]:
    """Where a folder is not there, every image of it is a problem."""
    more = len(problems) - _LISTED
    return [*problems[:_LISTED], f"… and {more:,} more"] if more > 0 else [*problems]


@dataclass(frozen=True, slots=True)
class _Image:
    """What a plan must know of an image file; `problem` if it cannot be used."""

    digest: str
    size: tuple[int, int]
    problem: str = ""


def _inspected(paths: Iterable[str]) -> dict[str, _Image]:
    left, found = list(paths), {}
    with (
        ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool,
        progress("check", "images", len(left)) as advance,
    ):
        for start in range(0, len(left), _WAITING):
            some = left[start : start + _WAITING]
            for path, image in zip(some, pool.map(_inspect, some), strict=True):
                found[path] = image
                advance(1)
    return found


def _inspect(path: str) -> _Image:
    try:
        image, digest = open_rgb(path)
    except DatasetError as error:
        return _Image("", (0, 0), str(error))
    return _Image(digest, image.size)


class _Counter:
    """Counts the tokens of rows; what an image makes of them depends on its size alone, and what
    a prompt adds on that and the prompt."""

    def __init__(self, processor: models.Processor, share: bool) -> None:
        self._processor = processor
        self._share = share
        self._pictures: list[models.Picture] = []  # that rows can tell apart
        self._of_size: dict[tuple[int, int], int] = {}  # which of them
        self._with_depth = lru_cache(1)(self._blank)
        self._asked = lru_cache(_REMEMBERED)(self._ask)
        self.n_values = 0  # of the largest picture, as the model takes it

    def counted(
        self, samples: Sequence[Sample], image: _Image, problems: list[str]
    ) -> Iterator[Sample]:
        """The samples about one image with their tokens; what is wrong is added to `problems`."""
        good: list[tuple[Sample, int, models.Row]] = []
        for sample in samples:
            try:
                good.append((sample, *self._tail(sample, image.size)))
            except (DatasetError, InputError) as error:
                problems.append(f"row {sample.id!r}: {error}")
        shared = 0
        if self._share and len(good) > 1:
            shared = good[0][1] + models.n_shared([tail for _, _, tail in good])
        for sample, ahead, tail in good:
            yield Sample(
                sample.id,
                sample.image,
                sample.prompt,
                sample.label,
                sample.group,
                sample.split,
                image.digest,
                ahead + len(tail.tokens),
                shared,
                sample.regions,
                sample.depth,
            )

    def _tail(self, sample: Sample, size: tuple[int, int]) -> tuple[int, models.Row]:
        """How many tokens are left out, and the sample's row behind them."""
        if not sample.regions:
            return self._asked(self._picture(size), sample.prompt)
        if sample.depth:
            blank = self._with_depth(size, sample.depth)
        else:
            blank = self._pictures[self._picture(size)]
        return _behind(blank, make_row(self._processor, blank, sample, size))

    def _ask(self, picture: int, prompt: str) -> tuple[int, models.Row]:
        blank = self._pictures[picture]
        return _behind(blank, self._processor.row(blank, prompt))

    def _picture(self, size: tuple[int, int]) -> int:
        if size not in self._of_size:
            blank = replace(self._blank(size), arrays={})  # of thousands, only tokens are kept
            if blank not in self._pictures:
                self._pictures.append(blank)
            self._of_size[size] = self._pictures.index(blank)
        return self._of_size[size]

    def _blank(self, size: tuple[int, int], depth: str = "") -> models.Picture:
        blank = make_picture(self._processor, Image.new("RGB", size), depth)
        pixels = (array for array in blank.arrays.values() if array.dtype.kind == "f")
        self.n_values = max(self.n_values, sum(array.size for array in pixels))
        return blank


def _behind(picture: models.Picture, row: models.Row) -> tuple[int, models.Row]:
    """The row without its picture's tokens but the last, which are as many in each row."""
    n_ahead = max(len(picture.tokens) - 1, 0)
    return n_ahead, models.Row(row.tokens[n_ahead:], row.n_common - n_ahead)
