"""Pictures that a table contains as base64, as data URIs or as bytes, as benchmark files do.

The name of such a picture is its digest, so a picture that many rows repeat is written once. A picture
with more pixels than can be decoded is refused here, from its header.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Iterable
from pathlib import Path
from reprlib import repr as shortened
from typing import Any

from vsp.errors import DatasetError
from vsp.utils.images import refuse_too_many_pixels
from vsp.utils.text import format_bytes

EMBEDDED = "embedded"  # the folder in a dataset's `images/`
_LONGEST = 1 << 24  # characters of a picture in base64
LONGEST_PICTURE = _LONGEST // 4 * 3  # bytes
_SHORTEST = 64  # characters; the smallest GIF has 35 bytes, and a shorter text may be a name
_DATA_URI = re.compile(r"data:[^,]*,", re.IGNORECASE)
_MAPPING = re.compile(r"""\s*\{\s*["'](bytes|path)["']""")
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]+={0,2}")
_URL_SAFE = str.maketrans("-_", "+/")
# The first bytes of a file, and the suffix of such files.
_SIGNATURES = (
    (b"\x89PNG", "png"),
    (b"\xff\xd8\xff", "jpg"),
    (b"GIF8", "gif"),
    (b"RIFF", "webp"),
    (b"BM", "bmp"),
    (b"II*\0", "tif"),
    (b"MM\0*", "tif"),
)


def picture_cell(cell: Any) -> Any:
    """The text in an image cell; a cell may also be a mapping, as Hugging Face datasets have it.

    Of {"bytes": text or bytes, "path": name}, also as JSON text, this is the name and the bytes of
    the picture; if `bytes` is null or empty, the path. Raises DatasetError as `decode_picture` does.
    """
    if isinstance(cell, bytes):
        return _named_picture(cell)
    if isinstance(cell, str) and _MAPPING.match(cell):
        try:
            cell = json.loads(cell)
        except (ValueError, RecursionError):
            raise DatasetError(
                f"has the image {shortened(cell)}, which is not JSON; write "
                '{"bytes": "BASE64", "path": null}'
            ) from None
    if not isinstance(cell, dict) or not cell.keys() & {"bytes", "path"}:
        return cell
    data = cell.get("bytes")
    if not data and isinstance(data, str | bytes | None):
        return cell.get("path")
    if isinstance(data, bytes):
        return _named_picture(data)
    if not isinstance(data, str):
        raise DatasetError(f"has an image with the bytes {shortened(data)}; write them in base64")
    return decode_picture(data, may_be_name=False)


def decode_picture(cell: str, may_be_name: bool = True) -> tuple[str, bytes] | None:
    """Name and bytes of the picture in a cell; None if the cell is the name of a file.

    Raises DatasetError if a data URI, or base64 that begins as a picture does, is damaged, too long
    or in another format.
    """
    uri = _DATA_URI.match(cell[:200])
    if uri is None and may_be_name and not _begins_as_picture(cell):
        return None
    if len(cell) > _LONGEST:
        raise DatasetError(
            f"has an image of {len(cell):,} characters, at most {_LONGEST:,} can be read; write it to "
            "a file and give the file's name"
        )
    if uri is not None and not uri[0].lower().endswith(";base64,"):
        raise DatasetError(f"has the image {shortened(cell)}; only data URIs in base64 can be read")
    return _named_picture(_decode(cell[uri.end() :] if uri else cell))


def _named_picture(data: bytes) -> tuple[str, bytes]:
    """Name and bytes of a picture. Raises DatasetError if it is too large or in another format."""
    if len(data) > LONGEST_PICTURE:
        raise DatasetError(
            f"has an image of {format_bytes(len(data))}, at most {format_bytes(LONGEST_PICTURE)} can "
            "be read; write it to a file and give the file's name"
        )
    suffix = _suffix(data)
    if not suffix:
        raise DatasetError(
            f"has an image in an unknown format, {shortened(data)}; write PNG, JPEG, GIF, WebP, BMP "
            "or TIFF"
        )
    refuse_too_many_pixels(data)
    return f"{EMBEDDED}/{hashlib.sha256(data).hexdigest()}.{suffix}", data


def write_pictures(folder: Path, pictures: Iterable[tuple[str, bytes]]) -> int:
    """Write each picture once below `folder`. Return the number of pictures."""
    written: set[str] = set()
    for name, data in pictures:
        if name not in written:
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            written.add(name)
    return len(written)


def _begins_as_picture(cell: str) -> bool:
    """True if a cell is base64 and its first bytes are those of a picture."""
    start = "".join(cell[: 2 * _SHORTEST].split())[:_SHORTEST]  # lines may be short
    if len(start) < _SHORTEST or not _BASE64.fullmatch(start):
        return False
    return bool(_suffix(binascii.a2b_base64(start.translate(_URL_SAFE))))


def _decode(text: str) -> bytes:
    text = "".join(text.split()).rstrip("=").translate(_URL_SAFE)
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except binascii.Error as error:
        raise DatasetError(
            f"has an image that is not base64, {shortened(text)} ({error}); write it again"
        ) from None


def _suffix(data: bytes) -> str:
    return next((suffix for start, suffix in _SIGNATURES if data.startswith(start)), "")
