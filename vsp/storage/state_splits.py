"""Splits of imported rows: that of the research project, and those of separate files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vsp.errors import StoreError
from vsp.storage.json_rows import text_of
from vsp.storage.state_rows import StateRows
from vsp.utils.reading import read_bounded, unreadable
from vsp.utils.text import format_count, shorten

_SEED, _TRAIN_SHARE = 42, 0.8  # of the research project
_MAX_FILE = 1 << 25  # bytes
_NAMES = ("train", "val")
_ID_KEYS, _IMAGE_KEYS = ("id",), ("image", "image_id", "img_path", "image_path")


def research_split(rows: StateRows) -> tuple[StateRows, list[str]]:
    """The rows with the split of the research project, and notes about it.

    The first 80 % of a permutation by `RandomState(42)` are train, the others val. It is drawn by row
    and ignores images. So that rows of one image may be on both sides, each row is a group of its own.
    """
    n_rows = len(rows)
    n_train = int(_TRAIN_SHARE * n_rows)
    if not 0 < n_train < n_rows:
        raise StoreError(f"{format_count(n_rows, 'row')}: --split research needs 2 or more")
    order = np.random.RandomState(_SEED).permutation(n_rows)
    split = np.full(n_rows, "val", dtype="<U5")
    split[order[:n_train]] = "train"
    both = _groups_on_both_sides(rows.group, split)
    n_leaked = int((np.isin(rows.group, both) & (split == "val")).sum())
    notes = [
        f"split by row, as in the research project: {n_train:,} train, {n_rows - n_train:,} val"
    ]
    if len(both):
        notes.append(
            f"{format_count(len(both), 'image')} have rows in train and in val, {n_leaked:,} of "
            f"{n_rows - n_train:,} val rows: scores are too high; each row is a group of its own"
        )
    return replace(rows, split=split, group=rows.id), notes


def split_of_files(rows: StateRows, paths: Sequence[Path]) -> tuple[StateRows, list[str]]:
    """The rows with the split that the files train and val name, and notes about it.

    Each file is a list in JSON of ids of rows or of images, or of objects with `id` or `image`. Raises
    StoreError for rows that are in no file or in both, and for images on both sides.
    """
    place = {text: row for row, text in enumerate(rows.id.tolist())}
    images: dict[str, list[int]] = {}
    for row, image in enumerate(rows.image.tolist()):
        images.setdefault(image, []).append(row)
    split, notes = np.full(len(rows), "", dtype="<U5"), []
    for name, path in zip(_NAMES, paths, strict=True):
        n_unknown = 0
        for text in _listed(path):
            chosen = [place[text]] if text in place else images.get(text, []) if text else []
            n_unknown += not chosen
            twice = [row for row in chosen if split[row] not in ("", name)]
            if twice:
                raise StoreError(
                    f"{path}: {shorten(text, 100)!r} is also in {paths[0]}; keep it in one"
                )
            split[chosen] = name
        if n_unknown:
            notes.append(f"{path}: entries that name no row of the file: {n_unknown:,}")
    unnamed = np.flatnonzero(split == "")
    if len(unnamed):
        raise StoreError(
            f"{format_count(len(unnamed), 'row')} in neither {paths[0]} nor {paths[1]}, such as id "
            f"{shorten(str(rows.id[unnamed[0]]), 100)!r}; add them to one"
        )
    both = _groups_on_both_sides(rows.group, split)
    if len(both):
        raise StoreError(
            f"{paths[0]}, {paths[1]}: {format_count(len(both), 'image')} on both sides, such as "
            f"{shorten(str(both[0]), 100)!r}; keep all rows of an image in one file"
        )
    counts = ", ".join(f"{int((split == name).sum()):,} {name}" for name in _NAMES)
    return replace(rows, split=split), [
        f"split of {paths[0].name} and {paths[1].name}: {counts}",
        *notes,
    ]


def _groups_on_both_sides(group: NDArray[np.str_], split: NDArray[np.str_]) -> NDArray[np.str_]:
    return np.intersect1d(group[split == "train"], group[split == "val"])


def _listed(path: Path) -> list[str]:
    """The ids or images that a file lists; "" for an entry without any."""
    try:
        values: Any = json.loads(read_bounded(path, _MAX_FILE))
    except OSError as error:
        raise StoreError(f"{path}: {unreadable(error)}; name a list in JSON") from None
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, list):
        raise StoreError(f"{path}: is no list in JSON; write ids, or objects with id or image")
    return [_named(path, number, value) for number, value in enumerate(values)]


def _named(path: Path, number: int, value: Any) -> str:
    values = value if isinstance(value, dict) else {"id": value}
    where = f"{path}: entry {number}"
    return text_of(values, _ID_KEYS, where) or text_of(values, _IMAGE_KEYS, where)
