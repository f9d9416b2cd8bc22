"""`vsp steer` and `vsp patch`: plan a run of effects, on rows of a run that is planned already."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vsp import __version__, models
from vsp.config import Profile, parse
from vsp.errors import ModelError, RunError
from vsp.extraction.batches import cut_batches, n_group_tokens, n_row_tokens
from vsp.extraction.effects_batches import row_tokens
from vsp.extraction.patch_places import PlaceCounter, positions_of
from vsp.extraction.plan import PACKAGES
from vsp.extraction.run_folder import NewRun, write_folders
from vsp.extraction.run_names import check_name, new_name
from vsp.models.fingerprint import fingerprint
from vsp.storage.changes import write_changes
from vsp.storage.effects import CHANGES, DONORS, NONE, TARGETS, Effects, Kind, Setting
from vsp.storage.layout import Layout
from vsp.storage.manifest import Manifest, Sample
from vsp.storage.plan import FORMAT, Plan
from vsp.storage.run import Run
from vsp.utils.files import disk_errors

_UNITS = tuple(256 << k for k in range(5))  # bytes to a multiple of which rows may be padded
_NO_DIGEST = "0" * 64  # of a file that is not written yet


@dataclass(frozen=True, slots=True)
class EffectsRequest:
    """A run of effects: rows of another run, and the changes of their states."""

    run: Run
    kind: Kind
    layers: tuple[int, ...]
    position: str  # of the changed tokens; empty of a patch
    settings: tuple[Setting, ...]  # without that of no change
    rows: NDArray[np.intp]  # of the run
    targets: NDArray[np.int64]  # [row], index of the target option; -1: none
    changes: Mapping[str, NDArray[Any]]  # arrays for changes.npz
    seed: int
    variant: Run | None = None  # of a patch
    donors: Sequence[int] = ()  # of a patch: the variant's row for each of the rows
    name: str | None = None
    n_shards: int | None = None  # None: as many as the run has
    profile: Profile = field(default_factory=Profile)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of tokens that are changed."""
        if self.kind == "patch":
            return tuple(one.name for one in self.settings)
        return (self.position,)


@dataclass(frozen=True, slots=True)
class PlannedEffects:
    """A new run of effects, and the facts that its plan prints."""

    run: Run
    notes: tuple[str, ...]
    commands: tuple[str, ...]
    free_bytes: int
    n_tokens: int  # that go through the model
    relative_cost: float  # these over the tokens of the extraction of the run

    @property
    def n_bytes(self) -> int:
        return sum(store.layout.n_bytes for store in self.run.stores.values())


def check_can_change(run: Run, command: str) -> None:
    """Raise an error unless the states of a run can be changed while its answers are computed."""
    run.require_planned(command)
    run.require_states(command)
    if run.plan.answers is None:
        raise RunError(
            f"run {run.name}: stores no answers, whose change `vsp {command}` measures; plan it with "
            "--answers"
        )
    family = run.plan.model.family
    if not models.load_family(family).takes_edits:
        raise ModelError(
            f"model {family}: its states cannot be changed; use a run of another model"
        )


def plan_effects(
    request: EffectsRequest, work: Path, hold: Callable[[], None] = lambda: None
) -> PlannedEffects:
    """Plan a run of effects under `work`. Raises a VspError if it cannot, and leaves nothing behind.

    `hold` is called when everything is written, before the run's folder gets its name.
    """
    run = request.run
    if request.name is not None:
        check_name(request.name, work)
    run.check_checkpoint(fingerprint(run.plan.model))
    samples, donors, notes = _rows(request)
    effects = _effects(request)
    boundary, starts = _shards(request, effects, len(samples), notes)
    values = _plan_values(request, samples, boundary, starts)
    values["name"] = request.name or _default_name(request, values, effects, work, notes)

    def write_more(folder: Path) -> Mapping[str, Any]:
        arrays = {**request.changes, TARGETS: request.targets}
        more: dict[str, Any] = {"changes_sha256": write_changes(folder / CHANGES, arrays)}
        if donors:
            written = Manifest.write(folder / DONORS, donors, (*starts, len(donors)))
            more |= {"donor_offsets": written.offsets, "donor_sha256": written.digests}
        return {"effects": Effects.model_validate({**effects, **more})}

    with disk_errors(work / "scratch"):
        new = NewRun(values, samples, request.profile, None, write_more)
        ((planned, commands),) = write_folders([new], work, hold)
    n_tokens = _n_tokens(planned.plan, samples, donors)
    return PlannedEffects(
        planned,
        tuple(notes),
        tuple(commands),
        shutil.disk_usage(planned.folder).free,
        n_tokens,
        n_tokens / _n_tokens_of_states(run),
    )


def _rows(request: EffectsRequest) -> tuple[list[Sample], list[Sample], list[str]]:
    """The samples, for a patch the paired ones, and notes about rows that cannot be changed."""
    run, variant = request.run, request.variant
    processor = models.read_processor(run.plan.model)
    counter = PlaceCounter(processor, request.names)
    every = run.all_samples()
    samples = [counter.count(every[row], run.name) for row in request.rows]
    if variant is None:
        return samples, [], []
    others = variant.all_samples()
    donors = [counter.count(others[row], variant.name) for row in request.donors]
    return samples, donors, _unequal_notes(request.names, samples, donors)


def _unequal_notes(
    names: Sequence[str], samples: Sequence[Sample], donors: Sequence[Sample]
) -> list[str]:
    """A note for each name of tokens of which pairs have none, or different numbers."""
    notes = []
    for name in names:
        pairs = zip(samples, donors, strict=True)
        n_failing = sum(not _is_equal(name, sample, donor) for sample, donor in pairs)
        if n_failing:
            notes.append(
                f"tokens {name}: {n_failing:,} of {len(samples):,} rows have none, or not as many as "
                "their paired rows; these rows will be marked as failed"
            )
    return notes


