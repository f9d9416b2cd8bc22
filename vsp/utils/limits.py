"""Runs a function in a process of its own, with limits of time and memory.

For code that works on files of strangers and that nothing else bounds: a template may loop for ever,
a regular expression may try 2^100 ways, and neither Python nor a library can be interrupted in C. The
process is forked, so it starts in milliseconds and imports nothing again.
"""

from __future__ import annotations

import faulthandler
import json
import os
import resource
import select
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NoReturn

SECONDS = 5  # of CPU time
MEMORY = 1 << 30  # bytes, beyond those of this process
_ANSWER = 1 << 24  # bytes of an answer
# Seconds on a clock: more than SECONDS, because the cores may be busy.
_PATIENCE = 10 * SECONDS
_BEYOND_MEMORY = 77  # exit code of a process that needs more than MEMORY


class LimitError(Exception):
    """The function needs more time or memory than it may. The message says which."""


class FailedError(Exception):
    """The function raised an error. The message is its type and its text, in one line."""


def run_limited(function: Callable[[], Any]) -> Any:
    """The value of `function()`, which JSON must be able to hold.

    Nothing that the function prints or changes reaches this process. Raises LimitError or FailedError.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        _run(function, writer)
    os.close(writer)
    try:
        answer = _read(reader)
    finally:
        os.close(reader)
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)  # it may still run if this process is interrupted
        status = os.waitpid(child, 0)[1]
    if not answer:
        raise LimitError(_reason(status))
    said = json.loads(answer)
    if "error" in said:
        raise FailedError(said["error"])
    return said["value"]


def _run(function: Callable[[], Any], writer: int) -> NoReturn:
    """The life of the child: it never returns to the caller's code."""
    code = 1
    try:
        _enter_limits()
        try:
            said = {"value": function()}
        except MemoryError:
            code = _BEYOND_MEMORY
            raise
        except Exception as error:  # noqa: BLE001 - handed to the parent, which raises it
            said = {"error": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"}
        with os.fdopen(writer, "wb") as file:
            file.write(json.dumps(said).encode())
        code = 0
    except MemoryError:
        code = _BEYOND_MEMORY
    finally:
        os._exit(code)  # not sys.exit: what the parent registered for its end is not the child's


def _enter_limits() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_DFL)
    faulthandler.disable()  # it writes to a copy of stderr
    nowhere = open(os.devnull, "w")  # noqa: PTH123, SIM115 - open until the process ends
    sys.stdout = sys.stderr = nowhere
    for stream in (1, 2):  # libraries written in Rust print their panics
        os.dup2(nowhere.fileno(), stream)
    with open("/proc/self/statm") as file:  # noqa: PTH123 - pathlib is slower
        used = int(file.read().split()[0]) * resource.getpagesize()
    for kind, most in (
        (resource.RLIMIT_CPU, SECONDS),
        (resource.RLIMIT_AS, used + MEMORY),
        (resource.RLIMIT_CORE, 0),
    ):
        soft, hard = resource.getrlimit(kind)
        known = [limit for limit in (soft, hard, most) if limit != resource.RLIM_INFINITY]
        resource.setrlimit(kind, (min(known), hard))


def _read(reader: int) -> bytes:
    """All bytes until the child closes the pipe. Raises LimitError for too many, or if it hangs."""
    end, n_bytes = time.monotonic() + _PATIENCE, 0
    parts: list[bytes] = []
    while True:
        ready, _, _ = select.select([reader], [], [], max(end - time.monotonic(), 0))
        if not ready:
            raise LimitError(f"takes over {_PATIENCE} s")
        part = os.read(reader, 1 << 20)
        if not part:
            return b"".join(parts)
        parts.append(part)
        n_bytes += len(part)
        if n_bytes > _ANSWER:
            raise LimitError(f"gives a text of over {_ANSWER >> 20} MiB")


def _reason(status: int) -> str:
    """Why a child ended without an answer."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        if number == signal.SIGXCPU:
            return f"takes over {SECONDS} s of CPU time"
        return f"ends its process with {signal.Signals(number).name}"
    if os.WEXITSTATUS(status) == _BEYOND_MEMORY:
        return f"takes over {MEMORY >> 30} GiB of memory"
    return "ends its process"
