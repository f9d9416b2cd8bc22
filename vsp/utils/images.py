"""Reads image files as upright RGB pictures, with the SHA-256 of the file."""

from __future__ import annotations

import hashlib
import struct
import warnings
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO, FileIO
from math import ceil, floor
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageFile, PngImagePlugin, UnidentifiedImageError

from vsp.errors import DatasetError
from vsp.utils.reading import open_regular, read_bounded
from vsp.utils.text import composed

# Bounds of a picture in memory: its file, and three copies of 4 bytes a pixel.
_MAX_BYTES = 1 << 28
MAX_PIXELS = 89_478_485  # at this size Pillow begins to warn of a decompression bomb
# Pillow reads the parts of a file one by one, in Python: a PNG of 268 MB has about 130,000 reads,
# and a file made of empty parts would keep it busy for minutes.
_MAX_READS = 300_000
# Each format is a parser of foreign bytes; that of EPS runs another program.
_COMMON_FORMATS = ("JPEG", "PNG", "GIF", "BMP", "PPM")  # Pillow loads these without the others
_OTHER_FORMATS = ("WEBP", "TIFF", "MPO", "JPEG2000", "AVIF", "ICO", "DIB", "TGA")
# Pillow's decoders raise these on damaged files.
_DAMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    RuntimeError,
    OverflowError,
    TypeError,
    IndexError,
    KeyError,
    struct.error,
    zlib.error,
)
# What turns the picture of an EXIF orientation upright.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_QUARTER_TURNS = (5, 6, 7, 8)  # EXIF orientations that swap width and height

# The text in a PNG has no effect on its picture. Programs store megabytes there, and Pillow would
# refuse the file: its limits are 1 MiB for a chunk and 64 MiB for all of them.
PngImagePlugin.MAX_TEXT_CHUNK = 1 << 26
PngImagePlugin.MAX_TEXT_MEMORY = 1 << 28
# Pillow warns about EXIF data that it cannot read and about transparency that is lost, for each
# picture anew. Both have a fixed result here: see `open_rgb` and `_rgb`.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
# A picture of too many pixels is refused here.
warnings.simplefilter("ignore", Image.DecompressionBombWarning)


class _TooManyPixelsError(ValueError):
    """A picture has more than `MAX_PIXELS` pixels."""


class _CountedBytes(BytesIO):
    """The bytes of a picture; raises ValueError after `_MAX_READS` reads."""

    _n_reads = 0

    def read(self, size: int | None = -1, /) -> bytes:
        self._n_reads = _counted(self._n_reads)
        return super().read(size)


class _CountedFile(FileIO):
    """The file of a picture; raises ValueError after `_MAX_READS` reads."""

    _n_reads = 0

    def read(self, size: int | None = -1, /) -> bytes:
        self._n_reads = _counted(self._n_reads)
        return super().read(size) or b""


def _counted(n_reads: int) -> int:
    if n_reads == _MAX_READS:
        raise ValueError(f"it has more than {_MAX_READS:,} parts; save it again")
    return n_reads + 1


def open_rgb(path: str | Path) -> tuple[Image.Image, str]:
    """The picture in RGB, fully decoded and turned as EXIF says, and the file's SHA-256.

    EXIF data that cannot be read turn nothing.
    Raises DatasetError with the reason if the file cannot be read or decoded.
    """
    with _readable(path):
        data = read_bounded(path, _MAX_BYTES)
        with _opened(_CountedBytes(data)) as image:
            image.load()  # a TIFF is turned while it is loaded
            turn = _TURNS.get(_orientation(image))
            picture = _rgb(image if turn is None else image.transpose(turn))
    return picture, hashlib.sha256(data).hexdigest()


def upright_size(path: str | Path) -> tuple[int, int]:
    """Width and height of the picture that `open_rgb` returns; reads only the file's header.

    Raises DatasetError as `open_rgb` does, but not for damage after the header.
    """
    with (
        _readable(path),
        open_regular(path, _MAX_BYTES) as file,
        _opened(_CountedFile(file.fileno(), closefd=False)) as image,
    ):
        width, height = image.size
        # Pillow gives the size of a TIFF as it is after turning.
        turned = image.format != "TIFF" and _orientation(image) in _QUARTER_TURNS
    return (height, width) if turned else (width, height)


