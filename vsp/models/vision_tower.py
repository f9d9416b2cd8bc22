"""Vision towers whose states are recorded: their blocks, and where each patch is in them.

The first block's input is layer 0. Blocks behind the layer that the projector reads are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vsp.errors import ModelError
from vsp.models.contract import Picture, TowerShape

# Model types with an image [patch, width] in the encoder of one of `_ENCODERS`.
_ONE_TILE = ("gemma3", "llava", "paligemma", "vipllava")
_ENCODERS = ("clip_vision_model", "siglip_vision_model")
# Model types with all images of a batch in one axis of patches, square by square of merged patches.
_IN_SQUARES = ("qwen2_5_vl", "qwen2_vl")


@dataclass(frozen=True, slots=True)
class Tower:
    """The blocks of a tower, of which the first `n_used` are recorded."""

    blocks: Sequence[Any]
    n_used: int
    # A picture's patches, in the order of `Processor.tower_centres`, as indices among its own in the
    # tower, where pictures follow each other in one axis. None: a picture is an entry of the first
    # axis, with its patches in order.
    order: Callable[[Picture], NDArray[np.int64]] | None = None

    def places(
        self, pictures: Sequence[Picture], rows: Sequence[tuple[int, Sequence[int]]]
    ) -> list[list[tuple[int, int]]]:
        """Indices of patches in states [sequence, patch, width]; `rows`: picture and patches."""
        if self.order is None:
            return [[(picture, patch) for patch in patches] for picture, patches in rows]
        orders = [self.order(picture) for picture in pictures]
        starts = np.cumsum([0, *map(len, orders)])
        return [
            [(0, int(starts[picture] + orders[picture][patch])) for patch in patches]
            for picture, patches in rows
        ]


def tower_shape(checkpoint: Any) -> TowerShape:
    """The shape of the recorded states. Raises ModelError for a type whose tower is not recorded."""
    kind: str = checkpoint.model_type
    tower: Any = getattr(checkpoint, "vision_config", None)
    if kind in _IN_SQUARES:
        return TowerShape(
            tower.depth + 1, tower.embed_dim if kind == "qwen2_vl" else tower.hidden_size
        )
    if kind not in _ONE_TILE or tower.model_type not in _ENCODERS:
        known = ", ".join(sorted((*_ONE_TILE, *_IN_SQUARES)))
        raise ModelError(
            f"the states of the vision tower are not recorded for model type {kind!r}, only for {known} "
            "with the tower of CLIP, SigLIP or Qwen; leave vision out of --modules"
        )
    return TowerShape(_n_used(checkpoint) + 1, tower.hidden_size)


def find_tower(model: Any, checkpoint: Any) -> Tower | None:
    """The tower of a loaded model; None if its states are not recorded."""
    try:
        n_used = tower_shape(checkpoint).n_layers - 1
    except ModelError:
        return None
    if checkpoint.model_type in _IN_SQUARES:
        return Tower(model.visual.blocks, n_used, _order(checkpoint))
    return Tower(model.vision_tower.encoder.layers, n_used)


def has_class_token(checkpoint: Any) -> bool:
    """Whether the patches of an image follow a class token."""
    return bool(checkpoint.vision_config.model_type == "clip_vision_model")


def _n_used(checkpoint: Any) -> int:
    """The number of blocks up to the last layer that the projector reads."""
    n_blocks = checkpoint.vision_config.num_hidden_layers
    layers = getattr(checkpoint, "vision_feature_layer", -1)  # several in ViP-LLaVA
    layers = [layers] if isinstance(layers, int) else layers
    try:
        return max(int(range(n_blocks + 1)[layer]) for layer in layers)
    except (IndexError, TypeError, ValueError):
        raise ModelError(
            f"vision_feature_layer {layers!r} has none of the {n_blocks} layers of the vision tower; "
            "correct it in config.json"
        ) from None


def _order(checkpoint: Any) -> Callable[[Picture], NDArray[np.int64]]:
    tower = checkpoint.vision_config

    def in_squares(picture: Picture) -> NDArray[np.int64]:
        return np.arange(np.prod(picture.arrays["image_grid_thw"]))

    def in_windows(picture: Picture) -> NDArray[np.int64]:
        """Qwen2.5's blocks get the squares window by window."""
        import torch
        from transformers.vision_utils import get_vision_window_index

        side = tower.spatial_merge_size
        grid = torch.from_numpy(picture.arrays["image_grid_thw"])
        squares, _ = get_vision_window_index(grid, side, tower.window_size, tower.patch_size)
        places = np.argsort(squares.numpy())[:, None]
        order: NDArray[np.int64] = (places * side**2 + np.arange(side**2)).ravel()
        return order

    return in_windows if checkpoint.model_type == "qwen2_5_vl" else in_squares
