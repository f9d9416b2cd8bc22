"""Small shapes and two hollow ones: is the subject inside the one that is named?"""

from __future__ import annotations

from math import cos, pi, sin, sqrt

import numpy as np

from vsp.datasets.synthetic.placement import (
    GAP,
    REACH,
    CrowdedConfig,
    FewerDistractors,
    Look,
    looks,
    parts,
    pixels,
    scatter,
    shaped,
    sizes,
)
from vsp.datasets.synthetic.shapes import COLORS, Scene, Shape

# Shares of the picture's shorter side.
SIZE = (0.028, 0.04)
HOLLOW = (0.13, 0.155)
LINE = 0.013
_HOLLOW_KINDS = ("circle", "square")  # the others have little room in them


class InsideConfig(CrowdedConfig):
    """The inside task."""

    distractors: FewerDistractors = (0, 5)


class InsideWorld:
    """The subject is in one of the two hollow shapes, and the label says whether in the one that
    is named. A distractor, if there is any, is in the other: neither is told by being empty."""

    Config = InsideConfig
    labels = ("inside", "outside")

    def __init__(self, config: InsideConfig) -> None:
        self.config = config

    def scene(self, label: str, rng: np.random.Generator) -> Scene:
        n = 1 + int(rng.integers(*self.config.distractors, endpoint=True))
        hollow = self._hollow(rng)
        drawn = sizes(n, SIZE, self.config.image_size, rng)
        centres = [_within(shape, size, rng) for shape, size in zip(hollow, drawn, strict=False)]
        centres += scatter(drawn[2:], self.config.image_size, rng, hollow)
        but = [(shape.kind, shape.color) for shape in hollow]
        small = list(map(shaped, looks(n, rng, but), centres, drawn))
        reference = hollow[0] if label == "inside" else hollow[1]
        record = parts(subject=small[0], reference=reference) | {"label": label}
        return Scene((*hollow, *small), record)

    def _hollow(self, rng: np.random.Generator) -> list[Shape]:
        """Two hollow shapes. Their places are in no order."""
        drawn = sizes(2, HOLLOW, self.config.image_size, rng)
        centres = scatter(drawn, self.config.image_size, rng)
        colors = rng.permutation(list(COLORS)).tolist()
        line = pixels(LINE, self.config.image_size)
        some: list[Look] = [(str(rng.choice(_HOLLOW_KINDS)), color) for color in colors[:2]]
        pair = list(map(shaped, some, centres, drawn, (line, line)))
        return pair if rng.integers(2) else pair[::-1]


def _within(shape: Shape, size: int, rng: np.random.Generator) -> tuple[int, int]:
    """A centre from which `size` stays clear of the outline, in a square as in a circle."""
    room = shape.size - shape.line - REACH * size - GAP
    angle, away = rng.uniform(0, 2 * pi), room * sqrt(rng.random())
    return round(shape.x + away * cos(angle)), round(shape.y + away * sin(angle))
