"""Random sizes, places and names of shapes: no two shapes overlap, and no two share a name."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from math import ceil, exp, floor, log, sqrt
from typing import Annotated, Any

import numpy as np
from pydantic import Field, model_validator

from vsp.datasets.synthetic.shapes import COLORS, SHAPES, Shape, WorldConfig, bounding_box

# A square's corner is this many half sides from its centre; no other shape reaches further.
REACH = 2**0.5
GAP = 4  # least distance in pixels between the circles around two shapes
SMALL = (0.035, 0.06)  # radius or half side, as a share of the picture's shorter side
_TRIES = 60  # per shape, before all shapes are placed again

KindColor = tuple[str, str]
Interval = tuple[float, float]  # least and most
Point = tuple[int, int]  # x, y in pixels

_UpTo6 = Annotated[int, Field(ge=0, le=6)]
_UpTo5 = Annotated[int, Field(ge=0, le=5)]
# Least and most distractors. A picture has at most eight shapes, two or three of them named.
Distractors = tuple[_UpTo6, _UpTo6]
FewerDistractors = tuple[_UpTo5, _UpTo5]


class DistractorConfig(WorldConfig):
    """Configuration of a world that can have other shapes in its pictures."""

    distractors: Distractors = (0, 6)

    @model_validator(mode="after")
    def _ordered(self) -> DistractorConfig:
        least, most = self.distractors
        if least > most:
            raise ValueError(
                f"distractors {[least, most]}: the least is over the most; exchange them"
            )
        return self


def different_names(
    n: int, rng: np.random.Generator, exclude: Sequence[KindColor] = ()
) -> list[KindColor]:
    """`n` random pairs of kind and colour, all different, and none of them in `exclude`."""
    free = [name for name in _KINDS_AND_COLORS if name not in exclude]
    return [free[i] for i in rng.permutation(len(free))[:n]]


def same_kind_names(n: int, rng: np.random.Generator) -> list[KindColor]:
    """`n` pairs of one random kind and different colours."""
    kind = SHAPES[int(rng.integers(len(SHAPES)))]
    colors = list(COLORS)
    return [(kind, colors[i]) for i in rng.permutation(len(colors))[:n]]


def to_pixels(share: float, image_size: tuple[int, int]) -> int:
    """A share of the picture's shorter side, in pixels."""
    return round(share * min(image_size))


def random_sizes(
    n: int, share: Interval, image_size: tuple[int, int], rng: np.random.Generator
) -> list[int]:
    """`n` sizes in pixels, uniform on a logarithmic scale."""
    logs = rng.uniform(log(share[0]), log(share[1]), size=n)
    return [to_pixels(exp(value), image_size) for value in logs]


def random_size_pair(
    share: Interval, ratio: Interval, image_size: tuple[int, int], rng: np.random.Generator
) -> list[int]:
    """Two sizes in pixels, the larger one first; their quotient is in `ratio` before rounding."""
    root = sqrt(rng.uniform(*ratio))
    mean = exp(rng.uniform(log(share[0] * root), log(share[1] / root))) * min(image_size)
    return [ceil(mean * root), floor(mean / root)]


def random_point(margin: float, image_size: tuple[int, int], rng: np.random.Generator) -> Point:
    """A point at least `margin` pixels from the picture's edges."""
    x, y = rng.random(2)
    width, height = (side - 1 - 2 * margin for side in image_size)
    return round(margin + x * width), round(margin + y * height)


def random_centres(
    sizes: Sequence[int],
    image_size: tuple[int, int],
    rng: np.random.Generator,
    others: Sequence[Shape] = (),
) -> list[Point]:
    """A centre for each size, such that no two shapes overlap and none overlaps `others`."""
    while True:
        placed = [(shape.x, shape.y, shape.size) for shape in others]
        for size in sizes:
            point = _free_point(size, placed, image_size, rng)
            if point is None:
                break
            placed.append((*point, size))
        else:
            return [(x, y) for x, y, _ in placed[len(others) :]]


def random_distractors(
    config: DistractorConfig, named: Sequence[Shape], rng: np.random.Generator
) -> list[Shape]:
    """Distractors that overlap none of the `named` shapes and have other names."""
    n = int(rng.integers(*config.distractors, endpoint=True))
    sizes = random_sizes(n, SMALL, config.image_size, rng)
    centres = random_centres(sizes, config.image_size, rng, named)
    names = different_names(n, rng, [(shape.kind, shape.color) for shape in named])
    return list(map(make_shape, names, centres, sizes))


def make_shape(name: KindColor, centre: Point, size: int, line: int = 0) -> Shape:
    return Shape(*name, *centre, size, line)


def describe(**named: Shape) -> dict[str, Any]:
    """The record keys for the named shapes: `subject_shape`, `subject_color`, `subject_box`, …"""
    record: dict[str, Any] = {}
    for part, shape in named.items():
        record[f"{part}_shape"], record[f"{part}_color"] = shape.kind, shape.color
    return record | {f"{part}_box": bounding_box(shape) for part, shape in named.items()}


_KINDS_AND_COLORS = list(product(SHAPES, COLORS))


def _free_point(
    size: int,
    placed: Sequence[tuple[int, int, int]],
    image_size: tuple[int, int],
    rng: np.random.Generator,
) -> Point | None:
    """A centre away from the `placed` shapes (x, y, size); None if no try succeeds."""
    for _ in range(_TRIES):
        x, y = random_point(REACH * size, image_size, rng)
        room = (
            (x - x2) ** 2 + (y - y2) ** 2 - (REACH * (size + size2) + GAP) ** 2
            for x2, y2, size2 in placed
        )
        if all(value >= 0 for value in room):
            return x, y
    return None
