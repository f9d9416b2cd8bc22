"""A run on disk: `scratch/NAME/` with its plan, its manifest, its store and its journals."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from vsp.config import Frozen, ModelConfig, Name, StoreDtype, parse
from vsp.errors import ConfigError, RunError
from vsp.storage.array import Layout, Store
from vsp.storage.ledger import Ledger, read_ledger, read_ledgers
from vsp.storage.manifest import Manifest, Sample
from vsp.utils.files import json_matches, json_sha256

FORMAT = 3
_NOT_IDENTITY = {"id", "name", "created", "vsp", "packages", "dataset", "variants"}


class Plan(Frozen):
    """Everything that decides what a run computes; written once, never changed.

    The file also holds the SHA-256 of all this, so that an edit is not taken for the plan.
    """

    format: Literal[3]
    id: str
    name: Name
    created: str
    vsp: str
    packages: dict[str, str]
    dataset: str
    variants: tuple[str, ...] = ()  # what the dataset is of another; see vsp.datasets.VARIANTS
    labels: tuple[str, ...]
    prompt: str
    model: ModelConfig
    checkpoint_files: dict[str, str]  # see vsp.models.fingerprint
    compute_dtype: str
    image_backend: Literal["pil"]
    manifest_offsets: tuple[int, ...]  # bytes: where each shard's lines begin; the file's length
    manifest_sha256: tuple[str, ...]  # of each shard's lines
    n_samples: Annotated[int, Field(ge=1)]
    n_layers: Annotated[int, Field(ge=1)]
    hidden_size: Annotated[int, Field(ge=1)]
    dtype: StoreDtype
    boundary: Annotated[int, Field(ge=4096)]
    shard_starts: Annotated[tuple[int, ...], Field(min_length=1)]
    batch_size: Annotated[int, Field(ge=1)]  # of the longest rows, if each were by itself
    batch_tokens: Annotated[int, Field(ge=1)]  # as many at once, padding included
    share: bool  # whether rows about one image share its work

    def identity(self) -> str:
        """SHA-256 of what decides the bytes of the store: equal plans give equal files."""
        return sha256(self.model_dump_json(exclude=_NOT_IDENTITY).encode()).hexdigest()


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
        except OSError as error:
            raise RunError(f"{path}: cannot be read ({error.strerror}); name a run") from None
        except (ValueError, RecursionError) as error:
            raise RunError(f"{path}: is not JSON ({error}); plan the run again") from None
        found = values.get("format") if isinstance(values, dict) else None
        if found != FORMAT:
            raise RunError(f"{path}: {_other_format(found)}")
        digest = values.pop("sha256", None)
        if not json_matches(values, digest):
            raise RunError(f"{path}: was edited; plan the run again")
        try:
            return cls(folder, parse(Plan, values, str(path)))
        except ConfigError as error:
            raise RunError(f"{error}; plan the run again") from None

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
        return Store(self.folder.absolute() / "states.npy", layout, plan.identity())

    @property
    def journals(self) -> Path:
        return self.folder / "journal"

    @cached_property
    def manifest(self) -> Manifest:
        plan = self.plan
        starts = (*plan.shard_starts, plan.n_samples)
        path = self.folder / "manifest.jsonl"
        return Manifest(path, starts, plan.manifest_offsets, plan.manifest_sha256)

    def samples(self, shard: Shard) -> list[Sample]:
        """The shard's rows. Raises RunError if they are not those that were planned."""
        return list(self.manifest.rows(shard.start, shard.stop))

    def all_samples(self) -> list[Sample]:
        """Every row. Raises RunError if they are not those that were planned."""
        return list(self.manifest.rows())

    def check_checkpoint(self, found: Mapping[str, str]) -> None:
        """Raise RunError unless the checkpoint's files, as `fingerprint` finds them, are those
        that were planned with."""
        planned = self.plan.checkpoint_files
        for name in sorted({*planned, *found}):
            if planned.get(name) != found.get(name):
                new_or_changed = "was changed" if name in planned else "is new"
                what = new_or_changed if name in found else "is gone"
                raise RunError(
                    f"run {self.name}: {name} of checkpoint {self.plan.model.checkpoint!r} {what} "
                    "since the plan; put back what was there, or plan the run again"
                )

    def ledger(self, shard: Shard) -> Ledger:
        return read_ledger(self.journals, self.plan.id, shard.index, shard.start, shard.stop)

    def ledgers(self, shards: Sequence[Shard] | None = None) -> list[Ledger]:
        """Of these shards, by default all, in their order; the folder is listed once."""
        asked = self.shards if shards is None else shards
        bounds = {shard.index: (shard.start, shard.stop) for shard in asked}
        return read_ledgers(self.journals, self.plan.id, bounds)


def sealed_plan(plan: Plan) -> dict[str, Any]:
    """The contents of plan.json: the plan and the SHA-256 of its values."""
    values = plan.model_dump(mode="json")
    return {**values, "sha256": json_sha256(values)}


def _other_format(found: object) -> str:
    if not isinstance(found, int):
        return f"has format {found!r}, this vsp reads {FORMAT}; plan the run again"
    age, then = ("an older", "plan the run again") if found < FORMAT else ("a newer", "update vsp")
    return f"was planned by {age} vsp (format {found}, this one reads {FORMAT}); {then}"


def find_run(name: str | None, work: Path) -> Run:
    """The run of that name (or path), or the newest in `scratch/`. Raises RunError if none is."""
    if name is not None:
        return Run.open(Path(name) if "/" in name else work / "scratch" / name)
    plans = list((work / "scratch").glob("*/plan.json"))
    if not plans:
        raise RunError(f"{work / 'scratch'}: holds no run; `vsp plan` makes one")
    return Run.open(max(plans, key=lambda path: path.stat().st_mtime_ns).parent)
