"""Image files → RGB pictures, upright, with the digest of the file they came from."""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from math import ceil, floor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from vsp.errors import DatasetError

# What Pillow's decoders raise on damaged files, besides OSError.
_DAMAGE = (OSError, SyntaxError, ValueError, EOFError, RuntimeError, struct.error, zlib.error)
_QUARTER_TURNS = (5, 6, 7, 8)  # EXIF orientations in which width is height


def open_rgb(path: str | Path) -> tuple[Image.Image, str]:
    """The picture, decoded whole, turned as its EXIF says, in RGB; and the file's SHA-256.

    Raises DatasetError with the reason if the file cannot be read or decoded.
    """
    with _readable(path):
        data = Path(path).read_bytes()
        with Image.open(BytesIO(data)) as image:
            picture = _rgb(ImageOps.exif_transpose(image))
    return picture, hashlib.sha256(data).hexdigest()


def upright_size(path: str | Path) -> tuple[int, int]:
    """Width and height of the picture that `open_rgb` gives; reads no more than the file's head.

    Raises DatasetError as `open_rgb` does, but not for what is wrong behind the head.
    """
    with _readable(path), Image.open(path) as image:
        width, height = image.size
        turned = image.getexif().get(ExifTags.Base.Orientation) in _QUARTER_TURNS
    return (height, width) if turned else (width, height)


@contextmanager
def _readable(path: str | Path) -> Iterator[None]:
    try:
        yield
    except (*_DAMAGE, Image.DecompressionBombError) as error:
        raise DatasetError(f"image {str(path)!r} cannot be read: {_reason(error)}") from None


def _reason(error: Exception) -> str:
    """Without the path, which is said already, and without the names of Pillow's objects."""
    if isinstance(error, UnidentifiedImageError):
        return "it is in no format that is known, or empty"
    said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(said.split()) or type(error).__name__


def open_region(region: Sequence[float] | str, size: tuple[int, int]) -> NDArray[np.bool_]:
    """A box (left, top, right, bottom) in pixels, or a mask file, as a mask [height, width].

    `size` is the picture's (width, height), upright. Raises DatasetError for a region that does
    not lie in it.
    """
    if isinstance(region, str):
        mask = np.asarray(open_rgb(region)[0]).any(axis=2)
        if mask.shape != size[::-1]:
            raise DatasetError(
                f"mask {region!r} has {mask.shape[1]} × {mask.shape[0]} pixels, its image "
                f"{size[0]} × {size[1]}"
            )
        return mask
    left, top, right, bottom = region
    if not (0 <= left < right <= size[0] and 0 <= top < bottom <= size[1]):
        raise DatasetError(f"box {list(region)} does not lie in an image of {size[0]} × {size[1]}")
    mask = np.zeros(size[::-1], dtype=np.bool_)
    mask[floor(top) : ceil(bottom), floor(left) : ceil(right)] = True
    return mask


def _rgb(image: Image.Image) -> Image.Image:
    """In RGB, as models see it: transparency is dropped, of an animation the first frame stays."""
    if image.mode.startswith("I;16"):
        # Pillow would cut 16 bits at 255, which leaves a white picture.
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    elif image.mode in ("I", "F"):
        raise ValueError(f"mode {image.mode} has no fixed range; save it with 8 or 16 bits")
    picture = image.convert("RGB")
    # A colour noted as transparent would be painted white by those who read the note.
    picture.info.clear()
    return picture
