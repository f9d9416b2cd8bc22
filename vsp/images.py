"""Image files → RGB pictures, upright, with the digest of the file they came from."""

from __future__ import annotations

import hashlib
import struct
import zlib
from io import BytesIO
from pathlib import Path

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
            picture = ImageOps.exif_transpose(image).convert("RGB")
    except (*_DAMAGE, Image.DecompressionBombError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DatasetError(f"image {str(path)!r} cannot be read: {reason}") from None
    return picture, hashlib.sha256(data).hexdigest()
