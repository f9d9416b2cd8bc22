"""Find the image of each picture in the image folders, and open it if the user asks for it."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from joblib import Parallel, delayed

from vsp.datasets.image_copies import Signature, signature
from vsp.datasets.importers.annotations import Picture
from vsp.datasets.importers.copied_images import CopiedImages
from vsp.datasets.importers.image_index import ImageFile, ImageFolders
from vsp.datasets.importers.kept_rows import image_key
from vsp.datasets.importers.row_records import row_label
from vsp.datasets.relations import Relations
from vsp.errors import DatasetError
from vsp.utils.images import open_rgb
from vsp.utils.text import format_count


@dataclass(frozen=True, slots=True)
class CheckedPicture:
    """A picture with the labels of its rows and its image file."""

    picture: Picture
    labels: Sequence[str]  # one per relation; "" if the row has no label
    file: ImageFile | None = None  # None: not found, or not needed because no row has a label
    size: tuple[int, int] | None = None  # width and height of an opened image
    flags: tuple[str, ...] = ()  # flags of the image, which all its rows get
    problem: str = ""  # why the image cannot be read


@dataclass(frozen=True, slots=True)
class _Opened:
    """An image that was decoded."""

    size: tuple[int, int]
    file_sha256: str
    signature: Signature


class ImageChecks:
    """Checks the images of pictures, and counts the problems for notes to the user.

    `copies` takes the opened images.
    """

    def __init__(
        self,
        folders: ImageFolders,
        relations: Relations,
        open_images: bool,
        copies: CopiedImages,
    ) -> None:
        self._folders = folders
        self._relations = relations
        self._open_images = open_images
        self._copies = copies
        self._opened, self._missing = _Distinct(), _Distinct()
        self._inexact, self._damaged = _Distinct(), _Distinct()

    def check(self, pictures: Sequence[Picture], parallel: Parallel) -> Iterator[CheckedPicture]:
        """Check the pictures in order; images of pictures without a label are not looked up."""
        labels = [
            [row_label(relation, self._relations) for relation in picture.relations]
            for picture in pictures
        ]
        files = [
            self._folders.find(picture.image) if any(picture_labels) else None
            for picture, picture_labels in zip(pictures, labels, strict=True)
        ]
        images = self._images(files, parallel)
        for picture, picture_labels, file, image in zip(
            pictures, labels, files, images, strict=True
        ):
            if any(picture_labels):
                flags = self._flags(picture.image, file, image)
                size = None
                if isinstance(image, _Opened):
                    size = image.size
                    self._copies.add(picture, image.file_sha256, image.signature)
                problem = image if isinstance(image, str) else ""
                yield CheckedPicture(picture, picture_labels, file, size, flags, problem)
            else:
                yield CheckedPicture(picture, picture_labels)

    def _images(
        self, files: Sequence[ImageFile | None], parallel: Parallel
    ) -> Sequence[_Opened | str | None]:
        """Each image, or why it cannot be read; None: it was not opened."""
        if not self._open_images:
            return [None] * len(files)
        images = iter(parallel(delayed(_open)(file.path) for file in files if file is not None))
        return [None if file is None else next(images) for file in files]

    def _flags(
        self, image: str, file: ImageFile | None, opened: _Opened | str | None
    ) -> tuple[str, ...]:
        if file is None and not self._folders.links:
            return ()
        if file is None:
            self._missing.add(image, image)
            return ("missing-image",)
        if not file.exact:
            self._inexact.add(image, f"{image} is {file.name}")
        if opened is not None:
            self._opened.add(image, "")
        if isinstance(opened, str):
            self._damaged.add(image, opened)
            return ("unreadable-image",)
        return ()

    def notes(self) -> list[str]:
        """Notes for the user about problems of the images."""
        notes = []
        for images, problem in (
            (self._missing, "in no image folder"),
            (self._inexact, "found under another suffix or case"),
            (self._damaged, "that cannot be read"),
        ):
            n = images.count()
            if n:
                notes.append(f"{format_count(n, 'image')} {problem}, first: {images.first}")
        if self._open_images:
            n = self._opened.count()
            notes.append(f"opened {format_count(n, 'image')} with labelled rows")
        return notes


class _Distinct:
    """Counts distinct images: one that is in several splits counts once. 8 bytes per image."""

    def __init__(self) -> None:
        self.first = ""
        self._keys = array("Q")

    def add(self, image: str, text: str) -> None:
        """Count an image; `first` is the text of the first one."""
        self.first = self.first or text
        self._keys.append(image_key(image))

    def count(self) -> int:
        return len(np.unique(np.asarray(self._keys)))


def _open(path: Path) -> _Opened | str:
    try:
        image, digest = open_rgb(path)
    except DatasetError as error:
        return str(error)
    return _Opened(image.size, digest, signature(image))