def _opened(file: IO[bytes]) -> Image.Image:
    """The image, not decoded yet. Raises ValueError if it has too many pixels."""
    try:
        image = _of_known_format(file)
    except Image.DecompressionBombError:  # of more than twice as many pixels
        message = f"it has more than {MAX_PIXELS:,} pixels; scale it down"
        raise _TooManyPixelsError(message) from None
    if image.tile and image.tile[0].codec_name == "ppm_plain":
        raise ValueError("PPM of decimal numbers is not read; save it as PNG")  # slow to decode
    if image.width * image.height > MAX_PIXELS:
        size = f"{image.width} × {image.height}"
        raise _TooManyPixelsError(f"{size} are more than {MAX_PIXELS:,} pixels; scale it down")
    return image


def _of_known_format(file: IO[bytes]) -> ImageFile.ImageFile:
    try:
        return Image.open(file, formats=_COMMON_FORMATS)
    except UnidentifiedImageError:
        Image.init()
        file.seek(0)
        return Image.open(file, formats=[name for name in _OTHER_FORMATS if name in Image.OPEN])


def refuse_too_many_pixels(data: bytes) -> None:
    """Raise DatasetError if a picture has too many pixels; reads only its header.

    Other problems are left to `open_rgb`.
    """
    try:
        _opened(_CountedBytes(data)).close()
    except _TooManyPixelsError as error:
        raise DatasetError(f"has an image that is too large: {error}") from None
    except (*_DAMAGE, MemoryError):
        return


def _orientation(image: Image.Image) -> Any:
    """The EXIF orientation, of any type if the camera wrote another; None: there is none.

    `ImageOps.exif_transpose` writes all EXIF values again, which fails for values of a wrong type.
    """
    try:
        return image.getexif().get(ExifTags.Base.Orientation)
    except (SyntaxError, ValueError, struct.error):
        return None


@contextmanager
def _readable(path: str | Path) -> Iterator[None]:
    try:
        yield
    except (*_DAMAGE, MemoryError, Image.DecompressionBombError) as error:
        raise DatasetError(f"image {str(path)!r} cannot be read: {_reason(error, path)}") from None


def _reason(error: Exception, path: str | Path) -> str:
    """The reason without the path and without the names of Pillow's objects."""
    if isinstance(error, UnidentifiedImageError):
        return "unknown image format, or an empty file"
    if isinstance(error, MemoryError):
        return "not enough memory to decode it"
    if isinstance(error, FileNotFoundError) and _is_spelled_otherwise(Path(path)):
        return "its accents are composed in one place and decomposed (NFC, NFD) in the other; rename the file"
    said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(said.split()) or type(error).__name__


def _is_spelled_otherwise(path: Path) -> bool:
    """Whether the folder has this name in another Unicode form."""
    names = () if path.name.isascii() or not path.parent.is_dir() else path.parent.iterdir()
    return any(composed(other.name) == composed(path.name) for other in names)


def open_region(region: Sequence[float] | str, size: tuple[int, int]) -> NDArray[np.bool_]:
    """A boolean mask [height, width] of a box (left, top, right, bottom) in pixels, or of a mask file.

    `size` is the (width, height) of the upright picture. Raises DatasetError if the region is not
    inside it.
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
    """Convert to RGB: drops transparency, and keeps only the first frame of an animation."""
    if image.mode.startswith("I;16"):
        # Pillow would clip 16-bit values at 255, which gives a white picture.
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    elif image.mode in ("I", "F"):
        raise ValueError(f"mode {image.mode} has no fixed range; save it with 8 or 16 bits")
    picture = image.convert("RGB")
    # Processors that read this note would paint the transparent colour white.
    picture.info.clear()
    return picture
