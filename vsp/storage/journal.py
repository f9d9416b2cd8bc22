"""Writes journals: one append-only file for each start ("life") of each array task.

A task that is killed and started again opens a new file. So no file except the array ever has two
writers, and only the last line of a file can be incomplete. Files are named
`<shard>-<life>.journal`. A line is the CRC-32 of an entry in eight hexadecimal digits, a space, and
the entry in JSON. The first entry names the run, the shard and the process; the last one says how
the life ended, unless the task was killed. `vsp.storage.ledger` reads these files.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import socket
import time
import zlib
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from vsp.errors import DiskError
from vsp.utils.files import disk_errors, sync_folder
from vsp.utils.signals import Stopped

FINISHED = "finished"
_NAME = re.compile(r"(\d{6,})-(\d{3,})\.journal")
_LOCK_TRIES = 20


@dataclass(frozen=True, slots=True)
class TaskIdentity:
    """This process as a task of a batch system; the defaults mean that there is none."""

    job: str | None = None  # "123", or "123_4" for a task of an array
    node: str | None = None
    restarts: int = 0  # by the batch system, of this job


class Journal:
    """The journal of one life of one shard's task; a context manager.

    Each entry is on disk when its method returns. The file stays locked while it is open, where
    the file system has locks, so that readers see that the task is running.
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

    def mark_done(
        self, rows: Sequence[int], checksums: Sequence[int] | Sequence[Sequence[int]]
    ) -> None:
        """Mark rows as done; their values must have been flushed to disk before.

        `checksums` [row], or [array, row] if the run has several arrays.
        """
        digits = np.asarray(checksums, ">u4").tobytes().hex()
        self._append(done=_spans(rows), crc32=digits)

    def mark_failed(self, row: int, reason: str) -> None:
        self._append(failed=row, why=reason)

    def mark_lost(self, rows: Sequence[int]) -> None:
        """Mark done rows, ascending, as missing again: their states on disk are damaged."""
        self._append(lost=_spans(rows))

    def add_batch_effect(self, row: int, absolute: list[float], relative: list[float]) -> None:
        """Record how far a row's states in its batch are from its states alone, for each layer."""
        self._append(compared=row, absolute=absolute, relative=relative)

    def set_token_limit(self, n_tokens: int) -> None:
        """Record how many tokens per forward pass fit the device, for later lives of the task."""
        self._append(limit=n_tokens)

    def _append(self, **entry: Any) -> None:
        text = json.dumps({**entry, "t": round(time.time(), 3)}, ensure_ascii=False).encode()
        line = b"%08x %s\n" % (zlib.crc32(text), text)
        with disk_errors(self.path):
            while line:  # a full disk takes a part; writing the rest raises the error
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
                with suppress(DiskError):  # `error` is usually the same one, and more useful
                    self._append(ended=_ending(kind, error))
        finally:
            os.close(self._handle)


def parse_journal_name(name: str) -> tuple[int, int] | None:
    """Shard and life of a journal's file name; None if the file is not a journal."""
    match = _NAME.fullmatch(name)
    return None if match is None else (int(match[1]), int(match[2]))


def _spans(rows: Collection[int]) -> list[list[int]]:
    """Rows as spans [first, last + 1]; shortest if they are ascending."""
    spans: list[list[int]] = []
    for row in rows:
        if spans and spans[-1][1] == row:
            spans[-1][1] = row + 1
        else:
            spans.append([row, row + 1])
    return spans


def _open_next(folder: Path, shard: int) -> tuple[Path, int]:
    """Create the journal of the shard's next life; its path and file descriptor."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL
    for life in count(1):
        path = folder / f"{shard:06d}-{life:03d}.journal"
        try:
            return path, os.open(path, flags, 0o666)
        except FileExistsError:
            continue
    raise AssertionError("count() never ends")


def _lock(handle: int) -> None:
    """Lock the file until it is closed or the process dies; does nothing without file locks.

    Readers hold the lock for a moment to test it, so several tries may be needed.
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


def _ending(kind: type[BaseException], error: BaseException | None) -> str:
    if isinstance(error, Stopped):
        return str(error)
    text = " ".join(str(error).split())
    return f"{kind.__name__}: {text}"[:300].rstrip(": ")
