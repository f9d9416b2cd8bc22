"""What became of each row: one append-only file for each life of each array task.

A task that is killed and started again opens a new file, so that no file but the array ever has
two writers, and a torn line can only be the last of its file. Files are named
`<shard>-<life>.journal`. A line is the CRC-32 of an entry in eight hexadecimal digits, a space and
the entry in JSON. The first entry says which run the file belongs to and who wrote it, the last
one how the life ended, if it could still say so.

What cannot be trusted is left out, and said: rows of a damaged line are missing, and are computed
again with the same bytes.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import socket
import time
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vsp.errors import DiskError, StoreError
from vsp.utils.files import disk_errors, sync_folder
from vsp.utils.signals import Stopped

Comparison = tuple[list[float], list[float]]

MISSING, DONE, FAILED = range(3)
FINISHED = "finished"
_NAME = re.compile(r"(\d{6,})-(\d{3,})\.journal")
_RECENT = 120.0  # seconds in which a life on another host may have written, whatever its lock says
_LOCK_TRIES = 20
# What an entry raises that is none, whatever else it holds.
_NO_ENTRY = (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError)


@dataclass(frozen=True, slots=True)
class Life:
    """One start of a shard's task, from its first entry to its last."""

    path: Path
    host: str
    node: str  # as the batch system calls the host
    pid: int
    job: str | None  # of the batch system: 123, or 123_4 for a task of an array
    restarts: int  # of this job, by the batch system
    started: float  # seconds since 1970
    planned: int  # rows it set out to settle
    packages: dict[str, str]  # versions that are not the plan's
    n_done: int = 0
    n_failed: int = 0
    last: float = 0.0  # time of the last entry
    ended: str | None = None  # FINISHED, or why not; None: it could not say, or goes on
    running: bool | None = False  # None: perhaps, on a host out of sight

    @property
    def rows_per_second(self) -> float | None:
        seconds = self.last - self.started
        n_rows = self.n_done + self.n_failed
        return n_rows / seconds if n_rows and seconds > 0 else None


@dataclass(frozen=True, slots=True)
class TaskIdentity:
    """A process as a task of a batch system; without one, nothing is known."""

    job: str | None = None  # "123", or "123_4" for a task of an array
    node: str | None = None
    restarts: int = 0  # how often the batch system restarted the task


@dataclass(frozen=True, slots=True)
class Ledger:
    """The rows of a shard `[start, stop)`: done, failed with a reason, or missing."""

    start: int
    stop: int
    state: NDArray[np.uint8]  # [row - start]: MISSING, DONE or FAILED
    crc32: NDArray[np.uint32]  # [row - start]: of a done row's states
    failed: dict[int, str] = field(default_factory=dict)  # row → reason
    # row → largest difference in each layer between its batch and itself alone: absolute, relative
    compared: dict[int, Comparison] = field(default_factory=dict)
    limit: int | None = None  # tokens at once, where the device could not take a whole batch
    # row → checksums of earlier lives that had other last bits; the array may hold those
    earlier: dict[int, set[int]] = field(default_factory=dict)
    lives: tuple[Life, ...] = ()
    damage: tuple[str, ...] = ()  # a line for each place that had to be left out

    @classmethod
    def blank(cls, start: int, stop: int) -> Ledger:
        """No row settled yet."""
        n_rows = stop - start
        return cls(start, stop, np.zeros(n_rows, np.uint8), np.zeros(n_rows, np.uint32))

    @property
    def rows_done(self) -> NDArray[np.intp]:
        return self.start + np.flatnonzero(self.state == DONE)

    @property
    def crc32_done(self) -> NDArray[np.uint32]:
        """Checksums of `rows_done`, in that order."""
        checksums: NDArray[np.uint32] = self.crc32[self.state == DONE]
        return checksums

    @property
    def done(self) -> dict[int, int]:
        """Row → checksum of its states."""
        return dict(zip(self.rows_done.tolist(), self.crc32_done.tolist(), strict=True))

    @property
    def missing(self) -> list[int]:
        return (self.start + np.flatnonzero(self.state == MISSING)).tolist()

    @property
    def n_done(self) -> int:
        return int((self.state == DONE).sum())

    @property
    def n_failed(self) -> int:
        return len(self.failed)

    @property
    def n_missing(self) -> int:
        return int((self.state == MISSING).sum())


