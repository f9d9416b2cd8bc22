"""Cache of fitted layers. `vsp probe` skips layers that it holds and merges all of them.

`probe/KEY/LAYER.npz` holds the arrays of one layer, or of a baseline by its name. KEY identifies everything that influences
them. Each file ends with a zip comment, the SHA-256 of the bytes before it. Nothing is pickled.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from vsp.errors import RunError
from vsp.storage.npz import MAX_ARRAYS, ArraysError, read_arrays, write_arrays
from vsp.utils.files import disk_errors, write_aside
from vsp.utils.reading import open_regular, unreadable

Fitted = int | str  # a layer, or the name of a baseline that is fitted in the same way

_DIGITS = 64  # of a SHA-256
_BLOCK = 1 << 20  # bytes per read
_OWNER = "whose"  # entry with key and layer, among the arrays


@dataclass(frozen=True, slots=True)
class FitCache:
    """The folder of layers that were fitted in the same way."""

    folder: Path
    limit: int = MAX_ARRAYS  # bytes of a file that is read

    @property
    def key(self) -> str:
        return self.folder.name

    def path(self, layer: Fitted) -> Path:
        name = layer.replace(" ", "-") if isinstance(layer, str) else f"{layer:03d}"
        return self.folder / f"{name}.npz"

    def write(self, layer: Fitted, arrays: dict[str, NDArray[Any]]) -> None:
        """Raises DiskError if the file cannot be written."""
        with write_aside(self.path(layer)) as file:
            write_arrays(file, {**arrays, _OWNER: np.array(self._owner(layer))})
            _add_digest(file)

    def read(self, layer: Fitted) -> dict[str, NDArray[Any]] | None:
        """None if the layer is not fitted yet. Raises RunError if its file is damaged."""
        path = self.path(layer)
        try:
            with open_regular(path, self.limit) as file:
                arrays = _arrays(file)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise RunError(
                f"{path}: {unreadable(error)}; remove it and run the command again"
            ) from None
        # The owner differs if the file was copied or renamed.
        owner = arrays.pop(_OWNER, np.array(""))
        if owner.shape != () or owner.item() != self._owner(layer):
            raise RunError(f"{path}: is damaged; remove it and run the command again")
        return arrays

    def _owner(self, layer: Fitted) -> str:
        return json.dumps({"key": self.key, "layer": layer})

    def remove(self, layer: Fitted) -> None:
        """Raises DiskError if the folder is not writable."""
        with disk_errors(self.path(layer)):
            self.path(layer).unlink(missing_ok=True)


def _add_digest(file: IO[bytes]) -> None:
    """Give a zip file a comment, the SHA-256 of the bytes before the comment."""
    # A zip file without a comment ends with the comment's length, two zero bytes.
    size = file.seek(-2, os.SEEK_END) + 2
    file.write(_DIGITS.to_bytes(2, "little"))
    file.write(_digest(file, size))


def _arrays(file: IO[bytes]) -> dict[str, NDArray[Any]]:
    """The arrays of a file that ends with its digest; empty if it was changed."""
    try:
        arrays = read_arrays(file)  # first, since it refuses a file of zeros without reading it
    except ArraysError:
        return {}
    size = file.seek(-_DIGITS, os.SEEK_END)
    return arrays if file.read() == _digest(file, size) else {}


def _digest(file: IO[bytes], size: int) -> bytes:
    """The digits of the SHA-256 of the first `size` bytes; the file is at `size` then."""
    digest = hashlib.sha256()
    file.seek(0)
    for at in range(0, size, _BLOCK):
        digest.update(file.read(min(_BLOCK, size - at)))
    return digest.hexdigest().encode()
