"""The texts of the rows in a file of states, checked as they come from a stranger."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from vsp.errors import StoreError
from vsp.utils.text import format_count, is_encodable, shorten

_LONGEST = {"id": 1000, "label": 200, "group": 4000, "image": 4000}  # characters
_SHA256 = re.compile(r"[0-9a-f]{64}")
SPLITS = ("train", "val", "test")


@dataclass(frozen=True, slots=True)
class StateRows:
    """The rows of a file of states, each array [row]."""

    id: NDArray[np.str_]
    label: NDArray[np.str_]
    group: NDArray[np.str_]  # as a rule the id of the image
    split: NDArray[np.str_]  # train, val or test; all empty if the file has no split
    image: NDArray[np.str_]  # the id of the image
    prompt: NDArray[np.str_]  # empty if the file has no prompts, as are the following
    image_sha256: NDArray[np.str_]
    subject: NDArray[np.str_]
    reference: NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.id)


def checked_rows(path: object, texts: Mapping[str, Sequence[str] | NDArray[np.str_]]) -> StateRows:
    """The rows made of these columns; those that are left out follow from the others or are empty.

    `path` is named in errors. Raises StoreError for columns of different lengths, no row, a row without
    a label, ids that are not unique, digests that are none, a text that is too long or cannot be encoded, and splits other than
    train, val and test.
    """
    n_rows = len(texts["label"])
    if not n_rows:
        raise StoreError(f"{path}: holds no rows; name a file with some")
    lengths = {name: len(column) for name, column in texts.items()}
    for name, length in lengths.items():
        if length != n_rows:
            raise StoreError(f"{path}: has {length:,} values of {name}, but {n_rows:,} of label")
    columns = {name: np.asarray(column, dtype=str) for name, column in texts.items()}
    blank = np.full(n_rows, "")
    columns.setdefault("id", np.arange(n_rows).astype(str))
    columns.setdefault("image", columns.get("group", blank))
    if "group" not in columns:
        given = bool((columns["image"] != "").all())
        columns["group"] = columns["image"] if given else columns["id"]
    rows = StateRows(**{one.name: columns.get(one.name, blank) for one in fields(StateRows)})
    _check_texts(path, rows)
    _check_ids(path, rows.id)
    _check_digests(path, rows.image_sha256)
    _check_split(path, rows.split)
    return rows


def _check_texts(path: object, rows: StateRows) -> None:
    for one in fields(StateRows):
        values = getattr(rows, one.name)
        longest = _LONGEST.get(one.name)
        for row, value in enumerate(values.tolist()):
            if not is_encodable(value):
                raise StoreError(
                    f"{path}: {one.name} of row {row} is no text of Unicode; save it again"
                )
            if longest is not None and len(value) > longest:
                raise StoreError(
                    f"{path}: {one.name} of row {row} has {len(value):,} characters, at most {longest:,} "
                    "are read"
                )
    for name in ("label", "id", "group"):
        empty = np.flatnonzero(getattr(rows, name) == "")
        if len(empty):
            raise StoreError(
                f"{path}: {format_count(len(empty), 'row')} without {name}, first row {empty[0]}; give "
                "every row one"
            )


def _check_ids(path: object, ids: NDArray[np.str_]) -> None:
    twice, n = Counter(ids.tolist()).most_common(1)[0]
    if n > 1:
        raise StoreError(f"{path}: id {shorten(twice, 100)!r} has {n} rows; ids must be unique")


def _check_digests(path: object, digests: NDArray[np.str_]) -> None:
    for row, digest in enumerate(digests.tolist()):
        if digest and not _SHA256.fullmatch(digest):
            raise StoreError(
                f"{path}: image_sha256 of row {row} is {shorten(digest, 100)!r}; write 64 digits from "
                "0-9 and a-f, or leave it empty"
            )


def _check_split(path: object, split: NDArray[np.str_]) -> None:
    names = set(np.unique(split).tolist())
    if names == {""}:
        return
    wrong = sorted(names - set(SPLITS))
    if wrong:
        raise StoreError(
            f"{path}: split {shorten(wrong[0], 100)!r} is none of {', '.join(SPLITS)}; all rows or none "
            "have one"
        )
