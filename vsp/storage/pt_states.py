"""Opens a folder of `.pt` files, one for each row: `{"layers": {i: tensor}, "meta": {…}}`.

Rows are in the order of the file names. `torch.load` reads with `weights_only=True`, after checks of the
file's size and entries. A tensor is `[hidden]` or `[1, hidden]`; `layers` may also be a list.
"""

from __future__ import annotations

import pickle
import struct
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vsp.config import StoreDtype
from vsp.errors import StoreError
from vsp.storage.convention import LayerConvention
from vsp.storage.json_rows import text_of
from vsp.storage.state_rows import StateRows, checked_rows
from vsp.storage.stored_states import StateFile, States, in_blocks, note_without_images
from vsp.utils.reading import open_regular
from vsp.utils.text import format_bytes, format_count, format_ranges, shorten

# Column of the rows → keys in `meta`; if several are there, they must say the same.
_META = {
    "label": ("rel", "relationship", "label"),
    "image": ("image_id", "image", "img_path", "image_path"),
    "id": ("id", "sample_id"),
    "split": ("split",),
    "prompt": ("prompt",),
    "subject": ("subj", "subject"),
    "reference": ("obj", "object", "reference"),
}
_MAX_FILE = 1 << 28  # bytes
_MAX_PICKLE = 1 << 24  # bytes of the part that is not tensors
_MAX_HIDDEN, _MAX_LAYERS = 1 << 24, 10**4
_DTYPES: dict[str, StoreDtype] = {
    "float16": "float16", "float32": "float32", "bfloat16": "float32", "float64": "float32",
}  # fmt: skip
# Raised by torch.load for files that are damaged or hold more than tensors and plain values.
_REFUSED = (
    pickle.UnpicklingError, RuntimeError, ValueError, KeyError, TypeError, IndexError, AttributeError,
    EOFError, OverflowError, MemoryError, AssertionError, struct.error, zipfile.BadZipFile,
    NotImplementedError, ImportError,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Row:
    """A file: its layers by number, and the texts of its row."""

    layers: dict[int, Any]  # tensors [hidden]
    texts: dict[str, str]
    unread: frozenset[str]  # keys of `meta`

    @property
    def form(self) -> tuple[tuple[int, ...], int, str]:
        """Numbers of the layers, size and dtype: the same for all files."""
        first = next(iter(self.layers.values()))
        return tuple(self.layers), first.shape[0], str(first.dtype).removeprefix("torch.")


def open_pt_folder(folder: Path, files: Sequence[Path], notes: Sequence[str]) -> StateFile:
    """Open the files, in this order, as rows. Raises StoreError if one of them does not fit."""
    first = _read(files[0])
    layers, hidden_size, dtype = first.form
    texts: dict[str, list[str]] = {name: [] for name in _META}
    unread: set[str] = set()
    for path in files:
        row = _read_like(path, first, files[0])
        unread |= row.unread
        for name, text in row.texts.items():
            texts[name].append(text)
    said = [f"meta keys that are not read: {', '.join(sorted(unread)[:20])}"] if unread else []
    rows = _rows(folder, files, texts, said)
    return StateFile(
        path=folder,
        kind="pt",
        rows=rows,
        n_layers=len(layers),
        hidden_size=hidden_size,
        dtype=_DTYPES[dtype],
        stored_dtype=dtype,
        convention=LayerConvention(layers, "normed", assumed=True),
        files=tuple(files),
        read_blocks=lambda: in_blocks(_states(files, first)),
        notes=(*notes, *said),
    )


def _rows(
    folder: Path, files: Sequence[Path], texts: dict[str, list[str]], notes: list[str]
) -> StateRows:
    """The rows of the folder; a note is added if images are not named."""
    if not any(texts["id"]):
        texts["id"] = [path.stem for path in files]
    if not all(texts["image"]):
        if any(texts["image"]):
            raise StoreError(f"{folder}: some files name an image in meta, others do not; name all")
        del texts["image"]
        notes.append(note_without_images(len(files)))
    return checked_rows(folder, texts)


def _states(files: Sequence[Path], first: _Row) -> Iterator[States]:
    for path in files:
        tensors = _read_like(path, first, files[0]).layers.values()
        yield np.stack([_array(tensor) for tensor in tensors])


def _array(tensor: Any) -> States:
    import torch

    array: States = (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
    return array


def _read_like(path: Path, first: _Row, first_path: Path) -> _Row:
    """Read a file. Raises StoreError if its states have another form than those of the first."""
    row = _read(path)
    if row.form != first.form:
        layers, size, dtype = row.form
        expected, of_size, of_dtype = first.form
        raise StoreError(
            f"{path}: has layers {format_ranges(layers)} of {dtype} [{size}], but {first_path.name} has "
            f"{format_ranges(expected)} of {of_dtype} [{of_size}]; all files need the same"
        )
    return row


def _read(path: Path) -> _Row:
    values = _loaded(path)
    layers = values.get("layers") if isinstance(values, dict) else None
    if isinstance(layers, (list, tuple)):
        layers = dict(enumerate(layers))
    meta = values.get("meta") if isinstance(values, dict) else None
    if not isinstance(layers, dict) or not isinstance(meta, dict) or not layers:
        raise StoreError(
            f'{path}: is not {{"layers": {{i: tensor}}, "meta": {{…}}}}; save it like that'
        )
    if len(layers) > _MAX_LAYERS:
        raise StoreError(f"{path}: has {len(layers):,} layers, at most {_MAX_LAYERS:,} are read")
    numbered = {_number(path, key): tensor for key, tensor in layers.items()}
    vectors = {number: _vector(path, number, numbered[number]) for number in sorted(numbered)}
    forms = {(vector.shape[0], vector.dtype) for vector in vectors.values()}
    if len(forms) > 1 or len(numbered) < len(layers):
        raise StoreError(f"{path}: its layers have different sizes or dtypes, or equal numbers")
    texts = {name: text_of(meta, keys, str(path)) for name, keys in _META.items()}
    known = {key for keys in _META.values() for key in keys}
    return _Row(
        vectors, texts, frozenset(shorten(str(key), 100) for key in meta if key not in known)
    )


def _number(path: Path, key: Any) -> int:
    """The number of a layer, which may be written as text."""
    if isinstance(key, str) and key.isdecimal() and len(key) < 7:
        key = int(key)
    if type(key) is not int or not 0 <= key < 10**6:
        raise StoreError(f"{path}: layer {shorten(repr(key), 40)} is no number of a layer")
    return key


def _vector(path: Path, number: int, tensor: Any) -> Any:
    """The tensor as `[hidden]`. Raises StoreError if it is no such tensor."""
    import torch

    if isinstance(tensor, torch.Tensor):
        plain = tensor.layout == torch.strided and tensor.device.type == "cpu"
        shape = tuple(tensor.shape)[-1:] if tensor.shape[:-1] in ((), (1,)) else ()
        known = str(tensor.dtype).removeprefix("torch.") in _DTYPES
        if plain and known and shape and 0 < shape[0] <= _MAX_HIDDEN:
            return tensor.detach().reshape(shape)
    what = (
        f"{tensor.dtype} {list(tensor.shape)}"
        if hasattr(tensor, "shape")
        else type(tensor).__name__
    )
    raise StoreError(
        f"{path}: layer {number} is {shorten(what, 100)}, not a tensor of floats [hidden] or [1, hidden]"
    )


def _loaded(path: Path) -> Any:
    """The contents of the file; its tensors are maps of it."""
    import torch

    _check_archive(path)
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except _REFUSED as error:
        why = shorten(str(error).partition("\n")[0], 150)
        raise StoreError(
            f"{path}: is not read ({type(error).__name__}: {why}); save tensors and plain values only"
        ) from None


def _check_archive(path: Path) -> None:
    """Raise StoreError unless the file is an archive as torch.save writes it, without compression."""
    with open_regular(path, _MAX_FILE) as file:
        try:
            entries = zipfile.ZipFile(file).infolist()
        except _REFUSED:
            raise StoreError(
                f"{path}: is not what torch.save writes since version 1.6; save it again"
            ) from None
    for entry in entries:
        pickled = entry.filename.endswith(".pkl") and entry.file_size > _MAX_PICKLE
        if (
            entry.compress_type != zipfile.ZIP_STORED
            or entry.file_size != entry.compress_size
            or pickled
        ):
            raise StoreError(
                f"{path}: its entry {entry.filename!a} of {format_bytes(entry.file_size)} is compressed or "
                "too large, which torch.save does not write"
            )


def count_note(n_other: int) -> list[str]:
    """A note about files of a folder that are not read."""
    return [f"not read: {format_count(n_other, 'other file')} in the folder"] if n_other else []
