"""What each layer gave, kept as soon as it is there: `vsp probe` goes on from it, and merges it.

`probe/KEY/LAYER.npz` holds the arrays of one layer, where KEY stands for everything that decides
them. The file ends in a zip comment, the SHA-256 of all that comes before; nothing is pickled.
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
from vsp.utils.files import disk_errors, write_aside

_DIGITS = 64  # of a SHA-256
_WHOSE = "whose"  # key and layer, among the arrays


@dataclass(frozen=True, slots=True)
class Parts:
    """The folder of the layers that were fitted in one and the same way."""

    folder: Path

    @property
    def key(self) -> str:
        return self.folder.name

    def path(self, layer: int) -> Path:
        return self.folder / (f"{layer:03d}.npz" if layer >= 0 else "random.npz")

    def write(self, layer: int, arrays: dict[str, NDArray[Any]]) -> None:
        """Raises DiskError where the file cannot be written."""
        whose = np.array(json.dumps({"key": self.key, "layer": layer}))
        with write_aside(self.path(layer)) as file:
            file.write(_npz({**arrays, _WHOSE: whose}))

    def read(self, layer: int) -> dict[str, NDArray[Any]] | None:
        """None if the layer was not fitted yet. Raises RunError if its file is damaged."""
        try:
            with disk_errors(self.path(layer)):
                body = self.path(layer).read_bytes()
        except FileNotFoundError:
            return None
        arrays = _arrays(body)
        # Of another layer or key: a file that was copied or renamed.
        whose = json.loads(arrays.pop(_WHOSE).item()) if arrays else {}
        if whose != {"key": self.key, "layer": layer}:
            raise RunError(f"{self.path(layer)}: is damaged; remove it and run the command again")
        return arrays

    def remove(self, layer: int) -> None:
        """Raises DiskError where the folder may not be written to."""
        with disk_errors(self.path(layer)):
            self.path(layer).unlink(missing_ok=True)


def _npz(arrays: dict[str, NDArray[Any]]) -> bytes:
    """A `.npz` file whose zip comment is the digest of what comes before the comment."""
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    # A zip file without a comment ends in the comment's length, two bytes that are 0.
    body = buffer.getvalue()[:-2] + _DIGITS.to_bytes(2, "little")
    return body + hashlib.sha256(body).hexdigest().encode()


def _arrays(body: bytes) -> dict[str, NDArray[Any]]:
    """What `_npz` was made of; nothing if one bit of it is another."""
    if hashlib.sha256(body[:-_DIGITS]).hexdigest().encode() != body[-_DIGITS:]:
        return {}
    with np.load(io.BytesIO(body), allow_pickle=False) as arrays:
        return dict(arrays)
