"""Paths of a dataset's pictures: inside its folder, or inside a folder that belongs to it.

A record, or a link in a dataset that came from somewhere else, could name any file of this machine.
Further folders belong to a dataset if `dataset.json` declares them: `vsp import` records those of
--images, a variant its source, and a person may write a list `image_folders`. The stores of git-annex
and of a hub's cache belong to the datasets that are checked out beside them. `vsp plan` and `vsp
dataset show` name all of these folders.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from vsp.datasets.provenance import NAME, read_card
from vsp.errors import DatasetError
from vsp.utils.text import format_count

# The record keys that name a picture, or a list of pictures and boxes, and their folder.
PICTURES = {
    "image_filename": "images",
    "subject_mask": "masks",
    "reference_mask": "masks",
    "regions": "masks",
    "depth_filename": "depth",
}
_CACHE_SIZE = 1 << 16  # folders
_MAX_DEPTH = 8  # variants of variants


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
            real = os.path.realpath(path)
            if os.path.lexists(real):
                raise self._outside(key, name, real)
        return path

    @cached_property
    def other_folders(self) -> tuple[Path, ...]:
        """The folders outside the dataset that belong to it and exist, without links, sorted."""
        home = Path(os.path.realpath(self._dataset))
        others = [root for root in self._roots if not root.is_relative_to(home)]
        return tuple(sorted(root for root in others if root.is_dir()))

    def _outside(self, key: str, name: str, real: str) -> DatasetError:
        return DatasetError(
            f"has {key} {name!r}, which is {real}, outside the dataset; copy it into "
            f"{PICTURES[key]}/, or declare a folder above it as an image folder: write "
            f'{{"image_folders": ["DIR"]}} to {self._dataset / NAME}'
        )

    def _lies_in_a_root(self, folder: str) -> bool:
        real = Path(os.path.realpath(folder))
        return any(real.is_relative_to(root) for root in self._roots)

    @cached_property
    def _roots(self) -> frozenset[Path]:
        """The folders that may hold pictures, without links."""
        folders = [self._dataset, *_belonging(self._dataset), *_stores(self._dataset)]
        return frozenset(Path(os.path.realpath(folder)) for folder in folders)


def _belonging(dataset: Path, depth: int = 0) -> Iterator[Path]:
    """The folders that a dataset's card declares, and those of the dataset that it was made from."""
    card = read_card(dataset)
    if not isinstance(card, dict) or depth == _MAX_DEPTH:
        return
    yield from (dataset / folder for folder in _image_folders(dataset, card))
    imported = card.get("images")
    for link in imported if isinstance(imported, dict) else ():
        if link not in ("", ".", "..") and not set("/\0") & set(link):
            yield dataset / "images" / link
    if "of_metadata_sha256" in card:  # a variant, whose links lead to its source
        for folder in sorted(set(PICTURES.values())):
            source = Path(os.path.realpath(dataset / folder)).parent
            if (dataset / folder).is_symlink() and (source / "metadata.json").is_file():
                yield source
                yield from _belonging(source, depth + 1)


def _image_folders(dataset: Path, card: dict[str, Any]) -> list[str]:
    folders = card.get("image_folders", [])
    if not isinstance(folders, list) or not all(isinstance(one, str) for one in folders):
        raise DatasetError(f"{dataset / NAME}: image_folders is no list of folders; write one")
    if any("\0" in folder for folder in folders):
        raise DatasetError(f"{dataset / NAME}: image_folders has a NUL in a folder; remove it")
    return folders


def _stores(dataset: Path) -> Iterator[Path]:
    """Folders that hold the contents of files which a dataset has as links."""
    home = Path(os.path.realpath(dataset))
    for folder in (home, *home.parents):
        yield folder / ".git" / "annex" / "objects"
        if folder.name == "snapshots":  # of a hub's cache
            yield folder.parent / "blobs"


def why_without_images(folder: Path, images: Collection[str]) -> str:
    """Why none of the files `images` of a dataset exists, and what to do; "" if one exists."""
    if any(map(os.path.exists, images)):
        return ""
    home = folder / "images"
    entries = list(home.iterdir()) if home.is_dir() else []
    broken = [path for path in entries if path.is_symlink() and not path.exists()]
    if not home.is_dir():
        what = f"{home}: no such folder"
    elif not entries:
        what = f"{home}: is empty"
    elif broken:
        what = f"{broken[0]}: leads to {broken[0].readlink()}, which is not there"
    else:
        what = f"{next(iter(images))}: no such file, and none of the others is there"
    return (
        f"{what}; the dataset needs {format_count(len(images), 'image')}: put them there, or make the "
        "dataset again (`vsp import` takes their folders with --images)"
    )
