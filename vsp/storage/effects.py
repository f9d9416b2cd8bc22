"""What an effects run computes: the answers of a model whose states are changed at a layer.

Each row of such a run has the log-likelihood of each answer option for each layer and setting. A
setting is one change of the states, such as the direction at twice its length. `changes.npz` beside
the plan holds the arrays of the changes, and the option that each row is moved towards.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from vsp.config import Frozen, Name

NONE = "none"  # the setting without a change, which every effects run has first
CHANGES = "changes.npz"  # in the folder of an effects run
DONORS = "donors.jsonl"  # likewise, of a patch: the paired row of each row
TARGETS = "targets"  # the array of changes.npz with the target option of each row
NO_TARGET = -1
_MULTIPLE = 64  # numbers of a row of effects.npy come in such blocks
_MAX_LAYERS, _MAX_SETTINGS = 10**4, 10**4
Kind = Literal["steer", "patch", "erase"]
_Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
_Finite = Annotated[float, Field(allow_inf_nan=False)]


class Setting(Frozen):
    """One change of the states of a row, at each of the layers in its turn."""

    # "none"; of a direction "direction", "unrelated", "random-1", …; of a patch the tokens "last",
    # "subject", "image", …, "all"; of an erasure "leace", "random-1", …
    name: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")]
    scale: _Finite  # multiple of the direction; 1 of a patch or an erasure, 0 of "none"


class Effects(Frozen):
    """The changes of an effects run: each setting at each layer."""

    kind: Kind
    run: Name  # whose model and rows these are
    run_id: _Sha256  # identity of its plan
    variant: str = ""  # of a patch: the run with the paired rows
    variant_id: str = ""  # identity of the variant's plan
    layers: Annotated[
        tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1, max_length=_MAX_LAYERS)
    ]
    position: str  # of the changed tokens; empty of a patch, whose settings name them
    settings: Annotated[tuple[Setting, ...], Field(min_length=2, max_length=_MAX_SETTINGS)]
    changes_sha256: _Sha256  # of changes.npz
    seed: Annotated[int, Field(ge=0)]
    donor_offsets: tuple[int, ...] = ()  # of donors.jsonl, as those of the manifest
    donor_sha256: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _check_parts(self) -> Effects:
        first, names = self.settings[0], [(one.name, one.scale) for one in self.settings]
        if (first.name, first.scale) != (NONE, 0.0) or len(set(names)) < len(names):
            raise ValueError(f"settings: are not different ones that begin with {NONE!r}")
        if any(low >= high for low, high in pairwise(self.layers)):
            raise ValueError("layers: are not ascending")
        if (self.kind == "patch") != bool(self.variant and self.variant_id and self.donor_sha256):
            raise ValueError("variant: belongs to a patch, and every patch has one")
        return self

    @property
    def command(self) -> str:
        """The command of vsp that plans such a run."""
        return "patch" if self.kind == "patch" else "steer"

    @property
    def n_values(self) -> int:
        """Values of a row for each answer option: one for each layer and setting."""
        return len(self.layers) * len(self.settings)

    def row_width(self, n_options: int) -> int:
        """Numbers in a row of effects.npy; without padding, few rows would begin on a page."""
        return -(-n_options * self.n_values // _MULTIPLE) * _MULTIPLE
