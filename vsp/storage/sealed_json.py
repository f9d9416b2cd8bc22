"""JSON files of figures, with a format number and the SHA-256 of the values, which detects edits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from vsp.errors import RunError
from vsp.utils.files import json_matches, json_sha256, write_json
from vsp.utils.reading import read_json, unreadable

T = TypeVar("T")


def write_sealed(path: Path, file_format: int, values: Mapping[str, Any]) -> None:
    write_json(path, {"format": file_format, **values, "sha256": json_sha256(values)})


def read_sealed(
    path: Path, file_format: int, what: str, again: str, parse: Callable[[dict[str, Any]], T]
) -> T | None:
    """What `parse` makes of the values of a file; None if there is no file.

    `what` names that in the message, which ends with the advice `again`. Raises RunError if the file
    cannot be read, has another format, was edited or holds something else.
    """
    try:
        values = read_json(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise RunError(f"{path}: {unreadable(error)}; {again}") from None
    except (ValueError, RecursionError) as error:
        raise RunError(f"{path}: is not JSON ({error}); {again}") from None
    if not isinstance(values, dict) or values.pop("format", None) != file_format:
        raise RunError(f"{path}: has another format than this vsp reads; {again}")
    if not json_matches(values, values.pop("sha256", None)):
        raise RunError(f"{path}: was edited; {again}")
    try:
        return parse(values)
    except (AttributeError, LookupError, OverflowError, TypeError, ValueError):
        raise RunError(f"{path}: does not hold {what}; {again}") from None


def listed(values: Any) -> Any:
    """An array as nested lists of numbers; null where it is NaN."""
    if isinstance(values, np.ndarray):
        return [listed(one) for one in values]
    return None if np.isnan(values) else float(values)
