"""Small shapes and two hollow shapes: is the subject inside the hollow shape that is named?"""

from __future__ import annotations

from math import cos, pi, sin, sqrt

import numpy as np

from vsp.datasets.synthetic.placement import (
    GAP,
    REACH,
    DistractorConfig,
    FewerDistractors,
    KindColor,
    Point,
    describe,
    different_names,
    make_shape,
    random_centres,
    random_sizes,
    to_pixels,
)
from vsp.datasets.synthetic.shapes import COLORS, Scene, Shape

# Shares of the picture's shorter side.
SIZE = (0.028, 0.04)
HOLLOW = (0.13, 0.155)
LINE = 0.013
_HOLLOW_KINDS = ("circle", "square")  # the other kinds have little room inside


class InsideConfig(DistractorConfig):
    """The inside task."""

    distractors: FewerDistractors = (0, 5)


class InsideWorld:
    """The subject is in one of the two hollow shapes. The label says whether that is the reference.

    If there are distractors, one of them is in the other hollow shape, so that an empty hollow
    shape does not tell the label.
    """

    Config = InsideConfig
    labels = ("inside", "outside")

    def __init__(self, config: InsideConfig) -> None:
        self.config = config

    def scene(self, label: str, rng: np.random.Generator) -> Scene:
        n = 1 + int(rng.integers(*self.config.distractors, endpoint=True))
        hollow = self._hollow_shapes(rng)
        sizes = random_sizes(n, SIZE, self.config.image_size, rng)
        centres = [_point_in(shape, size, rng) for shape, size in zip(hollow, sizes, strict=False)]
        centres += random_centres(sizes[2:], self.config.image_size, rng, hollow)
        hollow_names = [(shape.kind, shape.color) for shape in hollow]
        small = list(map(make_shape, different_names(n, rng, hollow_names), centres, sizes))
        reference = hollow[0] if label == "inside" else hollow[1]
        record = describe(subject=small[0], reference=reference) | {"label": label}
        return Scene((*hollow, *small), record)

    def _hollow_shapes(self, rng: np.random.Generator) -> list[Shape]:
        """Two hollow shapes in random order."""
        sizes = random_sizes(2, HOLLOW, self.config.image_size, rng)
        centres = random_centres(sizes, self.config.image_size, rng)
        colors = rng.permutation(list(COLORS)).tolist()
        line = to_pixels(LINE, self.config.image_size)
        names: list[KindColor] = [(str(rng.choice(_HOLLOW_KINDS)), color) for color in colors[:2]]
        pair = list(map(make_shape, names, centres, sizes, (line, line)))
        return pair if rng.integers(2) else pair[::-1]


def _point_in(shape: Shape, size: int, rng: np.random.Generator) -> Point:
    """A centre for a shape of `size` that stays clear of the outline of a circle or square."""
    room = shape.size - shape.line - REACH * size - GAP
    angle, away = rng.uniform(0, 2 * pi), room * sqrt(rng.random())
    return round(shape.x + away * cos(angle)), round(shape.y + away * sin(angle))
