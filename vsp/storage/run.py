"""A run on disk: `scratch/NAME/` with its plan, manifest, store and journals."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from difflib import get_close_matches
from functools import cached_property
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, model_validator

from vsp.choices import LAST, Module, Position, module_positions, split_position
from vsp.config import NAME_PATTERN, Devices, Frozen, ModelConfig, Name, StoreDtype, parse
from vsp.errors import ConfigError, RunError
from vsp.storage.array import Store
from vsp.storage.convention import LayerConvention
from vsp.storage.imported import Imported
from vsp.storage.layout import BOUNDARIES, Layout
from vsp.storage.ledger import Ledger, read_ledgers
from vsp.storage.manifest import Manifest, Sample
from vsp.utils.files import json_matches, json_sha256
from vsp.utils.prefixes import proper_prefixes
from vsp.utils.reading import read_json, unreadable

FORMAT = 4
_READABLE = (3, FORMAT)  # runs of format 3 have neither positions nor answers
_READ_FORMATS = " and ".join(map(str, _READABLE))
# `devices` says how a run is computed, not what: a layer is computed whole on one GPU, so a split
# changes no arithmetic. Like the packages and the kind of GPU, it may change last bits at most.
_NOT_IDENTITY = {"id", "name", "created", "vsp", "packages", "dataset", "variants", "devices"}
# Keys of the model that older plans do not have. They count where they are used, so that the
# identity of an older plan stays what it was.
_LATER_OF_MODEL = ("adapter", "frame", "stored_quantization")
# Likewise, keys of the plan, and their values in a plan that does not have them.
_LATER = {
    "positions": ("last",),
    "answers": None,
    "modules": (),
    "tower_layers": 0,
    "tower_width": 0,
    "imported": None,
}
# A plan.json may come from a stranger. These bounds are far above any real run, and keep what is
# computed from them alone, such as one byte for each row, small.
_MIN_ROW = 100  # bytes of a row in the manifest; the names of its keys alone take more
_MAX_LAYERS, _MAX_SAMPLES, _MAX_HIDDEN, MAX_OPTIONS = 10**6, 10**8, 2**24, 1000


class Option(Frozen):
    """An answer option: its text as it joins the prompt, and its tokens there."""

    text: str
    tokens: Annotated[tuple[Annotated[int, Field(ge=0, le=2**31)], ...], Field(min_length=1)]


class Answers(Frozen):
    """The log-likelihoods of options that a run stores."""

    start: str  # how an option joins the prompt; see vsp.extraction.answer_options
    n_options: Annotated[int, Field(ge=1, le=MAX_OPTIONS)]  # most of any row
    options: tuple[Option, ...] = ()  # of every row; empty: each line of the manifest has its own
    lens: bool = False  # also read from every layer, into lens.npy

    @model_validator(mode="after")
    def _check_options(self) -> Answers:
        if self.options and len(self.options) != self.n_options:
            raise ValueError(f"n_options: is not the number of the {len(self.options)} options")
        return self

    @cached_property
    def n_tokens(self) -> int:
        """Tokens that the common options add to a row; read for each of a million rows."""
        return len(proper_prefixes(option.tokens for option in self.options))

    def texts_of(self, sample: Sample) -> tuple[str, ...]:
        """The options of a row as they join its prompt, in the order of the stored answers."""
        return sample.options or tuple(option.text for option in self.options)


class Plan(Frozen):
    """All settings that decide what a run computes; written once, never changed.

    plan.json also holds the SHA-256 of these values, so that edits are detected.
    """

    format: Literal[3, 4]
    id: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
    name: Name  # of the folder that the plan made; a run is named by the folder that it lies in
    created: str
    vsp: str
    packages: dict[str, str]
    dataset: str
    variants: tuple[str, ...] = ()  # changes to an original dataset; see vsp.datasets.VARIANTS
    labels: tuple[str, ...]
    prompt: str
    model: ModelConfig
    checkpoint_files: dict[str, str]  # see vsp.models.fingerprint
    compute_dtype: str
    image_backend: Literal["pil"]
    manifest_offsets: tuple[int, ...]  # byte where each shard's lines begin, then the file's length
    manifest_sha256: tuple[str, ...]  # of each shard's lines
    n_samples: Annotated[int, Field(ge=1, le=_MAX_SAMPLES)]
    n_layers: Annotated[int, Field(ge=1, le=_MAX_LAYERS)]
    hidden_size: Annotated[int, Field(ge=1, le=_MAX_HIDDEN)]
    dtype: StoreDtype
    boundary: Annotated[int, Field(ge=4096, le=BOUNDARIES[0])]
    shard_starts: Annotated[tuple[int, ...], Field(min_length=1)]
    batch_size: Annotated[int, Field(ge=1, le=_MAX_SAMPLES)]  # rows per batch of the longest
    batch_tokens: Annotated[int, Field(ge=1, le=2**53)]  # most tokens per batch, including padding
    share: bool  # whether the common beginning of rows about one image is computed once
    devices: Devices = 1  # GPUs that each task splits the model over
    positions: tuple[Position, ...] = (LAST,)  # where states are recorded, each in a file
    answers: Answers | None = None
    modules: tuple[Module, ...] = ()  # ahead of the decoder, whose states are recorded too
    tower_layers: Annotated[int, Field(ge=0, le=_MAX_LAYERS)] = 0  # of the recorded vision tower
    tower_width: Annotated[int, Field(ge=0, le=_MAX_HIDDEN)] = 0
    imported: Imported | None = None  # the states are from files, see vsp.storage.imported_run

    @model_validator(mode="after")
    def _check_parts(self) -> Plan:
        starts, offsets = (*self.shard_starts, self.n_samples), self.manifest_offsets
        n_shards = len(self.shard_starts)
        if starts[0] != 0 or any(start >= stop for start, stop in pairwise(starts)):
            raise ValueError("shard_starts: are not ascending rows from 0 below n_samples")
        if len(offsets) != n_shards + 1 or len(self.manifest_sha256) != n_shards:
            raise ValueError("manifest: has another number of slices than of shards")
        if offsets[0] != 0 or any(start > stop for start, stop in pairwise(offsets)):
            raise ValueError("manifest_offsets: are not ascending from 0")
        if self.positions[:1] != (LAST,) or len(set(self.positions)) < len(self.positions):
            raise ValueError("positions: are not different ones that begin with last")
        if not _is_date(self.created):
            raise ValueError(f"created: {self.created!r} is not a date of a plan")
        tower = self.tower_layers, self.tower_width
        if all(tower) != ("vision" in self.modules) or any(tower) != all(tower):
            raise ValueError("tower_layers, tower_width: are not those of a recorded vision tower")
        if self.imported is not None and len(self.imported.layers) != self.n_layers:
            raise ValueError("imported: has another number of layers than the states")
        return self

    @property
    def stored_positions(self) -> tuple[str, ...]:
        """The positions whose states are recorded, those of modules last."""
        return (*self.positions, *module_positions(self.modules, self.positions))

    def convention(self, position: str = LAST) -> LayerConvention:
        """What the layers of the states at a position are."""
        if self.imported is not None:
            return self.imported.convention
        layout = self.layouts()[states_name(position)]
        of_decoder = split_position(position)[0] == ""
        return LayerConvention(tuple(range(layout.n_layers)), "normed" if of_decoder else "raw")

    def layouts(self) -> dict[str, Layout]:
        """The layout of each array, by name, in the order of the journals' checksums."""
        states = Layout(self.n_layers, self.n_samples, self.hidden_size, self.dtype, self.boundary)
        of_module = {
            "": states,
            "projector": replace(states, n_layers=1),
            "vision": replace(states, n_layers=self.tower_layers, hidden_size=self.tower_width),
        }
        layouts = {
            states_name(position): of_module[split_position(position)[0]]
            for position in self.stored_positions
        }
        if self.answers is not None:
            n_options, starts = self.answers.n_options, self.shard_starts
            layouts["answers"] = states.of_options_beside(n_options, starts)
            if self.answers.lens:
                # The layers of a row lie together: rows of whole pages would be long for each layer.
                layouts["lens"] = states.of_options_beside(n_options * self.n_layers, starts)
        return layouts

    def identity(self) -> str:
        """SHA-256 of the fields that decide the bytes of the store: equal plans give equal files."""
        unused = {name for name in _LATER_OF_MODEL if not getattr(self.model, name)}
        later = {name for name, value in _LATER.items() if getattr(self, name) == value}
        left_out: dict[str, Any] = {**dict.fromkeys(_NOT_IDENTITY | later, True), "model": unused}
        return sha256(self.model_dump_json(exclude=left_out).encode()).hexdigest()


