"""Opens files of states that other programs wrote.

The format is found by the content: a `.npz` of the research project or of `vsp export`, a folder of
`.pt` files, a folder of vLLM's `.safetensors` files, or a `.safetensors` file of `vsp export`. Nothing
is unpickled, and memory stays bounded: states are read row by row, or mapped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from vsp.choices import LastLayer
from vsp.errors import StoreError
from vsp.storage.convention import check_layers
from vsp.storage.npz_states import open_npz
from vsp.storage.pt_states import count_note, open_pt_folder
from vsp.storage.safetensors_states import open_exported, open_vllm_folder
from vsp.storage.stored_states import StateFile
from vsp.utils.reading import open_regular, unreadable
from vsp.utils.text import is_encodable

_ZIP = b"PK"  # the first bytes of a .npz
_ENDS = (".pt", ".safetensors")


def open_state_file(
    path: Path, layers: Sequence[int] | None = None, last: LastLayer | None = None
) -> StateFile:
    """Open a file or folder of states; reads the texts of all rows, and no states.

    `layers` are the layers of the model that the entries are, and `last` says what the last one is.
    None: what the file says, otherwise the convention of transformers' `hidden_states`, which is then
    marked as assumed. Raises StoreError if the file cannot be used.
    """
    if not is_encodable(str(path)):
        raise StoreError(f"{str(path)!a}: its name is not text of Unicode; rename it")
    try:
        opened = _opened(path, layers)
    except OSError as error:
        raise StoreError(f"{path}: {unreadable(error)}; name a file or folder of states") from None
    return _with_convention(opened, layers, last)


def _opened(path: Path, layers: Sequence[int] | None) -> StateFile:
    """Open what lies at the path, by its content."""
    if not path.is_dir():
        with open_regular(path) as file:
            archive = file.read(len(_ZIP)) == _ZIP
        return open_npz(path) if archive else open_exported(path)
    names = sorted(one.name for one in path.iterdir())
    strange = [name for name in names if not is_encodable(name)]
    if strange:
        raise StoreError(f"{path}: the name of {strange[0]!a} is not text of Unicode; rename it")
    found = {end: [path / name for name in names if name.endswith(end)] for end in _ENDS}
    pickled, tensors = found[".pt"], found[".safetensors"]
    if bool(pickled) == bool(tensors):
        packed = [name for name in names if name.endswith(".safetensors.zst")]
        what = (
            "both .pt and .safetensors files" if pickled else "neither .pt nor .safetensors files"
        )
        more = f"; unpack {packed[0]} and the others with zstd -d" if packed else "; name one kind"
        raise StoreError(f"{path}: holds {what}{more}")
    if pickled:
        return open_pt_folder(path, pickled, count_note(len(names) - len(pickled)))
    return open_vllm_folder(path, tensors, layers)


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
            f"assumed: {known.describe()}; if that is wrong, import the states "
            "with --layers and --last-layer"
        )
    if opened.stored_dtype not in ("float16", "float32"):
        notes.append(f"{opened.stored_dtype} states are stored as {opened.dtype}")
    return replace(opened, convention=known, notes=tuple(notes))
