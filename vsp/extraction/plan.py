"""`vsp plan`: check everything that could fail later, then write the run's folder.

It opens every image, counts every prompt's tokens, reads the checkpoint's configuration and
reserves the disk space. The folder is built under a temporary name and renamed when complete.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any

from PIL import Image

from vsp import __version__, models
from vsp.choices import module_positions
from vsp.cluster.contract import After
from vsp.cluster.jobs import extract_job, scheduler_of, script_path
from vsp.cluster.shell import write_script
from vsp.config import Profile, parse
from vsp.datasets.image_copies import CopyFinder, ImageCopies
from vsp.datasets.metadata import read_samples
from vsp.datasets.picture_paths import PicturePaths, why_without_images
from vsp.datasets.provenance import variants_of
from vsp.errors import ConfigError, DatasetError, ModelError, RunError
from vsp.extraction.answer_options import NO_ANSWERS, OptionTexts, OptionTokens, too_many_options
from vsp.extraction.batches import n_row_tokens
from vsp.extraction.copied_rows import copy_notes, join_groups
from vsp.extraction.largest_batch import largest_batch
from vsp.extraction.plan_notes import (
    crop_notes,
    expert_notes,
    gpu_notes,
    label_notes,
    other_results_notes,
    unfinished_plan_notes,
)
from vsp.extraction.plan_request import RECORD, PlanRequest, request_key
from vsp.extraction.preflight import (
    CheckedImage,
    TokenCounter,
    check_images,
    check_prompts,
    check_rows,
)
from vsp.extraction.preprocess import make_picture
from vsp.extraction.run_names import check_name, new_name, stem_of
from vsp.extraction.same_rows import rows_of
from vsp.models.checkpoints import pinned
from vsp.models.contract import ModelShape, Outline, Processor, TowerShape
from vsp.models.fingerprint import fingerprint
from vsp.models.memory import Memory, estimate, outline
from vsp.models.placement import device_weights
from vsp.storage.layout import Layout
from vsp.storage.manifest import Manifest, Sample
from vsp.storage.plan import FORMAT, Answers, Plan, sealed_plan
from vsp.storage.run import Run
from vsp.utils.files import disk_errors, sync_folder, temporary_folder, write_json
from vsp.utils.garbage import garbage_collection_paused

SCRIPT = Path("jobs/extract_array.sh")
_PACKAGES = ("torch", "transformers", "tokenizers", "bitsandbytes", "numpy", "pillow")


@dataclass(frozen=True, slots=True)
class Planned:
    """A new run, and the facts that `vsp plan` prints about it."""

    run: Run
    first_prompt: str
    notes: tuple[str, ...]
    commands: tuple[str, ...]
    free_bytes: int
    memory: Memory | None  # needed on the device; None if the model's family cannot tell
    image_folders: tuple[Path, ...]  # outside the dataset, with pictures of it
    device_weights: tuple[int, ...] = ()  # bytes on each GPU of a fixed number; empty: not split


class CheckedDatasets:
    """The pictures of datasets that were checked for one plan, for further plans of them."""

    def __init__(self) -> None:
        self._checked: dict[tuple[str, ...], tuple[dict[str, CheckedImage], ImageCopies]] = {}

    def images(self, paths: Iterable[str]) -> tuple[dict[str, CheckedImage], ImageCopies]:
        """The facts of each image, and which are copies of each other."""
        key = tuple(paths)
        if key not in self._checked:
            with CopyFinder() as finder:
                self._checked[key] = check_images(key, finder), finder.find()
        return self._checked[key]


def plan_run(
    request: PlanRequest,
    work: Path,
    hold: Callable[[], None] = lambda: None,
    checked: CheckedDatasets | None = None,
) -> Planned:
    """Plan a run under `work`. Raises a VspError if it cannot, and then leaves nothing behind.

    `hold` is called when everything is written, before the run's folder gets its name: a signal from
    there on must wait, since it would leave a whole run behind. `checked` is shared by several plans.
    """
    if request.name is not None:
        check_name(request.name, work)
    marker = models.region_marker(request.model)
    with garbage_collection_paused():
        samples, labels, prompt = read_samples(request.dataset, request.prompt, marker)
    shape = models.shape(request.model)
    tower = models.tower_shape(request.model) if "vision" in request.modules else None
    # Tasks load the revision of the checkpoint that is checked here.
    request = replace(request, model=pinned(request.model))
    key = request_key(request)
    processor = models.check(request.model)
    # A template may print the date, so tasks get the text that was rendered here.
    framed = request.model.model_copy(update={"frame": processor.frame})
    request = replace(request, model=framed)
    check_prompts(samples, processor, request.model.family, marker)
    model = outline(request.model)
    weights = _device_weights(request, model)
    moved = request.rows_of is None and request.share and _sort_by_image(samples)
    if request.rows_of is not None:
        samples[:] = rows_of(request.rows_of, samples, work)
    elif request.limit is not None:
        del samples[request.limit :]
    images, copies = _checked_images(request, samples, checked or CheckedDatasets())
    notes: list[str] = []
    options = _option_tokens(request, samples, labels, processor, notes)
    positions = (*request.positions, *module_positions(request.modules, request.positions))
    counter = TokenCounter(processor, request.share, options, positions)
    notes += check_rows(samples, images, counter, request.drop_unreadable)
    answers = _answers(request, samples, options, counter, notes)
    if processor.crops:
        notes += crop_notes(images.values(), request.model.family)
    notes += _joined_copies(request, samples, copies)
    if moved:
        notes.append("rows about one image were moved together; ids identify the rows")
    notes += label_notes(samples)
    notes += gpu_notes(request.profile, request.devices) + expert_notes(model, request.model)
    notes += unfinished_plan_notes(work / "scratch")
    layout, starts = plan_shards(request, shape, tower, len(samples), answers is not None, notes)
    values = _plan_values(request, labels, prompt, shape, layout, starts, samples, answers)
    if tower is not None:
        values |= {"tower_layers": tower.n_layers, "tower_width": tower.width}
    values["name"] = request.name or _default_name(request, values, work, notes)
    with disk_errors(work / "scratch"):
        run, commands = _write_run(values, samples, layout, request.profile, work, hold, key)
    notes += other_results_notes(run)
    free = shutil.disk_usage(run.folder).free
    load = largest_batch(run, samples, counter.n_values)
    memory = estimate(model, request.model.quantized_as, load) if model is not None else None
    others = PicturePaths(request.dataset).other_folders
    first_prompt = samples[0].prompt
    return Planned(run, first_prompt, tuple(notes), tuple(commands), free, memory, others, weights)


def _option_tokens(
    request: PlanRequest,
    samples: Sequence[Sample],
    labels: Sequence[str],
    processor: Processor,
    notes: list[str],
) -> OptionTokens | None:
    """What finds the tokens of the options; None if the run stores no answers.

    A note is added if rows have too many options for the default, or if the checkpoint has no head.
    Raises ConfigError for an option of the command that needs answers, without answers, and for more
    options than a run can store, ModelError for such an option without a head.
    """
    asked = bool(request.answers or request.lens or request.answer_start != "auto")
    if request.answers is False:
        if asked:
            option = "--lens" if request.lens else f"--answer-start {request.answer_start}"
            raise ConfigError(f"{option} is about stored answers; leave out --no-answers")
        return None
    if problem := too_many_options(samples, labels, asked):
        notes.append(problem)
        return None
    if not models.has_head(request.model):
        no_head = f"checkpoint {request.model.checkpoint!r} has no head that predicts tokens"
        if asked:
            raise ModelError(f"{no_head} (lm_head); use a whole checkpoint, or --no-answers alone")
        notes.append(f"{NO_ANSWERS}: {no_head} (lm_head)")
        return None
    blank = make_picture(processor, Image.new("RGB", (64, 64)))  # text around it is always the same
    texts = OptionTexts.of(request.answer_start, labels, blank.around[1])
    return OptionTokens(processor, texts, required=asked)


def _answers(
    request: PlanRequest,
    samples: list[Sample],
    options: OptionTokens | None,
    counter: TokenCounter,
    notes: list[str],
) -> Answers | None:
    """What the plan says about the options, once all rows are counted; a note if it is nothing."""
    if counter.why_no_answers:
        notes.append(counter.why_no_answers)
        samples[:] = [replace(sample, option_tokens=()) for sample in samples]
        return None
    return None if options is None else options.answers(samples, request.lens)


def _checked_images(
    request: PlanRequest, samples: Sequence[Sample], checked: CheckedDatasets
) -> tuple[dict[str, CheckedImage], ImageCopies]:
    """The facts of each image, and which are copies of each other.

    Raises DatasetError if the dataset has no image at all.
    """
    paths = dict.fromkeys(sample.image for sample in samples)
    why = why_without_images(request.dataset, paths)
    if why:
        raise DatasetError(why)
    return checked.images(paths)


def _joined_copies(request: PlanRequest, samples: list[Sample], copies: ImageCopies) -> list[str]:
    """Put the rows about copies into one group, in place, unless they are kept; notes about them."""
    if request.rows_of is not None:  # it decided the groups
        return []
    notes = copy_notes(samples, copies, request.keep_copies)
    if not request.keep_copies:
        join_groups(samples, copies)
    return notes


def plan_shards(
    request: PlanRequest,
    shape: ModelShape,
    tower: TowerShape | None,
    n_samples: int,
    with_answers: bool,
    notes: list[str],
) -> tuple[Layout, list[int]]:
    """The store's layout and each shard's first row.

    Adds a note to `notes` if there are fewer shards than requested.
    """
    dtype = request.store_dtype or ("float32" if shape.dtype == "float32" else "float16")
    n_shards = request.n_shards or -(-n_samples // request.shard_size)
    beside = () if tower is None else (tower.width,)
    sizes = shape.n_layers, n_samples, shape.hidden_size
    layout = Layout.choose(*sizes, dtype, n_shards, with_answers, beside)
    starts = layout.shard_starts(n_shards, beside)
    if len(starts) < n_shards:
        period = (layout.cuts(beside) or (0, layout.period))[1]
        notes.append(
            f"{len(starts)} shards, not {n_shards}: shards begin every {period} rows, "
            f"where a page of {layout.boundary} bytes can begin"
        )
    return layout, starts


def _device_weights(request: PlanRequest, model: Outline | None) -> tuple[int, ...]:
    """Bytes of weights on each GPU; empty if their number is not fixed or the model is not split.

    Raises ModelError if the model cannot be split over that many.
    """
    if request.devices == 1:
        return ()
    if model is None or not models.load_family(request.model.family).splits:
        raise ModelError(
            f"devices {request.devices}: model {request.model.family} cannot be split over GPUs; "
            "leave out --devices"
        )
    if request.devices == "auto":
        return ()
    return device_weights(model, request.model.quantized_as, request.devices)


def _plan_values(
    request: PlanRequest,
    labels: Sequence[str],
    prompt: str,
    shape: ModelShape,
    layout: Layout,
    starts: Sequence[int],
    samples: Sequence[Sample],
    answers: Answers | None,
) -> dict[str, Any]:
    """The fields of the plan, except those of the manifest, which is not written yet."""
    return {
        "format": FORMAT,
        "id": uuid.uuid4().hex,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "vsp": __version__,
        "packages": {package: version(package) for package in _PACKAGES},
        "dataset": os.path.abspath(request.dataset),  # noqa: PTH100 - links stay links
        "variants": variants_of(request.dataset),
        "model": request.model,
        "checkpoint_files": fingerprint(request.model),
        "image_backend": "pil",
        "batch_size": request.batch_size,
        "share": request.share,
        "devices": request.devices,
        "labels": labels,
        "prompt": prompt,
        "compute_dtype": shape.dtype,
        "n_samples": layout.n_samples,
        "n_layers": layout.n_layers,
        "hidden_size": layout.hidden_size,
        "dtype": layout.dtype,
        "boundary": layout.boundary,
        "shard_starts": starts,
        "batch_tokens": request.batch_size * max(n_row_tokens(answers, one) for one in samples),
        "positions": request.positions,
        "modules": request.modules,
        "answers": answers,
    }


def _default_name(
    request: PlanRequest, values: dict[str, Any], work: Path, notes: list[str]
) -> str:
    """An unused name, made of what the user typed; a note if another run has the first choice."""
    stem = stem_of(request.model, request.model_name, request.dataset)
    n_shards = len(values["shard_starts"])
    manifest = {"manifest_offsets": (0,) * (n_shards + 1), "manifest_sha256": ("",) * n_shards}
    name, note = new_name(stem, parse(Plan, {**values, **manifest, "name": stem}, "plan"), work)
    notes += [note] if note else []
    return name


@garbage_collection_paused()
def _write_run(
    values: dict[str, Any],
    samples: Sequence[Sample],
    layout: Layout,
    profile: Profile,
    work: Path,
    hold: Callable[[], None],
    key: str,
) -> tuple[Run, list[str]]:
    """Write the run's folder and its batch script. Returns the run and the submit commands."""
    scratch, name = work / "scratch", values["name"]
    scratch.mkdir(parents=True, exist_ok=True)
    with temporary_folder(scratch, f".{name}.") as aside:
        folder = aside / name
        for part in (folder, folder / "journal", folder / "logs"):
            part.mkdir()
        starts = (*values["shard_starts"], len(samples))
        manifest = Manifest.write(folder / "manifest.jsonl", samples, starts)
        written = {"manifest_offsets": manifest.offsets, "manifest_sha256": manifest.digests}
        plan = parse(Plan, {**values, **written}, "plan")
        run = Run(scratch / name, plan)
        for store in Run(folder, plan).stores.values():
            store.create()
        job, scheduler = extract_job(run, profile), scheduler_of(profile)
        script = scheduler.script(job)
        write_script(script_path(Run(folder, plan), job.stage), script)
        write_json(folder / "plan.json", sealed_plan(plan))
        write_json(folder / RECORD, {"sha256": key})
        hold()
        try:
            folder.rename(run.folder)
            sync_folder(scratch)
        except OSError as error:
            raise RunError(f"{run.folder}: {error.strerror}; choose another --run") from None
    try:
        job.logs.mkdir(parents=True, exist_ok=True)
        write_script(work / SCRIPT, script)
    except BaseException:
        shutil.rmtree(run.folder)
        raise
    return run, [scheduler.line(call, After()) for call in scheduler.calls(job, SCRIPT)]


def _sort_by_image(samples: list[Sample]) -> bool:
    """Sort rows in place so that those about one image are neighbours; images keep their order.

    Returns whether any row moved.
    """
    places: dict[str, int] = {}
    for sample in samples:
        places.setdefault(sample.image, len(places))
    ordered = all(places[one.image] <= places[next_.image] for one, next_ in pairwise(samples))
    samples.sort(key=lambda sample: places[sample.image])
    return not ordered
