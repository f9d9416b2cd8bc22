"""Find the files of images: names in annotations → files in image folders."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath

_SUFFIXES = {".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff"}


@dataclass(frozen=True, slots=True)
class ImageFile:
    """The file of an image."""

    name: str  # path below the dataset's `images/`
    path: Path
    exact: bool  # False: only the suffix or the case differs from the name in the annotations


class ImageFolders:
    """Image folders; `links` gives each a distinct name, for the link in a dataset's `images/`."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self.links: dict[str, Path] = {}
        self._names_in = cache(_names_in)
        for folder in map(Path.absolute, folders):
            name, number = folder.name, 2
            while name in self.links:
                name, number = f"{folder.name}-{number}", number + 1
            self.links[name] = folder

    def find(self, image: str) -> ImageFile | None:
        """Find an image by its path, with all, some or none of the folders in front of its name.

        An exact name in any folder wins over a name that differs in suffix (.gif for .jpg) or case.
        """
        parts = [part for part in PurePosixPath(image).parts if part not in ("/", "..")]
        candidates = list(self._candidate_folders(tuple(parts[:-1]))) if parts else []
        for link, folder in candidates:
            if parts[-1] in self._names_in(folder)[0]:
                return self._image_file(link, folder, parts[-1], exact=True)
        for link, folder in candidates:
            name = self._names_in(folder)[1].get(stem(parts[-1]))
            if name is not None:
                return self._image_file(link, folder, name, exact=False)
        return None

    def _candidate_folders(self, parents: tuple[str, ...]) -> Iterator[tuple[str, Path]]:
        for start in range(len(parents) + 1):
            for link, folder in self.links.items():
                yield link, folder.joinpath(*parents[start:])

    def _image_file(self, link: str, folder: Path, name: str, exact: bool) -> ImageFile:
        below = (folder / name).relative_to(self.links[link])
        return ImageFile(str(PurePosixPath(link, below)), folder / name, exact)


def _names_in(folder: Path) -> tuple[frozenset[str], dict[str, str]]:
    """The names in a folder, and a mapping stem → name of its images.

    Listing a folder once costs a shared file system less than one look-up per image.
    """
    if not folder.is_dir():
        return frozenset(), {}
    names = sorted((path.name for path in folder.iterdir()), reverse=True)
    images = {stem(name): name for name in names if Path(name).suffix.lower() in _SUFFIXES}
    return frozenset(names), images


def stem(name: str) -> str:
    """The name without the suffix of an image, in lower case."""
    path = PurePosixPath(name)
    return (path.stem if path.suffix.lower() in _SUFFIXES else name).lower()