def states_name(position: str) -> str:
    """The name of the array with the states at a position."""
    return "states" if position == LAST else f"states-{position}"


@dataclass(frozen=True, slots=True)
class Shard:
    """Rows start, …, stop - 1, which one array task computes."""

    index: int
    start: int
    stop: int


class Run:
    """A planned run; the only class that knows the layout of its folder."""

    def __init__(self, folder: Path, plan: Plan) -> None:
        self.folder = folder
        self.plan = plan
        # The folder's name, which `mv` and `cp` change; the plan keeps the name of the first one.
        self.name = Path(os.path.abspath(folder)).name  # noqa: PTH100 - links stay links

    @classmethod
    def open(cls, folder: Path) -> Run:
        """Open a run.

        Raises RunError unless the folder has a name of a run and holds a plan that this version can
        read.
        """
        path = folder / "plan.json"
        try:
            values = read_json(path)
        except (FileNotFoundError, NotADirectoryError):
            raise RunError(f"{folder}: is no run; `vsp plan` makes one") from None
        except OSError as error:
            raise RunError(f"{path}: {unreadable(error)}; name a run") from None
        except (ValueError, RecursionError) as error:
            raise RunError(f"{path}: is not JSON ({error}); plan the run again") from None
        file_format = values.get("format") if isinstance(values, dict) else None
        if file_format not in _READABLE:
            raise RunError(f"{path}: {_other_format(file_format)}")
        digest = values.pop("sha256", None)
        if not json_matches(values, digest):
            raise RunError(f"{path}: was edited; plan the run again")
        try:
            run = cls(folder, parse(Plan, values, str(path)))
        except ConfigError as error:
            raise RunError(f"{error}; plan the run again") from None
        n_rows, n_bytes = run.plan.n_samples, run.plan.manifest_offsets[-1]
        if n_bytes < n_rows * _MIN_ROW:
            raise RunError(
                f"{path}: n_samples is {n_rows:,}, more rows than a manifest of {n_bytes:,} bytes "
                "holds; plan the run again"
            )
        if not re.fullmatch(NAME_PATTERN, run.name):
            raise RunError(
                f"{folder}: {run.name!r} is not a name of a run; rename the folder with letters, "
                "digits, '.', '_' and '-' only"
            )
        return run

    @property
    def results(self) -> Path:
        """`results/NAME` beside the `scratch/` that holds the run.

        Raises RunError if the run lies in a folder of another name.
        """
        folder = self.folder
        if folder.name != self.name or folder.parent.name != "scratch":
            folder = Path(os.path.abspath(folder))  # noqa: PTH100 - links stay links
        if folder.parent.name != "scratch":
            raise RunError(
                f"{self.folder}: lies in no folder named scratch, so its results have no place; "
                f"move it to scratch/{self.name}"
            )
        return folder.parent.parent / "results" / self.name

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
    def stores(self) -> dict[str, Store]:
        """The arrays by name, which is also that of the file: states, states-subject, answers, …"""
        folder, identity = self.folder.absolute(), self.plan.identity()
        return {
            name: Store(folder / f"{name}.npy", layout, identity)
            for name, layout in self.plan.layouts().items()
        }

    @property
    def store(self) -> Store:
        """The states of the last token."""
        return self.stores[states_name(LAST)]

    def states(self, position: str = LAST) -> Store:
        """The states at a position. Raises RunError if the run does not have them."""
        if position not in self.plan.stored_positions:
            has = ", ".join(self.plan.stored_positions)
            raise RunError(f"run {self.name}: position {position!r} was not recorded; it has {has}")
        return self.stores[states_name(position)]

    def number_of_states(self, position: str) -> int:
        """The index of the states at a position among the arrays of the run."""
        return list(self.stores).index(states_name(position))

    def check_stores(self) -> None:
        """Raise StoreError unless all arrays belong to the plan."""
        for store in self.stores.values():
            store.check()

    @property
    def journals(self) -> Path:
        return self.folder / "journal"

    @cached_property
    def manifest(self) -> Manifest:
        plan = self.plan
        starts = (*plan.shard_starts, plan.n_samples)
        path = self.folder / "manifest.jsonl"
        most = 0 if plan.answers is None else plan.answers.n_options
        return Manifest(path, starts, plan.manifest_offsets, plan.manifest_sha256, most)

    def samples(self, shard: Shard) -> list[Sample]:
        """The shard's samples. Raises RunError if they were changed since the plan."""
        return list(self.manifest.rows(shard.start, shard.stop))

    def all_samples(self) -> list[Sample]:
        """The samples of all rows. Raises RunError if they were changed since the plan."""
        return list(self.manifest.rows())

    def require_planned(self, command: str) -> None:
        """Raise RunError if the states were imported, so that a command has nothing to compute."""
        if self.plan.imported is not None:
            raise RunError(
                f"run {self.name}: its states were imported from {self.plan.dataset} and are not "
                f"computed here, so `vsp {command}` cannot work on it; `vsp probe` and `vsp verify` can"
            )

    def check_checkpoint(self, files: Mapping[str, str]) -> None:
        """Raise RunError if the checkpoint's files were changed since the plan.

        `files` is the result of `vsp.models.fingerprint.fingerprint`.
        """
        planned = self.plan.checkpoint_files
        for name in sorted({*planned, *files}):
            if planned.get(name) != files.get(name):
                new_or_changed = "was changed" if name in planned else "is new"
                what = new_or_changed if name in files else "is gone"
                raise RunError(
                    f"run {self.name}: {name} of checkpoint {self.plan.model.checkpoint!r} {what} "
                    "since the plan; put back what was there, or plan the run again"
                )

    def ledger(self, shard: Shard) -> Ledger:
        return self.ledgers([shard])[0]

    def ledgers(self, shards: Sequence[Shard] | None = None) -> list[Ledger]:
        """The ledgers of `shards` (None: all), in their order; lists the folder only once."""
        shards = self.shards if shards is None else shards
        bounds = {shard.index: (shard.start, shard.stop) for shard in shards}
        return read_ledgers(self.journals, self.plan.id, bounds, len(self.stores))


