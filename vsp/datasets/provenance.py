"""`dataset.json`, the card in a dataset's folder, records what the dataset was made from."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from vsp.errors import DatasetError
from vsp.utils.files import disk_errors, write_json
from vsp.utils.reading import read_json

NAME = "dataset.json"


def write_once(
    folder: Path, card: Mapping[str, Any], write: Callable[[Path], None], advice: str
) -> bool:
    """Build a dataset in a temporary folder, then rename it. False if `folder` has this card.

    Raises DatasetError if `folder` holds anything else; `advice` tells the user what to do then.
    """
    if folder.exists():
        if read_card(folder) != card:
            raise DatasetError(f"{folder}: holds another dataset; {advice}")
        return False
    with disk_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as temporary:
            dataset = Path(temporary) / "dataset"
            dataset.mkdir()
            write(dataset)
            write_json(dataset / NAME, card)
            dataset.rename(folder)
    return True


def read_card(folder: Path) -> Any:
    """The card of a dataset folder; None if there is no readable card."""
    try:
        return read_json(folder / NAME)
    except (OSError, ValueError, RecursionError):
        return None


def variants_of(folder: Path) -> tuple[str, ...]:
    """The variants that were applied to the original dataset, in order; see VARIANTS."""
    variants: list[str] = []
    card = read_card(folder)
    while isinstance(card, dict) and "of_metadata_sha256" in card:
        variants.insert(0, str(card.get("variant")))
        card = card.get("of_card")
    return tuple(variants)
