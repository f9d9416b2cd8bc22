"""`dataset.json`, the card in a dataset's folder: what the dataset was made from."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from vsp.errors import DatasetError
from vsp.utils.files import disk_errors, write_json

NAME = "dataset.json"


def write_once(
    folder: Path, card: Mapping[str, Any], write: Callable[[Path], None], otherwise: str
) -> bool:
    """Let `write` fill the folder aside, with the card; False if this very dataset is there.

    Raises DatasetError if something else lies in its place; `otherwise` is what to do then.
    """
    if folder.exists():
        if read_card(folder) != card:
            raise DatasetError(f"{folder}: holds another dataset; {otherwise}")
        return False
    with disk_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as aside:
            made = Path(aside) / "dataset"
            made.mkdir()
            write(made)
            write_json(made / NAME, card)
            made.rename(folder)
    return True


def read_card(folder: Path) -> Any:
    """What the folder's dataset was made from; None where that cannot be told."""
    try:
        return json.loads((folder / NAME).read_bytes())
    except (OSError, ValueError, RecursionError):
        return None


def variants_of(folder: Path) -> tuple[str, ...]:
    """What was done to the dataset that this one comes from, in that order; see VARIANTS."""
    found: list[str] = []
    card = read_card(folder)
    while isinstance(card, dict) and "of_metadata_sha256" in card:
        found.insert(0, str(card.get("variant")))
        card = card.get("of_card")
    return tuple(found)
