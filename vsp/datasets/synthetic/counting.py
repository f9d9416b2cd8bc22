"""Many shapes: how many of them are of the kind that is asked for?"""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field, model_validator

from vsp.datasets.synthetic.placement import SMALL, scatter, shaped, sizes
from vsp.datasets.synthetic.shapes import COLORS, SHAPES, Scene, WorldConfig, box

_Total = Annotated[int, Field(ge=2, le=10)]


class CountingConfig(WorldConfig):
    """The counting task: 1 to `max_count` of the kind, and others up to `total` in all."""

    max_count: Annotated[int, Field(ge=2, le=9)] = 6
    total: tuple[_Total, _Total] = (7, 8)  # least and most; the count has no part in it

    @model_validator(mode="after")
    def _enough(self) -> CountingConfig:
        if not self.max_count < self.total[0] <= self.total[1]:
            raise ValueError(
                f"total {list(self.total)} is [least, most]; its least must be over max_count, "
                f"{self.max_count}"
            )
        return self


class CountingWorld:
    """How many shapes there are in all is drawn before, so it does not tell the count."""

    Config = CountingConfig

    def __init__(self, config: CountingConfig) -> None:
        self.config = config
        self.labels = tuple(str(n) for n in range(1, config.max_count + 1))

    def scene(self, label: str, rng: np.random.Generator) -> Scene:
        total = int(rng.integers(*self.config.total, endpoint=True))
        asked, *others = rng.permutation(SHAPES).tolist()
        n_others = total - int(label)
        kinds = [asked] * int(label) + rng.choice(others, size=n_others).tolist()
        colors = rng.choice(list(COLORS), size=total).tolist()
        drawn = sizes(total, SMALL, self.config.image_size, rng)
        centres = scatter(drawn, self.config.image_size, rng)
        # A place found last is in a gap: which shape gets it is left to chance.
        order = rng.permutation(total)
        shapes = [shaped((kinds[k], colors[k]), centres[i], drawn[i]) for i, k in enumerate(order)]
        record = {
            "subject_shape": asked,
            "subject_boxes": [box(shape) for shape in shapes if shape.kind == asked],
            "question": "count",
            "label": label,
        }
        return Scene(tuple(shapes), record)