@dataclass(frozen=True, slots=True)
class Worst:
    """How far states in batches are from those of the same rows alone, at most."""

    n_rows: int
    absolute: tuple[float, ...]  # of each layer
    relative: tuple[float, ...]  # over the largest value of the row's layer


def worst(ledgers: Sequence[Ledger]) -> Worst | None:
    """Over all rows that were compared; None where none was yet."""
    found = [comparison for ledger in ledgers for comparison in ledger.compared.values()]
    if not found:
        return None
    if len({len(one[0]) for one in found}) > 1:
        raise StoreError("journals: rows were compared in different numbers of layers; plan anew")
    absolute, relative = (
        tuple(map(max, zip(*(one[kind] for one in found), strict=True))) for kind in (0, 1)
    )
    return Worst(len(found), absolute, relative)


class Journal:
    """One life of the task of one shard; a context manager. Each entry is on disk when made.

    While it is open the file is locked, where the file system can: others see that it is alive.
    """

    def __init__(
        self,
        folder: Path,
        run_id: str,
        shard: int,
        planned: int = 0,
        packages: Mapping[str, str] | None = None,
        task: TaskIdentity | None = None,
    ) -> None:
        with disk_errors(folder):
            folder.mkdir(exist_ok=True)
            self.path, self._handle = _open_next(folder, shard)
        _lock(self._handle)
        task = task or TaskIdentity()
        self._append(
            run=run_id,
            shard=shard,
            host=socket.gethostname(),
            node=task.node,
            pid=os.getpid(),
            job=task.job,
            restarts=task.restarts,
            planned=planned,
            packages=dict(packages or {}),
        )
        sync_folder(folder)

    def done(self, rows: Sequence[int], checksums: Sequence[int]) -> None:
        """Note rows whose states have been flushed to disk."""
        digits = np.asarray(checksums, ">u4").tobytes().hex()
        self._append(done=_spans(rows), crc32=digits)

    def failed(self, row: int, reason: str) -> None:
        self._append(failed=row, why=reason)

    def lost(self, rows: Sequence[int]) -> None:
        """Note done rows, ascending, whose states are not on disk after all; they are missing."""
        self._append(lost=_spans(rows))

    def compared(self, row: int, absolute: list[float], relative: list[float]) -> None:
        """Note how far a row's states in its batch are from those alone, for each layer."""
        self._append(compared=row, absolute=absolute, relative=relative)

    def limit(self, n_tokens: int) -> None:
        """Note how many tokens at once the device can take, for those who go on from here."""
        self._append(limit=n_tokens)

    def _append(self, **entry: Any) -> None:
        text = json.dumps({**entry, "t": round(time.time(), 3)}, ensure_ascii=False).encode()
        line = b"%08x %s\n" % (zlib.crc32(text), text)
        with disk_errors(self.path):
            while line:  # a disk takes what fits; the rest says why no more does
                line = line[os.write(self._handle, line) :]
            os.fdatasync(self._handle)

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self._append(ended=FINISHED)
            else:
                with suppress(DiskError):  # as a rule, it is the error on its way
                    self._append(ended=_ending(kind, error))
        finally:
            os.close(self._handle)


def read_ledger(folder: Path, run_id: str, shard: int, start: int, stop: int) -> Ledger:
    """`read_ledgers` of one shard."""
    return read_ledgers(folder, run_id, {shard: (start, stop)})[0]


