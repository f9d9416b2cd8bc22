"""Three shapes in a row: is the subject between the two references?"""

from __future__ import annotations

from math import cos, pi, sin

import numpy as np

from vsp.datasets.synthetic.placement import (
    REACH,
    DistractorConfig,
    FewerDistractors,
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
SIZE = (0.03, 0.042)
STEP = (0.14, 0.18)  # between neighbouring places of the row
DRIFT = 0.012  # largest distance from the row


class BetweenConfig(DistractorConfig):
    """The between task."""

    distractors: FewerDistractors = (0, 5)


class BetweenWorld:
    """The row has five places, and the subject has the middle one. For "yes" there is one reference
    on each side, for "no" both are on one side.

    One shape alone, or one reference and the subject, have the same places for both labels. Only
    all three tell the label.
    """

    Config = BetweenConfig
    labels = ("yes", "no")

    def __init__(self, config: BetweenConfig) -> None:
        self.config = config

    def scene(self, label: str, rng: np.random.Generator) -> Scene:
        sizes = random_sizes(3, SIZE, self.config.image_size, rng)
        places = self._row(rng)
        side, other = (0, 1) if rng.integers(2) else (1, 0)
        if label == "yes":
            chosen = [places[side][rng.integers(2)], places[other][rng.integers(2)]]
        else:
            chosen = [places[side][i] for i in rng.permutation(2)]
        centres = [places[2][0], *chosen]
        shapes = list(map(make_shape, different_names(3, rng), centres, sizes))
        subject, reference, second = shapes
        record = describe(subject=subject, reference=reference, second=second)
        record |= {"question": "between", "label": label}
        return Scene((*random_distractors(self.config, shapes, rng), *shapes), record)

    def _row(self, rng: np.random.Generator) -> list[list[Point]]:
        """The two places on one side, the two on the other side, and the middle."""
        side = min(self.config.image_size)
        steps = rng.uniform(*STEP, size=4)
        along = [-steps[0], -steps[0] - steps[1], steps[2], steps[2] + steps[3], 0]
        across = rng.uniform(-DRIFT, DRIFT, size=5)
        angle = rng.uniform(0, 2 * pi)
        dx = [side * (a * cos(angle) - b * sin(angle)) for a, b in zip(along, across, strict=True)]
        dy = [side * (a * sin(angle) + b * cos(angle)) for a, b in zip(along, across, strict=True)]
        margin = (2 * STEP[1] + DRIFT + REACH * SIZE[1]) * side
        x, y = random_point(margin, self.config.image_size, rng)
        places = [(round(x + right), round(y + down)) for right, down in zip(dx, dy, strict=True)]
        return [places[:2], places[2:4], places[4:]]
