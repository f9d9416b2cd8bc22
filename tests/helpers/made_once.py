"""Folders that tests want again and again: made once in a process, and copied."""

from __future__ import annotations

import atexit
import hashlib
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_MADE: dict[str, Path] = {}


def copy_of(
    work: Path,
    make: Callable[[Path], object],
    arrays: Mapping[str, NDArray[Any]],
    *words: object,
) -> None:
    """Copy into `work` what `make` writes into an empty folder.

    It is made again for other arrays and other words, which are all that it may depend on.
    """
    digest = hashlib.sha256(repr(words).encode())
    for name, array in arrays.items():
        digest.update(f"{name} {array.dtype.str} {array.shape} ".encode())
        digest.update(np.ascontiguousarray(array).view(np.uint8).data)
    key = digest.hexdigest()
    if key not in _MADE:
        folder = Path(tempfile.mkdtemp())
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        make(folder)
        _MADE[key] = folder
    shutil.copytree(_MADE[key], work, dirs_exist_ok=True, symlinks=True)
