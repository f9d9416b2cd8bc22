"""Reads headers of safetensors files and checks them as the format demands, without reading weights.

The format: 8 bytes with the length of the header, a JSON object from names to dtype, shape and byte
range, and the bytes of the tensors, without holes or overlaps
(https://github.com/huggingface/safetensors#format).
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

from vsp.errors import ModelError
from vsp.utils.reading import MAX_JSON, open_regular, unreadable
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


class Header(NamedTuple):
    """Dtype and shape of a tensor, from the header of a safetensors file."""

    dtype: str  # as safetensors writes it: F16, BF16, I8, …
    shape: Shape


def read_headers(files: Sequence[Path]) -> dict[Path, dict[str, Header]]:
    """Each tensor's dtype and shape by its name, for each file that is whole; opens each file once.

    Left out are files that do not exist, end before their header says, or have no header in JSON, such
    as a Git LFS pointer. Raises ModelError, one line that names the file, if a header
    breaks a rule of the format.
    """
    found = ((path, _read_header(path)) for path in files)
    return {path: header for path, header in found if header is not None}


def join_headers(headers: Mapping[Path, Mapping[str, Header]]) -> dict[str, Header]:
    """The tensors of all files. Raises ModelError if two files hold a tensor of the same name."""
    joined: dict[str, Header] = {}
    for path, found in headers.items():
        twice = sorted(found.keys() & joined.keys())
        if twice:
            raise ModelError(
                f"{path}: holds {twice[0]!r}, which another weight file holds too; save the checkpoint "
                "again"
            )
        joined |= found
    return joined


def _read_header(path: Path) -> dict[str, Header] | None:
    """Dtype and shape of each tensor of a file; None if the file is missing or cut short."""
    try:
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            length = int.from_bytes(file.read(_N_LENGTH), "little")
            if not 2 <= length <= size - _N_LENGTH:
                return None
            if length > MAX_JSON:
                raise _refused(path, f"is {length} bytes long, more than {MAX_JSON}")
            values = json.loads(file.read(length), object_pairs_hook=_without_repeats)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ModelError(f"{path}: {unreadable(error)}; download it again") from None
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError):
        return None  # other bytes, as after an interrupted download
    except ValueError as error:
        raise _refused(path, f"cannot be read ({error})") from None
    if not isinstance(values, dict):
        raise _refused(path, f"is a {type(values).__name__}, not an object")
    values.pop("__metadata__", None)
    headers, ranges = {}, []
    for name, entry in values.items():
        headers[name], begin, end = _tensor(path, name, entry)
        ranges.append((begin, end, name))
    n_bytes = size - _N_LENGTH - length
    if max((end for _, end, _ in ranges), default=0) > n_bytes:
        return None
    _require_dense(path, ranges, n_bytes)
    return headers


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        twice = Counter(key for key, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"it has {shorten(twice, _LONGEST)!r} twice")
    return values


def _tensor(path: Path, name: str, entry: Any) -> tuple[Header, int, int]:
    """A tensor's dtype and shape, and its first byte and the byte after its last."""
    if len(name) > _LONGEST:
        raise _refused(path, f"has a name of {len(name):,} characters, more than {_LONGEST}")
    entry = entry if isinstance(entry, Mapping) else {}
    dtype, shape, offsets = (entry.get(key) for key in ("dtype", "shape", "data_offsets"))
    if not isinstance(dtype, str) or dtype not in _BITS:
        shown = shorten(repr(dtype), _SHOWN)
        raise _refused(path, f"gives {name} the dtype {shown}, which the format does not have")
    if isinstance(shape, list) and len(shape) > _MAX_DIMENSIONS:
        raise _refused(path, f"gives {name} {len(shape):,} dimensions, more than {_MAX_DIMENSIONS}")
    if not _are_counts(shape):
        raise _refused(path, f"gives {name} no shape")
    if not _are_counts(offsets) or len(offsets) != 2:
        raise _refused(path, f"gives {name} no range of bytes")
    begin, end = offsets
    n_bits = prod(shape) * _BITS[dtype]
    if n_bits >= 1 << 66 or n_bits != 8 * (end - begin):
        raise _refused(
            path,
            f"gives {name} the shape {_listed(shape)} of {dtype}, but {end - begin} bytes",
        )
    return Header(dtype, tuple(shape)), begin, end


def _are_counts(values: Any) -> bool:
    """Whether this is a list of whole numbers from 0 on."""
    return isinstance(values, list) and all(
        isinstance(n, int) and not isinstance(n, bool) and 0 <= n < 1 << 63 for n in values
    )


def _require_dense(path: Path, ranges: list[tuple[int, int, str]], n_bytes: int) -> None:
    """Raise ModelError unless the ranges follow each other from the first to the last byte."""
    place = 0
    for begin, end, name in sorted(ranges):
        if begin != place:
            fault = "overlaps another tensor" if begin < place else "leaves a hole before it"
            raise _refused(path, f"says that {name} begins at byte {begin}, which {fault}")
        place = end
    if place != n_bytes:
        raise _refused(path, f"describes {place} bytes of tensors, but {n_bytes} follow it")


def _listed(shape: Sequence[int]) -> str:
    more = ", …" if len(shape) > 8 else ""
    return f"[{', '.join(map(str, shape[:8]))}{more}]"


def _refused(path: Path, why: str) -> ModelError:
    return ModelError(f"{path}: its header {why}; download it again")
