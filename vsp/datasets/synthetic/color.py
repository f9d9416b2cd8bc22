"""One to three shapes: what colour is the one that the prompt names?"""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field, model_validator

from vsp.datasets.synthetic.shapes import COLORS, MARGIN, SHAPES, SIZES, Scene, Shape, WorldConfig

GAP = 4  # least distance between the circles around two shapes, pixels


class ColorConfig(WorldConfig):
    """The colour task: each image has between `min_shapes` and `max_shapes` shapes."""

    min_shapes: Annotated[int, Field(ge=1, le=3)] = 1
    max_shapes: Annotated[int, Field(ge=1, le=3)] = 3

    @model_validator(mode="after")
    def _ordered(self) -> ColorConfig:
        if self.min_shapes > self.max_shapes:
            raise ValueError(f"min_shapes {self.min_shapes} is over max_shapes {self.max_shapes}")
        return self


class ColorWorld:
    """The target's kind and colour occur once in its image, so the prompt has one answer."""

    Config = ColorConfig
    labels = tuple(COLORS)

    def __init__(self, config: ColorConfig) -> None:
        self.config = config

    def scene(self, label: str, rng: np.random.Generator) -> Scene:
        n_shapes = int(rng.integers(self.config.min_shapes, self.config.max_shapes, endpoint=True))
        kind = str(rng.choice(SHAPES))
        other_kinds = [k for k in SHAPES if k != kind]
        other_colors = [c for c in COLORS if c != label]
        kinds = [kind, *rng.choice(other_kinds, size=n_shapes - 1).tolist()]
        colors = [label, *rng.choice(other_colors, size=n_shapes - 1, replace=False).tolist()]
        sizes = rng.integers(SIZES[0], SIZES[1], size=n_shapes, endpoint=True).tolist()
        centres = self._centres(sizes, rng)
        shapes = [
            Shape(k, c, x, y, s)
            for k, c, (x, y), s in zip(kinds, colors, centres, sizes, strict=True)
        ]
        record = {"shape_type": kind, "color_label": label}
        order = rng.permutation(n_shapes)
        return Scene(tuple(shapes[i] for i in order), record)

    def _centres(self, sizes: list[int], rng: np.random.Generator) -> list[tuple[int, int]]:
        """A centre for each shape; all centres are drawn again until no two shapes overlap."""
        width, height = self.config.image_size
        # A square reaches sqrt(2) half sides from its centre, any other shape its radius.
        reach = 2**0.5 * np.add.outer(sizes, sizes) + GAP
        while True:
            x = rng.integers(MARGIN, width - MARGIN, size=len(sizes), endpoint=True)
            y = rng.integers(MARGIN, height - MARGIN, size=len(sizes), endpoint=True)
            distance = np.hypot(np.subtract.outer(x, x), np.subtract.outer(y, y))
            np.fill_diagonal(distance, np.inf)
            if (distance >= reach).all():
                return list(zip(x.tolist(), y.tolist(), strict=True))
