"""Two shapes of a kind, one larger than the other: is the subject the larger or the smaller?"""

from __future__ import annotations

import numpy as np

from vsp.datasets.synthetic.placement import (
    CrowdedConfig,
    alike,
    crowd,
    parts,
    scatter,
    shaped,
    two_sizes,
)
from vsp.datasets.synthetic.shapes import Scene

# Radius or half side, as a share of the picture's shorter side. The range is wide beside the
# ratio, so that the size of one of the two says little of which is larger.
SIZE = (0.028, 0.16)
RATIO = (1.25, 1.6)  # of the larger to the smaller


class SizeConfig(CrowdedConfig):
    """The size task."""


class SizeWorld:
    """Both are of one kind, so that whatever is measured, the same one is larger."""

    Config = SizeConfig
    labels = ("larger", "smaller")

    def __init__(self, config: SizeConfig) -> None:
        self.config = config

    def scene(self, label: str, rng: np.random.Generator) -> Scene:
        drawn = two_sizes(SIZE, RATIO, self.config.image_size, rng)
        if label == "smaller":
            drawn.reverse()
        centres = scatter(drawn, self.config.image_size, rng)
        subject, reference = map(shaped, alike(2, rng), centres, drawn)
        record = parts(subject=subject, reference=reference)
        record |= {"question": "size", "label": label}
        return Scene((*crowd(self.config, (subject, reference), rng), subject, reference), record)
