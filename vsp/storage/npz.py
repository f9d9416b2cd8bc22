"""Arrays in `.npz` files: written with the same bytes for equal arrays, read with checks.

A file may come from a stranger. Only what numpy.savez writes is read: uncompressed entries of
numbers or text, whose headers claim as many bytes as the file holds. So no array takes more memory
than its file takes on disk, and nothing is unpickled.
"""

from __future__ import annotations

import errno
import os
import struct
import warnings
import zipfile
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from tokenize import TokenError
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

MAX_ARRAYS = 1 << 34  # bytes of one file's arrays in memory
_MAX_AROUND = 1 << 12  # bytes of a zip archive per entry that are not its array
_MAX_EMPTY = 1 << 24  # entries along an axis of an array without values
_KINDS = "biufcUS"  # of numbers and text
# Raised by zipfile and numpy for damaged files.
_DAMAGED = (
    zipfile.BadZipFile, struct.error, ValueError, KeyError, TypeError, EOFError,
    NotImplementedError, RuntimeError, OverflowError, SyntaxError, TokenError, UserWarning,
    zlib.error,
)  # fmt: skip


class ArraysError(Exception):
    """A file is not what `write_arrays` writes; the message says how, without the file's name."""


@dataclass(frozen=True, slots=True)
class Blocks:
    """An array given in pieces along its first axis, so that it is never completely in memory."""

    shape: tuple[int, ...]
    dtype: Any
    pieces: Iterable[NDArray[Any]]  # shape[0] of them, each of shape[1:]


def write_arrays(file: IO[bytes], arrays: Mapping[str, NDArray[Any] | Blocks]) -> None:
    """Write as numpy.savez does, but equal arrays give equal bytes."""
    with zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                if isinstance(array, Blocks):
                    _write_blocks(entry, name, array)
                else:
                    np.lib.format.write_array(entry, np.asanyarray(array), allow_pickle=False)


def read_arrays(file: IO[bytes], only: Collection[str] | None = None) -> dict[str, NDArray[Any]]:
    """The arrays of an open file by name; with `only`, those among them that exist.

    Raises ArraysError before it takes memory for an array that the file does not hold.
    """
    size = file.seek(0, os.SEEK_END)
    with damage_as_error(), zipfile.ZipFile(file) as archive:
        _check_entries(archive, size, only)
        names = {entry.filename.removesuffix(".npy"): entry for entry in archive.infolist()}
        wanted = {name: one for name, one in names.items() if only is None or name in only}
        return {name: _read_array(archive, entry) for name, entry in wanted.items()}


def check_directory(file: IO[bytes]) -> None:
    """Raise ArraysError if the entries of an archive do not fill the file; reads no array.

    A large file with holes is refused without reading it.
    """
    size = file.seek(0, os.SEEK_END)
    with damage_as_error(), zipfile.ZipFile(file) as archive:
        _check_entries(archive, size, ())
        entries = archive.infolist()
        if size > sum(one.file_size for one in entries) + _MAX_AROUND * (len(entries) + 16):
            raise ArraysError("is damaged")


@contextmanager
def damage_as_error() -> Iterator[None]:
    """Raise ArraysError for what zipfile and numpy raise about a damaged file."""
    try:
        yield
    except MemoryError:
        raise ArraysError("needs more memory than there is") from None
    except _DAMAGED:
        raise ArraysError("is damaged") from None
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        raise ArraysError("is damaged") from None  # a directory that names a place before the file


def _check_entries(archive: zipfile.ZipFile, size: int, only: Collection[str] | None) -> None:
    """Raise ArraysError for compressed entries, and for more bytes than the file can hold."""
    total = wanted = 0
    for entry in archive.infolist():
        name = entry.filename
        if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size:
            raise ArraysError(f"entry {name!a} is compressed")
        total += entry.file_size
        if only is None or name.removesuffix(".npy") in only:
            wanted += entry.file_size
    if total > size:  # entries that overlap
        raise ArraysError(f"claims arrays of {total:,} bytes in a file of {size:,}")
    if wanted > MAX_ARRAYS:
        raise ArraysError(f"holds arrays of {wanted:,} bytes, at most {MAX_ARRAYS:,} are read")


def _read_array(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> NDArray[Any]:
    what = f"entry {entry.filename!a}"
    with archive.open(entry) as stream:
        shape, _, dtype = npy_header(stream)
        n_bytes = entry.file_size - stream.tell()
        if dtype.kind not in _KINDS:
            raise ArraysError(f"{what} has dtype {str(dtype)[:40]!a}, not numbers or text")
        n_claimed = prod(shape) * dtype.itemsize
        if n_claimed != n_bytes or (not n_claimed and max(shape, default=0) > _MAX_EMPTY):
            raise ArraysError(
                f"{what} claims {n_claimed:,} bytes of shape {shape}, it has {n_bytes:,}"
            )
        stream.seek(0)
        array: NDArray[Any] = np.lib.format.read_array(stream, allow_pickle=False)
        return array


def npy_header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, whether in Fortran order, and dtype of a `.npy` stream.

    Raises ValueError if it has no such header.
    """
    version = np.lib.format.read_magic(stream)
    read = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }.get(version)
    if read is None:
        raise ValueError(f"version {version}")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # a header of Python 2, as (2L, 2L)
        shape, fortran, dtype = read(stream)
    return shape, fortran, dtype


def _write_blocks(file: IO[bytes], name: str, array: Blocks) -> None:
    dtype, n_pieces = np.dtype(array.dtype), 0
    header = {
        "descr": np.lib.format.dtype_to_descr(dtype),
        "fortran_order": False,
        "shape": array.shape,
    }
    np.lib.format.write_array_header_1_0(file, header)
    for piece in array.pieces:
        if piece.shape != array.shape[1:]:
            raise ValueError(f"{name}: piece {n_pieces} is {piece.shape} of {array.shape}")
        file.write(np.ascontiguousarray(piece, dtype=dtype).reshape(-1).view(np.uint8).data)
        n_pieces += 1
    if n_pieces != array.shape[0]:
        raise ValueError(f"{name}: {n_pieces} pieces of {array.shape}")
