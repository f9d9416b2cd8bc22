"""Flat coloured shapes on a white canvas, and the parts that all synthetic worlds share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from math import ceil, cos, floor, pi, sin
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol
from zlib import Z_RLE

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from pydantic import Field

from vsp.config import Frozen, Name
from vsp.datasets.prompts import Language

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
# Colours of clutter: paler than every colour of a shape.
PALE = ((232, 232, 232), (220, 228, 238), (238, 229, 216), (222, 236, 222), (190, 190, 200))
MARGIN = 60  # least distance of a centre from the edge, pixels
SIZES = (20, 40)  # least and most radius or half side, pixels


class WorldConfig(Frozen):
    """The options that every synthetic dataset has."""

    task: Name
    n_samples: Annotated[int, Field(ge=1)]
    seed: Annotated[int, Field(ge=0)]
    output: str  # the dataset's folder
    splits: str = "data/splits"  # train.json and val.json go to <splits>/<task>/
    val_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.2
    image_size: tuple[Annotated[int, Field(ge=300)], Annotated[int, Field(ge=300)]] = (448, 448)
    prompt_template_index: Literal[0, 1, 2] = 0
    clutter: Annotated[int, Field(ge=0, le=40)] = 0  # pale lines and patches behind the shapes
    words: Annotated[int, Field(ge=0, le=40)] = 0  # pale words of several sizes
    # None, not "": an empty name would mean the working folder.
    photos: Annotated[str, Field(min_length=1)] | None = (
        None  # folder of photographs that replace the white background
    )
    languages: tuple[Language, ...] = ()  # of the prompts; empty: English, without the key

    def card(self) -> dict[str, Any]:
        """The contents of `dataset.json`.

        Newer options are left out at their default value, so that the card of an older dataset
        does not change.
        """
        values = self.model_dump(mode="json", exclude={"photos"})  # known by their contents
        return {k: v for k, v in values.items() if k not in _DEFAULTS or v != _DEFAULTS[k]}


_DEFAULTS: dict[str, Any] = {
    "clutter": 0,
    "words": 0,
    "languages": [],
    "distractors": [0, 0],
}


@dataclass(frozen=True, slots=True)
class Shape:
    """One shape; centre and size are in pixels, x to the right, y down."""

    kind: str
    color: str
    x: int
    y: int
    size: int  # radius, or half the side of a square
    line: int = 0  # width of the outline of a hollow circle or square; 0: a filled shape


@dataclass(frozen=True, slots=True)
class Mark:
    """Clutter: a patch, a line (with `width`) or a word (with `text`)."""

    points: Sequence[int]  # x, y, x, y, … in pixels; for a word, its upper left corner
    tone: int  # index in PALE
    width: int = 0
    text: str = ""
    height: int = 0  # of the word's font, pixels


@dataclass(frozen=True, slots=True)
class Scene:
    """The shapes to draw, in this order, and the record that describes them."""

    shapes: tuple[Shape, ...]
    record: dict[str, Any] = field(default_factory=dict)


class World(Protocol):
    """A synthetic task: `Config` checks its options, `scene` makes one sample from `rng`."""

    Config: type[WorldConfig]
    labels: Sequence[str]

    def __init__(self, config: WorldConfig) -> None: ...

    def scene(self, label: str, rng: np.random.Generator) -> Scene: ...


def draw_scene(
    scene: Scene, image_size: tuple[int, int], clutter: Sequence[Mark] = ()
) -> Image.Image:
    """The scene as a palette picture of `image_size` (width, height), without blended colours."""
    image = Image.new("P", image_size)
    image.putpalette(_PALETTE)
    canvas = ImageDraw.Draw(image)
    for mark in clutter:
        _paint_mark(canvas, mark)
    for shape in scene.shapes:
        _paint(canvas, shape, _INK[shape.color])
    return image


def write_picture(image: Image.Image, path: Path) -> None:
    """Write a PNG. Level 1 with run lengths takes a quarter of Pillow's usual time, also for photographs.

    Files of photographs are 1 % larger than with Pillow's usual level.
    """
    image.save(path, compress_level=1, compress_type=Z_RLE)


def bounding_box(s: Shape) -> list[int]:
    """Left, top, right and bottom of all pixels of the shape, visible or covered."""
    if s.kind in _RADII:
        corners = _corners(s)
        xs, ys = corners[::2], corners[1::2]
    else:
        xs, ys = [s.x - s.size, s.x + s.size], [s.y - s.size, s.y + s.size]
    return [floor(min(xs)), floor(min(ys)), ceil(max(xs)) + 1, ceil(max(ys)) + 1]


def overlap(a: Shape, b: Shape) -> float:
    """The pixels that both shapes have, as a share of the smaller shape's pixels."""
    boxes = np.array([bounding_box(a), bounding_box(b)])
    (left, top), (right, bottom) = boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)
    masks = []
    for shape in (a, b):
        image = Image.new("1", (int(right - left), int(bottom - top)))
        moved = replace(shape, x=shape.x - int(left), y=shape.y - int(top))
        _paint(ImageDraw.Draw(image), moved, 1)
        masks.append(np.asarray(image))
    return float((masks[0] & masks[1]).sum() / min(mask.sum() for mask in masks))


_PALETTE = [part for color in (BACKGROUND, *COLORS.values(), *PALE) for part in color]
_INK = {color: 1 + i for i, color in enumerate(COLORS)}
# Distance of each corner of a polygon from its centre, in sizes. Corners lie at equal angles; the
# first one is at the top.
_RADII = {
    "triangle": [1.0] * 3,
    "pentagon": [1.0] * 5,
    # In a regular five-pointed star the inner corners are (3 - sqrt 5) / 2 from the centre.
    "star": [1.0, 0.382] * 5,
}


def _paint(canvas: ImageDraw.ImageDraw, s: Shape, ink: int) -> None:
    if s.kind in _RADII:
        canvas.polygon(_corners(s), ink)
        return
    around = (s.x - s.size, s.y - s.size, s.x + s.size, s.y + s.size)
    paint = canvas.ellipse if s.kind == "circle" else canvas.rectangle
    if s.line:
        paint(around, outline=ink, width=s.line)
    else:
        paint(around, ink)


def _corners(s: Shape) -> list[float]:
    """x, y, x, y, … of a polygon's corners."""
    radii = _RADII[s.kind]
    angles = [2 * pi * i / len(radii) - pi / 2 for i in range(len(radii))]
    ends = zip(radii, angles, strict=True)
    return [
        value for r, a in ends for value in (s.x + s.size * r * cos(a), s.y + s.size * r * sin(a))
    ]


def _paint_mark(canvas: ImageDraw.ImageDraw, mark: Mark) -> None:
    ink = 1 + len(COLORS) + mark.tone
    if mark.text:
        canvas.bitmap(mark.points[:2], _word(mark.text, mark.height), ink)
    elif mark.width:
        canvas.line(mark.points, ink, mark.width)
    else:
        canvas.polygon(mark.points, ink)


@cache
def _word(text: str, height: int) -> Image.Image:
    """The word in Pillow's built-in font, as a mask of 0 and 1."""
    font = ImageFont.load_default(height)
    right, bottom = (ceil(edge) for edge in font.getbbox(text)[2:])
    image = Image.new("1", (right + 1, bottom + 1))
    ImageDraw.Draw(image).text((0, 0), text, 1, font=font)
    return image
