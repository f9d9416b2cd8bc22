"""Opens files of states that other programs wrote.

The format is found by the content: a `.npz` of the research project or of `vsp export`, a folder of
`.pt` files, a folder of vLLM's `.safetensors` files, or a `.safetensors` file of `vsp export`. Nothing
is unpickled, and memory stays bounded: states are read row by row, or mapped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from vsp.errors import StoreError
from vsp.storage.convention import LastLayer, check_layers
from vsp.storage.npz_states import open_npz
from vsp.storage.stored_states import StateFile
from vsp.utils.reading import unreadable


class _Open(Protocol):
    def __call__(self, path: Path) -> StateFile: ...


def open_state_file(
    path: Path, layers: Sequence[int] | None = None, last: LastLayer | None = None
) -> StateFile:
    """Open a file or folder of states; reads the texts of all rows, and no states.

    `layers` are the layers of the model that the entries are, and `last` says what the last one is.
    None: what the file says, otherwise the convention of transformers' `hidden_states`, which is then
    marked as assumed. Raises StoreError if the file cannot be used.
    """
    try:
        opened = _opener(path)(path)
    except OSError as error:
        raise StoreError(f"{path}: {unreadable(error)}; name a file or folder of states") from None
    return _with_convention(opened, layers, last)


def _opener(path: Path) -> _Open:
    if path.is_dir():
        raise StoreError(f"{path}: holds no files of states (.pt or .safetensors)")
    with path.open("rb"):
        pass
    return open_npz


def _with_convention(
    opened: StateFile, layers: Sequence[int] | None, last: LastLayer | None
) -> StateFile:
    """The file with the convention that the user says, and a note about what is assumed."""
    known = opened.convention
    if layers is not None:
        known = replace(known, layers=check_layers(layers, opened.n_layers))
    if last is not None:
        known = replace(known, last=last)
    assumed = known.assumed and (layers is None or last is None)
    known = replace(known, assumed=assumed)
    notes = list(opened.notes)
    if assumed:
        notes.append(
            f"assumed: {known.describe()}; if that is wrong, say it with --layers and --last-layer"
        )
    if opened.stored_dtype not in ("float16", "float32"):
        notes.append(f"{opened.stored_dtype} states are stored as {opened.dtype}")
    return replace(opened, convention=known, notes=tuple(notes))
