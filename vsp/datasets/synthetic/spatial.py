"""Two shapes in one of four relations: where is the subject relative to the reference?"""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from vsp.datasets.relations import ON_AXIS
from vsp.datasets.synthetic.placement import (
    DistractorConfig,
    Distractors,
    describe,
    random_distractors,
)
from vsp.datasets.synthetic.shapes import COLORS, MARGIN, SHAPES, SIZES, Scene, Shape

Relation = Literal["left_of", "right_of", "above", "below"]

SEPARATION = 80  # least distance of the centres on the relation's axis, pixels
DRIFT = 30  # largest distance of a centre from a common line on the other axis, pixels


class SpatialConfig(DistractorConfig):
    """The spatial task: `relations` are its labels."""

    relations: Annotated[tuple[Relation, ...], Field(min_length=2)] = (
        "left_of",
        "right_of",
        "above",
        "below",
    )
    distractors: Distractors = (0, 0)


class SpatialWorld:
    """Labels are never ambiguous: the centres are far apart on one axis and close on the other."""

    Config = SpatialConfig

    def __init__(self, config: SpatialConfig) -> None:
        self.config = config
        self.labels = config.relations

    def scene(self, label: str, rng: np.random.Generator) -> Scene:
        sizes = rng.integers(SIZES[0], SIZES[1], size=2, endpoint=True)
        kinds = rng.choice(SHAPES, size=2)
        colors = rng.choice(list(COLORS), size=2, replace=False)
        axis, subject_first = ON_AXIS[label]
        first, second = self._positions(axis, int(sizes.sum()), rng)
        line = int(rng.integers(MARGIN + DRIFT, self.config.image_size[1 - axis] - MARGIN - DRIFT))
        shapes = []
        for i, position in enumerate((first, second) if subject_first else (second, first)):
            across = line + int(rng.integers(-DRIFT, DRIFT, endpoint=True))
            x, y = (position, across) if axis == 0 else (across, position)
            shapes.append(Shape(str(kinds[i]), str(colors[i]), x, y, int(sizes[i])))
        drawn = shapes if rng.integers(2) == 0 else shapes[::-1]
        record = describe(subject=shapes[0], reference=shapes[1]) | {"relation": label}
        return Scene((*drawn, *random_distractors(self.config, shapes, rng)), record)

    def _positions(self, axis: int, touching: int, rng: np.random.Generator) -> tuple[int, int]:
        """Two positions on the relation's axis, uniform among all pairs far enough apart.

        Shapes touch if their centres are `touching` pixels apart.
        """
        apart = max(SEPARATION, touching + 2)
        room = self.config.image_size[axis] - 2 * MARGIN - apart
        low, high = np.sort(rng.integers(0, room, size=2, endpoint=True))
        return MARGIN + int(low), MARGIN + int(high) + apart