def read_ledgers(folder: Path, run_id: str, shards: Mapping[int, tuple[int, int]]) -> list[Ledger]:
    """Join every life of each shard's task: number → rows `[start, stop)`.

    A row that was ever done is done, unless it was lost since. Raises StoreError for a journal of
    another run or with an entry that this version does not know.
    """
    lives: dict[int, list[Path]] = {}
    for path in folder.iterdir() if folder.is_dir() else ():  # once, for all shards
        found = _NAME.fullmatch(path.name)
        if found and int(found[1]) in shards:
            lives.setdefault(int(found[1]), []).append(path)
    return [
        _Reader(run_id, shard, start, stop).read(sorted(lives.get(shard, ()), key=_life_number))
        for shard, (start, stop) in shards.items()
    ]


@dataclass(slots=True)
class _SoFar:
    """What changes with each entry of a life; a run has many."""

    n_done: int = 0
    n_failed: int = 0
    last: float = 0.0
    ended: str | None = None


class _Reader:
    """Joins the lives of one shard's task."""

    def __init__(self, run_id: str, shard: int, start: int, stop: int) -> None:
        self._owner = run_id, shard
        self._ledger = Ledger.blank(start, stop)
        self._lives: list[Life] = []
        self._damage: list[str] = []
        self._limits: list[int] = []

    def read(self, paths: Sequence[Path]) -> Ledger:
        for path in paths:
            self._read_life(path)
        ledger = self._ledger
        for row in [row for row in ledger.failed if ledger.state[row - ledger.start] != FAILED]:
            del ledger.failed[row]
        return replace(
            ledger,
            limit=min(self._limits, default=None),
            lives=tuple(self._lives),
            damage=tuple(self._damage),
        )

    def _read_life(self, path: Path) -> None:
        life: Life | None = None
        so_far = _SoFar()
        for number, text in self._entries(path):
            try:
                entry = json.loads(text.decode())
                if number == 1:
                    life = self._head(path, entry)
                elif life is not None:
                    self._entry(entry, so_far)
                so_far.last = float(entry["t"])
            except _NO_ENTRY:
                ledger = self._ledger
                raise StoreError(
                    f"{path}: line {number} is no entry of shard {self._owner[1]} "
                    f"[{ledger.start}, {ledger.stop}); remove the file and extract the shard again"
                ) from None
        if life is not None:
            life = replace(life, **asdict(so_far))
            running = False if life.ended is not None else _running(path, life)
            self._lives.append(replace(life, running=running))

    def _entries(self, path: Path) -> Iterator[tuple[int, bytes]]:
        """The lines whose checksum fits. A torn last one is the mark of a kill."""
        *lines, _ = path.read_bytes().split(b"\n")
        for number, line in enumerate(lines, start=1):
            text = line[9:]
            if line[:9] == b"%08x " % zlib.crc32(text):
                yield number, text
                continue
            what = "is" if number > 1 else "and with it the file's owner is"
            self._damage.append(
                f"{path}: line {number} {what} damaged; rows that it settled are missing, "
                "and if it was a repair, `vsp verify --repair` is wanted again"
            )
            if number == 1:
                return

    def _head(self, path: Path, entry: dict[str, Any]) -> Life:
        if (entry["run"], entry["shard"]) != self._owner:
            raise StoreError(f"{path}: belongs to another run or shard; remove it")
        return Life(
            path=path,
            host=str(entry["host"]),
            node=str(entry["node"] or entry["host"]),
            pid=int(entry["pid"]),
            job=None if entry["job"] is None else str(entry["job"]),
            restarts=int(entry["restarts"]),
            started=float(entry["t"]),
            planned=int(entry["planned"]),
            packages={str(name): str(found) for name, found in entry["packages"].items()},
        )

    def _entry(self, entry: dict[str, Any], life: _SoFar) -> None:
        """What one entry says: of rows to the ledger, of the task to `life`."""
        ledger = self._ledger
        if "done" in entry:
            life.n_done += self._done(entry["done"], entry["crc32"])
        elif "failed" in entry:
            row = self._row(entry["failed"])
            ledger.failed[row] = str(entry["why"])
            if ledger.state[row - ledger.start] != DONE:
                ledger.state[row - ledger.start] = FAILED
            life.n_failed += 1
        elif "ended" in entry:
            life.ended = str(entry["ended"])
        elif "lost" in entry:
            for first, last in entry["lost"]:
                ledger.state[self._slice(first, last)] = MISSING
        elif "compared" in entry:
            numbers = [float(x) for x in entry["absolute"]], [float(x) for x in entry["relative"]]
            if not len(numbers[0]) == len(numbers[1]) > 0:
                raise ValueError
            ledger.compared[self._row(entry["compared"])] = numbers
        else:
            self._limits.append(int(entry["limit"]))

    def _done(self, spans: list[list[int]], digits: str) -> int:
        """Note rows as done; how many."""
        ledger = self._ledger
        checksums = np.frombuffer(bytes.fromhex(digits), ">u4")
        if len(checksums) != sum(last - first for first, last in spans):
            raise ValueError
        used = 0
        for first, last in spans:
            rows = self._slice(first, last)
            new, used = checksums[used : used + last - first], used + last - first
            if self._lives and ledger.state[rows].any():
                self._again(first, rows, new)
            ledger.crc32[rows] = new
            ledger.state[rows] = DONE
        return used

    def _again(self, first: int, rows: slice, new: NDArray[np.uint32]) -> None:
        """Keep the checksums of rows that were done before and had other last bits."""
        ledger = self._ledger
        old = ledger.crc32[rows]
        for i in np.flatnonzero((ledger.state[rows] == DONE) & (old != new)).tolist():
            ledger.earlier.setdefault(first + i, set()).add(int(old[i]))

    def _row(self, row: Any) -> int:
        self._slice(row, row + 1)
        return int(row)

    def _slice(self, first: Any, last: Any) -> slice:
        start, stop = self._ledger.start, self._ledger.stop
        if type(first) is not int or type(last) is not int or not start <= first < last <= stop:
            raise ValueError
        return slice(first - start, last - start)