def _is_date(text: str) -> bool:
    try:
        return 2000 <= datetime.fromisoformat(text).year < 9000
    except ValueError:
        return False


def sealed_plan(plan: Plan) -> dict[str, Any]:
    """The contents of plan.json: the plan and the SHA-256 of its values."""
    values = plan.model_dump(mode="json")
    return {**values, "sha256": json_sha256(values)}


def _other_format(file_format: object) -> str:
    if not isinstance(file_format, int):
        return f"has format {file_format!r}, this vsp reads {_READ_FORMATS}; plan the run again"
    age, then = (
        ("an older", "plan the run again") if file_format < FORMAT else ("a newer", "update vsp")
    )
    return (
        f"was planned by {age} vsp (format {file_format}, this one reads {_READ_FORMATS}); {then}"
    )


def find_run(name: str | None, work: Path) -> Run:
    """The run of that name or path; None: the newest in `scratch/`. Raises RunError if none."""
    if name is not None and ("/" in name or name in (".", "..")):
        return Run.open(_in_scratch(Path(name), work))
    if name is not None:
        folder = work / "scratch" / name
        known = [path.parent.name for path in (work / "scratch").glob("*/plan.json")]
        if known and not os.path.exists(folder):  # noqa: PTH110 - False for a name that is too long
            raise RunError(f"{folder}: no such run; {close_names(name, known)}")
        return Run.open(folder)
    plans = list((work / "scratch").glob("*/plan.json"))
    if not plans:
        raise RunError(f"{work / 'scratch'}: holds no run; `vsp plan` makes one")
    return Run.open(newest(plans).parent)


