"""`vsp verify`: read all arrays from the disk and compare every done row with its checksums.

Each worker takes a piece of neighbouring rows and reads it layer by layer, so that every read is
contiguous. A row's checksum continues from one layer to the next.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from isal import isal_zlib
from joblib import delayed
from numpy.typing import NDArray

from vsp.cluster.jobs import current_task
from vsp.errors import StoreError
from vsp.storage.journal import Journal
from vsp.storage.layout import Layout
from vsp.storage.ledger import Ledger
from vsp.storage.run import Run
from vsp.utils.progress import progress
from vsp.utils.workers import worker_pool

_READ = 4 << 20  # bytes per read, about
_AHEAD = 4  # layers requested before they are read
_MIN_WORK = 256 << 20  # bytes that justify a worker process
_UNITS = {"MB": 1_000_000, "kB": 1_000, "B": 1}
_AT_LEAST = 10  # units in all, so that counts say something


@dataclass(frozen=True, slots=True)
class Verified:
    """Numbers of rows and bytes checked, and the damaged rows."""

    n_checked: int  # rows
    n_bytes: int
    seconds: float
    # (shard, file of the array) → rows whose values there differ from what was written
    damage: Mapping[tuple[int, str], Sequence[int]]
    n_failed: int  # these rows have no states
    n_missing: int

    @property
    def bad(self) -> dict[int, list[int]]:
        """Shard → rows that are damaged in any array."""
        rows: dict[int, set[int]] = {}
        for (shard, _), some in self.damage.items():
            rows.setdefault(shard, set()).update(some)
        return {shard: sorted(of_shard) for shard, of_shard in rows.items()}

    @property
    def n_bad(self) -> int:
        return sum(map(len, self.bad.values()))


@dataclass(frozen=True, slots=True)
class ReadPiece:
    """Neighbouring rows start, …, stop - 1 of a shard, read together."""

    shard: int
    start: int
    stop: int
    rows: NDArray[np.intp]  # the done rows among them
    crc32: NDArray[np.uint32]

    def n_bytes(self, layout: Layout) -> int:
        return (self.stop - self.start) * layout.row_bytes * layout.n_layers


def verify(run: Run, n_jobs: int) -> Verified:
    """Check every done row of the run. Raises StoreError if the file does not belong to the run."""
    run.check_stores()
    stores, ledgers = list(run.stores.values()), run.ledgers()
    pieces = [
        (store, piece)
        for array, store in enumerate(stores)
        for i, ledger in enumerate(ledgers)
        for piece in cut_pieces(i, ledger, store.layout, array)
    ]
    n_bytes = sum(piece.n_bytes(store.layout) for store, piece in pieces)
    n_jobs = max(1, min(n_jobs, n_bytes // _MIN_WORK))
    started, n_read = time.monotonic(), 0
    damage: dict[tuple[int, str], list[int]] = {}
    unit = next((unit for unit, size in _UNITS.items() if n_bytes >= _AT_LEAST * size), "B")
    size = _UNITS[unit]
    with (
        progress(f"verify {run.name}", unit, n_bytes // size) as advance,
        worker_pool(n_jobs, "generator") as pool,
    ):
        results = pool(
            delayed(differing_rows)(store.path, store.layout, piece) for store, piece in pieces
        )
        for (store, piece), differing in zip(pieces, results, strict=True):
            earlier = ledgers[piece.shard].earlier
            rows = [row for row, checksum in differing if checksum not in earlier.get(row, ())]
            if rows:
                damage.setdefault((piece.shard, store.path.name), []).extend(rows)
            before, n_read = n_read, n_read + piece.n_bytes(store.layout)
            advance(n_read // size - before // size)
    return Verified(
        n_checked=sum(ledger.n_done for ledger in ledgers),
        n_bytes=n_bytes,
        seconds=time.monotonic() - started,
        damage=dict(sorted(damage.items())),
        n_failed=sum(ledger.n_failed for ledger in ledgers),
        n_missing=sum(ledger.n_missing for ledger in ledgers),
    )


def repair(run: Run, bad: Mapping[int, Sequence[int]]) -> None:
    """Mark these rows as missing: shard → rows. The next extraction computes them again."""
    for shard, rows in bad.items():
        with Journal(run.journals, run.plan.id, shard, task=current_task()) as journal:
            journal.mark_lost(rows)


def cut_pieces(shard: int, ledger: Ledger, layout: Layout, array: int = 0) -> Iterator[ReadPiece]:
    """Cut the done rows of a shard into pieces of about `_READ` bytes per layer of an array."""
    rows, checksums = ledger.rows_done, ledger.crc32_done(array)
    step = max(1, _READ // layout.row_bytes)
    for start in range(ledger.start, ledger.stop, step):
        first, last = np.searchsorted(rows, (start, start + step))
        if first < last:
            some = rows[first:last]
            yield ReadPiece(shard, int(some[0]), int(some[-1]) + 1, some, checksums[first:last])


def differing_rows(path: Path, layout: Layout, piece: ReadPiece) -> list[tuple[int, int]]:
    """(row, checksum on disk) of each row whose checksum differs from the journal's."""
    size = layout.row_bytes
    places = [(int(row) - piece.start) * size for row in piece.rows]
    checksums = [0] * len(places)
    block = memoryview(bytearray((piece.stop - piece.start) * size))
    handle = os.open(path, os.O_RDONLY)
    try:
        for layer in range(layout.n_layers + _AHEAD):
            if layer < layout.n_layers:  # the disk reads while earlier layers are checksummed
                _prefetch(handle, layout.offset(layer, piece.start), len(block))
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
    return [(row, on_disk) for row, on_disk, journalled in expected if on_disk != journalled]


def _prefetch(handle: int, offset: int, n_bytes: int) -> None:
    """Start reading from the disk, not from the page cache, which proves nothing."""
    os.posix_fadvise(handle, offset, n_bytes, os.POSIX_FADV_DONTNEED)
    os.posix_fadvise(handle, offset, n_bytes, os.POSIX_FADV_WILLNEED)


def _read(handle: int, offset: int, block: memoryview) -> None:
    n_read = 0
    while n_read < len(block):
        more = os.preadv(handle, [block[n_read:]], offset + n_read)
        if not more:
            raise StoreError(f"the array ends at byte {offset + n_read:,}; plan the run again")
        n_read += more
