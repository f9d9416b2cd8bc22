"""Reads headers of safetensors files and checks them as the format demands, without reading tensors.

The format: 8 bytes with the length of the header, a JSON object from names to dtype, shape and byte
range, and the bytes of the tensors, without holes or overlaps
(https://github.com/huggingface/safetensors#format).
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import IO, Any, NamedTuple

from vsp.utils.reading import MAX_JSON
from vsp.utils.text import shorten

Shape = tuple[int, ...]
_N_LENGTH = 8  # bytes
_MAX_DIMENSIONS = 16  # of a tensor; those of weights have up to 6
_LONGEST = 400  # characters of a tensor's name; those of published models have up to 120
_SHOWN = 100  # characters of another value in a message
_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8,
    "F8_E5M2FNUZ": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "I16": 16, "U16": 16, "F16": 16, "BF16": 16,
    "I32": 32, "U32": 32, "F32": 32, "C64": 64, "F64": 64, "I64": 64, "U64": 64,
}  # fmt: skip


class HeaderError(Exception):
    """The header breaks a rule of the format; the message says which, after "its header"."""


class TensorEntry(NamedTuple):
    """A tensor in a safetensors file."""

    dtype: str  # as safetensors writes it: F16, BF16, I8, …
    shape: Shape
    begin: int  # first byte in the file
    end: int  # the byte after the last


@dataclass(frozen=True, slots=True)
class FileHeader:
    """The header of a safetensors file."""

    tensors: Mapping[str, TensorEntry]
    metadata: Mapping[str, str]


def read_file_header(file: IO[bytes]) -> FileHeader | None:
    """The header of an open file; None if the file is cut short or has no header in JSON.

    Raises HeaderError if the header breaks a rule of the format.
    """
    size = os.fstat(file.fileno()).st_size
    length = int.from_bytes(file.read(_N_LENGTH), "little")
    if not 2 <= length <= size - _N_LENGTH:
        return None
    if length > MAX_JSON:
        raise HeaderError(f"is {length} bytes long, more than {MAX_JSON}")
    try:
        values = json.loads(file.read(length), object_pairs_hook=_without_repeats)
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError):
        return None  # other bytes, as after an interrupted download
    except ValueError as error:
        raise HeaderError(f"cannot be read ({error})") from None
    if not isinstance(values, dict):
        raise HeaderError(f"is a {type(values).__name__}, not an object")
    metadata, start = _metadata(values.pop("__metadata__", None)), _N_LENGTH + length
    tensors = {name: _tensor(name, entry, start) for name, entry in values.items()}
    if max((one.end for one in tensors.values()), default=0) > size:
        return None
    _require_dense([(one.begin, one.end, name) for name, one in tensors.items()], start, size)
    return FileHeader(tensors, metadata)


def _metadata(values: Any) -> dict[str, str]:
    """The texts of the metadata; other values, which the format does not have, are left out."""
    given = values if isinstance(values, dict) else {}
    return {key: text for key, text in given.items() if isinstance(text, str)}


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        twice = Counter(key for key, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"it has {shorten(twice, _LONGEST)!r} twice")
    return values


def _tensor(name: str, entry: Any, start: int) -> TensorEntry:
    """A tensor of the header; `start` is the byte of the file at which all tensors begin."""
    if len(name) > _LONGEST:
        raise HeaderError(f"has a name of {len(name):,} characters, more than {_LONGEST}")
    entry = entry if isinstance(entry, Mapping) else {}
    dtype, shape, offsets = (entry.get(key) for key in ("dtype", "shape", "data_offsets"))
    if not isinstance(dtype, str) or dtype not in _BITS:
        shown = shorten(repr(dtype), _SHOWN)
        raise HeaderError(f"gives {name} the dtype {shown}, which the format does not have")
    if isinstance(shape, list) and len(shape) > _MAX_DIMENSIONS:
        raise HeaderError(f"gives {name} {len(shape):,} dimensions, more than {_MAX_DIMENSIONS}")
    if not _are_counts(shape):
        raise HeaderError(f"gives {name} no shape")
    if not _are_counts(offsets) or len(offsets) != 2:
        raise HeaderError(f"gives {name} no range of bytes")
    begin, end = offsets
    n_bits = prod(shape) * _BITS[dtype]
    if n_bits >= 1 << 66 or n_bits != 8 * (end - begin):
        raise HeaderError(
            f"gives {name} the shape {_listed(shape)} of {dtype}, but {end - begin} bytes",
        )
    return TensorEntry(dtype, tuple(shape), start + begin, start + end)


def _are_counts(values: Any) -> bool:
    """Whether this is a list of whole numbers from 0 on."""
    return isinstance(values, list) and all(
        isinstance(n, int) and not isinstance(n, bool) and 0 <= n < 1 << 63 for n in values
    )


def _require_dense(ranges: list[tuple[int, int, str]], start: int, size: int) -> None:
    """Raise HeaderError unless the ranges follow each other from the first to the last byte."""
    place = start
    for begin, end, name in sorted(ranges):
        if begin != place:
            fault = "overlaps another tensor" if begin < place else "leaves a hole before it"
            raise HeaderError(f"says that {name} begins at byte {begin - start}, which {fault}")
        place = end
    if place != size:
        raise HeaderError(
            f"describes {place - start} bytes of tensors, but {size - start} follow it"
        )


def _listed(shape: Sequence[int]) -> str:
    more = ", …" if len(shape) > 8 else ""
    return f"[{', '.join(map(str, shape[:8]))}{more}]"
