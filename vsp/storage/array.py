"""An array with a row per sample on disk: one standard `.npy` file, written by many tasks.

States are `[layer, sample, hidden]`, answers `[sample, option]`, and those read from every layer
`[sample, option × layer]`.

No two tasks write to the same memory page. Network file systems such as NFS write back whole
pages, so two nodes that write neighbouring rows of one page would lose data silently. `Layout`
therefore pads the sample axis, and shards begin only where a page can begin.

Rows are written with `pwrite`, not through a memory map, because a full disk then raises an error
instead of killing the process with SIGBUS. Readers map the file.
"""

from __future__ import annotations

import errno
import mmap
import os
import re
import shlex
import shutil
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from isal import isal_zlib  # the CRC-32 of zlib, several times faster
from numpy.typing import NDArray

from vsp.errors import StoreError
from vsp.storage.layout import HEADER_BYTES, Layout
from vsp.utils.files import disk_errors
from vsp.utils.reading import open_regular, unreadable

_NO_FALLOCATE = (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS)
_NO_MAPS = (errno.ENODEV, errno.EINVAL, errno.EACCES, errno.EPERM, errno.ENOSYS)
_PLAN_DIGITS = re.compile(rb"# plan ([0-9a-f]{64})\b")
_INFINITE, _SIGN = 0x7C00, 0x8000  # float16 bit patterns from 0x7C00 on are inf or NaN
_ZEROS = 8 << 20  # bytes of zeros per write


@dataclass(frozen=True, slots=True)
class Screened:
    """Values `[layer, batch, hidden]` in the store's dtype, checked and checksummed."""

    states: NDArray[np.floating]
    reasons: dict[int, str]  # column that must not be written → reason
    checksums: list[int]  # one per column, as `row_checksum` computes it

    def take(self, columns: Sequence[int]) -> Screened:
        """Only these columns, in this order."""
        if list(columns) == list(range(self.states.shape[1])):
            return self
        reasons = {i: self.reasons[c] for i, c in enumerate(columns) if c in self.reasons}
        return Screened(
            self.states[:, list(columns)], reasons, [self.checksums[c] for c in columns]
        )


