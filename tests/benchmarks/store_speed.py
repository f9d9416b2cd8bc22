"""Write and verify speed of the store, compared with a plain file on the same disk.

    python tests/benchmarks/store_speed.py FOLDER

The program writes batches of the states of a 7B model, alternating between one plain file and a
store with checksums and journal. A batch counts once it is on disk. Then it reads them, alternating
between plain reads and `vsp verify`. The page cache is dropped before each read.
"""

from __future__ import annotations

import argparse
import os
import time
from itertools import pairwise
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np
from joblib import Parallel, delayed

from vsp.extraction.row_writer import BackgroundThread, RowWriter
from vsp.extraction.verify import cut_pieces, differing_rows
from vsp.storage.array import Store
from vsp.storage.journal import Journal
from vsp.storage.layout import Layout
from vsp.storage.ledger import Ledger, read_ledgers

LAYERS, HIDDEN, BATCH = 33, 4096, 16


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="folder on the disk to measure")
    parser.add_argument("--batches", type=int, default=240, help="default: %(default)s")
    parser.add_argument("--rounds", type=int, default=9, help="default: %(default)s")
    arguments = parser.parse_args()
    with TemporaryDirectory(dir=arguments.folder) as folder:
        place = Place(Path(folder), arguments.batches)
        print(f"{place.n_bytes / 1e6:,.0f} MB in batches of {place.states.nbytes / 1e6:.1f} MB")
        journals: list[float] = []
        compare("written", place.write_raw, lambda: place.write_store(journals), arguments.rounds)
        print(f"journal: {median(journals):.2f} ms of the time of each batch")
        place.verify()  # starts the workers
        compare("read", place.read_raw, place.verify, arguments.rounds)


def compare(what, raw, ours, rounds: int) -> None:
    """Print MB/s of both, and the ratio of each run of ours to the plain runs before and after it."""
    plain, vsp = [raw()], []
    for _ in range(rounds):
        vsp.append(ours())
        plain.append(raw())
    ratios = [2 * one / sum(both) for one, both in zip(vsp, pairwise(plain), strict=True)]
    print(
        f"{what}: plain file {median(plain):,.0f} MB/s ({min(plain):,.0f} to {max(plain):,.0f}), "
        f"vsp {median(vsp):,.0f} MB/s; ratio {median(ratios):.2f} "
        f"({min(ratios):.2f} to {max(ratios):.2f})"
    )


class Place:
    """A plain file and a store of the same size."""

    def __init__(self, folder: Path, n_batches: int) -> None:
        self.folder, self.n_batches = folder, n_batches
        rng = np.random.default_rng(0)
        self.states = rng.normal(size=(LAYERS, BATCH, HIDDEN)).astype(np.float16)
        self.n_bytes = n_batches * self.states.nbytes
        n_rows = n_batches * BATCH
        self.store = Store(
            folder / "states.npy", Layout.choose(LAYERS, n_rows, HIDDEN, "float16", 1)
        )
        self.raw = folder / "raw"
        self.workers = Parallel(n_jobs=-1)

    def write_raw(self) -> float:
        self.raw.unlink(missing_ok=True)
        block = memoryview(self.states).cast("B")
        with self.raw.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, self.n_bytes)
            os.fsync(file.fileno())
            started = time.perf_counter()
            for i in range(self.n_batches):
                os.pwrite(file.fileno(), block, i * len(block))
                os.fdatasync(file.fileno())
            return self.n_bytes / 1e6 / (time.perf_counter() - started)

    def write_store(self, journals: list[float]) -> float:
        """Write as extraction does, without a model."""
        self.store.path.unlink(missing_ok=True)
        for path in self.folder.glob("journal/*"):
            path.unlink()
        self.store.create()
        rows = set(range(self.n_batches * BATCH))
        with self.store.writing() as writer, Timed(self.folder / "journal", "speed", 0) as journal:
            out = RowWriter(self.store, writer, journal, rows, lambda _: None)
            started = time.perf_counter()
            with (
                BackgroundThread() as screen,
                BackgroundThread() as write,
                BackgroundThread() as mark,
            ):
                for i in range(self.n_batches):
                    part = range(i * BATCH, (i + 1) * BATCH)
                    screened = screen.submit(out.screen, lambda: self.states)
                    out.unflushed.append(write.submit(out.write, part, screened))
                    mark.submit(out.flush)
            seconds = time.perf_counter() - started
        journals.append(1e3 * journal.seconds / self.n_batches)
        return self.n_bytes / 1e6 / seconds

    def read_raw(self) -> float:
        block = memoryview(bytearray(4 << 20))
        with self.raw.open("rb", buffering=0) as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            started = time.perf_counter()
            while file.readinto(block):
                pass
            return self.n_bytes / 1e6 / (time.perf_counter() - started)

    def verify(self) -> float:
        """Verify with one worker for each core; the workers are already running."""
        ledger: Ledger = read_ledgers(
            self.folder / "journal", "speed", {0: (0, self.n_batches * BATCH)}
        )[0]
        with self.store.path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        started = time.perf_counter()
        differing = self.workers(
            delayed(differing_rows)(self.store.path, self.store.layout, piece)
            for piece in cut_pieces(0, ledger, self.store.layout)
        )
        assert not any(differing)
        return self.n_bytes / 1e6 / (time.perf_counter() - started)


class Timed(Journal):
    """A journal that measures its own time."""

    seconds = 0.0

    def mark_done(self, rows, checksums) -> None:
        started = time.perf_counter()
        super().mark_done(rows, checksums)
        self.seconds += time.perf_counter() - started


if __name__ == "__main__":
    main()
