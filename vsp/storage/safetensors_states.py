"""Opens `.safetensors` files of states: those of vLLM, and those of `vsp export`.

vLLM writes a file for each prompt, with `hidden_states [token, layer, hidden]` and `token_ids [token]`
(https://docs.vllm.ai/en/latest/features/speculative_decoding/extract_hidden_states/). The state of the
last token is read. Neither layer numbers nor labels are in the files: `rows.jsonl` in the same folder has
a line for each row, with the file's name, the label and more.

`vsp export` writes a tensor `layer.N [sample, hidden]` for each layer, and the rows beside the file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from vsp.config import StoreDtype
from vsp.errors import StoreError
from vsp.storage.convention import LayerConvention
from vsp.storage.json_rows import read_json_rows, text_of
from vsp.storage.state_card import card_convention
from vsp.storage.state_rows import StateRows, checked_rows
from vsp.storage.stored_states import (
    BLOCK,
    MAX_ROW,
    StateFile,
    States,
    in_blocks,
    note_without_images,
)
from vsp.utils.files import sha256
from vsp.utils.reading import open_regular
from vsp.utils.safetensors_header import FileHeader, HeaderError, TensorEntry, read_file_header
from vsp.utils.text import shorten

ROWS = "rows.jsonl"  # of a folder of vLLM's files
ROWS_SUFFIX = ".rows.jsonl"  # of the rows beside an exported file
ROWS_SHA256 = "rows_sha256"  # in the card of such a file
CARD = "vsp"  # key of the card in the metadata of an exported file
_DTYPES: dict[str, tuple[StoreDtype, str]] = {  # dtype of the format → dtype in memory, name
    "F16": ("float16", "float16"), "F32": ("float32", "float32"), "BF16": ("float32", "bfloat16"),
}  # fmt: skip
_KEYS = {
    "label": ("label",), "image": ("image", "image_id"), "id": ("id",), "split": ("split",),
    "group": ("group",), "prompt": ("prompt",), "image_sha256": ("image_sha256",),
    "subject": ("subject",), "reference": ("reference",),
}  # fmt: skip
_LAYER = re.compile(r"layer\.(\d{1,6})")


def rows_path(path: Path) -> Path:
    """The file with the rows of an exported `.safetensors` file, beside it."""
    return path.with_name(path.name.removesuffix(".safetensors") + ROWS_SUFFIX)


def open_vllm_folder(
    folder: Path, files: Sequence[Path], layers: Sequence[int] | None
) -> StateFile:
    """Open a folder of vLLM's files; rows are in the order of its `rows.jsonl`.

    `layers` are those that vLLM was asked for, which its files do not say. Raises StoreError if
    something is missing or a file does not fit.
    """
    if layers is None:
        raise StoreError(
            f"{folder}: vLLM's files do not say which layers they hold; use `vsp import states` with "
            "--layers and the eagle_aux_hidden_state_layer_ids that they were made with"
        )
    table, rows, notes = _vllm_rows(folder, files)
    found = [_vllm_entry(path) for path in table]
    first = found[0]
    for path, entry in zip(table, found, strict=True):
        if entry.shape[1:] != first.shape[1:] or entry.dtype != first.dtype:
            raise StoreError(
                f"{path}: hidden_states is {entry.dtype} {list(entry.shape)}, but {table[0].name} has "
                f"{first.dtype} {list(first.shape)}; all files need the same layers"
            )
    dtype, stored = _DTYPES[first.dtype]
    _, n_layers, hidden_size = first.shape
    return StateFile(
        path=folder,
        kind="vllm",
        rows=rows,
        n_layers=n_layers,
        hidden_size=hidden_size,
        dtype=dtype,
        stored_dtype=stored,
        convention=LayerConvention(tuple(range(n_layers)), "raw"),
        files=(*table, folder / ROWS),
        read_blocks=lambda: in_blocks(_last_tokens(table, found)),
        notes=notes,
    )


def _vllm_rows(
    folder: Path, files: Sequence[Path]
) -> tuple[list[Path], StateRows, tuple[str, ...]]:
    """The file and the texts of each row."""
    path = folder / ROWS
    if not path.is_file():
        raise StoreError(
            f"{path}: no such file; write a line of JSON for each row, with file and label, and id, image, "
            "split, prompt if they are known"
        )
    texts: dict[str, list[str]] = {name: [] for name in _KEYS}
    table = []
    for number, values in enumerate(read_json_rows(path), start=1):
        where = f"{path}: line {number}"
        name = text_of(values, ("file",), where)
        if "/" in name or folder / name not in files:
            raise StoreError(
                f"{where}: {shorten(name, 200)!r} is no .safetensors file of this folder"
            )
        table.append(folder / name)
        for column, keys in _KEYS.items():
            texts[column].append(text_of(values, keys, where))
    notes = ["the state of the last token of each file is read"]
    n_unnamed = len(set(files) - set(table))
    if n_unnamed:
        notes.append(f"{n_unnamed:,} .safetensors files are in no line of {ROWS} and not read")
    if not any(texts["image"]):
        notes.append(note_without_images(len(table)))
    if not any(texts["id"]):
        texts["id"] = [one.name.removesuffix(".safetensors") for one in table]
    given = {name: column for name, column in texts.items() if any(column) or name == "label"}
    return table, checked_rows(path, given), tuple(notes)


def _vllm_entry(path: Path) -> TensorEntry:
    """The states in one of vLLM's files. Raises StoreError if it does not hold what vLLM writes."""
    tensors = _header(path).tensors
    states, tokens = tensors.get("hidden_states"), tensors.get("token_ids")
    if states is None or tokens is None:
        raise StoreError(
            f"{path}: has {', '.join(sorted(tensors)[:5]) or 'no tensors'}; vLLM writes hidden_states "
            "[token, layer, hidden] and token_ids [token]"
        )
    shape = states.shape
    if len(shape) != 3 or 0 in shape or states.dtype not in _DTYPES or tokens.shape != shape[:1]:
        raise StoreError(
            f"{path}: hidden_states is {states.dtype} {list(shape)} for {list(tokens.shape)} token_ids; "
            "vLLM writes floats [token, layer, hidden]"
        )
    if prod(shape[1:]) * 4 > MAX_ROW:
        raise StoreError(f"{path}: a token of hidden_states {list(shape)} is too large to read")
    return states


