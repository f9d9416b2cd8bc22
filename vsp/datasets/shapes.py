"""Flat coloured shapes on a white canvas, and what every synthetic world shares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import cos, pi, sin
from typing import Annotated, Literal, Protocol

import numpy as np
from PIL import Image, ImageDraw
from pydantic import Field

from vsp.config import Frozen, Name

SHAPES = ("circle", "square", "triangle", "pentagon", "star")
COLORS = {
    "red": (220, 50, 50),
    "blue": (50, 80, 220),
    "green": (50, 180, 50),
    "yellow": (230, 210, 40),
    "purple": (150, 50, 200),
    "orange": (240, 150, 30),
    "pink": (240, 110, 170),
    "cyan": (40, 200, 210),
    "brown": (140, 90, 40),
    "gray": (140, 140, 140),
}
BACKGROUND = (255, 255, 255)
MARGIN = 60  # pixels from the canvas's edge to the nearest centre
SIZES = (20, 40)  # radius or half side, pixels, both ends included


class WorldConfig(Frozen):
    """What every synthetic dataset is asked for."""

    task: Name
    n_samples: Annotated[int, Field(ge=1)]
    seed: Annotated[int, Field(ge=0)]
    output: str  # the dataset's folder
    splits: str = "data/splits"  # train.json and val.json go to <splits>/<task>/
    val_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.2
    image_size: tuple[Annotated[int, Field(ge=300)], Annotated[int, Field(ge=300)]] = (448, 448)
    prompt_template_index: Literal[0, 1, 2] = 0


@dataclass(frozen=True, slots=True)
class Shape:
    """One shape: centre and size in pixels, x to the right, y down."""

    kind: str
    color: str
    x: int
    y: int
    size: int  # radius, or half the side of a square


@dataclass(frozen=True, slots=True)
class Scene:
    """What to draw, in order, and what to write down about it."""

    shapes: tuple[Shape, ...]
    record: dict[str, str] = field(default_factory=dict)


class World(Protocol):
    """A synthetic task: `Config` checks its options, `scene` draws one sample from `rng`."""

    Config: type[WorldConfig]
    labels: Sequence[str]

    def __init__(self, config: WorldConfig) -> None: ...

    def scene(self, label: str, rng: np.random.Generator) -> Scene: ...


def draw(scene: Scene, image_size: tuple[int, int]) -> Image.Image:
    """The scene as an RGB picture of `image_size` (width, height), in pure colours."""
    image = Image.new("RGB", image_size, BACKGROUND)
    canvas = ImageDraw.Draw(image)
    for shape in scene.shapes:
        _PAINT[shape.kind](canvas, shape)
    return image


def _circle(canvas: ImageDraw.ImageDraw, s: Shape) -> None:
    canvas.ellipse((s.x - s.size, s.y - s.size, s.x + s.size, s.y + s.size), COLORS[s.color])


def _square(canvas: ImageDraw.ImageDraw, s: Shape) -> None:
    canvas.rectangle((s.x - s.size, s.y - s.size, s.x + s.size, s.y + s.size), COLORS[s.color])


def _polygon(canvas: ImageDraw.ImageDraw, s: Shape, radii: Sequence[float]) -> None:
    # Corners at equal angles, the first one at the top.
    angles = [2 * pi * i / len(radii) - pi / 2 for i in range(len(radii))]
    corners = [
        (s.x + s.size * r * cos(a), s.y + s.size * r * sin(a))
        for r, a in zip(radii, angles, strict=True)
    ]
    canvas.polygon(corners, COLORS[s.color])


_PAINT = {
    "circle": _circle,
    "square": _square,
    "triangle": lambda canvas, shape: _polygon(canvas, shape, [1.0] * 3),
    "pentagon": lambda canvas, shape: _polygon(canvas, shape, [1.0] * 5),
    # The inner corners of a five-pointed star whose sides line up lie at (3 - sqrt 5) / 2.
    "star": lambda canvas, shape: _polygon(canvas, shape, [1.0, 0.382] * 5),
}
