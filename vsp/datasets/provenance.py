"""`dataset.json`, the card in a dataset's folder, records what the dataset was made from."""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from vsp.errors import DatasetError
from vsp.utils.files import disk_errors, temporary_folder, write_json
from vsp.utils.reading import read_json

NAME = "dataset.json"


def write_once(
    folder: Path, card: Mapping[str, Any], write: Callable[[Path], None], advice: str
) -> bool:
    """Build a dataset in a temporary folder, then rename it. False if `folder` has this card.

    Two commands may write the same folder at the same time: the first to finish wins, and the other
    finds it as if it had been there before. Raises DatasetError if `folder` holds anything else;
    `advice` tells the user what to do then.
    """
    if folder.exists():
        _check_same(folder, card, advice)
        return False
    with disk_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with temporary_folder(folder.parent, f".{folder.name}.") as temporary:
            dataset = temporary / "dataset"
            dataset.mkdir()
            write(dataset)
            write_json(dataset / NAME, card)
            if not _renamed(dataset, folder):
                _check_same(folder, card, advice)
                return False
    return True


def _check_same(folder: Path, card: Mapping[str, Any], advice: str) -> None:
    if read_card(folder) != card:
        raise DatasetError(f"{folder}: holds another dataset; {advice}")


def _renamed(dataset: Path, folder: Path) -> bool:
    """Rename a folder; False if another command has put a folder or file in its place meanwhile."""
    try:
        dataset.rename(folder)
    except OSError as error:
        if error.errno not in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
            raise
        return False
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
