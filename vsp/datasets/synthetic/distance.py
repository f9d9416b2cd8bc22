"""Two shapes: are they near each other or far apart?"""

from __future__ import annotations

from math import asin, cos, pi, sin

import numpy as np

from vsp.datasets.synthetic.placement import (
    REACH,
    DistractorConfig,
    Point,
    describe,
    different_names,
    make_shape,
    random_distractors,
    random_point,
    random_sizes,
)
from vsp.datasets.synthetic.shapes import Scene

# Shares of the picture's shorter side.
SIZE = (0.035, 0.055)
RING = (0.30, 0.37)  # radius of the ring on which both shapes lie
NEAR = (0.19, 0.26)  # between the centres
FAR = 0.5  # least distance between the centres


class DistanceConfig(DistractorConfig):
    """The distance task."""


class DistanceWorld:
    """Both shapes lie on a ring, each at any angle. The place of one shape does not tell how far
    away the other one is."""

    Config = DistanceConfig
    labels = ("near", "far")

    def __init__(self, config: DistanceConfig) -> None:
        self.config = config

    def scene(self, label: str, rng: np.random.Generator) -> Scene:
        sizes = random_sizes(2, SIZE, self.config.image_size, rng)
        centres = self._centres(label, rng)
        subject, reference = map(make_shape, different_names(2, rng), centres, sizes)
        record = describe(subject=subject, reference=reference)
        record |= {"question": "distance", "label": label}
        distractors = random_distractors(self.config, (subject, reference), rng)
        return Scene((*distractors, subject, reference), record)

    def _centres(self, label: str, rng: np.random.Generator) -> list[Point]:
        side = min(self.config.image_size)
        radius = rng.uniform(*RING)
        apart = rng.uniform(*NEAR) if label == "near" else rng.uniform(FAR, 2 * radius)
        turn = 2 * asin(apart / (2 * radius)) * rng.choice((-1, 1))
        x, y = random_point((radius + REACH * SIZE[1]) * side, self.config.image_size, rng)
        angle = rng.uniform(0, 2 * pi)
        return [
            (round(x + radius * side * cos(a)), round(y + radius * side * sin(a)))
            for a in (angle, angle + turn)
        ]
