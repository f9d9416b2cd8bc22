"""The contract of an importer, and the annotations that it yields.

An importer is a generator function that reads annotation files and yields a `Picture` for each
image, with everything that is annotated in it. It reports the annotations as they are: it strips
spaces around names, but it filters nothing, corrects no box and keeps the source's own words for
relations. `vsp.datasets.importers.pipeline` does the rest in the same way for all sources: labels,
flags, splits and balance.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# The words of sources for splits.
SPLIT_WORDS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    "test": "test",
}

Box = tuple[float, float, float, float]  # left, top, right, bottom in pixels, y down


@dataclass(frozen=True, slots=True)
class Thing:
    """An annotated object. Equal things of one picture are the same object."""

    name: str
    box: Box | None = None


@dataclass(frozen=True, slots=True)
class Relation:
    """A possible row of the dataset: the relation of `subject` to `reference`.

    If a source has its own questions, `prompt` and `label` replace the predicate.
    """

    subject: Thing | None
    predicate: str  # in the source's words; "" if `label` is given
    reference: Thing | None
    id: str = ""  # the source's id; "" if it has none
    prompt: str = ""
    label: str = ""
    file: str = ""  # path of the annotations
    where: str = ""  # place in the file: "record 12", "line 7"
    options: tuple[str, ...] = ()  # texts that the source lets the model choose from
    regions: tuple[Box | str, ...] = ()  # box, or file name of a mask, of each <mask> in `prompt`
    unusable: str = ""  # why the row cannot be used, one of vsp.datasets.importers.funnel.UNUSABLE


@dataclass(frozen=True, slots=True)
class Picture:
    """One image and all its annotations. A split has at most one picture of each image."""

    image: str  # file name in the source
    things: tuple[Thing, ...]  # each annotated object once, also those without a relation
    relations: tuple[Relation, ...]  # in the source's order
    split: str = ""  # train, val, test or ""
    size: tuple[int, int] | None = None  # width and height, if the source gives them
    group: str = ""  # rows of a group stay in one split; "": the image is the group


Read = Callable[[Sequence[tuple[str, Path]], Mapping[str, str]], Iterator[Picture]]
ReadEmbedded = Callable[
    [Sequence[tuple[str, Path]], Mapping[str, str]], Iterator[tuple[str, bytes]]
]


@dataclass(frozen=True, slots=True)
class Beginning:
    """The first record of a file, or the names in a folder, before it is imported."""

    path: Path
    record: Any = (
        None  # the first record of a list, lines or a table; the first members of a mapping
    )
    names: frozenset[str] = frozenset()  # keys or columns of the record, or names in the folder
    is_json: bool = False

    @property
    def is_folder(self) -> bool:
        return self.path.is_dir()


@dataclass(frozen=True, slots=True)
class Importer:
    """A source of annotations.

    `read(files, options)` yields the pictures of the files in order. `files` are pairs of split (or
    "") and path; `options` are those of `--option`. `read` may be called more than once. It raises
    DatasetError, with file and place, if a file does not have the source's format.
    """

    read: Read
    relations: str = "6way"  # default of --relations; "": the source's own words are the labels
    options: tuple[str, ...] = ()  # known names of `options`
    # Name, as in `Picture.image`, and bytes of the pictures that the files contain, also repeated.
    read_embedded: ReadEmbedded | None = None
    # Name, as in `Relation.regions`, and bytes of the masks that the files contain, also repeated.
    read_masks: ReadEmbedded | None = None
    # The annotations in a folder, files or folders, in order; None: the source has only files.
    files_in: Callable[[Path], Sequence[Path]] | None = None
    images_beside: bool = False  # whether folders of annotations also hold the images
    recognises: Callable[[Beginning], bool] | None = (
        None  # whether a file seems to be of the source
    )
