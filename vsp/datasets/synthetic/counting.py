"""Many shapes: how many of them are of the kind that is asked for?"""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field, model_validator

from vsp.datasets.synthetic.placement import SMALL, make_shape, random_centres, random_sizes
from vsp.datasets.synthetic.shapes import COLORS, SHAPES, Scene, WorldConfig, bounding_box

_Total = Annotated[int, Field(ge=2, le=10)]


class CountingConfig(WorldConfig):
    """The counting task: 1 to `max_count` shapes of the kind asked for, and `total` shapes."""

    max_count: Annotated[int, Field(ge=2, le=9)] = 6
    total: tuple[_Total, _Total] = (7, 8)  # least and most; independent of the count

    @model_validator(mode="after")
    def _enough(self) -> CountingConfig:
        if not self.max_count < self.total[0] <= self.total[1]:
            raise ValueError(
                f"total {list(self.total)} is [least, most]; the least must be over max_count, "
                f"{self.max_count}"
            )
        return self


class CountingWorld:
    """The total number of shapes is drawn independently of the label, so it does not tell it."""

    Config = CountingConfig

    def __init__(self, config: CountingConfig) -> None:
        self.config = config
        self.labels = tuple(str(n) for n in range(1, config.max_count + 1))

    def scene(self, label: str, rng: np.random.Generator) -> Scene:
        total = int(rng.integers(*self.config.total, endpoint=True))
        counted, *others = rng.permutation(SHAPES).tolist()
        n_others = total - int(label)
        kinds = [counted] * int(label) + rng.choice(others, size=n_others).tolist()
        colors = rng.choice(list(COLORS), size=total).tolist()
        sizes = random_sizes(total, SMALL, self.config.image_size, rng)
        centres = random_centres(sizes, self.config.image_size, rng)
        # The last centres lie in gaps between the others, so the shapes take centres at random.
        order = rng.permutation(total)
        shapes = [
            make_shape((kinds[k], colors[k]), centres[i], sizes[i]) for i, k in enumerate(order)
        ]
        record = {
            "subject_shape": counted,
            "subject_boxes": [bounding_box(shape) for shape in shapes if shape.kind == counted],
            "question": "count",
            "label": label,
        }
        return Scene(tuple(shapes), record)
