"""Places and looks for shapes: nothing overlaps, and a name is that of one shape in the picture."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from math import ceil, exp, floor, log, sqrt
from typing import Annotated, Any

import numpy as np
from pydantic import Field, model_validator

from vsp.datasets.synthetic.shapes import COLORS, SHAPES, Shape, WorldConfig, box

# A square's corner is this far from its centre, in half sides; no other shape reaches as far.
REACH = 2**0.5
GAP = 4  # pixels at least between what two shapes reach
SMALL = (0.035, 0.06)  # radius or half side, as a share of the picture's shorter side
_TRIES = 60  # for one shape, before all are placed anew

Look = tuple[str, str]  # kind and colour
Share = tuple[float, float]  # least and most, of the picture's shorter side

_Six = Annotated[int, Field(ge=0, le=6)]
_Five = Annotated[int, Field(ge=0, le=5)]
# The least and the most: with two or with three that are asked about, eight shapes at most.
Distractors = tuple[_Six, _Six]
FewerDistractors = tuple[_Five, _Five]


class CrowdedConfig(WorldConfig):
    """Of a world in which other shapes may stand about."""

    distractors: Distractors = (0, 6)

    @model_validator(mode="after")
    def _ordered(self) -> CrowdedConfig:
        if self.distractors[0] > self.distractors[1]:
            raise ValueError(
                f"distractors {list(self.distractors)}: the least is over the most; turn them round"
            )
        return self


def looks(n: int, rng: np.random.Generator, but: Sequence[Look] = ()) -> list[Look]:
    """`n` pairs of kind and colour, no two alike and none like those in `but`."""
    free = [look for look in _LOOKS if look not in but]
    return [free[i] for i in rng.permutation(len(free))[:n]]


def alike(n: int, rng: np.random.Generator) -> list[Look]:
    """`n` looks of one kind in different colours."""
    kind = SHAPES[int(rng.integers(len(SHAPES)))]
    colors = list(COLORS)
    return [(kind, colors[i]) for i in rng.permutation(len(colors))[:n]]


def pixels(share: float, image_size: tuple[int, int]) -> int:
    return round(share * min(image_size))


def sizes(n: int, share: Share, image_size: tuple[int, int], rng: np.random.Generator) -> list[int]:
    """`n` sizes in pixels; no factor is more likely than another."""
    drawn = rng.uniform(log(share[0]), log(share[1]), size=n)
    return [pixels(exp(one), image_size) for one in drawn]


def two_sizes(
    share: Share, ratio: Share, image_size: tuple[int, int], rng: np.random.Generator
) -> list[int]:
    """The larger and the smaller of two sizes in `share`, in pixels, at least `ratio[0]` apart."""
    root = sqrt(rng.uniform(*ratio))
    mean = exp(rng.uniform(log(share[0] * root), log(share[1] / root))) * min(image_size)
    return [ceil(mean * root), floor(mean / root)]


def spot(margin: float, image_size: tuple[int, int], rng: np.random.Generator) -> tuple[int, int]:
    """A point at least `margin` pixels from the picture's edges."""
    x, y = rng.random(2)
    width, height = (side - 1 - 2 * margin for side in image_size)
    return round(margin + x * width), round(margin + y * height)


def scatter(
    shape_sizes: Sequence[int],
    image_size: tuple[int, int],
    rng: np.random.Generator,
    taken: Sequence[Shape] = (),
) -> list[tuple[int, int]]:
    """A centre for each size, such that no two shapes overlap, nor any with those in `taken`."""
    while True:
        placed = [(shape.x, shape.y, shape.size) for shape in taken]
        for size in shape_sizes:
            found = _free_spot(size, placed, image_size, rng)
            if found is None:
                break
            placed.append((*found, size))
        else:
            return [(x, y) for x, y, _ in placed[len(taken) :]]


def crowd(config: CrowdedConfig, named: Sequence[Shape], rng: np.random.Generator) -> list[Shape]:
    """The distractors: elsewhere than the shapes that are asked about, and of other names."""
    n = int(rng.integers(*config.distractors, endpoint=True))
    drawn = sizes(n, SMALL, config.image_size, rng)
    centres = scatter(drawn, config.image_size, rng, named)
    others = looks(n, rng, [(shape.kind, shape.color) for shape in named])
    return list(map(shaped, others, centres, drawn))


def shaped(look: Look, centre: tuple[int, int], size: int, line: int = 0) -> Shape:
    return Shape(*look, *centre, size, line)


def parts(**named: Shape) -> dict[str, Any]:
    """What a record says of the shapes that are asked about, by the part they have in it."""
    record: dict[str, Any] = {}
    for part, shape in named.items():
        record[f"{part}_shape"], record[f"{part}_color"] = shape.kind, shape.color
    return record | {f"{part}_box": box(shape) for part, shape in named.items()}


_LOOKS = list(product(SHAPES, COLORS))


def _free_spot(
    size: int,
    placed: Sequence[tuple[int, int, int]],
    image_size: tuple[int, int],
    rng: np.random.Generator,
) -> tuple[int, int] | None:
    for _ in range(_TRIES):
        x, y = spot(REACH * size, image_size, rng)
        apart = (
            (x - x2) ** 2 + (y - y2) ** 2 - (REACH * (size + s2) + GAP) ** 2
            for x2, y2, s2 in placed
        )
        if all(room >= 0 for room in apart):
            return x, y
    return None
