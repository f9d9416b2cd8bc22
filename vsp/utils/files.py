"""Files written aside and renamed, so that a reader sees the old file or the new one, whole."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

from vsp.errors import DiskError

_FREE_SPACE = "free space and run the same command again"
_MAKE_WRITABLE = "make it writable or use another folder, and run the same command again"
_IN_THE_WAY = "it is in the way of what is to be written: move it or use another path"
_WHAT_TO_DO = {
    errno.ENOSPC: _FREE_SPACE,
    errno.EDQUOT: _FREE_SPACE,
    errno.EFBIG: "allow larger files (`ulimit -f`) and run the same command again",
    errno.EROFS: _MAKE_WRITABLE,
    errno.EACCES: _MAKE_WRITABLE,
    errno.EPERM: _MAKE_WRITABLE,
    errno.EEXIST: _IN_THE_WAY,
    errno.ENOTDIR: _IN_THE_WAY,
    errno.EISDIR: _IN_THE_WAY,
}


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """While `path` is written: DiskError where the disk is full or will not be written to, or
    something of another kind is in the way.

    Any other OSError passes.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _WHAT_TO_DO:
            raise
        raise DiskError(
            f"{_culprit(path, error)}: {os.strerror(error.errno).lower()}; "
            f"{_WHAT_TO_DO[error.errno]}"
        ) from error


@contextmanager
def write_aside(path: Path, *, executable: bool = False) -> Iterator[IO[bytes]]:
    """Open a new file beside `path`; when the block ends well, flush it to disk and rename it.

    Raises DiskError as `disk_errors` does; `path` is then what it was.
    """
    with write_together([path], executable=executable) as (file,):
        yield file


@contextmanager
def write_together(
    paths: Sequence[Path], *, executable: bool = False
) -> Iterator[tuple[IO[bytes], ...]]:
    """As `write_aside`, several files: none is renamed before all of them are on the disk.

    They can be read back, and are renamed in the order of `paths`; a crash between two renames
    leaves a mixture.
    """
    asides: list[Path] = []
    try:
        # The outermost: closing a file writes again what could not be written.
        with disk_errors(paths[0] if len(paths) == 1 else paths[0].parent):
            with ExitStack() as opened:
                files = [opened.enter_context(_aside(path, asides)) for path in paths]
                yield tuple(files)
                for file in files:
                    file.flush()
                    os.fsync(file.fileno())
            # mkstemp makes files private; a run is shared, so give the mode open() would.
            mode = (0o777 if executable else 0o666) & ~_umask()
            for aside in asides:
                aside.chmod(mode)
            for path, aside in zip(paths, asides, strict=True):
                aside.replace(path)
            for folder in {path.parent for path in paths}:
                sync_folder(folder)
    finally:
        for aside in asides:
            aside.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Flush names: a power loss may otherwise leave none for a file that is on disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_text(path: Path, text: str, *, executable: bool = False) -> None:
    with write_aside(path, executable=executable) as file:
        file.write(text.encode())


def write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def sha256(file: IO[bytes]) -> str:
    """Of a whole file, which is then at its beginning."""
    digest = hashlib.sha256()
    file.seek(0)
    while block := file.read(1 << 20):
        digest.update(block)
    file.seek(0)
    return digest.hexdigest()


def json_sha256(value: Any) -> str:
    """SHA-256 of a value's JSON, keys sorted. Stored beside the value, it reveals later edits."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def json_matches(value: Any, digest: object) -> bool:
    """Whether `digest` is the `json_sha256` of `value`."""
    try:
        return digest == json_sha256(value)
    except RecursionError:  # nested deeper than anything that vsp writes
        return False


def _aside(path: Path, asides: list[Path]) -> IO[bytes]:
    """A new file in the folder of `path`, its name added to `asides`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    asides.append(Path(name))
    return os.fdopen(handle, "w+b")


def _culprit(path: Path, error: OSError) -> Path:
    """What could not be written: `path`, unless the error names a file that is not beside it."""
    named = Path(error.filename) if isinstance(error.filename, str) else path
    beside = (path.absolute(), path.absolute().parent)
    return path if named.parent.absolute() in beside else named


def _umask() -> int:
    mask = os.umask(0o022)  # the only way to read it is to set it
    os.umask(mask)
    return mask