class Store:
    """The `.npy` file of a layout; its header also holds the identity of the plan."""

    def __init__(self, path: Path, layout: Layout, plan: str = "") -> None:
        self.path = path
        self.layout = layout
        self._header = _npy_header(layout, plan)

    def create(self) -> None:
        """Create the file and reserve all its bytes, so that no task meets a full disk.

        Raises StoreError, with the sizes, if the disk or a quota is too small.
        """
        need = self.layout.n_bytes
        free = shutil.disk_usage(self.path.parent).free
        if need > free:
            raise self._too_small(f"{free:,} are free")
        with disk_errors(self.path), self.path.open("xb") as file:
            file.write(self._header)
            file.flush()
            try:
                _reserve(file.fileno(), need)
            except OSError as error:
                if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                    raise
                raise self._too_small(os.strerror(error.errno)) from None
            os.fsync(file.fileno())

    def _too_small(self, reason: str) -> StoreError:
        return StoreError(
            f"{self.path}: needs {self.layout.n_bytes:,} bytes but {reason}; "
            "free space, plan fewer rows or use --store-dtype float16"
        )

    def check(self) -> None:
        """Raise StoreError unless size and header of the file match the layout and the plan."""
        if not self._has_damaged_header():
            return
        folder = shlex.quote(str(self.path.parent))
        raise StoreError(
            f"{self.path}: its header is damaged; `vsp verify --run {folder} --repair` writes it "
            "again and checks the states"
        )

    def repair_header(self) -> bool:
        """Write a damaged header again, which follows from the plan; False if it is whole.

        Raises StoreError if the file has another size, or is the array of another plan.
        """
        if not self._has_damaged_header():
            return False
        with disk_errors(self.path), self.path.open("r+b") as file:
            file.write(self._header)
            file.flush()
            os.fsync(file.fileno())
        return True

    def _has_damaged_header(self) -> bool:
        """Whether the header is damaged. Raises StoreError if the array is that of another plan."""
        header = self._read_header()
        if header != self._header and _is_of_another_plan(header, self._header):
            raise self._not_ours(f"it is {_described(header)}")
        return header != self._header

    def _read_header(self) -> bytes:
        """The first bytes of the file. Raises StoreError if the file has another size."""
        try:
            with open_regular(self.path) as file:
                size = os.fstat(file.fileno()).st_size
                header = file.read(HEADER_BYTES)
        except FileNotFoundError:
            raise StoreError(f"{self.path}: no such file; plan the run again") from None
        except OSError as error:
            raise StoreError(
                f"{self.path}: {unreadable(error)}; mend that, or plan the run again"
            ) from None
        if size != self.layout.n_bytes:
            other = _is_of_another_plan(header, self._header)
            raise self._not_ours(
                f"it is {_described(header)}" if other else f"it has {size:,} bytes"
            )
        return header

    def _not_ours(self, what: str) -> StoreError:
        return StoreError(
            f"{self.path}: is not the array of this plan ({_described(self._header)}, "
            f"{self.layout.n_bytes:,} bytes): {what}; plan the run again"
        )

    def layer(self, index: int) -> NDArray[np.floating]:
        """The states of one layer `[sample, hidden]`, without padding.

        A read-only memory map, or an array on file systems without maps.
        """
        layout = self.layout
        shape = layout.n_samples, layout.hidden_size
        where = layout.offset(index, 0)
        try:
            return np.memmap(self.path, layout.dtype, "r", where, shape)
        except OSError as error:
            if error.errno not in _NO_MAPS:
                raise
        read = np.fromfile(self.path, layout.dtype, shape[0] * shape[1], offset=where)
        return read.reshape(shape)

    def screen(self, states: NDArray[np.floating]) -> Screened:
        """Convert `states` [layer, batch, hidden] to the store's dtype and check each column.

        A column must not be written if a value is not finite in the store's dtype: float16 ends
        at 65,504, and residual streams have outliers.
        """
        with np.errstate(over="ignore"):
            cast = np.ascontiguousarray(states, dtype=self.layout.dtype)
        if self.layout.of_options:
            return self._screen_options(cast)
        reasons: dict[int, str] = {}
        if not _finite(cast):
            for column in np.flatnonzero(~np.isfinite(cast).all(axis=(0, 2))):
                layer, unit = np.argwhere(~np.isfinite(cast[:, column]))[0]
                value = float(states[layer, column, unit])
                reasons[int(column)] = (
                    f"value {value:g} of layer {layer} is not finite in {self.layout.dtype}"
                )
        return Screened(cast, reasons, [row_checksum(row) for row in cast.swapaxes(0, 1)])

    def _screen_options(self, values: NDArray[np.floating]) -> Screened:
        """As `screen`; only options that a row does not have, at the end, may be NaN."""
        width = self.layout.hidden_size
        padded = np.full((*values.shape[:2], width), np.nan, self.layout.dtype)
        padded[..., : values.shape[2]] = values
        missing = np.isnan(padded)
        n_options = (~missing).sum(axis=2)
        at_end = missing == (np.arange(width) >= n_options[..., None])
        good = at_end.all(axis=2) & ~np.isinf(padded).any(axis=2) & (n_options > 0)
        reasons = {
            int(column): "the log-likelihood of an option is not finite"
            for column in np.flatnonzero(~good.all(axis=0))
        }
        return Screened(padded, reasons, [row_checksum(row) for row in padded.swapaxes(0, 1)])

    def check_writable(self) -> None:
        """As `check`; also raise StoreError if this host's pages are larger than the plan allows."""
        if self.layout.boundary % mmap.PAGESIZE:
            raise StoreError(
                f"{self.path}: was planned for pages of {self.layout.boundary} bytes or less but "
                f"this host has {mmap.PAGESIZE}; plan the run on a host like this one"
            )
        self.check()

    @contextmanager
    def writing(self) -> Iterator[Writer]:
        """Open the file to write rows. Raises StoreError as `check_writable` does."""
        self.check_writable()
        with disk_errors(self.path):
            handle = os.open(self.path, os.O_RDWR)
        try:
            yield Writer(handle, self.layout, self.path)
        finally:
            os.close(handle)


