"""Rows as lines of JSON, from a file that may come from a stranger."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from vsp.errors import StoreError
from vsp.utils.reading import open_regular

_MAX_FILE, _MAX_LINE = 1 << 28, 1 << 20  # bytes
MAX_ROWS = 10**7


def read_json_rows(path: Path) -> Iterator[dict[str, Any]]:
    """The object on each line. Raises StoreError for anything else, OSError as `open_regular` does."""
    with open_regular(path, _MAX_FILE) as file:
        number = 0
        while line := file.readline(_MAX_LINE + 1):
            number += 1
            try:
                values = json.loads(line) if len(line) <= _MAX_LINE else None
            except (ValueError, RecursionError):
                values = None
            if not isinstance(values, dict) or number > MAX_ROWS:
                raise StoreError(
                    f"{path}: line {number} is no object of JSON of at most {_MAX_LINE:,} bytes; write one "
                    "for each row"
                )
            yield values


def text_of(values: Mapping[str, Any], keys: tuple[str, ...], where: str) -> str:
    """The text, or whole number as text, under one of `keys`; "" if none is there.

    Raises StoreError for a value of another type, and for keys that say different things.
    """
    found = {key: values[key] for key in keys if values.get(key) is not None}
    for key, value in found.items():
        if not isinstance(value, (str, int)) or isinstance(value, bool):
            raise StoreError(f"{where}: {key} is a {type(value).__name__}; write text")
    texts = {key: str(value) for key, value in found.items()}
    if len(set(texts.values())) > 1:
        raise StoreError(f"{where}: {' and '.join(texts)} say different things; keep one of them")
    return next(iter(texts.values()), "")
