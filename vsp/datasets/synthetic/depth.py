"""Two shapes at different depths: is the subject in front of the reference or behind it?"""

from __future__ import annotations

from math import cos, pi, sin
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from vsp.datasets.synthetic.placement import (
    GAP,
    REACH,
    DistractorConfig,
    Point,
    describe,
    make_shape,
    random_centres,
    random_distractors,
    random_point,
    random_size_pair,
    same_kind_names,
)
from vsp.datasets.synthetic.shapes import Scene, Shape, overlap

SIZE = (0.035, 0.15)  # radius or half side, as a share of the picture's shorter side
RATIO = (1.3, 1.7)  # larger size / smaller size
COVERED = (0.2, 0.6)  # overlap, as a share of the smaller shape


class DepthConfig(DistractorConfig):
    """The depth task: `cues` are the signs of which shape is nearer."""

    cues: Annotated[tuple[Literal["occlusion", "size"], ...], Field(min_length=1)] = (
        "occlusion",
        "size",
    )


class DepthWorld:
    """Two shapes of one kind. The nearer one is larger and covers a part of the farther one.

    Without the cue `size`, the larger shape is chosen at random. Without the cue `occlusion`, the
    shapes do not overlap.
    """

    Config = DepthConfig
    labels = ("in_front_of", "behind")

    def __init__(self, config: DepthConfig) -> None:
        self.config = config

    def scene(self, label: str, rng: np.random.Generator) -> Scene:
        nearer, farther = self._pair(rng)
        in_front = label == "in_front_of"
        subject, reference = (nearer, farther) if in_front else (farther, nearer)
        record = describe(subject=subject, reference=reference) | {"label": label}
        distractors = random_distractors(self.config, (nearer, farther), rng)
        return Scene((*distractors, farther, nearer), record)

    def _pair(self, rng: np.random.Generator) -> tuple[Shape, Shape]:
        """The nearer and the farther shape."""
        names = same_kind_names(2, rng)
        sizes = random_size_pair(SIZE, RATIO, self.config.image_size, rng)
        if "size" not in self.config.cues and rng.integers(2):
            sizes.reverse()
        while True:
            centres = self._centres(sizes, rng)
            nearer, farther = map(make_shape, names, centres, sizes)
            if self._overlap_is_clear(nearer, farther):
                return nearer, farther

    def _centres(self, sizes: list[int], rng: np.random.Generator) -> list[Point]:
        if "occlusion" not in self.config.cues:
            return random_centres(sizes, self.config.image_size, rng)
        apart, angle = rng.uniform(0.3, 0.9) * sum(sizes), rng.uniform(0, 2 * pi)
        dx, dy = round(apart * cos(angle) / 2), round(apart * sin(angle) / 2)
        margin = apart / 2 + REACH * max(sizes) + GAP
        x, y = random_point(margin, self.config.image_size, rng)
        return [(x - dx, y - dy), (x + dx, y + dy)]

    def _overlap_is_clear(self, nearer: Shape, farther: Shape) -> bool:
        """Whether enough of the farther shape is covered, and enough of it is visible.

        The test gives the same answer with the two shapes exchanged.
        """
        if "occlusion" not in self.config.cues:
            return True
        return COVERED[0] <= overlap(nearer, farther) <= COVERED[1]
