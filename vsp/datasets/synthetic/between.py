"""Three shapes in a row: is the subject between the two references?"""

from __future__ import annotations

from math import cos, pi, sin

import numpy as np

from vsp.datasets.synthetic.placement import (
    REACH,
    CrowdedConfig,
    FewerDistractors,
    crowd,
    looks,
    parts,
    shaped,
    sizes,
    spot,
)
from vsp.datasets.synthetic.shapes import Scene

# Shares of the picture's shorter side.
SIZE = (0.03, 0.042)
STEP = (0.14, 0.18)  # along the row
DRIFT = 0.012  # across the row, at most


class BetweenConfig(CrowdedConfig):
    """The between task."""

    distractors: FewerDistractors = (0, 5)


class BetweenWorld:
    """The row has five places with the subject in the middle. "yes": one reference on each side of
    it; "no": both on one side. Any one of them, and any one with the subject, stands where it
    might for either label."""

    Config = BetweenConfig
    labels = ("yes", "no")

    def __init__(self, config: BetweenConfig) -> None:
        self.config = config

    def scene(self, label: str, rng: np.random.Generator) -> Scene:
        drawn = sizes(3, SIZE, self.config.image_size, rng)
        centres = self._row(rng)
        side, other = (0, 1) if rng.integers(2) else (1, 0)
        if label == "yes":
            chosen = [centres[side][rng.integers(2)], centres[other][rng.integers(2)]]
        else:
            chosen = [centres[side][i] for i in rng.permutation(2)]
        at = [centres[2][0], *chosen]
        named = dict(
            zip(
                ("subject", "reference", "second"),
                map(shaped, looks(3, rng), at, drawn),
                strict=True,
            )
        )
        record = parts(**named) | {"question": "between", "label": label}
        shapes = list(named.values())
        return Scene((*crowd(self.config, shapes, rng), *shapes), record)

    def _row(self, rng: np.random.Generator) -> list[list[tuple[int, int]]]:
        """Two places on one side, two on the other, and the one in the middle."""
        side = min(self.config.image_size)
        steps = rng.uniform(*STEP, size=4)
        along = [-steps[0], -steps[0] - steps[1], steps[2], steps[2] + steps[3], 0]
        across = rng.uniform(-DRIFT, DRIFT, size=5)
        angle = rng.uniform(0, 2 * pi)
        dx = [side * (a * cos(angle) - b * sin(angle)) for a, b in zip(along, across, strict=True)]
        dy = [side * (a * sin(angle) + b * cos(angle)) for a, b in zip(along, across, strict=True)]
        x, y = spot((2 * STEP[1] + DRIFT + REACH * SIZE[1]) * side, self.config.image_size, rng)
        at = [(round(x + right), round(y + down)) for right, down in zip(dx, dy, strict=True)]
        return [at[:2], at[2:4], at[4:]]
