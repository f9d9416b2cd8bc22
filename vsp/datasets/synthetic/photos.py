"""Photographs of one's own behind the shapes of a synthetic world."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps

from vsp.errors import ConfigError
from vsp.utils.images import open_rgb


def find_photos(folder: Path) -> list[Path]:
    """The files of the folder in the order of their names, without hidden files.

    Raises ConfigError if there are none.
    """
    files = sorted(folder.iterdir()) if folder.is_dir() else []
    photos = [path for path in files if path.is_file() and not path.name.startswith(".")]
    if not photos:
        raise ConfigError(f"photos {str(folder)!r}: no files there; name a folder of photographs")
    return photos


def photos_card(photos: Sequence[Path]) -> dict[str, Any]:
    """Number and SHA-256 of the files. Raises DatasetError, naming the file, if one is no image."""
    digest = hashlib.sha256()
    for path in photos:
        digest.update(open_rgb(path)[1].encode())
    return {"n_photos": len(photos), "photos_sha256": digest.hexdigest()}


def put_on_photo(image: Image.Image, path: Path) -> Image.Image:
    """The photograph, cropped to the size of `image`, under its shapes and clutter.

    `image` is a palette picture whose background has the number 0.
    """
    photo = _fitted(path, image.size).copy()
    shown = image.point(lambda number: 255 if number else 0, "L")
    photo.paste(image.convert("RGB"), mask=shown)
    return photo


@lru_cache(maxsize=32)
def _fitted(path: Path, size: tuple[int, int]) -> Image.Image:
    """The photograph, cropped to this size; a few photographs lie behind many pictures."""
    return ImageOps.fit(open_rgb(path)[0], size)