def _is_equal(name: str, sample: Sample, donor: Sample) -> bool:
    if name == "all":
        return sample.n_tokens == donor.n_tokens
    if name in ("last", "subject", "reference"):
        return True
    # The tokens of two boxes may overlap, which the extraction finds.
    counts, others = (
        [dict(one.tokens_of).get(position) for position in positions_of([name])]
        for one in (sample, donor)
    )
    return counts == others and any(counts)


def _effects(request: EffectsRequest) -> dict[str, Any]:
    """The fields of `Effects`, but those of files that are not written yet."""
    variant = request.variant
    of_variant = {}
    if variant is not None:
        of_variant = {"variant": variant.name, "variant_id": variant.plan.identity()}
    return {
        "kind": request.kind,
        "run": request.run.name,
        "run_id": request.run.plan.identity(),
        **of_variant,
        "layers": request.layers,
        "position": request.position,
        "settings": (Setting(name=NONE, scale=0.0), *request.settings),
        "seed": request.seed,
    }


def _shards(
    request: EffectsRequest, effects: Mapping[str, Any], n_rows: int, notes: list[str]
) -> tuple[int, list[int]]:
    """The boundary of pages and the first row of each shard.

    A note is added to `notes` if there are fewer shards than asked for.
    """
    answers, wanted = request.run.plan.answers, request.n_shards
    n_options = 0 if answers is None else answers.n_options
    width = Effects.model_construct(**effects).row_width(n_options)
    n_shards = min(wanted or len(request.run.shards), n_rows)
    layouts = [
        Layout.choose(1, n_rows, _padded(width, unit), "float32", n_shards) for unit in _UNITS
    ]
    # The least padding with which shards are even, as `Layout.choose` counts it.
    layout = next((one for one in layouts if one.has_even_shards(n_shards)), layouts[-1])
    starts = layout.shard_starts(n_shards)
    if wanted is not None and len(starts) < wanted:
        notes.append(f"{len(starts)} shards, not {wanted}: there are {n_rows} rows")
    return layout.boundary, starts


def _padded(width: int, unit: int) -> int:
    """The numbers of a row that is padded to a multiple of `unit` bytes."""
    n_bytes = width * np.dtype("float32").itemsize
    return -(-n_bytes // unit) * unit // np.dtype("float32").itemsize


def _plan_values(
    request: EffectsRequest, samples: Sequence[Sample], boundary: int, starts: Sequence[int]
) -> dict[str, Any]:
    """The fields of the plan, except its name, its effects and those of the manifest."""
    plan = request.run.plan
    answers = _without_lens(plan)
    n_tokens = max(n_row_tokens(answers, one) for one in samples)
    return {
        **{name: getattr(plan, name) for name in _OF_THE_RUN},
        "format": FORMAT,
        "id": uuid.uuid4().hex,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "vsp": __version__,
        "packages": {package: version(package) for package in PACKAGES},
        "n_samples": len(samples),
        "dtype": "float32",
        "boundary": boundary,
        "shard_starts": starts,
        "batch_tokens": max(plan.batch_tokens, n_tokens),
        "answers": answers,
    }


# Fields of the plan of an effects run that are those of the run with the states.
_OF_THE_RUN = (
    "dataset", "variants", "labels", "prompt", "model", "checkpoint_files", "compute_dtype",
    "image_backend", "n_layers", "hidden_size", "batch_size", "share", "devices",
)  # fmt: skip


def _without_lens(plan: Plan) -> Any:
    """The answers of a plan, without those read from every layer."""
    return None if plan.answers is None else plan.answers.model_copy(update={"lens": False})


def _default_name(
    request: EffectsRequest,
    values: dict[str, Any],
    effects: Mapping[str, Any],
    work: Path,
    notes: list[str],
) -> str:
    """RUN-steer, RUN-patch or RUN-erase; with what differs if there is such a run already."""
    stem = f"{request.run.name}-{request.kind}"[:90]
    n_shards = len(values["shard_starts"])
    manifest = {"manifest_offsets": (0,) * (n_shards + 1), "manifest_sha256": ("",) * n_shards}
    donors = {}
    if request.variant is not None:
        donors = {"donor_offsets": (0,) * (n_shards + 1), "donor_sha256": ("",) * n_shards}
    more = {**effects, **donors, "changes_sha256": _NO_DIGEST}
    plan = parse(Plan, {**values, **manifest, "name": stem, "effects": more}, "plan")
    name, note = new_name(stem, plan, work)
    notes += [note] if note else []
    return name


def _n_tokens(plan: Plan, samples: Sequence[Sample], donors: Sequence[Sample]) -> int:
    """Tokens that the effects of all rows take through the model."""
    if plan.effects is None:
        return 0
    paired: Sequence[Sample | None] = donors or [None] * len(samples)
    pairs = zip(samples, paired, strict=True)
    return sum(row_tokens(plan, plan.effects, sample, donor) for sample, donor in pairs)


def _n_tokens_of_states(run: Run) -> int:
    """Tokens that the extraction of a run takes through the model."""
    plan, total = run.plan, 0
    for shard in run.shards:
        samples = dict(enumerate(run.samples(shard), start=shard.start))
        for batch in cut_batches([plan], samples):
            for group in batch:
                lengths = [n_row_tokens(plan.answers, samples[row]) for row in group]
                total += n_group_tokens(samples[group[0]].n_shared, lengths)
    return total
