"""Which image tokens change if one point of a picture does, with attention off in the vision tower.

Without attention, the output of a patch depends on the pixels of this patch alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from PIL import Image
from torch import nn

_OUTPUTS = ("out_proj", "o_proj", "proj", "projection_layer")  # the last layer of an attention


def without_attention(model: Any) -> Any:
    """The model, in which the attention of the vision tower adds nothing to a patch."""
    found = [
        module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
        and name.endswith(_OUTPUTS)
        and "language_model" not in name
        and ("attn" in name or "attention" in name)
    ]
    assert len(found) >= 2  # one in each layer
    with torch.no_grad():
        for module in found:
            module.weight.zero_()
    return model


def reacting_tokens(
    features: Callable[[Image.Image], torch.Tensor], size: tuple[int, int], point: tuple[int, int]
) -> list[int]:
    """Image tokens whose `features` [token, width] change if a grey picture has a red point."""
    grey = Image.new("RGB", size, (128, 128, 128))
    painted = grey.copy()
    painted.putpixel(point, (255, 0, 0))
    changes = (features(painted) - features(grey)).abs().amax(dim=1)
    assert changes.max() > 1e-4
    return torch.nonzero(changes > 1e-3 * changes.max()).ravel().tolist()