def _last_tokens(files: Sequence[Path], entries: Sequence[TensorEntry]) -> Iterator[States]:
    for path, entry in zip(files, entries, strict=True):
        shape = entry.shape[1:]
        n_bytes = (entry.end - entry.begin) // entry.shape[0]
        with open_regular(path) as file:
            file.seek(entry.end - n_bytes)
            data = file.read(n_bytes)
        if len(data) < n_bytes:
            raise StoreError(f"{path}: was changed while it was read; start again")
        yield _floats(data, entry.dtype).reshape(shape)


def _floats(data: bytes, dtype: str) -> States:
    """The numbers of little-endian bytes; bfloat16 becomes float32."""
    if dtype == "BF16":
        return (np.frombuffer(data, "<u2").astype("<u4") << 16).view("<f4")
    return np.frombuffer(data, {"F16": "<f2", "F32": "<f4"}[dtype])


def open_exported(path: Path) -> StateFile:
    """Open a file of `vsp export --to safetensors`. Raises StoreError if it is no such file."""
    header = _header(path)
    try:
        card = json.loads(header.metadata.get(CARD, "null"))
    except (ValueError, RecursionError):
        card = None
    if not isinstance(card, dict):
        raise StoreError(
            f"{path}: is no file of `vsp export`; for files of vLLM, name their folder"
        )
    entries = _layers(path, header.tensors)
    first = next(iter(entries.values()))
    n_rows, hidden_size = first.shape
    rows, unread = _exported_rows(path, n_rows, card.pop(ROWS_SHA256, None))
    layers = tuple(entries)
    convention = card_convention({**card, "layers": list(layers)}, len(layers))
    shape = len(layers), n_rows, hidden_size
    dtype, stored = _DTYPES[first.dtype]
    by_layer = np.memmap(path, dtype, "r", first.begin, shape)
    return StateFile(
        path=path,
        kind="safetensors",
        rows=rows,
        n_layers=len(layers),
        hidden_size=hidden_size,
        dtype=dtype,
        stored_dtype=stored,
        convention=convention or LayerConvention(layers, "unknown", assumed=True),
        files=(path, rows_path(path)),
        read_blocks=partial(_row_blocks, path, first.begin, shape, dtype),
        mapped=by_layer.swapaxes(0, 1),
        card=card,
        notes=(f"keys of rows that are not read: {', '.join(sorted(unread)[:20])}",)
        if unread
        else (),
    )


