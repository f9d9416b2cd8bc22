"""Where the tokens of an image lie in the image.

A vision tower sees a canvas of pixels: the resized image, perhaps with its edges cut off or with a
border around it. The canvas is cut into square cells, of one or several patches. If each token of the
image stands for one cell, the centre of the cell is the place of the token.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import isqrt
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vsp.errors import InputError
from vsp.models.prompt_tokens import processing_errors
from vsp.models.vision_tower import has_class_token

_CACHED_SIZES = 1 << 12
# Model types whose images keep their aspect ratio. The image processor gives rows and columns of
# patches in `image_grid_thw`, and the tower joins squares of `merge_size` patches.
_QWEN_LIKE = (
    "glm4v", "qwen2_5_vl", "qwen2_vl", "qwen3_5", "qwen3_vl", "qwen3_vl_moe", "video_llama_3",
)  # fmt: skip
# The image processor gives height and width of the resized image in `image_sizes`.
_PIXTRAL_LIKE = ("mistral3", "pixtral")
# Model types with one token per patch of a canvas of one size. Gemma 3 takes means of patches.
_ONE_SIZE = ("deepseek_vl", "gemma3", "janus", "llava", "paligemma", "vipllava")
# Types for which a test compares cells and tokens. A LLaVA with Pixtral's tower is a "pixtral".
GRIDS = (*_ONE_SIZE, *_QWEN_LIKE, *_PIXTRAL_LIKE)
_TILES = "the image is cut into tiles"
_QUERIES = "each of its image tokens reads all patches"
_UNTESTED = "vsp has no tested grid for it"
NO_GRID: Mapping[str, str] = MappingProxyType(
    {
        "aria": _QUERIES,
        "aya_vision": _TILES,
        "chameleon": _UNTESTED,
        "gemma4": _UNTESTED,
        "idefics2": _QUERIES,
        "idefics3": _TILES,
        "internvl": _TILES,
        "llava_next": _TILES,
        "llava_next_video": _TILES,
        "llava_onevision": _TILES,
        "ovis2": _TILES,
        "smolvlm": _TILES,
    }
)
# Image processors that resize, then cut out the middle; only the first can add a border before.
_RESIZING = ("LlavaImageProcessor", "CLIPImageProcessor", "Gemma3ImageProcessor",
             "SiglipImageProcessor")  # fmt: skip
_RESIZING_THEN_PADDING = ("DeepseekVLImageProcessor", "JanusImageProcessor")


@dataclass(frozen=True, slots=True)
class Canvas:
    """The pixels that a vision tower sees, and the whole resized image in their coordinates."""

    width: int
    height: int
    left: float  # of the image; negative if its left edge is cut off
    top: float
    image_width: float
    image_height: float

    def centres(self, cell: int) -> NDArray[np.float64]:
        """Centres [cell, (x, y)] of the cells of `cell` × `cell` pixels, row by row.

        They are shares of the image's width and height. Pixels behind the last whole cell are left
        out, as a convolution does.
        """
        x = (np.arange(self.width // cell) + 0.5) * cell - self.left
        y = (np.arange(self.height // cell) + 0.5) * cell - self.top
        across, down = np.meshgrid(x / self.image_width, y / self.image_height)
        return np.stack([across.ravel(), down.ravel()], axis=1)


def stretched(width: int, height: int) -> Canvas:
    """The image fills the canvas, whatever its aspect ratio."""
    return Canvas(width, height, 0, 0, width, height)


def cropped(image: tuple[int, int], canvas: tuple[int, int]) -> Canvas:
    """The middle of a resized image; a border is added where the image is smaller."""
    left, top = (-((inner - outer) // 2) for inner, outer in zip(image, canvas, strict=True))
    return Canvas(*canvas, left, top, *image)


def padded(image: tuple[int, int], side: int) -> Canvas:
    """The image in the middle of a square as wide as its longer edge, resized to `side` pixels."""
    square = max(image)
    left, top = ((square - edge) // 2 * side / square for edge in image)
    width, height = (edge * side / square for edge in image)
    return Canvas(side, side, left, top, width, height)


def join_pairs(centres: NDArray[np.float64]) -> NDArray[np.float64]:
    """Centres of cells of 2 × 2 patches, column by column, from those of side² patches, row by row.

    A cell at the end of an odd side has fewer patches; its centre is the mean of those it has.
    """
    side = isqrt(len(centres))
    half = (side + 1) // 2
    grid = np.full((2 * half, 2 * half, 2), np.nan)
    grid[:side, :side] = centres.reshape(side, side, 2)
    cells = grid.reshape(half, 2, half, 2, 2)
    joined: NDArray[np.float64] = np.nanmean(cells, axis=(1, 3)).swapaxes(0, 1).reshape(-1, 2)
    return joined


def in_squares(centres: NDArray[np.float64], width: int, side: int) -> NDArray[np.float64]:
    """Centres of patches square by square of `side`² patches, from those row by row of `width`."""
    squares = centres.reshape(-1, side, width // side, side, 2)
    return squares.swapaxes(1, 2).reshape(-1, 2)


class PatchGrid:
    """The places of the image tokens of a checkpoint of transformers."""

    def __init__(self, checkpoint: Any, image_processor: Any) -> None:
        self._checkpoint, self._images = checkpoint, image_processor
        self._kind = type(image_processor).__name__.removesuffix("Pil")
        self._type = checkpoint.model_type
        if self._type == "llava" and self._kind == "PixtralImageProcessor":
            self._type = "pixtral"
        self._of_blank = lru_cache(_CACHED_SIZES)(self._measured)

    def centres(
        self, arrays: Mapping[str, NDArray[Any]], size: tuple[int, int], n_tokens: int
    ) -> NDArray[np.float64]:
        """Centres [image token, (x, y)] in an image of `size`, whose `arrays` may be missing.

        Raises InputError if the tokens have no grid.
        """
        if self._type not in GRIDS:
            raise self._no_grid(NO_GRID.get(self._type, _UNTESTED))
        cell = self._cell()
        if not isinstance(cell, int) or cell < 1:
            raise self._no_grid(f"its patches have the size {cell!r}")
        if self._type in _ONE_SIZE:
            centres = self._canvas(size).centres(cell)
        else:
            height, width = self._height_and_width(arrays, size)
            centres = stretched(width, height).centres(cell)
        if len(centres) != n_tokens:
            raise self._no_grid(f"{n_tokens} tokens stand for {len(centres)} cells of the image")
        return centres

    def tower_centres(
        self, arrays: Mapping[str, NDArray[Any]], size: tuple[int, int]
    ) -> NDArray[np.float64]:
        """As `centres`, of the patches in the blocks of the tower; NaN for the class token."""
        tower = self._checkpoint.vision_config
        if self._type in _QWEN_LIKE:
            height, width = self._height_and_width(arrays, size)
            return in_squares(stretched(width, height).centres(1), width, self._cell())
        centres = self._canvas(size).centres(tower.patch_size)
        if len(centres) != (tower.image_size // tower.patch_size) ** 2:
            raise self._no_grid(f"its images have {len(centres)} patches, its tower takes others")
        return np.pad(
            centres, ((int(has_class_token(self._checkpoint)), 0), (0, 0)), constant_values=np.nan
        )

    def _no_grid(self, reason: str) -> InputError:
        return InputError(
            f"the image tokens of model type {self._checkpoint.model_type!r} have no grid here: "
            f"{reason}; use positions without a box"
        )

    def _cell(self) -> Any:
        """Width of the part of the canvas that a token stands for; in patches for Qwen."""
        if self._type in _QWEN_LIKE:
            return getattr(self._images, "merge_size", None)
        tower = self._checkpoint.vision_config
        if self._type == "gemma3":
            return tower.image_size // isqrt(self._checkpoint.mm_tokens_per_image)
        if self._type == "mistral3":
            return tower.patch_size * self._checkpoint.spatial_merge_size
        return tower.patch_size

    def _height_and_width(
        self, arrays: Mapping[str, NDArray[Any]], size: tuple[int, int]
    ) -> tuple[int, int]:
        """Of the canvas, in pixels, or in patches for Qwen. They depend on `size` only."""
        name = "image_grid_thw" if self._type in _QWEN_LIKE else "image_sizes"
        if name not in arrays:
            return self._of_blank(name, size)
        height, width = arrays[name][0][-2:]
        return int(height), int(width)

    def _measured(self, name: str, size: tuple[int, int]) -> tuple[int, int]:
        """As `_height_and_width`, from a blank image."""
        settings = {"patch_size": self._cell()} if self._type in _PIXTRAL_LIKE else {}
        with processing_errors():
            seen = self._images(images=[Image.new("RGB", size)], **settings)
        if name not in seen:
            raise self._no_grid(f"its {self._kind} gives no {name}")
        return self._height_and_width(seen, size)

    def _canvas(self, size: tuple[int, int]) -> Canvas:
        images = self._images
        if self._kind in _RESIZING_THEN_PADDING and images.do_resize and images.do_pad:
            return self._resized_then_padded(size)
        square = getattr(images, "do_pad", None)
        if self._kind not in _RESIZING or (square and self._kind != _RESIZING[0]):
            raise self._no_grid(f"vsp does not know how {self._kind} places an image")
        if getattr(images, "do_pan_and_scan", None):
            raise self._no_grid(_TILES)
        if square:
            return self._padded_then_resized(size)
        resized = self._resized(size)
        if not getattr(images, "do_center_crop", None):
            return stretched(*resized)
        return cropped(resized, (images.crop_size["width"], images.crop_size["height"]))

    def _resized(self, size: tuple[int, int]) -> tuple[int, int]:
        """Width and height of a resized image."""
        images = self._images
        if not images.do_resize:
            return size
        wanted = {key: value for key, value in dict(images.size).items() if value}
        if wanted.keys() == {"height", "width"}:
            return wanted["width"], wanted["height"]
        if wanted.keys() != {"shortest_edge"}:
            raise self._no_grid(f"its images are resized to {wanted}")
        short, (width, height) = wanted["shortest_edge"], size
        if width <= height:
            return short, int(short * height / width)
        return int(short * width / height), short

    def _padded_then_resized(self, size: tuple[int, int]) -> Canvas:
        side, other = self._resized((max(size), max(size)))
        crop = self._images.crop_size
        whole = not self._images.do_center_crop or side == crop["width"] == crop["height"]
        if side != other or not whole:
            raise self._no_grid("its padded images are resized to no square, or cropped")
        return padded(size, side)

    def _resized_then_padded(self, size: tuple[int, int]) -> Canvas:
        scale, least = self._images.size["height"] / max(size), self._images.min_size
        width, height = (max(round(edge * scale), least) for edge in size)
        side = max(width, height)
        return Canvas(side, side, (side - width) // 2, (side - height) // 2, width, height)
