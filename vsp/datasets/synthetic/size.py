"""Two shapes of one kind: is the subject the larger or the smaller one?"""

from __future__ import annotations

import numpy as np

from vsp.datasets.synthetic.placement import (
    DistractorConfig,
    describe,
    make_shape,
    random_centres,
    random_distractors,
    random_size_pair,
    same_kind_names,
)
from vsp.datasets.synthetic.shapes import Scene

# Radius or half side, as a share of the picture's shorter side. Sizes vary much more than the two
# sizes of one picture differ, so the size of one shape says little about the label.
SIZE = (0.028, 0.16)
RATIO = (1.25, 1.6)  # larger size / smaller size


class SizeConfig(DistractorConfig):
    """The size task."""


class SizeWorld:
    """Both shapes are of one kind, so the same one is larger in width, height and area."""

    Config = SizeConfig
    labels = ("larger", "smaller")

    def __init__(self, config: SizeConfig) -> None:
        self.config = config

    def scene(self, label: str, rng: np.random.Generator) -> Scene:
        sizes = random_size_pair(SIZE, RATIO, self.config.image_size, rng)
        if label == "smaller":
            sizes.reverse()
        centres = random_centres(sizes, self.config.image_size, rng)
        subject, reference = map(make_shape, same_kind_names(2, rng), centres, sizes)
        record = describe(subject=subject, reference=reference)
        record |= {"question": "size", "label": label}
        distractors = random_distractors(self.config, (subject, reference), rng)
        return Scene((*distractors, subject, reference), record)
