"""Reads the journals of a run: which rows are done, failed or missing, and how each task fared.

The files are described in `vsp.storage.journal`, which writes them. Damaged lines are skipped and
reported; their rows count as missing, and the next extraction computes the same bytes again.
"""

from __future__ import annotations

import fcntl
import json
import re
import socket
import time
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vsp.errors import StoreError
from vsp.storage.journal import parse_journal_name
from vsp.utils.reading import open_regular, unreadable
from vsp.utils.text import format_count

MISSING, DONE, FAILED = range(3)
_MAX_JOURNAL = 1 << 28  # bytes; a row takes at most about 350, if it fails with a long reason
_NAMES_AND_NUMBERS = re.compile(r"'[^']*'|\"[^\"]*\"|[0-9]+")
_RECENT = 120.0  # seconds since the last entry in which a task on another host may still be running
# Raised by an entry that is JSON but has the wrong keys or types.
_NO_ENTRY = (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError)


@dataclass(frozen=True, slots=True)
class Life:
    """One start of a shard's task, from its first journal entry to its last."""

    path: Path
    host: str
    node: str  # the host's name in the batch system
    pid: int
    job: str | None  # of the batch system: 123, or 123_4 for a task of an array
    restarts: int  # of this job, by the batch system
    started: float  # seconds since 1970
    planned: int  # rows pending when it started
    packages: dict[str, str]  # installed versions that differ from the plan's
    n_done: int = 0
    n_failed: int = 0
    last: float = 0.0  # time of the last entry
    ended: str | None = None  # FINISHED or the error; None: killed, or still running
    running: bool | None = False  # None: unknown, the host is out of reach

    @property
    def rows_per_second(self) -> float | None:
        seconds = self.last - self.started
        n_rows = self.n_done + self.n_failed
        return n_rows / seconds if n_rows and seconds > 0 else None


@dataclass(frozen=True, slots=True)
class Ledger:
    """The rows of a shard `[start, stop)`: done, failed with a reason, or missing."""

    start: int
    stop: int
    state: NDArray[np.uint8]  # [row - start]: MISSING, DONE or FAILED
    crc32: NDArray[np.uint32]  # [array, row - start]: checksum of a done row in each of the arrays
    failed: dict[int, str] = field(default_factory=dict)  # row → reason
    # row → largest difference between the row in its batch and alone, of each layer: absolute,
    # relative
    batch_effects: dict[int, tuple[list[float], list[float]]] = field(default_factory=dict)
    token_limit: int | None = None  # tokens per forward pass, after the device ran out of memory
    # row → checksums from earlier lives that differ from the current ones; the arrays may hold those
    earlier: dict[int, set[int]] = field(default_factory=dict)
    lives: tuple[Life, ...] = ()
    damage: tuple[str, ...] = ()  # one message per skipped line

    @classmethod
    def blank(cls, start: int, stop: int, n_arrays: int = 1) -> Ledger:
        """A ledger in which every row is missing."""
        n_rows = stop - start
        return cls(start, stop, np.zeros(n_rows, np.uint8), np.zeros((n_arrays, n_rows), np.uint32))

    @property
    def rows_done(self) -> NDArray[np.intp]:
        return self.start + np.flatnonzero(self.state == DONE)

    def crc32_done(self, array: int = 0) -> NDArray[np.uint32]:
        """Checksums of `rows_done` in an array of the run, in that order."""
        checksums: NDArray[np.uint32] = self.crc32[array, self.state == DONE]
        return checksums

    @property
    def done(self) -> dict[int, int]:
        """Row → checksum in the first array."""
        return dict(zip(self.rows_done.tolist(), self.crc32_done().tolist(), strict=True))

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
class BatchEffect:
    """Largest difference between the states of rows in their batches and of the same rows alone."""

    n_rows: int  # rows that were also run alone
    absolute: tuple[float, ...]  # of each layer
    relative: tuple[float, ...]  # of each layer, divided by the row's largest value there


