"""Cache of fitted layers. `vsp probe` skips layers that it holds and merges all of them.

`probe/KEY/LAYER.npz` holds the arrays of one layer. KEY identifies everything that influences
them. Each file ends with a zip comment, the SHA-256 of the bytes before it. Nothing is pickled.
"""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vsp.errors import RunError
from vsp.storage.npz import MAX_ARRAYS, ArraysError, read_arrays
from vsp.utils.files import disk_errors, write_aside
from vsp.utils.reading import open_regular, unreadable

RANDOM_FEATURES = -1  # pseudo-layer: random numbers in place of states, a baseline

_DIGITS = 64  # of a SHA-256
_OWNER = "whose"  # entry with key and layer, among the arrays


@dataclass(frozen=True, slots=True)
class FitCache:
    """The folder of layers that were fitted in the same way."""

    folder: Path

    @property
    def key(self) -> str:
        return self.folder.name

    def path(self, layer: int) -> Path:
        name = "random" if layer == RANDOM_FEATURES else f"{layer:03d}"
        return self.folder / f"{name}.npz"

    def write(self, layer: int, arrays: dict[str, NDArray[Any]]) -> None:
        """Raises DiskError if the file cannot be written."""
        with write_aside(self.path(layer)) as file:
            file.write(_npz({**arrays, _OWNER: np.array(self._owner(layer))}))

    def read(self, layer: int) -> dict[str, NDArray[Any]] | None:
        """None if the layer is not fitted yet. Raises RunError if its file is damaged."""
        path = self.path(layer)
        try:
            with open_regular(path, MAX_ARRAYS) as file:
                body = file.read()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise RunError(
                f"{path}: {unreadable(error)}; remove it and run the command again"
            ) from None
        arrays = _arrays(body)
        # The owner differs if the file was copied or renamed.
        owner = arrays.pop(_OWNER, np.array(""))
        if owner.shape != () or owner.item() != self._owner(layer):
            raise RunError(f"{path}: is damaged; remove it and run the command again")
        return arrays

    def _owner(self, layer: int) -> str:
        return json.dumps({"key": self.key, "layer": layer})

    def remove(self, layer: int) -> None:
        """Raises DiskError if the folder is not writable."""
        with disk_errors(self.path(layer)):
            self.path(layer).unlink(missing_ok=True)


def _npz(arrays: dict[str, NDArray[Any]]) -> bytes:
    """A `.npz` file whose zip comment is the SHA-256 of the bytes before the comment."""
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    # A zip file without a comment ends with the comment's length, two zero bytes.
    body = buffer.getvalue()[:-2] + _DIGITS.to_bytes(2, "little")
    return body + hashlib.sha256(body).hexdigest().encode()


def _arrays(body: bytes) -> dict[str, NDArray[Any]]:
    """The arrays that were passed to `_npz`; empty if the file was changed."""
    if hashlib.sha256(body[:-_DIGITS]).hexdigest().encode() != body[-_DIGITS:]:
        return {}
    try:
        return read_arrays(io.BytesIO(body))
    except ArraysError:
        return {}
