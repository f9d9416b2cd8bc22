"""Masks as COCO's run-length encoding, and their PNG files.

An encoding is {"size": [height, width], "counts": …}. `counts` are the lengths of runs of zeros and
ones in turn, down the columns of the mask; the first run is of zeros. They are a list of numbers, or
COCO's compressed text. This text has a character, from "0" on, for each 5 bits of a number, the lowest
bits first. From the fourth number on, it has the difference to the number two places before.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from io import BytesIO
from reprlib import repr as shortened
from typing import Any

import numpy as np
from PIL import Image

from vsp.errors import DatasetError
from vsp.utils.images import MAX_PIXELS

_MAX_COUNTS = 1 << 20  # runs, or characters
_FIRST, _MORE, _SIGN = 48, 0x20, 0x10


@dataclass(frozen=True, slots=True)
class RunLengths:
    """A mask as runs of zeros and ones in turn."""

    height: int
    width: int
    runs: tuple[int, ...]

    @property
    def file_name(self) -> str:
        """The name of the mask's file, the same for equal masks."""
        text = f"{self.height} {self.width} {self.runs}"
        return f"{hashlib.sha256(text.encode()).hexdigest()}.png"

    def png(self) -> bytes:
        """The mask as a picture, white where it is 1."""
        ones = np.arange(len(self.runs)) % 2 == 1
        columns = np.repeat(ones, self.runs).reshape(self.width, self.height)
        file = BytesIO()
        Image.fromarray(columns.T.astype(np.uint8) * 255).save(file, "PNG")
        return file.getvalue()


def read_run_lengths(value: Any) -> RunLengths:
    """Check an encoding. Raises DatasetError if it is none, is too large, or covers no pixel."""
    if not isinstance(value, dict) or not value.keys() >= {"size", "counts"}:
        raise DatasetError(f"has the mask {shortened(value)}; write {{size, counts}} as COCO does")
    size = value["size"]
    if not (isinstance(size, list | tuple) and len(size) == 2 and all(map(_is_count, size))):
        raise DatasetError(f"has a mask of the size {shortened(size)}; write [height, width]")
    height, width = size
    if not 0 < height * width <= MAX_PIXELS:
        raise DatasetError(
            f"has a mask of {width} × {height} pixels, not 1 to {MAX_PIXELS:,}; scale it down"
        )
    runs = _runs(value["counts"])
    if sum(runs) != height * width or min(runs) < 0:
        raise DatasetError(
            f"has a mask of {width} × {height} pixels whose runs cover {sum(runs):,}, not "
            f"{height * width:,}; correct its size or its counts"
        )
    if not sum(runs[1::2]):
        raise DatasetError(
            f"has a mask of {width} × {height} pixels that covers none of them; remove the row"
        )
    return RunLengths(height, width, runs)


def _runs(counts: Any) -> tuple[int, ...]:
    if isinstance(counts, bytes):
        counts = counts.decode("latin-1")
    if not isinstance(counts, str | list) or not counts:
        raise DatasetError(f"has a mask with the counts {shortened(counts)}; write numbers or text")
    if len(counts) > _MAX_COUNTS:
        raise DatasetError(
            f"has a mask with {len(counts):,} counts; at most {_MAX_COUNTS:,} can be read"
        )
    if isinstance(counts, str):
        return _decompressed(counts)
    if not all(map(_is_count, counts)):
        raise DatasetError(f"has a mask with the counts {shortened(counts)}; write integers ≥ 0")
    return tuple(counts)


def _decompressed(text: str) -> tuple[int, ...]:
    runs: list[int] = []
    number = shift = 0
    for character in text:
        bits = ord(character) - _FIRST
        if not 0 <= bits < 2 * _MORE or shift > 30:
            raise DatasetError(
                f"has a mask with the counts {shortened(text)}, which COCO does not write"
            )
        number |= (bits & (_MORE - 1)) << shift
        shift += 5
        if not bits & _MORE:
            if bits & _SIGN:
                number -= 1 << shift
            runs.append(number + (runs[-2] if len(runs) > 2 else 0))
            number = shift = 0
    if shift:
        raise DatasetError(f"has a mask with the counts {shortened(text)}, which end too early")
    return tuple(runs)


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0