def largest_batch_effect(ledgers: Sequence[Ledger]) -> BatchEffect | None:
    """The batch effect over all rows that were run alone; None if there are none yet."""
    effects = [effect for ledger in ledgers for effect in ledger.batch_effects.values()]
    if not effects:
        return None
    if len({len(absolute) for absolute, _ in effects}) > 1:
        raise StoreError("journals: rows were compared in different numbers of layers; plan anew")
    absolute, relative = (
        tuple(map(max, zip(*(effect[kind] for effect in effects), strict=True))) for kind in (0, 1)
    )
    return BatchEffect(len(effects), absolute, relative)


def failure_of_all(ledgers: Sequence[Ledger]) -> str:
    """If all rows failed: their number, the most frequent reason, and what to do; else empty.

    Reasons that differ in quoted names and numbers only are one reason; the first of them is given.
    """
    reasons = Counter[str]()
    examples: dict[str, str] = {}
    for ledger in ledgers:
        for reason in ledger.failed.values():
            kind = _NAMES_AND_NUMBERS.sub("", reason)
            reasons[kind] += 1
            examples.setdefault(kind, reason)
    n_rows = sum(ledger.stop - ledger.start for ledger in ledgers)
    n_failed = sum(ledger.n_failed for ledger in ledgers)
    if not 0 < n_rows == n_failed:
        return ""
    kind, n = min(reasons.items(), key=lambda item: (-item[1], item[0]))
    which = "such as" if n == n_rows else f"{n:,} of them such as"
    return (
        f"all {format_count(n_rows, 'row')} failed, {which} {examples[kind]!r}; mend that, then "
        "`vsp extract --retry-failed` extracts them again"
    )


def read_ledgers(
    folder: Path, run_id: str, shards: Mapping[int, tuple[int, int]], n_arrays: int = 1
) -> list[Ledger]:
    """The ledger of each shard in `shards`: number → rows `[start, stop)`.

    `n_arrays` is the number of the run's arrays, each with a checksum for every row.

    Joins all lives of a shard's task: a row that was ever done is done, unless a later repair
    marked it as lost. Raises StoreError for a journal of another run or an unknown entry.
    """
    paths: dict[int, list[tuple[int, Path]]] = {}
    for path in _listed(folder):  # once, for all shards
        numbers = parse_journal_name(path.name)
        if numbers is not None and numbers[0] in shards:
            paths.setdefault(numbers[0], []).append((numbers[1], path))
    return [
        _LedgerReader(run_id, shard, Ledger.blank(start, stop, n_arrays)).read(
            [path for _, path in sorted(paths.get(shard, ()))]
        )
        for shard, (start, stop) in shards.items()
    ]


