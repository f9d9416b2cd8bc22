"""What'sUp's files → pictures; each is a JSON list, and its records tell what it is.

Controlled images (A: on, under, left, right; B: in front of, behind, left, right):

    {"image_path": "data/controlled_images/beer-bottle_on_armchair.jpeg",
     "caption_options": ["A beer bottle on a armchair", three wrong ones]}

say their relation twice, in the name of the file and in the first caption; both must agree. The
image is the path without "data/". The photographs of two objects, one for each relation, are one
group: so every label is as frequent in each group, and what the objects are tells nothing.

COCO-spatial and VG-spatial:

    [397133, "A photo of a dog to the left of a car", a wrong one]

name an image by its number, which is 000000397133.jpg in COCO and 397133.jpg in Visual Genome. As
numbers do not tell which, the file's name must begin with "coco" or "vg", or the option `images`
says it. Where a caption speaks of one object ("A photo of a dog on the left") the row brings its
own question, for where in the image it is: left, right, top or bottom.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path, PurePosixPath
from reprlib import repr as shortened
from typing import Any

from vsp.datasets.importers.annotations import Importer, Picture, Relation, Thing
from vsp.datasets.importers.group_rows import AnnotatedRow, group_into_pictures
from vsp.datasets.importers.text_lines import beginning
from vsp.datasets.json_stream import read_records
from vsp.errors import ConfigError, DatasetError

_NAMED = {"coco": "{:012d}.jpg", "vg": "{}.jpg"}
_FILE = re.compile(r"([^_]+)_(on|under|left_of|right_of|in-front_of|behind)_([^_]+)")
# What must be in the first caption of a controlled image.
_WORD = {
    "on": "on", "under": "under", "left of": "left", "right of": "right", "in front of": "front",
    "behind": "behind",
}  # fmt: skip
# How captions of the other files say it → how it is said in names of files.
_SAYS = {
    "to the left of": "left of", "to the right of": "right of", "left of": "left of",
    "right of": "right of", "in front of": "in front of", "behind": "behind", "above": "above",
    "below": "below", "on top of": "on top of",
}  # fmt: skip
_PHOTO = r"(?:A photo of )?(?:(?:an?|the|some) )?"
_ONE = re.compile(rf"{_PHOTO}(.+?) (?:on|at|in|to) the (left|right|top|bottom)\.?", re.IGNORECASE)
_SAID = rf" ({'|'.join(_SAYS)}) "
_TWO = re.compile(rf"{_PHOTO}(.+?){_SAID}(?:(?:an?|the|some) )?(.+?)\.?", re.IGNORECASE)
_QUESTION = (
    "Determine where '{}' is in the image.\n"
    "Choose ONE label from:\n[left, right, top, bottom]\nRespond with ONLY the label. No explanation."
)


def read(files: Sequence[tuple[str, Path]], options: Mapping[str, str]) -> Iterator[Picture]:
    """Pictures in the order in which the files first name them.

    Raises DatasetError, with file and record, for whatever cannot be used, ConfigError where the
    option `images` is neither coco nor vg.
    """
    images = options.get("images", "")
    if images not in ("", *_NAMED):
        raise ConfigError(f"images {images!r} are not known; use coco or vg")
    return group_into_pictures(row for split, path in files for row in _rows(split, path, images))


IMPORTER = Importer(read, relations="whatsup", options=("images",))


def _rows(split: str, path: Path, images: str) -> Iterator[AnnotatedRow]:
    if beginning(path).startswith("{"):
        raise DatasetError(
            f"{path}: is no JSON list; lists of questions, such as AdaptVis's, do not name their "
            "images: give What'sUp's own controlled_*_dataset.json, coco_qa_*.json or vg_qa_*.json"
        )
    with closing(read_records(path)) as records:
        for index, record in enumerate(records):
            try:
                yield _row(record, split, images or _source(path), f"{path.name} record {index}")
            except DatasetError as error:
                raise DatasetError(f"{path}: record {index} {error}") from None


def _source(path: Path) -> str:
    return next((name for name in _NAMED if path.name.lower().startswith(name)), "")


def _row(record: Any, split: str, images: str, where: str) -> AnnotatedRow:
    if isinstance(record, dict) and record.keys() >= {"image_path", "caption_options"}:
        return _controlled(record["image_path"], record["caption_options"], split, where)
    if isinstance(record, list) and len(record) == 3:
        return _numbered(record[0], record[1], images, split, where)
    raise DatasetError(
        f"is {shortened(record)}; What'sUp has {{image_path, caption_options}} or "
        "[image number, right caption, wrong caption]"
    )


def _controlled(image: Any, captions: Any, split: str, where: str) -> AnnotatedRow:
    if not isinstance(image, str) or not (isinstance(captions, list) and captions):
        raise DatasetError(
            f"has image_path {shortened(image)} and caption_options {shortened(captions)}; give a "
            "path and a list of captions, the right one first"
        )
    path = PurePosixPath(image.removeprefix("data/"))
    named = _FILE.fullmatch(path.stem)
    if not named:
        raise DatasetError(f"has image_path {image!r}; files are named OBJECT_RELATION_OBJECT.jpeg")
    subject, predicate, reference = (re.sub("[-_]", " ", part) for part in named.groups())
    if _WORD[predicate] not in str(captions[0]).replace("-", " ").split():
        raise DatasetError(
            f"has image_path {image!r} and the caption {captions[0]!r} first; one of them is wrong"
        )
    relation = Relation(Thing(subject), predicate, Thing(reference), where=where)
    return AnnotatedRow(
        str(path), relation, split, group=str(path.parent / f"{named[1]}_{named[3]}")
    )


def _numbered(number: Any, caption: Any, images: str, split: str, where: str) -> AnnotatedRow:
    if not images:
        raise DatasetError("names its image by a number; say of what with images=coco or images=vg")
    if not isinstance(number, int) or isinstance(number, bool) or number < 0:
        raise DatasetError(f"has image number {shortened(number)}; give a whole number")
    return AnnotatedRow(_NAMED[images].format(number), _said(caption, where), split)


def _said(caption: Any, where: str) -> Relation:
    if not isinstance(caption, str):
        raise DatasetError(f"has caption {shortened(caption)}; give a text")
    caption = " ".join(caption.split())
    one = _ONE.fullmatch(caption)
    if one:
        name, label = one[1], one[2].lower()
        question = _QUESTION.format(name)
        return Relation(Thing(name), "", None, prompt=question, label=label, where=where)
    two = _TWO.fullmatch(caption)
    if not two or re.search(_SAID, two[3], re.IGNORECASE):
        raise DatasetError(f"has caption {caption!r}; say one of {', '.join(_SAYS)}, and once")
    return Relation(Thing(two[1]), _SAYS[two[2].lower()], Thing(two[3]), where=where)