class Writer:
    """Writes whole rows into an open store."""

    def __init__(self, handle: int, layout: Layout, path: Path) -> None:
        self._handle = handle
        self._layout = layout
        self._path = path

    def write(self, rows: Sequence[int], screened: Screened) -> None:
        """Write states [layer, batch, hidden] to the sample `rows`, ascending, without flushing.

        Raises StoreError if the shape does not fit the store, a row is outside it, or a value is
        not finite. Raises DiskError if the disk is full.
        """
        layout, states = self._layout, screened.states
        if states.shape != (layout.n_layers, len(rows), layout.hidden_size):
            raise StoreError(
                f"states of shape {list(states.shape)} do not fit {len(rows)} rows of a store "
                f"[layer {layout.n_layers}, sample, hidden {layout.hidden_size}]"
            )
        if states.dtype != layout.dtype or screened.reasons:
            raise StoreError(
                f"states are {states.dtype}, not finite {layout.dtype}; leave them out"
            )
        if list(rows) != sorted(set(rows)) or rows[0] < 0 or rows[-1] >= layout.n_samples:
            raise StoreError(f"rows {list(rows)} are not ascending rows of {layout.n_samples}")
        with disk_errors(self._path):
            for first, last in _runs(rows):
                for layer in range(layout.n_layers):
                    block = np.ascontiguousarray(states[layer, first:last]).data.cast("B")
                    _write_all(self._handle, block, layout.offset(layer, rows[first]))

    def flush(self) -> None:
        """Wait until all written rows are on disk. Raises DiskError if that fails."""
        with disk_errors(self._path):
            os.fdatasync(self._handle)


def row_checksum(row: NDArray[np.floating]) -> int:
    """CRC-32 of one row's states `[layer, hidden]`, layer after layer."""
    checksum = 0
    for layer in row:
        checksum = isal_zlib.crc32(np.ascontiguousarray(layer).data.cast("B"), checksum)
    return checksum


def _finite(states: NDArray[np.floating]) -> bool:
    """Whether all values are finite. For float16 it compares bits, which is much faster."""
    if states.dtype != np.float16:
        return bool(np.isfinite(states).all())
    largest, smallest = states.view(np.int16).max(initial=0), states.view(np.uint16).max(initial=0)
    return bool(largest < _INFINITE and smallest < _INFINITE | _SIGN)


def _npy_header(layout: Layout, plan: str) -> bytes:
    fields = {
        "descr": np.dtype(layout.dtype).newbyteorder("<").str,
        "fortran_order": False,
        "shape": layout.shape,
    }
    # Magic, version 1.0, length; then the fields, padded with spaces up to a newline. The plan's
    # identity is a Python comment, which numpy's reader ignores.
    start = b"\x93NUMPY\x01\x00" + struct.pack("<H", HEADER_BYTES - 10)
    text = repr(fields) + (f"  # plan {plan}" if plan else "")
    return (start + text.encode()).ljust(HEADER_BYTES - 1) + b"\n"


def _is_of_another_plan(header: bytes, ours: bytes) -> bool:
    """Whether a header names another plan than ours.

    A damaged header still agrees with ours in most digits of the plan's SHA-256; that of another
    plan agrees in about one of sixteen.
    """
    found, planned = (_PLAN_DIGITS.search(text) for text in (header, ours))
    if planned is None:
        return header.startswith(b"\x93NUMPY")
    if found is None:
        return False
    n_same = sum(a == b for a, b in zip(found[1], planned[1], strict=True))
    return bool(n_same < len(planned[1]) // 2)


def _described(header: bytes) -> str:
    """Dtype, shape and plan of a header, for error messages."""
    if not header.startswith(b"\x93NUMPY"):
        return "no .npy file"
    text = header[10:].decode("latin-1").strip()
    shape = re.search(r"'shape': (\(.*?\))", text)
    dtype = re.search(r"'descr': '(.*?)'", text)
    plan = re.search(r"# plan (\S+)", text)
    return (
        f"{dtype[1] if dtype else '?'} {shape[1] if shape else '?'} "
        f"of plan {plan[1][:8] if plan else '?'}"
    )


def _reserve(handle: int, n_bytes: int) -> None:
    """Allocate all blocks of the file.

    On a file system without fallocate, the C library writes to every block; if that fails too,
    write zeros to everything behind the header.
    """
    try:
        os.posix_fallocate(handle, 0, n_bytes)
    except OSError as error:
        if error.errno not in _NO_FALLOCATE:
            raise
        zeros = memoryview(bytes(_ZEROS))
        for offset in range(HEADER_BYTES, n_bytes, _ZEROS):
            _write_all(handle, zeros[: n_bytes - offset], offset)


def _runs(rows: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Slices [first, last) of `rows` with consecutive numbers."""
    first = 0
    for i in range(1, len(rows) + 1):
        if i == len(rows) or rows[i] != rows[i - 1] + 1:
            yield first, i
            first = i


def _write_all(handle: int, block: memoryview, offset: int) -> None:
    while block:
        written = os.pwrite(handle, block, offset)
        block, offset = block[written:], offset + written
