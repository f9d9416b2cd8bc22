"""Paths of a dataset's pictures: inside its folder, or inside an image folder that it declares.

A record, or a link in a dataset that came from somewhere else, could name any file of this machine.
`dataset.json` declares further folders: `vsp import` records those given with --images, a variant
records its source, and a dataset written by hand has a list `image_folders`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from vsp.datasets.provenance import NAME, read_card
from vsp.errors import DatasetError
from vsp.utils.files import sha256
from vsp.utils.reading import open_regular

# The record keys that name a picture, and the folder of that picture.
PICTURES = {
    "image_filename": "images",
    "subject_mask": "masks",
    "reference_mask": "masks",
    "depth_filename": "depth",
}
_CACHE_SIZE = 1 << 16  # folders


class PicturePaths:
    """Gives the paths of a dataset's pictures, after a check of where they lie."""

    def __init__(self, dataset: Path) -> None:
        self._dataset = dataset.absolute()
        self._is_allowed = lru_cache(_CACHE_SIZE)(self._lies_in_a_root)

    def path(self, key: str, name: str) -> str:
        """The absolute path of the picture that a record names under `key`; links in it are kept.

        Raises DatasetError if the picture lies in none of the dataset's folders, after all links.
        """
        if "\0" in name:
            raise DatasetError(f"has {key} {name!r}, which contains a NUL; give it a file name")
        path = os.path.abspath(self._dataset / PICTURES[key] / name)  # noqa: PTH100 - keeps links
        # Most pictures are no links, and folders have many pictures: one check for each folder.
        file = os.path.realpath(path) if os.path.islink(path) else path  # noqa: PTH114
        if not self._is_allowed(os.path.dirname(file)):  # noqa: PTH120
            raise self._outside(key, name, os.path.realpath(path))
        return path

    def _outside(self, key: str, name: str, real: str) -> DatasetError:
        folder = os.path.dirname(real)  # noqa: PTH120
        return DatasetError(
            f"has {key} {name!r}, which is {real}, outside the dataset; copy it into "
            f'{PICTURES[key]}/, or declare its folder with "image_folders": ["{folder}"] in '
            f"{self._dataset / NAME}"
        )

    def _lies_in_a_root(self, folder: str) -> bool:
        real = Path(os.path.realpath(folder))
        return any(real.is_relative_to(root) for root in self._roots)

    @cached_property
    def _roots(self) -> frozenset[Path]:
        """The folders that may hold pictures, without links."""
        card = read_card(self._dataset)
        folders = {self._dataset, *_declared(card)}
        for source in _sources(self._dataset, card):
            folders |= {source, *_declared(read_card(source))}
        return frozenset(Path(os.path.realpath(folder)) for folder in folders)


def _declared(card: Any) -> Iterator[Path]:
    """The image folders that a card declares, itself or for the dataset that it was made from."""
    for one in _cards(card):
        listed, imported = one.get("image_folders"), one.get("images")
        folders = list(listed) if isinstance(listed, list) else []
        if isinstance(imported, dict):
            folders += [
                entry.get("folder") for entry in imported.values() if isinstance(entry, dict)
            ]
        yield from _absolute(folders)


def _sources(dataset: Path, card: Any) -> Iterator[Path]:
    """The folders of the datasets that a variant was made from: those with the right records.

    A link of a variant is relative, so that both datasets can be moved together; then its card
    names the former place.
    """
    links = [dataset / name for name in sorted(set(PICTURES.values()))]
    linked = {Path(os.path.realpath(link)).parent for link in links if link.is_symlink()}
    named = set(_absolute(one.get("of") for one in _cards(card)))
    digests = {one["of_metadata_sha256"] for one in _cards(card) if _is_variant(one)}
    for source in sorted(linked | named) if digests else ():
        if _digest(source) in digests:
            yield source


def _cards(card: Any) -> Iterator[dict[str, Any]]:
    """A card and those of the datasets that it was made from."""
    while isinstance(card, dict):
        yield card
        card = card.get("of_card")


def _is_variant(card: dict[str, Any]) -> bool:
    return isinstance(card.get("of_metadata_sha256"), str)


def _absolute(folders: Iterable[Any]) -> Iterator[Path]:
    for folder in folders:
        if isinstance(folder, str) and "\0" not in folder and Path(folder).is_absolute():
            yield Path(folder)


def _digest(dataset: Path) -> str:
    try:
        with open_regular(dataset / "metadata.json") as file:
            return sha256(file)
    except OSError:
        return "(none)"
