"""A run on disk: `scratch/NAME/` with its plan, its manifest, its store and its journals.

Planning does everything that can go wrong early: it opens every image, reads the checkpoint's
configuration, reserves the disk. The folder is written aside and renamed when it is whole.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import tempfile
import uuid
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from functools import cached_property
from importlib.metadata import version
from itertools import groupby, pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

from PIL import Image
from pydantic import Field

from vsp import __version__, models
from vsp.config import NAME_PATTERN, Frozen, ModelConfig, Name, Profile, StoreDtype, parse
from vsp.datasets.folder import read
from vsp.errors import ConfigError, DatasetError, InputError, RunError
from vsp.files import write_json, write_text
from vsp.images import open_rgb
from vsp.journal import Ledger, read_ledger
from vsp.manifest import Manifest, Sample
from vsp.models.hub import pinned
from vsp.models.memory import Load, Memory, estimate, outline
from vsp.prepare import make_picture, make_row
from vsp.progress import progress
from vsp.schedulers import SCHEDULERS, ArrayJob, Scheduler
from vsp.store import Layout, Store

FORMAT = 2
SCRIPT = Path("jobs/extract_array.sh")
COMPARED = 4  # rows of a shard whose states in a batch are compared with those alone
_MOST_GROWN = 3  # a sequence of several rows over the longest: attention looks at pairs of tokens
_LEAST_FILLED = 0.75  # the shortest sequence of a batch over the longest; the rest is padding

Rows = tuple[int, ...]  # about one image, worked as one sequence
Batch = tuple[Rows, ...]
_PACKAGES = ("torch", "transformers", "tokenizers", "bitsandbytes", "numpy", "pillow")


class Plan(Frozen):
    """Everything that decides what a run computes; written once, never changed."""

    format: Literal[2]
    id: str
    name: Name
    created: str
    vsp: str
    packages: dict[str, str]
    dataset: str
    labels: tuple[str, ...]
    prompt: str
    model: ModelConfig
    compute_dtype: str
    image_backend: Literal["pil"]
    manifest_sha256: str
    n_samples: Annotated[int, Field(ge=1)]
    n_layers: Annotated[int, Field(ge=1)]
    hidden_size: Annotated[int, Field(ge=1)]
    dtype: StoreDtype
    boundary: Annotated[int, Field(ge=4096)]
    shard_starts: Annotated[tuple[int, ...], Field(min_length=1)]
    batch_size: Annotated[int, Field(ge=1)]  # of the longest rows, if each were by itself
    batch_tokens: Annotated[int, Field(ge=1)]  # as many at once, padding included
    share: bool  # whether rows about one image share its work


@dataclass(frozen=True, slots=True)
class Shard:
    """Rows start, …, stop - 1: the work of one array task."""

    index: int
    start: int
    stop: int


class Run:
    """A planned run; the one class that knows how its folder is laid out."""

    def __init__(self, folder: Path, plan: Plan) -> None:
        self.folder = folder
        self.plan = plan
        self.name = plan.name

    @classmethod
    def open(cls, folder: Path) -> Run:
        """Raises RunError unless the folder holds a plan that this version understands."""
        path = folder / "plan.json"
        try:
            values = json.loads(path.read_bytes())
        except (FileNotFoundError, NotADirectoryError):
            raise RunError(f"{folder}: is no run; `vsp plan` makes one") from None
        except ValueError as error:
            raise RunError(f"{path}: is not JSON ({error}); plan the run again") from None
        found = values.get("format") if isinstance(values, dict) else None
        if found != FORMAT:
            raise RunError(f"{path}: has format {found!r}, this vsp reads {FORMAT}; update vsp")
        try:
            return cls(folder, parse(Plan, values, str(path)))
        except ConfigError as error:
            raise RunError(f"{error}; the file was edited, plan the run again") from None

    @property
    def results(self) -> Path:
        return self.folder.parent.parent / "results" / self.name

    @property
    def shards(self) -> list[Shard]:
        bounds = [*self.plan.shard_starts, self.plan.n_samples]
        return [Shard(i, start, stop) for i, (start, stop) in enumerate(pairwise(bounds))]

    def shard(self, index: int) -> Shard:
        """Raises RunError if the run has no such shard."""
        if index >= len(self.plan.shard_starts):
            raise RunError(f"run {self.name}: has no shard {index}; it has {len(self.shards)}")
        return self.shards[index]

    @cached_property
    def store(self) -> Store:
        plan = self.plan
        layout = Layout(plan.n_layers, plan.n_samples, plan.hidden_size, plan.dtype, plan.boundary)
        return Store(self.folder.absolute() / "states.npy", layout)

    @property
    def journals(self) -> Path:
        return self.folder / "journal"

    @cached_property
    def manifest(self) -> Manifest:
        """Raises RunError if the file is not the one that was planned."""
        manifest = Manifest(self.folder / "manifest.jsonl")
        if not manifest.path.exists() or manifest.digest() != self.plan.manifest_sha256:
            raise RunError(
                f"{manifest.path}: was changed or lost since the plan; plan the run again"
            )
        return manifest

    def ledger(self, shard: Shard) -> Ledger:
        return read_ledger(self.journals, self.plan.id, shard.index, shard.start, shard.stop)

    def ledgers(self) -> list[Ledger]:
        return [self.ledger(shard) for shard in self.shards]

    def batches(self, samples: Mapping[int, Sample]) -> list[Batch]:
        """What goes through the model together, for the rows of one shard.

        Fixed, so that a resumed shard repeats it. Sequences of like length come together, the
        longest first: where memory is short, it shows at once.
        """
        groups = _groups(samples, self.plan.share)
        lengths = {rows: _n_tokens([samples[row] for row in rows]) for rows in groups}
        groups.sort(key=lambda rows: -lengths[rows])
        batches: list[list[Rows]] = []
        for rows in groups:
            longest = lengths[batches[-1][0]] if batches else 0
            full = (len(batches[-1]) + 1) * longest > self.plan.batch_tokens if batches else True
            if full or lengths[rows] < _LEAST_FILLED * longest:
                batches.append([])
            batches[-1].append(rows)
        return [tuple(sorted(batch)) for batch in batches]


def compared_rows(shard: Shard) -> set[int]:
    """A sample of a shard's rows, for which the model is run alone as well."""
    n_rows = shard.stop - shard.start
    return {shard.start + i * n_rows // COMPARED for i in range(COMPARED)}


def _groups(samples: Mapping[int, Sample], share: bool) -> list[Rows]:
    """Rows about one image that are worked as one sequence; each by itself if they are not to."""
    groups: list[Rows] = []
    for _, found in groupby(samples, key=lambda row: (samples[row].image, samples[row].depth)):
        group: Rows = ()
        for row in found:
            more = (*group, row)
            asked = [samples[one] for one in more]
            most = _MOST_GROWN * max(sample.n_tokens for sample in asked)
            if group and (not share or _n_tokens(asked) > most):
                groups.append(group)
                more = (row,)
            group = more
        groups.append(group)
    return groups


def _n_tokens(samples: Sequence[Sample]) -> int:
    """Tokens that rows about one image take together."""
    shared = samples[0].n_shared
    return shared + sum(sample.n_tokens - shared for sample in samples)


def _largest(run: Run, samples: Sequence[Sample], n_values: int) -> Load:
    """The batch of the most tokens, with pictures of `n_values` numbers each."""
    loads = []
    for shard in run.shards:
        mine = dict(enumerate(samples[shard.start : shard.stop], start=shard.start))
        for batch in run.batches(mine):
            longest = max(_n_tokens([mine[row] for row in rows]) for rows in batch)
            n_rows = [len(rows) for rows in batch]
            size = len(batch)
            loads.append(Load(size, longest, sum(n_rows), size * n_values, max(n_rows) > 1))
    return max(loads, key=lambda load: (load.n_sequences * load.n_tokens, load.n_tokens))


def find_run(name: str | None, work: Path) -> Run:
    """The run of that name (or path), or the newest in `scratch/`. Raises RunError if none is."""
    if name is not None:
        return Run.open(Path(name) if "/" in name else work / "scratch" / name)
    plans = list((work / "scratch").glob("*/plan.json"))
    if not plans:
        raise RunError(f"{work / 'scratch'}: holds no run; `vsp plan` makes one")
    return Run.open(max(plans, key=lambda path: path.stat().st_mtime_ns).parent)


@dataclass(frozen=True, slots=True)
class Request:
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


def make(request: Request, work: Path) -> Planned:
    """Plan a run under `work`. Raises a VspError, and leaves nothing behind, if it must fail."""
    name = _free_name(request, work)
    marker = models.region_marker(request.model)
    samples, labels, prompt = read(request.dataset, request.prompt, marker)
    shape = models.shape(request.model)
    request = replace(request, model=pinned(request.model))  # tasks load what was seen here
    processor = models.check(request.model)
    _check_prompts(samples, processor, request.model.family, marker)
    model = outline(request.model)
    ordered = _adjacent(samples) if request.share else samples
    ordered, moved = ordered[: request.limit], ordered != samples
    counter = _Counter(processor, request.share)
    samples, notes = _checked(ordered, counter, request.drop_unreadable)
    if counter.n_cropped:
        notes.append(
            f"{counter.n_cropped} images are not square; {request.model.family}'s own processor "
            "keeps their middle, and what lies at the edges is not seen"
        )
    if moved:
        notes.append("rows about one image were brought together; ids say which row is which")
    dtype = request.store_dtype or ("float32" if shape.dtype == "float32" else "float16")
    n_shards = request.n_shards or -(-len(samples) // request.shard_size)
    layout = Layout.choose(shape.n_layers, len(samples), shape.hidden_size, dtype, n_shards)
    starts = layout.shard_starts(n_shards)
    if len(starts) < n_shards:
        notes.append(
            f"{len(starts)} shards, not {n_shards}: shards begin every {layout.period} rows, "
            f"where a page of {layout.boundary} bytes can begin"
        )
    values = {
        "format": FORMAT,
        "id": uuid.uuid4().hex,
        "name": name,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "vsp": __version__,
        "packages": {package: version(package) for package in _PACKAGES},
        "dataset": os.path.abspath(request.dataset),  # noqa: PTH100 - links stay links
        "labels": labels,
        "prompt": prompt,
        "model": request.model,
        "compute_dtype": shape.dtype,
        "image_backend": "pil",
        "n_samples": len(samples),
        "n_layers": shape.n_layers,
        "hidden_size": shape.hidden_size,
        "dtype": dtype,
        "boundary": layout.boundary,
        "shard_starts": starts,
        "batch_size": request.batch_size,
        "batch_tokens": request.batch_size * max(sample.n_tokens for sample in samples),
        "share": request.share,
    }
    run, commands = _write_run(values, samples, layout, request.profile, work)
    free = shutil.disk_usage(run.folder).free
    load = _largest(run, samples, counter.n_values)
    memory = estimate(model, request.model.quantization, load) if model is not None else None
    return Planned(run, samples[0].prompt, tuple(notes), tuple(commands), free, memory)


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
        digest = Manifest.write(folder / "manifest.jsonl", samples)
        plan = parse(Plan, {**values, "manifest_sha256": digest}, "plan")
        Store(folder / "states.npy", layout).create()
        run = Run(scratch / name, plan)
        job, scheduler = _job(run, profile)
        script = scheduler.script(job)
        write_text(folder / SCRIPT.name, script, executable=True)
        write_json(folder / "plan.json", plan.model_dump(mode="json"))
        try:
            folder.rename(run.folder)
        except OSError as error:
            raise RunError(f"{run.folder}: {error.strerror}; choose another --run") from None
    job.logs.mkdir(parents=True, exist_ok=True)
    write_text(work / SCRIPT, script, executable=True)
    return run, scheduler.commands(job, SCRIPT)


def _free_name(request: Request, work: Path) -> str:
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


def _adjacent(samples: Sequence[Sample]) -> list[Sample]:
    """The rows with those about one image next to each other, images in order of appearance."""
    places: dict[str, int] = {}
    for sample in samples:
        places.setdefault(sample.image, len(places))
    return sorted(samples, key=lambda sample: places[sample.image])


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


def _checked(
    samples: Sequence[Sample], counter: _Counter, drop_unreadable: bool
) -> tuple[list[Sample], list[str]]:
    """Open each image once and count tokens. The samples that can be used; what was wrong."""
    groups = [list(group) for _, group in groupby(samples, key=lambda sample: sample.image)]
    kept: list[Sample] = []
    problems: list[str] = []
    with (
        ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool,
        progress("check", "images", len(groups)) as advance,
    ):
        paths = [group[0].image for group in groups]
        for group, (digest, size, problem) in zip(groups, pool.map(_inspect, paths), strict=True):
            if problem:
                problems.append(problem)
            else:
                same = [replace(sample, image_sha256=digest) for sample in group]
                kept += counter.counted(same, size, problems)
            advance(1)
    n_lost = len(samples) - len(kept)
    if problems and not drop_unreadable:
        raise DatasetError(
            f"{len(problems)} images or prompts, for {n_lost} of {len(samples)} rows, cannot be "
            "used; mend them or plan with --drop-unreadable",
            details=problems,
        )
    if not kept:
        raise DatasetError("no row can be used; name another folder with --dataset", problems)
    notes = [f"dropped: {problem}" for problem in problems]
    if problems:
        notes.append(f"dropped {n_lost} of {len(samples)} rows in all")
    return kept, notes


class _Counter:
    """Counts the tokens of rows; what an image makes of them depends on its size alone."""

    def __init__(self, processor: models.Processor, share: bool) -> None:
        self._processor = processor
        self._share = share
        self._blanks: dict[tuple[int, int], models.Picture] = {}
        self.n_values = 0  # of the largest picture, as the model takes it
        self.n_cropped = 0  # images

    def counted(
        self, samples: Sequence[Sample], size: tuple[int, int], problems: list[str]
    ) -> list[Sample]:
        """The samples about one image with their tokens; what is wrong is added to `problems`."""
        self.n_cropped += getattr(self._processor, "crops", False) and size[0] != size[1]
        rows: list[tuple[Sample, models.Row]] = []
        for sample in samples:
            try:
                blank = self._blank(size, sample.depth)
                rows.append((sample, make_row(self._processor, blank, sample, size)))
            except (DatasetError, InputError) as error:
                problems.append(f"row {sample.id!r}: {error}")
        shared = 0
        if self._share and len(rows) > 1:
            shared = models.n_shared([row for _, row in rows])
        return [replace(s, n_tokens=len(row.tokens), n_shared=shared) for s, row in rows]

    def _blank(self, size: tuple[int, int], depth: str) -> models.Picture:
        if size in self._blanks and not depth:
            return self._blanks[size]
        blank = make_picture(self._processor, Image.new("RGB", size), depth)
        pixels = (array for array in blank.arrays.values() if array.dtype.kind == "f")
        self.n_values = max(self.n_values, sum(array.size for array in pixels))
        if not depth:
            self._blanks[size] = replace(blank, arrays={})  # of thousands, only tokens are kept
        return blank


def _inspect(path: str) -> tuple[str, tuple[int, int], str]:
    """(digest, size, problem) of an image file."""
    try:
        image, digest = open_rgb(path)
        return digest, image.size, ""
    except DatasetError as error:
        return "", (0, 0), str(error)


def _job(run: Run, profile: Profile) -> tuple[ArrayJob, Scheduler]:
    folder = run.folder.absolute()
    command = (sys.executable, "-m", "vsp", "extract", "--run", str(folder), "--shard")
    logs = Path(profile.logs).absolute() if profile.logs else folder / "logs"
    job = ArrayJob(run.name, command, len(run.shards), logs, profile)
    return job, SCHEDULERS.load(profile.scheduler)()
