"""Writes files under a temporary name and renames them: readers see the old or the new file."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from vsp.errors import DiskError

_FREE_SPACE = "free space and run the same command again"
_MAKE_WRITABLE = "make it writable or use another folder, and run the same command again"
_IN_THE_WAY = "move it or use another path"
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
    errno.ENAMETOOLONG: "use a shorter name",
    errno.ELOOP: "use a path without links that lead to themselves",
}


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Raise DiskError for those OSErrors of the block that a user can fix, while writing `path`.

    These are a full disk or quota, a read-only folder, and a file where a folder should be or the
    reverse. Any other OSError is raised unchanged.
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
def temporary_folder(parent: Path, prefix: str) -> Iterator[Path]:
    """A new folder in `parent`, which is removed with its content when the block ends.

    Unlike tempfile.TemporaryDirectory it also removes the folder if a signal arrives while it is
    made.
    """
    folder = parent / f"{prefix}{os.urandom(4).hex()}"
    try:
        folder.mkdir()
        yield folder
    finally:
        with suppress(FileNotFoundError):
            shutil.rmtree(folder)


@contextmanager
def write_aside(path: Path, *, executable: bool = False) -> Iterator[IO[bytes]]:
    """Write a temporary file beside `path`; if the block succeeds, flush it and rename it to `path`.

    Raises DiskError as `disk_errors` does; the old `path` is then unchanged.
    """
    with write_together([path], executable=executable) as (file,):
        yield file


@contextmanager
def write_together(
    paths: Sequence[Path], *, executable: bool = False
) -> Iterator[tuple[IO[bytes], ...]]:
    """As `write_aside`, for several files: none is renamed before all of them are on disk.

    The files can be read back, and are renamed in the order of `paths`. A crash between two
    renames leaves old and new files.
    """
    asides: list[Path] = []
    try:
        # Outermost, because closing a file tries to write the rest again.
        with disk_errors(paths[0] if len(paths) == 1 else paths[0].parent):
            with ExitStack() as opened:
                files = [opened.enter_context(_aside(path, asides)) for path in paths]
                yield tuple(files)
                for file in files:
                    file.flush()
                    os.fsync(file.fileno())
            # mkstemp makes private files; a run is shared, so set the mode that open() would.
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
    """Flush the folder's entries; otherwise a power loss may lose the name of a flushed file."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_text(path: Path, text: str) -> None:
    with write_aside(path) as file:
        file.write(text.encode())


def write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def sha256(file: IO[bytes]) -> str:
    """SHA-256 of a whole open file; leaves its position at the beginning."""
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
    """Open a temporary file in the folder of `path`, and add its path to `asides`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileNotFoundError, NotADirectoryError):
        kind = path.lstat().st_mode
        if stat.S_ISCHR(kind) or stat.S_ISBLK(kind):  # a rename would remove a device
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except FileNotFoundError:  # what /proc says of a new file
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path)) from None
    asides.append(Path(name))
    return os.fdopen(handle, "w+b")


def _culprit(path: Path, error: OSError) -> Path:
    """The file for the message: `path`, unless the error names a file in another folder."""
    named = Path(error.filename) if isinstance(error.filename, str) else path
    beside = (path.absolute(), path.absolute().parent)
    return path if named.parent.absolute() in beside else named


def _umask() -> int:
    mask = os.umask(0o022)  # os.umask returns the old mask only when it sets a new one
    os.umask(mask)
    return mask
