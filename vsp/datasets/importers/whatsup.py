"""Read What'sUp's files. Each file is a JSON list; its records show which kind of file it is.

Controlled images (A: on, under, left, right; B: in front of, behind, left, right):

    {"image_path": "data/controlled_images/beer-bottle_on_armchair.jpeg",
     "caption_options": ["A beer bottle on a armchair", three wrong ones]}

The file name and the first caption both contain the relation, and they must agree. The image is the
path without "data/". The photographs of the same two objects, one per relation, form a group: every
label is equally frequent in each group, so the objects do not reveal the label.

COCO-spatial and VG-spatial:

    [397133, "A photo of a dog to the left of a car", a wrong one]

The number names the image: 000000397133.jpg in COCO, 397133.jpg in Visual Genome. The annotation
file's name must start with "coco" or "vg", or the option `images` must tell the source. A caption
about one object ("A photo of a dog on the left") becomes a row with its own question: where in the
image the object is (left, right, top or bottom).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path, PurePosixPath
from reprlib import repr as shortened
from typing import Any

from vsp.datasets.importers.annotations import Beginning, Importer, Picture, Relation, Thing
from vsp.datasets.importers.group_rows import (
    AnnotatedRow,
    group_into_pictures,
    rows_of_files,
    rows_of_records,
)
from vsp.datasets.importers.text_lines import beginning
from vsp.datasets.json_stream import read_records
from vsp.datasets.row_problems import RowProblems
from vsp.errors import ConfigError, DatasetError

_FILE_NAMES = {"coco": "{:012d}.jpg", "vg": "{}.jpg"}
_CONTROLLED_NAME = re.compile(r"([^_]+)_(on|under|left_of|right_of|in-front_of|behind)_([^_]+)")
# Relation in a file name of controlled images → word that the first caption must contain.
_CAPTION_WORD = {
    "on": "on", "under": "under", "left of": "left", "right of": "right", "in front of": "front",
    "behind": "behind",
}  # fmt: skip
# Relation in a caption of the other files → relation as in file names of controlled images.
_PREDICATES = {
    "to the left of": "left of", "to the right of": "right of", "left of": "left of",
    "right of": "right of", "in front of": "in front of", "behind": "behind", "above": "above",
    "below": "below", "on top of": "on top of",
}  # fmt: skip
_START = r"(?:A photo of )?(?:(?:an?|the|some) )?"
_ONE_OBJECT = re.compile(
    rf"{_START}(.+?) (?:on|at|in|to) the (left|right|top|bottom)\.?", re.IGNORECASE
)
_ANY_PREDICATE = rf" ({'|'.join(_PREDICATES)}) "
_TWO_OBJECTS = re.compile(
    rf"{_START}(.+?){_ANY_PREDICATE}(?:(?:an?|the|some) )?(.+?)\.?", re.IGNORECASE
)
_QUESTION = (
    "Determine where '{}' is in the image.\n"
    "Choose ONE label from:\n[left, right, top, bottom]\nRespond with ONLY the label. No explanation."
)


def read(files: Sequence[tuple[str, Path]], options: Mapping[str, str]) -> Iterator[Picture]:
    """Yield pictures in the order of their first records.

    Raises DatasetError, with file and record, if records are invalid, ConfigError if the option
    `images` is neither coco nor vg.
    """
    images = options.get("images", "")
    if images not in ("", *_FILE_NAMES):
        raise ConfigError(f"images {images!r} are not known; use coco or vg")
    return group_into_pictures(rows_of_files(files, _rows, images))


def _recognises(start: Beginning) -> bool:
    if isinstance(start.record, list):
        return len(start.record) == 3 and type(start.record[0]) is int
    return start.names >= {"image_path", "caption_options"}


IMPORTER = Importer(read, relations="whatsup", options=("images",), recognises=_recognises)


def _rows(split: str, path: Path, images: str, problems: RowProblems) -> Iterator[AnnotatedRow]:
    if beginning(path).startswith("{"):
        raise DatasetError(
            f"{path}: is not a JSON list; files of questions, such as AdaptVis's, do not name their "
            "images: use What'sUp's controlled_*_dataset.json, coco_qa_*.json or vg_qa_*.json"
        )
    images = images or _images_of(path)
    with closing(read_records(path)) as records:
        placed = ((f"record {index}", record) for index, record in enumerate(records))
        yield from rows_of_records(path, placed, problems, _row, split, images)


def _images_of(path: Path) -> str:
    return next((name for name in _FILE_NAMES if path.name.lower().startswith(name)), "")


def _row(record: Any, split: str, images: str) -> AnnotatedRow:
    if isinstance(record, dict) and record.keys() >= {"image_path", "caption_options"}:
        return _controlled_row(record["image_path"], record["caption_options"], split)
    if isinstance(record, list) and len(record) == 3:
        return _numbered_row(record[0], record[1], images, split)
    raise DatasetError(
        f"is {shortened(record)}; What'sUp records are {{image_path, caption_options}} or "
        "[image number, correct caption, wrong caption]"
    )


def _controlled_row(image: Any, captions: Any, split: str) -> AnnotatedRow:
    if not isinstance(image, str) or not (isinstance(captions, list) and captions):
        raise DatasetError(
            f"has image_path {shortened(image)} and caption_options {shortened(captions)}; give a "
            "path and a list of captions, the correct one first"
        )
    path = PurePosixPath(image.removeprefix("data/"))
    name = _CONTROLLED_NAME.fullmatch(path.stem)
    if not name:
        raise DatasetError(f"has image_path {image!r}; name files OBJECT_RELATION_OBJECT.jpeg")
    subject, predicate, reference = (re.sub("[-_]", " ", part) for part in name.groups())
    if _CAPTION_WORD[predicate] not in str(captions[0]).replace("-", " ").split():
        raise DatasetError(
            f"has image_path {image!r} and the first caption {captions[0]!r}; correct one of them"
        )
    relation = Relation(Thing(subject), predicate, Thing(reference))
    return AnnotatedRow(str(path), relation, split, group=str(path.parent / f"{name[1]}_{name[3]}"))


def _numbered_row(number: Any, caption: Any, images: str, split: str) -> AnnotatedRow:
    if not images:
        raise DatasetError(
            "gives an image number without its source; use --option images=coco or images=vg"
        )
    if not isinstance(number, int) or isinstance(number, bool) or number < 0:
        raise DatasetError(f"has image number {shortened(number)}; write an integer ≥ 0")
    return AnnotatedRow(_FILE_NAMES[images].format(number), _caption_relation(caption), split)


def _caption_relation(caption: Any) -> Relation:
    if not isinstance(caption, str):
        raise DatasetError(f"has caption {shortened(caption)}; write text")
    caption = " ".join(caption.split())
    one_object = _ONE_OBJECT.fullmatch(caption)
    if one_object:
        name, label = one_object[1], one_object[2].lower()
        question = _QUESTION.format(name)
        return Relation(Thing(name), "", None, prompt=question, label=label)
    two_objects = _TWO_OBJECTS.fullmatch(caption)
    if not two_objects or re.search(_ANY_PREDICATE, two_objects[3], re.IGNORECASE):
        raise DatasetError(f"has caption {caption!r}; use exactly one of {', '.join(_PREDICATES)}")
    return Relation(
        Thing(two_objects[1]),
        _PREDICATES[two_objects[2].lower()],
        Thing(two_objects[3]),
    )
