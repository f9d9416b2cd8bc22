"""The plan of a run: all settings that decide its states. It is written once and never changed."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from functools import cached_property
from hashlib import sha256
from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, model_validator

from vsp.choices import LAST, Module, Position, module_positions, split_position
from vsp.config import Devices, Frozen, ModelConfig, Name, StoreDtype
from vsp.storage.convention import LayerConvention
from vsp.storage.effects import Effects
from vsp.storage.imported import Imported
from vsp.storage.layout import BOUNDARIES, Layout
from vsp.storage.manifest import Sample
from vsp.utils.files import json_sha256
from vsp.utils.prefixes import proper_prefixes

FORMAT = 4
READABLE = (3, FORMAT)  # runs of format 3 have neither positions nor answers
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
    "together": (),
    "effects": None,
}
# The names of the runs of an effects run: a run may be renamed.
_NAMES_OF_EFFECTS = {"run", "variant"}
# A plan.json may come from a stranger. These bounds are far above any real run, and keep what is
# computed from them alone, such as one byte for each row, small.
_MAX_LAYERS, _MAX_SAMPLES, _MAX_HIDDEN, MAX_OPTIONS = 10**6, 10**8, 2**24, 1000
_MAX_TOGETHER = 100
_MAX_VALUES = 2**26  # of a row of an effects run


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


class Member(Frozen):
    """A run whose rows go through the model together with those of other runs."""

    name: Name  # of its folder when it was planned
    id: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]  # of its plan
    identity: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]  # see Plan.own_identity


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
    # The runs that are extracted together, this one among them; the first decides the groups of rows.
    # Empty: the run is extracted alone. See vsp.extraction.companions.
    together: Annotated[tuple[Member, ...], Field(max_length=_MAX_TOGETHER)] = ()
    effects: Effects | None = None  # answers under changed states are stored, and no states

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
        if not is_date(self.created):
            raise ValueError(f"created: {self.created!r} is not a date of a plan")
        tower = self.tower_layers, self.tower_width
        if all(tower) != ("vision" in self.modules) or any(tower) != all(tower):
            raise ValueError("tower_layers, tower_width: are not those of a recorded vision tower")
        if self.imported is not None and len(self.imported.layers) != self.n_layers:
            raise ValueError("imported: has another number of layers than the states")
        ids = [one.id for one in self.together]
        if ids and (self.id not in ids or len(set(ids)) < len(ids) or len(ids) == 1):
            raise ValueError("together: are not different runs, with this one among them")
        if ids and (self.effects is not None or self.imported is not None):
            raise ValueError("together: is of runs whose states are extracted")
        if self.effects is not None:
            self._check_effects(self.effects)
        return self

    def _check_effects(self, effects: Effects) -> None:
        """Raise ValueError unless the effects fit the model, the shards and the answers."""
        if self.answers is None or self.answers.lens or self.modules or len(self.positions) > 1:
            raise ValueError("effects: need answers, and exclude lens, modules and positions")
        if effects.layers[-1] >= self.n_layers:
            raise ValueError(f"effects: layer {effects.layers[-1]} is not one of the model's")
        if effects.n_values * self.answers.n_options > _MAX_VALUES:
            raise ValueError(f"effects: have more than {_MAX_VALUES:,} values for each row")
        of_donors = len(effects.donor_offsets), len(effects.donor_sha256)
        n_shards = len(self.shard_starts)
        if effects.variant and of_donors != (n_shards + 1, n_shards):
            raise ValueError(
                "effects: the number of slices of donors.jsonl is not that of the shards"
            )

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
        if self.effects is not None:
            return {EFFECTS: self._effects_layout(self.effects)}
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

    def _effects_layout(self, effects: Effects) -> Layout:
        """`[sample, option × layer × setting]`: options first, so that missing ones are at the end."""
        n_options = 0 if self.answers is None else self.answers.n_options
        rows = Layout(1, self.n_samples, 1, "float32", self.boundary)
        return rows.of_options_beside(effects.row_width(n_options), self.shard_starts)

    def identity(self) -> str:
        """SHA-256 of the fields that decide the bytes of the store: equal plans give equal files."""
        unused = {name for name in _LATER_OF_MODEL if not getattr(self.model, name)}
        later = {name for name, value in _LATER.items() if getattr(self, name) == value}
        left_out: dict[str, Any] = {**dict.fromkeys(_NOT_IDENTITY | later, True), "model": unused}
        if self.together:  # the batches are those of all of them, whatever they are named
            left_out["together"] = {"__all__": {"name", "id"}}
        if self.effects is not None:
            left_out["effects"] = _NAMES_OF_EFFECTS
        return sha256(self.model_dump_json(exclude=left_out).encode()).hexdigest()

    def own_identity(self) -> str:
        """The identity of the plan without the runs that are extracted together with it."""
        return self.model_copy(update={"together": ()}).identity()


EFFECTS = "effects"  # the array of an effects run


def states_name(position: str) -> str:
    """The name of the array with the states at a position."""
    return "states" if position == LAST else f"states-{position}"


def sealed_plan(plan: Plan) -> dict[str, Any]:
    """The contents of plan.json: the plan and the SHA-256 of its values."""
    values = plan.model_dump(mode="json")
    return {**values, "sha256": json_sha256(values)}


def is_date(text: str) -> bool:
    """Whether a text is a date of a plan."""
    try:
        return 2000 <= datetime.fromisoformat(text).year < 9000
    except ValueError:
        return False
