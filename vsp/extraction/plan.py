"""`vsp plan`: check everything that could fail later, then write the run's folder.

It opens every image, counts every prompt's tokens, reads the checkpoint's configuration and
reserves the disk space. The folder is built under a temporary name and renamed when complete.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from vsp import __version__, models
from vsp.config import parse
from vsp.datasets.metadata import read_samples
from vsp.datasets.picture_paths import PicturePaths
from vsp.datasets.provenance import variants_of
from vsp.errors import ModelError
from vsp.extraction.batches import n_row_tokens
from vsp.extraction.largest_batch import largest_batch
from vsp.extraction.plan_notes import (
    expert_notes,
    gpu_notes,
    other_results_notes,
    unfinished_plan_notes,
)
from vsp.extraction.plan_request import PlanRequest, request_key
from vsp.extraction.planned_rows import CheckedDatasets, CheckedRows, checked_rows
from vsp.extraction.preflight import (
    check_prompts,
)
from vsp.extraction.run_folder import NewRun, write_folders
from vsp.extraction.run_names import check_name, new_name, stem_of
from vsp.models.checkpoints import pinned
from vsp.models.contract import ModelShape, Outline, Processor, TowerShape
from vsp.models.fingerprint import fingerprint
from vsp.models.memory import Load, Memory, estimate, outline
from vsp.models.placement import device_weights
from vsp.storage.layout import Layout
from vsp.storage.manifest import Sample
from vsp.storage.plan import FORMAT, Member, Plan
from vsp.storage.run import Run
from vsp.utils.files import disk_errors
from vsp.utils.garbage import garbage_collection_paused

PACKAGES = ("torch", "transformers", "tokenizers", "bitsandbytes", "numpy", "pillow")


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
    draft = draft_run(request, work, checked or CheckedDatasets())
    (planned,) = write_runs([draft], work, hold)
    return planned


@dataclass(frozen=True, slots=True)
class Draft:
    """A plan that is checked and not written yet."""

    model: _CheckedModel
    rows: CheckedRows
    values: dict[str, Any]  # of the plan, without those of the manifest
    layout: Layout
    notes: list[str]
    device_weights: tuple[int, ...]

    @property
    def name(self) -> str:
        """The name of the run."""
        return str(self.values["name"])


def draft_run(
    request: PlanRequest, work: Path, checked: CheckedDatasets, others: Collection[Draft] = ()
) -> Draft:
    """Check everything of a plan. Raises a VspError if the run cannot be planned. Writes nothing.

    `others` will be written too, so that their names are used.
    """
    marker = models.region_marker(request.model)
    with garbage_collection_paused():
        samples, labels, prompt = read_samples(request.dataset, request.prompt, marker)
    model = _checked_model(request, samples, marker)
    request = model.request
    weights = _device_weights(request, model.outline)
    rows = checked_rows(request, model.processor, samples, labels, work, checked)
    notes = [*rows.notes, *_notes_about_tasks(model), *unfinished_plan_notes(work / "scratch")]
    shape, n_rows, with_answers = model.shape, len(samples), rows.answers is not None
    layout, starts = plan_shards(request, shape, model.tower, n_rows, with_answers, notes)
    values = _plan_values(model, labels, prompt, layout, starts, rows)
    values["name"] = request.name or _default_name(
        request, values, work, notes, {one.name: _without_rows(one.values) for one in others}
    )
    return Draft(model, rows, values, layout, notes, weights)


def write_runs(
    drafts: Sequence[Draft],
    work: Path,
    hold: Callable[[], None] = lambda: None,
    members: Sequence[Member] = (),
) -> list[Planned]:
    """Write the runs of drafts; several are extracted together. Raises a VspError as `plan_run` does.

    With `members`, the runs were planned before, are lost, and get their old places among these.
    """
    new = [
        NewRun(one.values, one.rows.samples, one.model.request.profile, one.model.key)
        for one in drafts
    ]
    with disk_errors(work / "scratch"):
        written = write_folders(new, work, hold, members)
    runs = [run for run, _ in written]
    load = largest_batch(
        runs, [one.rows.samples for one in drafts], max(one.rows.counter.n_values for one in drafts)
    )
    return [
        Planned(
            run,
            draft.rows.samples[0].prompt,
            (*draft.notes, *other_results_notes(run)),
            tuple(commands),
            shutil.disk_usage(run.folder).free,
            _memory(draft.model, load),
            PicturePaths(draft.model.request.dataset).other_folders,
            draft.device_weights,
        )
        for draft, (run, commands) in zip(drafts, written, strict=True)
    ]


@dataclass(frozen=True, slots=True)
class _CheckedModel:
    """The model of a plan, and the request as tasks carry it out."""

    request: PlanRequest  # with the revision of the checkpoint and its chat template
    key: str  # equal plans have the same key
    processor: Processor
    shape: ModelShape
    tower: TowerShape | None  # None: its states are not stored
    outline: Outline | None  # None: the model's family has none


def _checked_model(request: PlanRequest, samples: Sequence[Sample], marker: str) -> _CheckedModel:
    """Check the checkpoint, and that it takes the prompts. Raises a VspError if it cannot be used."""
    shape = models.shape(request.model)
    tower = models.tower_shape(request.model) if "vision" in request.modules else None
    # Tasks load the revision of the checkpoint that is checked here.
    request = replace(request, model=pinned(request.model))
    key = request_key(request)
    processor = models.check(request.model)
    # A template may print the date, so tasks get the text that was rendered here.
    framed = request.model.model_copy(update={"frame": processor.frame})
    request = replace(request, model=framed)
    check_prompts(samples, processor, framed.family, marker)
    return _CheckedModel(request, key, processor, shape, tower, outline(framed))


def _notes_about_tasks(model: _CheckedModel) -> list[str]:
    """Notes about tasks of this profile and this model."""
    request = model.request
    gpu = gpu_notes(request.profile, request.devices)
    return [*gpu, *expert_notes(model.outline, request.model)]


def _memory(model: _CheckedModel, load: Load) -> Memory | None:
    """The memory that the device needs; None if the model's family cannot tell."""
    if model.outline is None:
        return None
    return estimate(model.outline, model.request.model.quantized_as, load)


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
    model: _CheckedModel,
    labels: Sequence[str],
    prompt: str,
    layout: Layout,
    starts: Sequence[int],
    rows: CheckedRows,
) -> dict[str, Any]:
    """The fields of the plan, except its name and those of the manifest, which is not written yet."""
    request, tower = model.request, model.tower
    n_tokens = max(n_row_tokens(rows.answers, one) for one in rows.samples)
    of_tower = {} if tower is None else {"tower_layers": tower.n_layers, "tower_width": tower.width}
    return {
        "format": FORMAT,
        "id": uuid.uuid4().hex,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "vsp": __version__,
        "packages": {package: version(package) for package in PACKAGES},
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
        "compute_dtype": model.shape.dtype,
        "n_samples": layout.n_samples,
        "n_layers": layout.n_layers,
        "hidden_size": layout.hidden_size,
        "dtype": layout.dtype,
        "boundary": layout.boundary,
        "shard_starts": starts,
        "batch_tokens": request.batch_size * n_tokens,
        "positions": request.positions,
        "modules": request.modules,
        "answers": rows.answers,
        **of_tower,
    }


def _default_name(
    request: PlanRequest,
    values: dict[str, Any],
    work: Path,
    notes: list[str],
    others: Mapping[str, Plan],
) -> str:
    """An unused name, made of what the user typed; a note if another run has the first choice."""
    stem = stem_of(request.model, request.model_name, request.dataset)
    name, note = new_name(stem, _without_rows({**values, "name": stem}), work, others)
    notes += [note] if note else []
    return name


def _without_rows(values: Mapping[str, Any]) -> Plan:
    """The plan of a run whose manifest is not written yet."""
    n_shards = len(values["shard_starts"])
    manifest = {"manifest_offsets": (0,) * (n_shards + 1), "manifest_sha256": ("",) * n_shards}
    return parse(Plan, {**values, **manifest}, "plan")
