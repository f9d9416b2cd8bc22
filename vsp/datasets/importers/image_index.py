"""Find the files of images: names in annotations → files in image folders."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath

from vsp.datasets.importers.embedded import EMBEDDED
from vsp.errors import DatasetError
from vsp.utils.text import composed

_EMBEDDED_NAME = re.compile(rf"{EMBEDDED}/[0-9a-f]{{64}}\.[a-z]+")  # of a picture in a table
IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff"}


@dataclass(frozen=True, slots=True)
class _Names:
    """The names in a folder."""

    exact: frozenset[str]
    by_form: dict[str, str]  # composed name → name; only of names that are not ASCII
    by_stem: dict[str, str]  # of images


@dataclass(frozen=True, slots=True)
class ImageFile:
    """The file of an image."""

    name: str  # path below the dataset's `images/`
    path: Path
    exact: bool  # False: only the suffix or the case differs from the name in the annotations


class ImageFolders:
    """Image folders; `links` gives each a distinct name, for the link in a dataset's `images/`.

    `embedded` is the folder above the pictures that the annotations contain, if there are any.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        self.links: dict[str, Path] = {}
        self.embedded: Path | None = None
        self._names_in = cache(_names_in)
        for folder in map(Path.absolute, folders):
            name, number = folder.name, 2
            while name in self.links or name == EMBEDDED:
                name, number = f"{folder.name}-{number}", number + 1
            self.links[name] = folder

    def find(self, image: str) -> ImageFile | None:
        """Find an image by its path, with all, some or none of the folders in front of its name.

        An exact name in any folder wins over a name that differs in suffix (.gif for .jpg) or case.
        Names that differ only in the form of accented letters (NFC, NFD) are the same name.
        """
        if self.embedded is not None and _EMBEDDED_NAME.fullmatch(image):
            return ImageFile(image, self.embedded / image, exact=True)
        parts = [part for part in PurePosixPath(image).parts if part not in ("/", "..")]
        candidates = list(self._candidate_folders(tuple(parts[:-1]))) if parts else []
        for link, folder in candidates:
            name = self._same_name(folder, parts[-1])
            if name is not None:
                return self._image_file(link, folder, name, exact=True)
        for link, folder in candidates:
            name = self._names_in(folder).by_stem.get(stem(parts[-1]))
            if name is not None:
                return self._image_file(link, folder, name, exact=False)
        return None

    def _candidate_folders(self, parents: tuple[str, ...]) -> Iterator[tuple[str, Path]]:
        for start in range(len(parents) + 1):
            for link, folder in self.links.items():
                for part in parents[start:]:
                    # A listing of the parents is not needed if all spellings are one.
                    folder /= part if part.isascii() else self._same_name(folder, part) or part
                yield link, folder

    def _same_name(self, folder: Path, name: str) -> str | None:
        """The name in the folder that is `name`, in any Unicode form; None if there is none."""
        names = self._names_in(folder)
        if name.isascii():
            return name if name in names.exact else None
        return names.by_form.get(composed(name))

    def _image_file(self, link: str, folder: Path, name: str, exact: bool) -> ImageFile:
        below = (folder / name).relative_to(self.links[link])
        return ImageFile(str(PurePosixPath(link, below)), folder / name, exact)


def _names_in(folder: Path) -> _Names:
    """Listing a folder once costs a shared file system less than one look-up per image.

    Raises DatasetError if two names are the same but for their Unicode form.
    """
    if not folder.is_dir():
        return _Names(frozenset(), {}, {})
    names = sorted((path.name for path in folder.iterdir()), reverse=True)
    images = {stem(name): name for name in names if Path(name).suffix.lower() in IMAGE_SUFFIXES}
    by_form: dict[str, str] = {}
    for name in names:
        if not name.isascii() and by_form.setdefault(composed(name), name) != name:
            raise DatasetError(
                f"{folder}: contains two files named {composed(name)!r}, with accents composed and "
                "decomposed (NFC and NFD); rename one of them"
            )
    return _Names(frozenset(names), by_form, images)


def stem(name: str) -> str:
    """The name without the suffix of an image, in lower case."""
    name = composed(name)
    path = PurePosixPath(name)
    return (path.stem if path.suffix.lower() in IMAGE_SUFFIXES else name).lower()
