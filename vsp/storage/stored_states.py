"""States that were read from the file of another program, whatever its format."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vsp.config import StoreDtype
from vsp.errors import StoreError
from vsp.storage.convention import LayerConvention
from vsp.storage.imported import FileKind
from vsp.storage.state_rows import StateRows
from vsp.utils.text import format_bytes, format_count

BLOCK = 8 << 20  # bytes of rows that are read at once, about
MAX_ROW = 1 << 28  # bytes of one row
States = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class StateFile:
    """Stored states of one position, with the texts of their rows.

    States are given in `dtype`: that of the file if it is float16 or float32, otherwise float32. They
    may hold values that are not finite, also because a float64 is too large for float32.
    """

    path: Path
    kind: FileKind
    rows: StateRows
    n_layers: int
    hidden_size: int
    dtype: StoreDtype
    stored_dtype: str  # of the file: float16, bfloat16, float32 or float64
    convention: LayerConvention
    files: tuple[Path, ...]  # all files that were read, in order
    read_blocks: Callable[[], Iterator[States]]  # of [row, layer, hidden], all rows in order
    mapped: States | None = None  # [row, layer, hidden]; None if the file cannot be mapped
    card: Mapping[str, Any] | None = None  # what `vsp export` wrote about the origin
    notes: tuple[str, ...] = field(default=())  # what a user should know

    @property
    def id(self) -> NDArray[np.str_]:
        return self.rows.id

    @property
    def label(self) -> NDArray[np.str_]:
        return self.rows.label

    @property
    def group(self) -> NDArray[np.str_]:
        """The image of each row, or the row itself if the file does not name images."""
        return self.rows.group

    @property
    def split(self) -> NDArray[np.str_]:
        """train, val or test of each row; all empty if the file has no split."""
        return self.rows.split

    def __len__(self) -> int:
        return len(self.rows)

    def layer(self, index: int) -> States:
        """The states of one entry of the layer axis `[row, hidden]`, in `dtype`.

        Reads little memory: a file that cannot be mapped, because it is compressed or because each row
        has a file of its own, is copied once to a temporary file that the system removes.
        """
        return np.asarray(self._array[:, index], self.dtype)

    def blocks(self) -> Iterator[States]:
        """All rows in order, in blocks `[row, layer, hidden]` of `dtype`."""
        with np.errstate(over="ignore"):  # float64 that is too large becomes inf
            for block in self.read_blocks():
                yield block.astype(self.dtype, copy=False)

    @cached_property
    def _array(self) -> States:
        return self._copied() if self.mapped is None else self.mapped

    def _copied(self) -> States:
        """The states in a temporary file, as a map `[row, layer, hidden]`."""
        shape = len(self), self.n_layers, self.hidden_size
        need = int(np.prod(shape)) * np.dtype(self.dtype).itemsize
        free = shutil.disk_usage(tempfile.gettempdir()).free
        if need > free:
            raise StoreError(
                f"{self.path}: needs {format_bytes(need)} in {tempfile.gettempdir()}, "
                f"{format_bytes(free)} are free; set TMPDIR, or use `vsp import states`"
            )
        with tempfile.TemporaryFile() as file:
            for block in self.blocks():
                file.write(np.ascontiguousarray(block).data.cast("B"))
            file.flush()
            return np.memmap(file, self.dtype, "r", shape=shape)


def in_blocks(rows: Iterator[States]) -> Iterator[States]:
    """Rows `[layer, hidden]` joined to blocks `[row, layer, hidden]` of about `BLOCK` bytes."""
    block: list[States] = []
    for row in rows:
        block.append(row)
        if len(block) * row.nbytes >= BLOCK:
            yield np.stack(block)
            block = []
    if block:
        yield np.stack(block)


def note_without_images(n_rows: int) -> str:
    return f"no image ids: each of {format_count(n_rows, 'row')} is a group of its own"
