"""What became of each row: one append-only file of JSON lines for each life of each array task.

A task that is killed and started again opens a new file, so that no file but the array ever has
two writers, and a torn line can only be the last of its file. Files are named
`<shard>-<life>.jsonl`; the first line says which run they belong to and who wrote them.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any

from vsp.errors import StoreError

Comparison = tuple[list[float], list[float]]


@dataclass(frozen=True, slots=True)
class Ledger:
    """The rows of a shard `[start, stop)`: done, failed with a reason, or missing."""

    start: int
    stop: int
    done: dict[int, int] = field(default_factory=dict)  # row → checksum of its states
    failed: dict[int, str] = field(default_factory=dict)  # row → reason
    # row → largest difference in each layer between its batch and itself alone: absolute, relative
    compared: dict[int, Comparison] = field(default_factory=dict)
    limit: int | None = None  # tokens at once, where the device could not take a whole batch

    @property
    def missing(self) -> list[int]:
        settled = self.done.keys() | self.failed.keys()
        return [row for row in range(self.start, self.stop) if row not in settled]

    @property
    def n_missing(self) -> int:
        return self.stop - self.start - len(self.done) - len(self.failed)


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
    absolute, relative = (
        tuple(map(max, zip(*(one[kind] for one in found), strict=True))) for kind in (0, 1)
    )
    return Worst(len(found), absolute, relative)


class Journal:
    """One life of the task of one shard; a context manager. Each entry is on disk when made."""

    def __init__(self, folder: Path, run_id: str, shard: int) -> None:
        folder.mkdir(exist_ok=True)
        self._handle = _open_next(folder, shard)
        self._append(
            run=run_id,
            shard=shard,
            host=socket.gethostname(),
            pid=os.getpid(),
            job=os.environ.get("SLURM_JOB_ID"),
            started=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        )

    def done(self, rows: Sequence[int], checksums: Sequence[int]) -> None:
        """Note rows whose states have been flushed to disk."""
        self._append(rows=list(rows), crc32=list(checksums))

    def failed(self, row: int, reason: str) -> None:
        self._append(row=row, failed=reason)

    def compared(self, row: int, absolute: list[float], relative: list[float]) -> None:
        """Note how far a row's states in its batch are from those alone, for each layer."""
        self._append(compared=row, absolute=absolute, relative=relative)

    def limit(self, n_tokens: int) -> None:
        """Note how many tokens at once the device can take, for those who go on from here."""
        self._append(limit=n_tokens)

    def _append(self, **entry: Any) -> None:
        line = json.dumps(entry, ensure_ascii=False).encode() + b"\n"
        if os.write(self._handle, line) != len(line):
            raise OSError(f"journal entry of {len(line)} bytes was cut short; is the disk full?")
        os.fdatasync(self._handle)

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._handle)


def read_ledger(folder: Path, run_id: str, shard: int, start: int, stop: int) -> Ledger:
    """Join every life of a shard's task. A row that was ever done is done.

    Raises StoreError for a journal of another run or with a line that cannot be understood.
    """
    done: dict[int, int] = {}
    failed: dict[int, str] = {}
    compared: dict[int, Comparison] = {}
    limits: list[int] = []
    for path in sorted(folder.glob(f"{shard:06d}-*.jsonl")):
        for number, entry in enumerate(_entries(path), start=1):
            try:
                if number == 1:
                    _check_owner(path, entry, run_id, shard)
                elif "failed" in entry:
                    failed[_row(entry["row"], start, stop)] = str(entry["failed"])
                elif "compared" in entry:
                    row = _row(entry["compared"], start, stop)
                    compared[row] = _numbers(entry["absolute"]), _numbers(entry["relative"])
                elif "limit" in entry:
                    limits.append(int(entry["limit"]))
                else:
                    rows = [_row(row, start, stop) for row in entry["rows"]]
                    done.update(zip(rows, map(int, entry["crc32"]), strict=True))
            except (KeyError, TypeError, ValueError):
                raise StoreError(
                    f"{path}: line {number} is no entry of shard {shard} [{start}, {stop}); "
                    "remove the file and extract the shard again"
                ) from None
    failed = {row: why for row, why in failed.items() if row not in done}
    return Ledger(start, stop, done, failed, compared, min(limits, default=None))


def _open_next(folder: Path, shard: int) -> int:
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL
    for life in count(1):
        try:
            return os.open(folder / f"{shard:06d}-{life:03d}.jsonl", flags, 0o666)
        except FileExistsError:
            continue
    raise AssertionError("count() never ends")


def _entries(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a journal; a torn last one is the mark of a kill and is left out."""
    lines = path.read_bytes().split(b"\n")
    entries = []
    for number, line in enumerate(lines[:-1], start=1):
        try:
            entry = json.loads(line)
        except ValueError:
            entry = None
        if not isinstance(entry, dict):
            raise StoreError(
                f"{path}: line {number} is damaged; remove the file and extract the shard again"
            )
        entries.append(entry)
    return entries


def _check_owner(path: Path, entry: dict[str, Any], run_id: str, shard: int) -> None:
    if (entry["run"], entry["shard"]) != (run_id, shard):
        raise StoreError(f"{path}: belongs to another run or shard; remove it")


def _row(value: Any, start: int, stop: int) -> int:
    if type(value) is not int or not start <= value < stop:
        raise ValueError
    return value


def _numbers(values: Any) -> list[float]:
    return [float(value) for value in values]
