"""Two shapes, one nearer than the other: is the subject in front of the reference, or behind it?"""

from __future__ import annotations

from math import cos, pi, sin
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from vsp.datasets.synthetic.placement import (
    GAP,
    REACH,
    CrowdedConfig,
    alike,
    crowd,
    parts,
    scatter,
    shaped,
    spot,
    two_sizes,
)
from vsp.datasets.synthetic.shapes import Scene, Shape, overlap

SIZE = (0.035, 0.15)  # radius or half side, as a share of the picture's shorter side
RATIO = (1.3, 1.7)  # of the larger to the smaller
COVERED = (0.2, 0.6)  # share of the smaller that both have in common


class DepthConfig(CrowdedConfig):
    """The depth task: `cues` are what tells the nearer from the farther."""

    cues: Annotated[tuple[Literal["occlusion", "size"], ...], Field(min_length=1)] = (
        "occlusion",
        "size",
    )


class DepthWorld:
    """The nearer covers a part of the farther, and is the larger of two of a kind.

    Without the cue `size` chance says which is larger; without `occlusion` they stand apart.
    """

    Config = DepthConfig
    labels = ("in_front_of", "behind")

    def __init__(self, config: DepthConfig) -> None:
        self.config = config

    def scene(self, label: str, rng: np.random.Generator) -> Scene:
        nearer, farther = self._pair(rng)
        first = label == "in_front_of"
        subject, reference = (nearer, farther) if first else (farther, nearer)
        record = parts(subject=subject, reference=reference) | {"label": label}
        return Scene((*crowd(self.config, (nearer, farther), rng), farther, nearer), record)

    def _pair(self, rng: np.random.Generator) -> tuple[Shape, Shape]:
        """The nearer and the farther."""
        looks = alike(2, rng)
        drawn = two_sizes(SIZE, RATIO, self.config.image_size, rng)
        if "size" not in self.config.cues and rng.integers(2):
            drawn.reverse()
        while True:
            centres = self._centres(drawn, rng)
            nearer, farther = map(shaped, looks, centres, drawn)
            if self._told(nearer, farther):
                return nearer, farther

    def _centres(self, drawn: list[int], rng: np.random.Generator) -> list[tuple[int, int]]:
        if "occlusion" not in self.config.cues:
            return scatter(drawn, self.config.image_size, rng)
        apart, angle = rng.uniform(0.3, 0.9) * sum(drawn), rng.uniform(0, 2 * pi)
        dx, dy = round(apart * cos(angle) / 2), round(apart * sin(angle) / 2)
        x, y = spot(apart / 2 + REACH * max(drawn) + GAP, self.config.image_size, rng)
        return [(x - dx, y - dy), (x + dx, y + dy)]

    def _told(self, nearer: Shape, farther: Shape) -> bool:
        """Enough is covered to be seen, and enough is left; the same whichever is in front."""
        if "occlusion" not in self.config.cues:
            return True
        return COVERED[0] <= overlap(nearer, farther) <= COVERED[1]
