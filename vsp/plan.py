"""`vsp plan`: make a run. Everything that can go wrong does so early: it opens every image, reads the checkpoint's
configuration, reserves the disk. The run's folder is written aside and renamed when it is whole.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from importlib.metadata import version
from itertools import groupby
from pathlib import Path
from typing import Any

from PIL import Image

from vsp import __version__, models
from vsp.config import NAME_PATTERN, ModelConfig, Profile, StoreDtype, parse
from vsp.datasets.folder import read
from vsp.errors import ConfigError, DatasetError, InputError, RunError
from vsp.files import write_json, write_text
from vsp.images import open_rgb
from vsp.jobs import extract_job, scheduler_of, script_path
from vsp.manifest import Manifest, Sample
from vsp.models.hub import pinned
from vsp.models.memory import Load, Memory, estimate, outline
from vsp.prepare import make_picture, make_row
from vsp.progress import progress
from vsp.run import FORMAT, Plan, Run, n_tokens
from vsp.schedulers import After
from vsp.store import Layout, Store

SCRIPT = Path("jobs/extract_array.sh")
_PACKAGES = ("torch", "transformers", "tokenizers", "bitsandbytes", "numpy", "pillow")


def _largest(run: Run, samples: Sequence[Sample], n_values: int) -> Load:
    """The batch of the most tokens, with pictures of `n_values` numbers each."""
    loads = []
    for shard in run.shards:
        mine = dict(enumerate(samples[shard.start : shard.stop], start=shard.start))
        for batch in run.batches(mine):
            longest = max(n_tokens([mine[row] for row in rows]) for rows in batch)
            n_rows = [len(rows) for rows in batch]
            size = len(batch)
            loads.append(Load(size, longest, sum(n_rows), size * n_values, max(n_rows) > 1))
    return max(loads, key=lambda load: (load.n_sequences * load.n_tokens, load.n_tokens))


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
        Store(folder / "states.npy", layout, plan.identity()).create()
        run = Run(scratch / name, plan)
        job, scheduler = extract_job(run, profile), scheduler_of(profile)
        script = scheduler.script(job)
        write_text(script_path(Run(folder, plan), job.stage), script, executable=True)
        write_json(folder / "plan.json", plan.model_dump(mode="json"))
        try:
            folder.rename(run.folder)
        except OSError as error:
            raise RunError(f"{run.folder}: {error.strerror}; choose another --run") from None
    job.logs.mkdir(parents=True, exist_ok=True)
    write_text(work / SCRIPT, script, executable=True)
    return run, [scheduler.line(call, After()) for call in scheduler.calls(job, SCRIPT)]


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
