"""First stage: the vision tower learns what is at each patch, without the decoder."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from vsp.datasets.synthetic.shapes import COLORS, SHAPES, Shape
from vsp.demo_checkpoint import PATCH_SIZE
from vsp.demo_training.learner import SIZE, Learner, color_numbers, places
from vsp.demo_training.scenes import CANVAS, TrainingSet

N_IMAGES = 64  # a step
_GRID = SIZE.image // PATCH_SIZE  # patches a side
_NEAR = 14  # a patch this near to a shape's edge belongs to it, pixels of the canvas


def tower_loss(
    learner: Learner, data: TrainingSet, rng: np.random.Generator
) -> tuple[Tensor, dict[str, float]]:
    """The loss of one step, and the shares of right kinds and colours among the shapes' patches."""
    chosen = rng.integers(len(data.scenes), size=N_IMAGES)
    kind, color, place = (
        torch.stack(part)
        for part in zip(*(patch_targets(data.scenes[i].shapes) for i in chosen), strict=True)
    )
    on = color < len(COLORS)
    color_scores, kind_scores, found = learner.patch_parts(learner.patches(data.pixels[chosen]))
    loss = (
        functional.cross_entropy(color_scores.flatten(0, 1), color.flatten())
        + 2 * functional.cross_entropy(kind_scores[on], kind[on])
        + 3 * functional.l1_loss(found[on], place[on])
    )
    right = {
        "kind": (kind_scores.argmax(-1) == kind)[on].float().mean().item(),
        "color": (color_scores.argmax(-1) == color)[on].float().mean().item(),
    }
    return loss, right


def patch_targets(shapes: Sequence[Shape]) -> tuple[Tensor, Tensor, Tensor]:
    """Kind [patch], colour [patch] and centre [patch, 2] of the shape nearest to each patch.

    The colour of a patch without a shape is `len(COLORS)`; its kind and centre have no meaning.
    """
    n = _GRID**2
    if not shapes:
        no_color = torch.full((n,), len(COLORS))
        return torch.zeros(n, dtype=torch.long), no_color, torch.zeros(n, 2)
    line = (torch.arange(_GRID) + 0.5) * CANVAS / _GRID
    centres = torch.cartesian_prod(line, line).flip(-1)  # x, y, row by row
    middle = torch.tensor([[s.x, s.y] for s in shapes])
    sizes = torch.tensor([s.size for s in shapes])
    distance = (centres[:, None] - middle).abs().amax(-1) - sizes  # [patch, shape]
    least, nearest = distance.min(dim=1)
    kind = torch.tensor([SHAPES.index(s.kind) for s in shapes])[nearest]
    color = torch.where(least < _NEAR, color_numbers(shapes)[nearest], len(COLORS))
    return kind, color, places(shapes)[nearest]
