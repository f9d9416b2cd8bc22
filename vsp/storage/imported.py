"""The origin of an imported run's states, as its plan keeps it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, model_validator

from vsp.choices import LastLayer
from vsp.config import Frozen
from vsp.storage.convention import LayerConvention

FileKind = Literal["npz", "pt", "vllm", "safetensors"]
# Source of the splits: none, the file, --split research, --split-files.
SplitSource = Literal["none", "file", "research", "files"]


class Imported(Frozen):
    """States that another program, or another run, computed; such a run is never extracted."""

    kind: FileKind
    sources_sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]  # of sources.txt
    layers: Annotated[tuple[Annotated[int, Field(ge=0, le=10**6)], ...], Field(min_length=1)]
    last_layer: LastLayer
    assumed: bool  # layers and last_layer are not said by the file or the user
    split: SplitSource
    card: dict[str, Any] | None = None  # what `vsp export` wrote about the origin

    @model_validator(mode="after")
    def _check_layers(self) -> Imported:
        if list(self.layers) != sorted(set(self.layers)):
            raise ValueError("layers: are not different ones in ascending order")
        return self

    @property
    def convention(self) -> LayerConvention:
        return LayerConvention(self.layers, self.last_layer, self.assumed)
