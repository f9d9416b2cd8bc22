"""Image files → RGB pictures, upright, with the digest of the file they came from."""

from __future__ import annotations

import hashlib
import struct
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from vsp.errors import DatasetError

# What Pillow's decoders raise on damaged files, besides OSError.
_DAMAGE = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error)


def open_rgb(path: str | Path) -> tuple[Image.Image, str]:
    """The picture, decoded whole, turned as its EXIF says, in RGB; and the file's SHA-256.

    Raises DatasetError with the reason if the file cannot be read or decoded.
    """
    try:
        data = Path(path).read_bytes()
        with Image.open(BytesIO(data)) as image:
            picture = _rgb(ImageOps.exif_transpose(image))
    except (*_DAMAGE, Image.DecompressionBombError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DatasetError(f"image {str(path)!r} cannot be read: {reason}") from None
    return picture, hashlib.sha256(data).hexdigest()


def _rgb(image: Image.Image) -> Image.Image:
    """In RGB, as models see it: transparency is dropped, of an animation the first frame stays."""
    if image.mode.startswith("I;16"):
        # Pillow would cut 16 bits at 255, which leaves a white picture.
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    elif image.mode in ("I", "F"):
        raise ValueError(f"mode {image.mode} has no fixed range; save it with 8 or 16 bits")
    return image.convert("RGB")
