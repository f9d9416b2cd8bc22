"""Which layers of a model the entries of stored states are, and whether a norm follows the last one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vsp.choices import LastLayer
from vsp.errors import StoreError
from vsp.utils.text import format_ranges

_MAX_LAYER = 10**6


@dataclass(frozen=True, slots=True)
class LayerConvention:
    """What the entries of a layer axis are.

    Layer 0 of a model is its embedding output, layer k the output of its block k. The `hidden_states`
    of transformers, and runs of `vsp plan`, begin with the embedding output, and their last entry is
    after the final norm.
    """

    layers: tuple[int, ...]  # of the model, one for each entry, ascending
    last: LastLayer = "normed"  # the last entry
    assumed: bool = False  # not said by the file or the user, in full or in part

    @property
    def embeddings_first(self) -> bool:
        """Whether the first entry is the embedding output."""
        return self.layers[0] == 0

    def describe(self) -> str:
        """As "layers 0-32 (0: embedding output), the last after the final norm"."""
        first = " (0: embedding output)" if self.embeddings_first else ""
        last = {
            "normed": "the last after the final norm",
            "raw": "the last before any final norm",
            "unknown": "with or without the final norm in the last: not known",
        }[self.last]
        return f"layers {format_ranges(self.layers)}{first}, {last}"


def check_layers(layers: Sequence[int], n_entries: int) -> tuple[int, ...]:
    """The layers as a tuple. Raises StoreError unless they are ascending, one for each entry."""
    if len(layers) != n_entries:
        raise StoreError(
            f"layers {format_ranges(layers)}: are {len(layers)}, but the file has {n_entries} entries "
            "for each row; name as many with --layers"
        )
    if list(layers) != sorted(set(layers)) or layers[0] < 0 or layers[-1] > _MAX_LAYER:
        raise StoreError(f"layers {format_ranges(layers)}: are not different numbers from 0 on")
    return tuple(layers)