def _listed(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except FileNotFoundError:
        return []
    except OSError as error:
        raise StoreError(
            f"{folder}: {unreadable(error)}; put the folder of journals back"
        ) from None


@dataclass(slots=True)
class _LifeProgress:
    """The fields of a Life that change with its entries; mutable, since there are many."""

    n_done: int = 0
    n_failed: int = 0
    last: float = 0.0
    ended: str | None = None


class _LedgerReader:
    """Joins the lives of one shard's task."""

    def __init__(self, run_id: str, shard: int, blank: Ledger) -> None:
        self._owner = run_id, shard
        self._ledger = blank
        self._lives: list[Life] = []
        self._damage: list[str] = []
        self._token_limits: list[int] = []

    def read(self, paths: Sequence[Path]) -> Ledger:
        for path in paths:
            self._read_life(path)
        ledger = self._ledger
        for row in [row for row in ledger.failed if ledger.state[row - ledger.start] != FAILED]:
            del ledger.failed[row]
        return replace(
            ledger,
            token_limit=min(self._token_limits, default=None),
            lives=tuple(self._lives),
            damage=tuple(self._damage),
        )

    def _read_life(self, path: Path) -> None:
        life: Life | None = None
        progress = _LifeProgress()
        for number, text in self._entries(path):
            try:
                entry = json.loads(text.decode())
                if number == 1:
                    life = self._first_entry(path, entry)
                elif life is not None:
                    self._add_entry(entry, progress)
                progress.last = float(entry["t"])
            except _NO_ENTRY:
                ledger = self._ledger
                raise StoreError(
                    f"{path}: line {number} is not an entry of shard {self._owner[1]} "
                    f"[{ledger.start}, {ledger.stop}); remove the file and extract the shard again"
                ) from None
        if life is not None:
            life = replace(life, **asdict(progress))
            running = False if life.ended is not None else _is_running(path, life)
            self._lives.append(replace(life, running=running))

    def _entries(self, path: Path) -> Iterator[tuple[int, bytes]]:
        """Number and text of each line with a valid checksum.

        An incomplete last line is normal after a kill, and skipped silently.
        """
        try:
            with open_regular(path, _MAX_JOURNAL) as file:
                *lines, _ = file.read().split(b"\n")
        except OSError as error:
            raise StoreError(
                f"{path}: {unreadable(error)}; remove it and extract the shard again"
            ) from None
        for number, line in enumerate(lines, start=1):
            text = line[9:]
            if line[:9] == b"%08x " % zlib.crc32(text):
                yield number, text
            elif number == 1:
                self._damage.append(
                    f"{path}: line 1 is damaged, so the whole file is skipped; its rows count as "
                    "missing, and if it was a repair, run `vsp verify --repair` again"
                )
                return
            else:
                self._damage.append(
                    f"{path}: line {number} is damaged and skipped; its rows count as missing, and "
                    "if it was a repair, run `vsp verify --repair` again"
                )

    def _first_entry(self, path: Path, entry: dict[str, Any]) -> Life:
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
            packages={str(name): str(version) for name, version in entry["packages"].items()},
        )

    def _add_entry(self, entry: dict[str, Any], life: _LifeProgress) -> None:
        """Update the ledger's rows and the life's counts from one entry."""
        ledger = self._ledger
        if "done" in entry:
            life.n_done += self._mark_done(entry["done"], entry["crc32"])
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
            effect = [float(x) for x in entry["absolute"]], [float(x) for x in entry["relative"]]
            if not len(effect[0]) == len(effect[1]) > 0:
                raise ValueError
            ledger.batch_effects[self._row(entry["compared"])] = effect
        else:
            self._token_limits.append(int(entry["limit"]))

    def _mark_done(self, spans: list[list[int]], digits: str) -> int:
        """Mark rows as done and return their number."""
        ledger = self._ledger
        n_rows, n_arrays = sum(last - first for first, last in spans), len(ledger.crc32)
        checksums = np.frombuffer(bytes.fromhex(digits), ">u4").reshape(n_arrays, n_rows)
        used = 0
        for first, last in spans:
            rows = self._slice(first, last)
            new, used = checksums[:, used : used + last - first], used + last - first
            if self._lives and ledger.state[rows].any():
                self._keep_earlier(first, rows, new)
            ledger.crc32[:, rows] = new
            ledger.state[rows] = DONE
        return used

    def _keep_earlier(self, first: int, rows: slice, new: NDArray[np.uint32]) -> None:
        """Keep the old checksums of rows that were already done and differ from the new ones."""
        ledger = self._ledger
        old = ledger.crc32[:, rows]
        for array, i in np.argwhere((ledger.state[rows] == DONE) & (old != new)).tolist():
            ledger.earlier.setdefault(first + i, set()).add(int(old[array, i]))

    def _row(self, row: Any) -> int:
        self._slice(row, row + 1)
        return int(row)

    def _slice(self, first: Any, last: Any) -> slice:
        """Rows `[first, last)` as a slice of the ledger's arrays; ValueError if outside it."""
        start, stop = self._ledger.start, self._ledger.stop
        if type(first) is not int or type(last) is not int or not start <= first < last <= stop:
            raise ValueError
        return slice(first - start, last - start)


def _is_running(path: Path, life: Life) -> bool | None:
    """Whether the task of a life without an end is still running; None if unknown.

    A running task holds a lock on its journal. Some file systems have no locks, or do not show
    them to other hosts; there, a recent entry means "perhaps".
    """
    try:
        with open_regular(path) as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        pass
    else:
        if life.host == socket.gethostname():
            return False
    return None if time.time() - life.last < _RECENT else False
