"""Reads `.npz` files that other programs wrote, stored or compressed, with bounded memory.

Rows of a large array are read in blocks, or mapped if the entry is stored. Texts are read whole, up to
a limit. An entry must decompress to exactly the bytes that its header of shape and dtype claims.
Nothing is unpickled.
"""

from __future__ import annotations

import os
import struct
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from vsp.storage.npz import ArraysError, damage_as_error, npy_header
from vsp.storage.plain_strings import NotPlainError, read_plain_strings
from vsp.storage.stored_states import BLOCK
from vsp.utils.text import format_bytes

MAX_TEXTS = 1 << 28  # bytes of an array of texts in memory
_MAX_TEXT = 1 << 24  # bytes of one text of an array
# An entry of more bytes than this must not shrink by more than this factor: states hardly shrink.
_LARGE, _MAX_RATIO = 1 << 26, 100
_MAX_ENTRIES = 1000
_LOCAL_HEADER = 30  # bytes of an entry's header in front of its name
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


@dataclass(frozen=True, slots=True)
class Entry:
    """An array in the file."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    n_header: int  # bytes in front of the values
    info: zipfile.ZipInfo

    @property
    def row_bytes(self) -> int:
        return prod(self.shape[1:]) * self.dtype.itemsize


class NpzFile:
    """The arrays of an open `.npz` file by name. Methods raise ArraysError, without the file's name."""

    def __init__(self, file: IO[bytes], path: Path) -> None:
        self._path = path
        self._size = file.seek(0, os.SEEK_END)
        self._file = file
        with damage_as_error():
            self._archive = zipfile.ZipFile(file)
            self._check_directory()
            self.entries = {
                entry.name: entry for entry in map(self._entry, self._archive.infolist())
            }
        if len(self.entries) < len(self._archive.infolist()):
            raise ArraysError("has two arrays of one name")

    def _check_directory(self) -> None:
        entries = self._archive.infolist()
        if len(entries) > _MAX_ENTRIES:
            raise ArraysError(f"has {len(entries):,} entries, at most {_MAX_ENTRIES:,} are read")
        for entry in entries:
            if entry.flag_bits & 1 or entry.compress_type not in _METHODS:
                raise ArraysError(
                    f"entry {entry.filename!a} is encrypted or compressed in a way that numpy does not"
                )
            packed, n_bytes = entry.compress_size, entry.file_size
            if entry.compress_type == zipfile.ZIP_STORED and packed != n_bytes:
                raise ArraysError(f"entry {entry.filename!a} is damaged")
            if n_bytes > max(_LARGE, packed * _MAX_RATIO):
                raise ArraysError(
                    f"entry {entry.filename!a} grows from {format_bytes(packed)} to "
                    f"{format_bytes(n_bytes)}; states do not shrink by more than a factor of "
                    f"{_MAX_RATIO}"
                )
        if sum(entry.compress_size for entry in entries) > self._size:
            raise ArraysError("has entries that overlap")

    def _entry(self, info: zipfile.ZipInfo) -> Entry:
        with self._archive.open(info) as stream:
            shape, fortran, dtype = npy_header(stream)
            n_header = stream.tell()
        name, held = info.filename.removesuffix(".npy"), info.file_size - n_header
        n_claimed = prod(shape) * dtype.itemsize
        if min(shape, default=0) < 0 or (not dtype.hasobject and n_claimed != held):
            raise ArraysError(
                f"entry {name!a} claims {format_bytes(n_claimed)} of shape {list(shape)}, it has "
                f"{format_bytes(held)}"
            )
        if fortran and sum(size > 1 for size in shape) > 1:
            raise ArraysError(
                f"entry {name!a} is in Fortran order; save np.ascontiguousarray of it"
            )
        return Entry(name, shape, dtype, n_header, info)

    def blocks(self, entry: Entry) -> Iterator[NDArray[Any]]:
        """The rows of an array, in order, in blocks of about `BLOCK` bytes."""
        step = max(1, BLOCK // entry.row_bytes)
        with damage_as_error(), self._archive.open(entry.info) as stream:
            stream.read(entry.n_header)
            for start in range(0, entry.shape[0], step):
                n_rows = min(step, entry.shape[0] - start)
                data = stream.read(n_rows * entry.row_bytes)
                if len(data) < n_rows * entry.row_bytes:
                    raise ArraysError(f"entry {entry.name!a} ends before its last row")
                yield np.frombuffer(data, entry.dtype).reshape(n_rows, *entry.shape[1:])

    def mapped(self, entry: Entry) -> NDArray[Any] | None:
        """The array as a read-only map of the file; None if the entry is compressed."""
        if entry.info.compress_type != zipfile.ZIP_STORED:
            return None
        self._file.seek(entry.info.header_offset)
        header = self._file.read(_LOCAL_HEADER)
        if len(header) < _LOCAL_HEADER:
            raise ArraysError("is damaged")
        n_name, n_extra = struct.unpack("<HH", header[-4:])
        start = entry.info.header_offset + _LOCAL_HEADER + n_name + n_extra + entry.n_header
        if start + prod(entry.shape) * entry.dtype.itemsize > self._size:
            raise ArraysError("is damaged")
        return np.memmap(self._path, entry.dtype, "r", start, entry.shape)

    def texts(self, name: str) -> NDArray[np.str_]:
        """An array `[row]` of texts, or of whole numbers as texts."""
        entry = self.entries[name]
        if len(entry.shape) != 1:
            raise ArraysError(f"entry {name!a} has shape {list(entry.shape)}, not one axis [row]")
        if entry.info.file_size > MAX_TEXTS:
            raise ArraysError(
                f"entry {name!a} holds {format_bytes(entry.info.file_size)} of text, at most "
                f"{format_bytes(MAX_TEXTS)} are read"
            )
        if entry.dtype.itemsize > _MAX_TEXT:
            raise ArraysError(f"entry {name!a} has texts of {format_bytes(entry.dtype.itemsize)}")
        with damage_as_error(), self._archive.open(entry.info) as stream:
            stream.read(entry.n_header)
            data = stream.read()
        if entry.dtype.hasobject:
            return self._of_objects(entry, data)
        if entry.dtype.kind not in "USiu":
            raise ArraysError(f"entry {name!a} has dtype {str(entry.dtype)[:40]!a}, not text")
        values = np.frombuffer(data, entry.dtype) if data else np.empty(0, entry.dtype)
        with damage_as_error():  # bytes that are not UTF-8
            return (
                np.char.decode(values, "utf-8") if entry.dtype.kind == "S" else values.astype(str)
            )

    def _of_objects(self, entry: Entry, data: bytes) -> NDArray[np.str_]:
        try:
            texts = read_plain_strings(data) if entry.dtype.kind == "O" else None
        except NotPlainError as error:
            raise ArraysError(
                f"entry {entry.name!a} is an array of objects that is not read, since {error}; save it "
                "with dtype=str"
            ) from None
        if texts is None or len(texts) != entry.shape[0]:
            raise ArraysError(
                f"entry {entry.name!a} is not an array of strings; save it as dtype=str"
            )
        if len(texts) * max(map(len, texts), default=0) * 4 > MAX_TEXTS:
            raise ArraysError(
                f"entry {entry.name!a} has texts that take too much memory as an array"
            )
        return np.array(texts, dtype=str)
