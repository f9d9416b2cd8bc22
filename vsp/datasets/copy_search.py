"""Opens the images of a dataset, and finds the copies among them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

from vsp.datasets.image_copies import CopyFinder, ImageCopies, Signature, signature
from vsp.errors import DatasetError
from vsp.utils.images import open_rgb
from vsp.utils.progress import progress

_IMAGES_AT_ONCE = 1024  # submitted to the threads together


def find_copies(paths: Mapping[str, str]) -> tuple[ImageCopies, list[str]]:
    """The copies among images, name → path, and the problems of images that cannot be read."""
    names, problems = list(paths), []
    with (
        CopyFinder() as finder,
        ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool,
        progress("check", "images", len(names)) as advance,
    ):
        for start in range(0, len(names), _IMAGES_AT_ONCE):
            some = names[start : start + _IMAGES_AT_ONCE]
            opened = pool.map(_open, (paths[name] for name in some))
            for name, image in zip(some, opened, strict=True):
                if isinstance(image, str):
                    problems.append(image)
                else:
                    finder.add(name, *image)
                advance(1)
        return finder.find(), problems


def _open(path: str) -> tuple[str, Signature] | str:
    """The SHA-256 of the file and the signature, or why the image cannot be read."""
    try:
        image, digest = open_rgb(path)
    except DatasetError as error:
        return str(error)
    return digest, signature(image)