def _layers(path: Path, tensors: Mapping[str, TensorEntry]) -> dict[int, TensorEntry]:
    """The tensors `layer.N [sample, hidden]` by N, in the order of the file, which is that of N."""
    placed = sorted((entry.begin, name, entry) for name, entry in tensors.items())
    named = [(_LAYER.fullmatch(name), entry) for _, name, entry in placed]
    layers = {int(match[1]): entry for match, entry in named if match}
    forms = {(entry.dtype, entry.shape) for entry in layers.values()}
    dtype, shape = next(iter(forms), ("", ()))
    usual = dtype in _DTYPES and dtype != "BF16" and len(shape) == 2 and 0 not in shape
    if len(layers) < len(tensors) or len(forms) != 1 or not usual or list(layers) != sorted(layers):
        raise StoreError(f"{path}: its tensors are not layer.N [sample, hidden]; export it again")
    if len(layers) * shape[1] * 4 > MAX_ROW:
        raise StoreError(
            f"{path}: a row of its {len(layers)} layers of {shape[1]} is too large to read"
        )
    return layers


def _exported_rows(path: Path, n_rows: int, digest: object) -> tuple[StateRows, set[str]]:
    """The rows beside the file, and the keys that are not read.

    Raises StoreError if they are not those that were written with the file.
    """
    beside = rows_path(path)
    with open_regular(beside) as file:
        if sha256(file) != digest:
            raise StoreError(
                f"{beside}: is not the file that {path.name} was written with; export both again"
            )
    texts: dict[str, list[str]] = {name: [] for name in _KEYS}
    unread: set[str] = set()
    for number, values in enumerate(read_json_rows(beside), start=1):
        unread |= values.keys() - _KEYS.keys()
        for column, keys in _KEYS.items():
            texts[column].append(text_of(values, keys, f"{beside}: line {number}"))
    if len(texts["label"]) != n_rows:
        raise StoreError(f"{beside}: has {len(texts['label']):,} rows, {path.name} has {n_rows:,}")
    return checked_rows(beside, texts), unread


def _row_blocks(
    path: Path, start: int, shape: tuple[int, int, int], dtype: str
) -> Iterator[States]:
    """Rows of all layers, read from a file `[layer, sample, hidden]` that begins at byte `start`.

    A map would keep all pages that were read in memory.
    """
    n_layers, n_rows, hidden_size = shape
    row_bytes = hidden_size * np.dtype(dtype).itemsize
    step = max(1, BLOCK // (n_layers * row_bytes))
    with open_regular(path) as file:
        for first in range(0, n_rows, step):
            n = min(step, n_rows - first)
            data = []
            for layer in range(n_layers):
                file.seek(start + (layer * n_rows + first) * row_bytes)
                data.append(file.read(n * row_bytes))
            if any(len(part) < n * row_bytes for part in data):
                raise StoreError(f"{path}: was changed while it was read; start again")
            layers = np.frombuffer(b"".join(data), dtype).reshape(n_layers, n, hidden_size)
            yield layers.swapaxes(0, 1)


def _header(path: Path) -> FileHeader:
    with open_regular(path) as file:
        try:
            header = read_file_header(file)
        except HeaderError as error:
            raise StoreError(f"{path}: its header {error}; write it again") from None
    if header is None:
        raise StoreError(f"{path}: is no whole .safetensors file; copy or write it again")
    return header


def metadata_text(card: Mapping[str, Any], rows_sha256: str) -> dict[str, str]:
    """The metadata of an exported file; the digest is that of the rows beside it."""
    return {CARD: json.dumps({**card, ROWS_SHA256: rows_sha256}, ensure_ascii=False)}