def _in_scratch(folder: Path, work: Path) -> Path:
    """The run's path below `work / "scratch"`, which may be a link, if it lies there."""
    below = work / "scratch" / folder.absolute().name
    with suppress(OSError, ValueError):
        if below.samefile(folder):
            return below
    return folder


def newest(paths: Collection[Path]) -> Path:
    """The one of these files plan.json or summary.json whose plan is the newest.

    Of copies, it is the one in the folder that has the plan's name.
    """
    return max(paths, key=_age)


def _age(path: Path) -> tuple[int, bool, int]:
    """Second of the plan, whether its folder has its name, and when the file was written."""
    written = path.stat().st_mtime_ns
    with suppress(OSError, ValueError, RecursionError):
        values = read_json(path)
        plan = values.get("plan", values) if isinstance(values, dict) else None
        if isinstance(plan, dict) and _is_date(created := str(plan.get("created"))):
            planned = datetime.fromisoformat(created).timestamp()
            return int(planned), plan.get("name") == path.parent.name, written
    return written // 10**9, True, written  # an unreadable plan is opened in its turn, and named


def close_names(name: str, known: Collection[str]) -> str:
    """Up to three known names to write in place of an unknown one, similar ones if there are any."""
    if not known:
        return "`vsp plan` makes a run"
    nearest = get_close_matches(name, sorted(known), 3, 0.5) or sorted(known)[:3]
    more = ", …" if len(known) > len(nearest) else ""
    return f"there is {', '.join(nearest)}{more}"
