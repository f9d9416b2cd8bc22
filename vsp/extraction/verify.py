"""`vsp verify`: read a store again, from the disk, and compare every done row with its checksum.

Workers take some neighbouring rows each, and go through their layers: every read is one contiguous
piece of the file, and a row's checksum goes on from layer to layer.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from isal import isal_zlib
from joblib import Parallel, delayed
from numpy.typing import NDArray

from vsp.cluster.jobs import current_task
from vsp.errors import StoreError
from vsp.storage.array import Layout
from vsp.storage.journal import Journal
from vsp.storage.ledger import Ledger
from vsp.storage.run import Run
from vsp.utils.progress import progress

_READ = 4 << 20  # bytes at once, about
_AHEAD = 4  # layers
_LEAST_WORK = 256 << 20  # bytes that are worth a process of their own
_MB = 1_000_000


@dataclass(frozen=True, slots=True)
class Verified:
    """What a reading found."""

    n_checked: int  # rows
    n_bytes: int
    seconds: float
    bad: Mapping[int, Sequence[int]]  # shard → rows whose states are not what was written
    n_failed: int  # these rows have no states
    n_missing: int

    @property
    def n_bad(self) -> int:
        return sum(map(len, self.bad.values()))


@dataclass(frozen=True, slots=True)
class _Piece:
    """Neighbouring rows start, …, stop - 1 of a shard."""

    shard: int
    start: int
    stop: int
    rows: NDArray[np.intp]  # of these, the ones to check
    crc32: NDArray[np.uint32]

    def n_bytes(self, layout: Layout) -> int:
        return (self.stop - self.start) * layout.row_bytes * layout.n_layers


def verify(run: Run, n_jobs: int) -> Verified:
    """Read every done row of the run. Raises StoreError if the file is not the run's."""
    run.store.check()
    layout, ledgers = run.store.layout, run.ledgers()
    pieces = [piece for i, ledger in enumerate(ledgers) for piece in _pieces(i, ledger, layout)]
    n_bytes = sum(piece.n_bytes(layout) for piece in pieces)
    n_jobs = max(1, min(n_jobs, n_bytes // _LEAST_WORK))
    started, n_read = time.monotonic(), 0
    bad: dict[int, list[int]] = {}
    with progress(f"verify {run.name}", "MB", n_bytes // _MB) as advance:
        differing = Parallel(n_jobs=n_jobs, return_as="generator")(
            delayed(_differing)(run.store.path, layout, piece) for piece in pieces
        )
        for piece, found in zip(pieces, differing, strict=True):
            earlier = ledgers[piece.shard].earlier
            rows = [row for row, checksum in found if checksum not in earlier.get(row, ())]
            if rows:
                bad.setdefault(piece.shard, []).extend(rows)
            before, n_read = n_read, n_read + piece.n_bytes(layout)
            advance(n_read // _MB - before // _MB)
    return Verified(
        n_checked=sum(ledger.n_done for ledger in ledgers),
        n_bytes=n_bytes,
        seconds=time.monotonic() - started,
        bad=bad,
        n_failed=sum(ledger.n_failed for ledger in ledgers),
        n_missing=sum(ledger.n_missing for ledger in ledgers),
    )


def repair(run: Run, bad: Mapping[int, Sequence[int]]) -> None:
    """Put exactly these rows back to missing: shard → rows. The next extraction takes them."""
    for shard, rows in bad.items():
        with Journal(run.journals, run.plan.id, shard, task=current_task()) as journal:
            journal.mark_lost(rows)


def _pieces(shard: int, ledger: Ledger, layout: Layout) -> Iterator[_Piece]:
    """The done rows of a shard, as many at a time as one read of a layer should bring."""
    rows, checksums = ledger.rows_done, ledger.crc32_done
    step = max(1, _READ // layout.row_bytes)
    for start in range(ledger.start, ledger.stop, step):
        first, last = np.searchsorted(rows, (start, start + step))
        if first < last:
            some = rows[first:last]
            yield _Piece(shard, int(some[0]), int(some[-1]) + 1, some, checksums[first:last])


def _differing(path: Path, layout: Layout, piece: _Piece) -> list[tuple[int, int]]:
    """(row, checksum of what is on disk) where it is not the journalled one."""
    size = layout.row_bytes
    places = [(int(row) - piece.start) * size for row in piece.rows]
    checksums = [0] * len(places)
    block = memoryview(bytearray((piece.stop - piece.start) * size))
    handle = os.open(path, os.O_RDONLY)
    try:
        for layer in range(layout.n_layers + _AHEAD):
            if layer < layout.n_layers:  # read by the disk while those before it are summed
                _fetch(handle, layout.offset(layer, piece.start), len(block))
            if layer < _AHEAD:
                continue
            _read(handle, layout.offset(layer - _AHEAD, piece.start), block)
            checksums = [
                isal_zlib.crc32(block[place : place + size], checksum)
                for place, checksum in zip(places, checksums, strict=True)
            ]
    finally:
        os.close(handle)
    expected = zip(piece.rows.tolist(), checksums, piece.crc32.tolist(), strict=True)
    return [(row, found) for row, found, journalled in expected if found != journalled]


def _fetch(handle: int, offset: int, n_bytes: int) -> None:
    """Ask the disk for it: what this host remembers of the file proves nothing."""
    os.posix_fadvise(handle, offset, n_bytes, os.POSIX_FADV_DONTNEED)
    os.posix_fadvise(handle, offset, n_bytes, os.POSIX_FADV_WILLNEED)


def _read(handle: int, offset: int, block: memoryview) -> None:
    n_read = 0
    while n_read < len(block):
        more = os.preadv(handle, [block[n_read:]], offset + n_read)
        if not more:
            raise StoreError(f"the array ends at byte {offset + n_read:,}; plan the run again")
        n_read += more
