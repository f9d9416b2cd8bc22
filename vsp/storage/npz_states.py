"""Opens a `.npz` with `representations [sample, layer, hidden]`, `labels` and `image_ids`.

These are the keys of the research project. `vsp export` adds others: ids, groups, splits, prompts,
image_sha256, subjects, references, and its card.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from vsp.config import StoreDtype
from vsp.errors import StoreError
from vsp.storage.convention import LayerConvention
from vsp.storage.npz import ArraysError
from vsp.storage.npz_entries import Entry, NpzFile
from vsp.storage.state_card import card_convention
from vsp.storage.state_rows import StateRows, checked_rows
from vsp.storage.stored_states import MAX_ROW, StateFile, States, note_without_images
from vsp.utils.reading import open_regular, unreadable
from vsp.utils.text import format_bytes

STATES, CARD = "representations", "card"
# Column of the rows → key in the file.
KEYS = {
    "label": "labels",
    "image": "image_ids",
    "id": "ids",
    "group": "groups",
    "split": "splits",
    "prompt": "prompts",
    "image_sha256": "image_sha256",
    "subject": "subjects",
    "reference": "references",
}
_REQUIRED = (STATES, "labels")
_DTYPES: dict[str, StoreDtype] = {"float16": "float16", "float32": "float32", "float64": "float32"}


def open_npz(path: Path) -> StateFile:
    """Open the file. Raises StoreError if it is not such a file, OSError if it cannot be read."""
    with open_regular(path) as file:
        try:
            return _opened(path, NpzFile(file, path))
        except ArraysError as error:
            raise StoreError(f"{path}: {error}") from None


def _opened(path: Path, npz: NpzFile) -> StateFile:
    for name in _REQUIRED:
        if name not in npz.entries:
            has = ", ".join(list(npz.entries)[:10]) or "no arrays"
            raise StoreError(
                f"{path}: has no array {name!r}, it has {has}; states need "
                "representations [sample, layer, hidden], labels and image_ids"
            )
    entry = npz.entries[STATES]
    _check_states(path, entry)
    n_rows, n_layers, hidden_size = entry.shape
    rows = _rows(path, npz, n_rows)
    card = _card(path, npz)
    convention = card_convention(card, n_layers) or LayerConvention(
        tuple(range(n_layers)), "normed", assumed=True
    )
    notes = [] if "image_ids" in npz.entries else [note_without_images(n_rows)]
    unread = sorted(set(npz.entries) - {STATES, CARD, *KEYS.values()})
    if unread:
        notes.append(f"arrays that are not read: {', '.join(unread[:20])}")
    stored = entry.dtype.newbyteorder("=").name
    return StateFile(
        path=path,
        kind="npz",
        rows=rows,
        n_layers=n_layers,
        hidden_size=hidden_size,
        dtype=_DTYPES[stored],
        stored_dtype=stored,
        convention=convention,
        files=(path,),
        read_blocks=partial(_blocks, path, entry.shape),
        mapped=npz.mapped(entry),
        card=card,
        notes=tuple(notes),
    )


def _blocks(path: Path, shape: tuple[int, ...]) -> Iterator[States]:
    """The states in blocks of rows; opens the file again, so that nobody has to close it."""
    try:
        with open_regular(path) as file:
            npz = NpzFile(file, path)
            entry = npz.entries.get(STATES)
            if entry is None or entry.shape != shape:
                raise StoreError(f"{path}: was changed while it was read; start again")
            yield from npz.blocks(entry)
    except ArraysError as error:
        raise StoreError(f"{path}: {error}") from None
    except OSError as error:
        raise StoreError(f"{path}: {unreadable(error)}; start again") from None


def _check_states(path: Path, entry: Entry) -> None:
    if len(entry.shape) != 3 or entry.dtype.newbyteorder("=").name not in _DTYPES:
        raise StoreError(
            f"{path}: {STATES} is {str(entry.dtype)[:40]} of shape {list(entry.shape)[:8]}; states are "
            "float16, float32 or float64 [sample, layer, hidden]"
        )
    if 0 in entry.shape:
        raise StoreError(f"{path}: {STATES} of shape {list(entry.shape)} holds no states")
    if entry.row_bytes > MAX_ROW:
        raise StoreError(
            f"{path}: a row of {STATES} takes {format_bytes(entry.row_bytes)}, at most "
            f"{format_bytes(MAX_ROW)} are read"
        )


def _rows(path: Path, npz: NpzFile, n_rows: int) -> StateRows:
    texts = {column: npz.texts(key) for column, key in KEYS.items() if key in npz.entries}
    n_labels = len(texts["label"])
    if n_labels != n_rows:
        raise StoreError(f"{path}: has {n_labels:,} labels for {n_rows:,} rows of {STATES}")
    return checked_rows(path, texts)


def _card(path: Path, npz: NpzFile) -> dict[str, Any] | None:
    """What `vsp export` wrote about the origin; None if the file has no card."""
    if CARD not in npz.entries:
        return None
    texts = npz.texts(CARD)
    try:
        card = json.loads(str(texts[0])) if len(texts) == 1 else None
    except (ValueError, RecursionError):
        card = None
    if not isinstance(card, dict):
        raise StoreError(f"{path}: its card is not what `vsp export` writes; export it again")
    return card