def _spans(rows: Collection[int]) -> list[list[int]]:
    """Rows, best ascending, as spans [first, last + 1]."""
    spans: list[list[int]] = []
    for row in rows:
        if spans and spans[-1][1] == row:
            spans[-1][1] = row + 1
        else:
            spans.append([row, row + 1])
    return spans


def _life_number(path: Path) -> int:
    found = _NAME.fullmatch(path.name)
    assert found is not None
    return int(found[2])


def _open_next(folder: Path, shard: int) -> tuple[Path, int]:
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL
    for life in count(1):
        path = folder / f"{shard:06d}-{life:03d}.journal"
        try:
            return path, os.open(path, flags, 0o666)
        except FileExistsError:
            continue
    raise AssertionError("count() never ends")


def _lock(handle: int) -> None:
    """Hold the file until it is closed or the process dies; nothing where there are no locks.

    A reader that looks whether it is locked holds it for a moment, hence the tries.
    """
    for _ in range(_LOCK_TRIES):
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.01)
        except OSError:
            return
        else:
            return


def _running(path: Path, life: Life) -> bool | None:
    """Whether the task of a life without an end is still at work; None if nobody can tell.

    Its lock tells; but some file systems have none, or none that another host can see.
    """
    try:
        handle = os.open(path, os.O_RDONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        finally:
            os.close(handle)
    except BlockingIOError:
        return True
    except OSError:
        pass
    else:
        if life.host == socket.gethostname():
            return False
    return None if time.time() - life.last < _RECENT else False


def _ending(kind: type[BaseException], error: BaseException | None) -> str:
    if isinstance(error, Stopped):
        return str(error)
    text = " ".join(str(error).split())
    return f"{kind.__name__}: {text}"[:300].rstrip(": ")
