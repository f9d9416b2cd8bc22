"""Read files that may come from a stranger: regular files only, of a bounded size.

A named pipe would block a reader for ever, a device such as /dev/zero never ends, and a sparse file
may claim terabytes. All errors are OSErrors whose `strerror` says what is wrong, so that callers
report them as they report a missing file.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from vsp.utils.text import format_bytes

# A value of JSON takes up to 30 times its size in memory: 32 MiB stay below 1 GiB.
MAX_JSON = 1 << 25  # bytes
MAX_YAML = 1 << 18  # bytes; a person writes less, and PyYAML reads about 50 kB a second
_KINDS: tuple[tuple[Callable[[int], bool], str], ...] = (
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def open_regular(path: str | Path, limit: int | None = None) -> IO[bytes]:
    """Open a file of at most `limit` bytes for reading bytes. Links are followed.

    Raises OSError if the file cannot be opened, is not a regular file or is larger, without waiting
    for the other end of a named pipe.
    """
    _require_regular(Path(path).stat(), path, limit)  # opening a device may act on it
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        _require_regular(os.fstat(handle), path, limit)  # exchanged since the check
        os.set_blocking(handle, True)  # some network file systems give EAGAIN to other reads
        return os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def _require_regular(status: os.stat_result, path: str | Path, limit: int | None) -> None:
    mode = status.st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        kind = next((name for is_kind, name in _KINDS if is_kind(mode)), "no file")
        raise OSError(errno.EINVAL, f"is {kind}, not a regular file", str(path))
    if limit is not None and status.st_size > limit:
        raise _too_large(path, status.st_size, limit)


def read_bounded(path: str | Path, limit: int) -> bytes:
    """The bytes of a regular file.

    Raises OSError as `open_regular` does; a file of more than `limit` bytes takes no memory.
    """
    with open_regular(path, limit) as file:
        # `read` takes memory for as many bytes as it is asked for.
        size = os.fstat(file.fileno()).st_size
        data = file.read(size + 1)
        if len(data) > size:  # files in /proc say that they hold 0 bytes, and a file may grow
            data += file.read(limit + 1 - len(data))
    if len(data) > limit:
        raise _too_large(path, len(data), limit)
    return data


def _too_large(path: str | Path, size: int, limit: int) -> OSError:
    said = f"holds {format_bytes(size)}, at most {format_bytes(limit)} are read"
    return OSError(errno.EFBIG, said, str(path))


def read_json(path: str | Path, limit: int = MAX_JSON) -> Any:
    """The value of a JSON file of at most `limit` bytes.

    Raises OSError as `read_bounded` does, and ValueError or RecursionError if it is not JSON.
    """
    return json.loads(read_bounded(path, limit))


def unreadable(error: OSError) -> str:
    """Why a file cannot be read, without its path: "cannot be read (permission denied)"."""
    reason = error.strerror or str(error)
    return f"cannot be read ({reason[:1].lower()}{reason[1:]})"
