"""Two shapes, near each other or far apart."""

from __future__ import annotations

from math import asin, cos, pi, sin

import numpy as np

from vsp.datasets.synthetic.placement import (
    REACH,
    CrowdedConfig,
    crowd,
    looks,
    parts,
    shaped,
    sizes,
    spot,
)
from vsp.datasets.synthetic.shapes import Scene

# Shares of the picture's shorter side.
SIZE = (0.035, 0.055)
RING = (0.30, 0.37)  # radius of the ring on which the two stand
NEAR = (0.19, 0.26)  # between the centres
FAR = 0.5  # at least


class DistanceConfig(CrowdedConfig):
    """The distance task."""


class DistanceWorld:
    """The two stand on a ring, each anywhere on it: where one stands does not tell how far the
    other is."""

    Config = DistanceConfig
    labels = ("near", "far")

    def __init__(self, config: DistanceConfig) -> None:
        self.config = config

    def scene(self, label: str, rng: np.random.Generator) -> Scene:
        drawn = sizes(2, SIZE, self.config.image_size, rng)
        centres = self._centres(label, rng)
        subject, reference = map(shaped, looks(2, rng), centres, drawn)
        record = parts(subject=subject, reference=reference)
        record |= {"question": "distance", "label": label}
        return Scene((*crowd(self.config, (subject, reference), rng), subject, reference), record)

    def _centres(self, label: str, rng: np.random.Generator) -> list[tuple[int, int]]:
        side = min(self.config.image_size)
        radius = rng.uniform(*RING)
        apart = rng.uniform(*NEAR) if label == "near" else rng.uniform(FAR, 2 * radius)
        turn = 2 * asin(apart / (2 * radius)) * rng.choice((-1, 1))
        x, y = spot((radius + REACH * SIZE[1]) * side, self.config.image_size, rng)
        angle = rng.uniform(0, 2 * pi)
        return [
            (round(x + radius * side * cos(a)), round(y + radius * side * sin(a)))
            for a in (angle, angle + turn)
        ]
