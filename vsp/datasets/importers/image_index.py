"""Names of images in annotations → files in folders of images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath

_SUFFIXES = {".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff"}


@dataclass(frozen=True, slots=True)
class Found:
    """An image's file."""

    name: str  # below `images/` of the dataset
    path: Path
    exact: bool  # False: it has the stem, and another suffix


class ImageFolders:
    """Folders of images, each under a name of its own: the link to it in a dataset's `images/`."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self.links: dict[str, Path] = {}
        self._listing = cache(_listing)
        for folder in map(Path.absolute, folders):
            name, number = folder.name, 2
            while name in self.links:
                name, number = f"{folder.name}-{number}", number + 1
            self.links[name] = folder

    def find(self, image: str) -> Found | None:
        """The file of that name, with all or the last of the folders in front of it; else the one
        whose name differs in the suffix alone (.gif for .jpg) or in its case."""
        parts = [part for part in PurePosixPath(image).parts if part not in ("/", "..")]
        places = list(self._places(tuple(parts[:-1]))) if parts else []
        for link, folder in places:
            if parts[-1] in self._listing(folder)[0]:
                return self._found(link, folder, parts[-1], exact=True)
        for link, folder in places:
            name = self._listing(folder)[1].get(stem(parts[-1]))
            if name is not None:
                return self._found(link, folder, name, exact=False)
        return None

    def _places(self, parents: tuple[str, ...]) -> Iterator[tuple[str, Path]]:
        for start in range(len(parents) + 1):
            for link, folder in self.links.items():
                yield link, folder.joinpath(*parents[start:])

    def _found(self, link: str, folder: Path, name: str, exact: bool) -> Found:
        below = (folder / name).relative_to(self.links[link])
        return Found(str(PurePosixPath(link, below)), folder / name, exact)


def _listing(folder: Path) -> tuple[frozenset[str], dict[str, str]]:
    """Names in a folder, and by stem those of images. One listing asks less of a file system that
    is shared than a question for each image."""
    if not folder.is_dir():
        return frozenset(), {}
    names = sorted((path.name for path in folder.iterdir()), reverse=True)
    images = {stem(name): name for name in names if Path(name).suffix.lower() in _SUFFIXES}
    return frozenset(names), images


def stem(name: str) -> str:
    """Without the suffix of an image, in lower case."""
    path = PurePosixPath(name)
    return (path.stem if path.suffix.lower() in _SUFFIXES else name).lower()
