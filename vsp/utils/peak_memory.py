"""Measures the peak memory of a piece of work."""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any


class PeakMemory:
    """Peak memory above the memory in use at construction; the GPU's if there is one."""

    def __init__(self) -> None:
        gc.collect()
        self._cuda = cuda()
        if self._cuda is not None:
            self._cuda.empty_cache()
            self._cuda.reset_peak_memory_stats()
            self._before = self._cuda.memory_allocated()
            return
        try:
            ctypes.CDLL("libc.so.6").malloc_trim(0)
            Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM, the process's peak
        except OSError:
            self._before = -1
        else:
            self._before = _process_memory("VmRSS")

    def bytes(self) -> int | None:
        if self._cuda is not None:
            return int(self._cuda.max_memory_allocated() - self._before)
        return None if self._before < 0 else max(_process_memory("VmHWM") - self._before, 0)


def cuda() -> Any:
    """`torch.cuda`, if the model has imported torch and there is a GPU."""
    torch = sys.modules.get("torch")
    return torch.cuda if torch and torch.cuda.is_available() else None


def _process_memory(field: str) -> int:
    """A field of /proc/self/status, in bytes."""
    lines: Iterable[str] = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(field + ":"))
