"""Read COMFORT: scenes in which one object goes round another, under several frames of reference.

    DATASET/RELATION/VARIATION/config.json, 0.png, 1.png, …

DATASET is comfort_ball, comfort_car_ref_facing_left or comfort_car_ref_facing_right, RELATION is
behind, infrontof, totheleft or totheright. `config.json` names the moving object (`var_shape`,
`var_color`), the reference (`ref_shape`, `ref_color`), the addressee (`addressee_shape`), and in
`mapping` the angle of each picture, in degrees from the middle of the object's path, a circle that
begins at `angle_range` or, without this key, where the published generator begins it for RELATION.

The option `frame` chooses whose left and right count:

    camera     the default: in front of is nearer to the camera (the relative frame of English)
    addressee  the same, seen from the addressee, the woman at the left edge of the car scenes
    reference  the reference object's own sides; DATASET, or the option `facing`, says where it faces

The label is the nearest of the four relations; a picture halfway between two of them is dropped. With
`label=angle`, it is the direction in whole degrees: 0 in front of, 90 right of, 180 behind, 270 left of.
All pictures of a DATASET/VARIATION are one group: those 10 degrees apart look alike.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from reprlib import repr as shortened
from typing import Any

from vsp.datasets.importers.annotations import Beginning, Importer, Picture, Relation, Thing
from vsp.datasets.importers.checked_fields import entry, number
from vsp.datasets.importers.funnel import BETWEEN
from vsp.datasets.importers.group_rows import (
    AnnotatedRow,
    group_into_pictures,
    placed_row,
    rows_of_files,
)
from vsp.datasets.importers.options import chosen
from vsp.datasets.row_problems import RowProblems
from vsp.errors import DatasetError
from vsp.utils.reading import read_json, unreadable

_NAME = "config.json"
_FRAMES, _LABELS = ("camera", "addressee", "reference"), ("relation", "angle")
_FACING = ("", "left", "right")
# Where the path of each relation begins, in degrees: 0 is towards the camera, 90 right in the picture.
_START = {"behind": 180, "infrontof": 0, "totheleft": 90, "totheright": 270}
_PREDICATES = ("in front of", "right of", "behind", "left of")  # at 0, 90, 180 and 270 degrees
_FRONT = {"camera": 0, "addressee": 270}  # where "in front of" lies in these frames
_FACES = {"left": 270, "right": 90}
# Words for shapes whose names are not words; others are split at capitals and underscores.
_SHAPES = {
    "SmoothCube_v2": "cube", "SmoothCylinder": "cylinder", "FatCylinder": "cylinder",
    "HorseL": "horse", "HorseR": "horse", "bicycle_mountain": "bicycle", "car_sedan": "car",
    "Sophia": "woman",
}  # fmt: skip
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+")
_PICTURE = re.compile(r"\d{1,6}\.png")
_QUESTION = (
    "From the viewpoint of the {viewer}, where is the {subject} relative to the {reference}?\n"
    "Choose ONE label from:\n[left of, right of, in front of, behind]\n"
    "Respond with ONLY the label. No explanation."
)
_ANGLE_QUESTION = (
    "From the viewpoint of the {viewer}, in which direction from the {reference} is the {subject}?\n"
    "Respond with ONLY an angle in degrees: 0 is in front, 90 right, 180 behind, 270 left."
)


def read(files: Sequence[tuple[str, Path]], options: Mapping[str, str]) -> Iterator[Picture]:
    """Yield pictures in the order of the files and of their numbers.

    Raises DatasetError, with file and picture, if a file is invalid, ConfigError if an option is.
    """
    return group_into_pictures(rows_of_files(files, partial(_rows, options)))


def _files_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob(_NAME) if path.is_file())


def _recognises(start: Beginning) -> bool:
    if start.is_folder:
        return any(path.parent.parent.name in _START for path in _files_in(start.path)[:1])
    return start.path.name == _NAME and start.names >= {"mapping", "relation", "ref_shape"}


IMPORTER = Importer(
    read,
    relations="6way-exact",
    options=("frame", "label", "facing"),
    files_in=_files_in,
    images_beside=True,
    recognises=_recognises,
)


def _rows(
    options: Mapping[str, str], split: str, path: Path, problems: RowProblems
) -> Iterator[AnnotatedRow]:
    frame, label = chosen(options, "frame", _FRAMES), chosen(options, "label", _LABELS)
    facing = chosen(options, "facing", _FACING)
    scene = problems.caught(_Scene, path, frame, facing, last=False)
    if scene is None:
        return
    for name, angle in scene.mapping.items():
        row = problems.caught(placed_row, path, name, scene.row, name, angle, label, split)
        if row is not None:
            yield row


class _Scene:
    """The checked contents of a `config.json`."""

    def __init__(self, path: Path, frame: str, facing: str) -> None:
        try:
            config = read_json(path)
        except OSError as error:
            raise DatasetError(f"{path}: {unreadable(error)}; give a readable file") from None
        except (ValueError, RecursionError):
            raise DatasetError(f"{path}: is not JSON; give COMFORT's {_NAME}") from None
        self.mapping: dict[str, Any] = entry(config, "mapping", str(path), dict)
        relation = entry(config, "relation", str(path), str)
        if relation not in _START:
            raise DatasetError(
                f"{path}: the relation is {shortened(relation)}; scenes with {', '.join(_START)} "
                "are read"
            )
        if config.get("path_type", "rotate") != "rotate":
            raise DatasetError(
                f"{path}: path_type is {shortened(config['path_type'])}; only scenes that rotate "
                "are read"
            )
        self._middle = _start(config, relation, path) + 180
        self._folder = "/".join(path.absolute().parent.parts[-3:])
        dataset, _, variation = self._folder.rpartition(f"/{path.absolute().parent.parent.name}/")
        self._group = f"{dataset}/{variation}"
        self._subject, self._reference = _thing(config, "var", path), _thing(config, "ref", path)
        self._frame = frame
        self._front, self._turn = self._sides(path, frame, facing)
        self._viewer = "camera" if frame == "camera" else self._reference.name
        if frame == "addressee":
            if not config.get("addressee"):
                raise DatasetError(f"{path}: has no addressee; use another --option frame=…")
            self._viewer = _word(config.get("addressee_shape") or "addressee")

    def _sides(self, path: Path, frame: str, facing: str) -> tuple[int, int]:
        """The angle of the frame's front, and the sign of the turn to its right: 1 or -1."""
        if frame != "reference":
            return _FRONT[frame], 1
        facing = facing or self._folder.split("/")[0].rpartition("_facing_")[2]
        if facing not in _FACES:
            raise DatasetError(
                f"{path}: its folder does not say where the reference faces; use --option "
                "facing=left or facing=right, or another --option frame=…"
            )
        return _FACES[facing], -1

    def row(self, name: str, angle: Any, label: str, split: str) -> AnnotatedRow:
        if not _PICTURE.fullmatch(name):
            raise DatasetError("has no name like 0.png; correct the mapping")
        direction = (
            number(angle, "angle", "the mapping") + self._middle - self._front
        ) * self._turn
        direction %= 360
        place, rest = divmod(direction + 45, 90)
        predicate = _PREDICATES[int(place) % 4]
        is_angle = label == "angle"
        question = _ANGLE_QUESTION if is_angle else _QUESTION if self._frame != "camera" else ""
        names = {"subject": self._subject.name, "reference": self._reference.name}
        prompt = question.format(viewer=self._viewer, **names)
        relation = Relation(
            self._subject,
            "" if is_angle else predicate,
            self._reference,
            id=f"{self._folder}/{name}",
            prompt=prompt,
            label=str(round(direction) % 360) if is_angle else "",
            unusable=BETWEEN if rest == 0 and not is_angle else "",
        )
        return AnnotatedRow(f"{self._folder}/{name}", relation, split, self._group)


def _start(config: Mapping[str, Any], relation: str, path: Path) -> float:
    if "angle_range" not in config:
        return _START[relation]
    ends = entry(config, "angle_range", str(path), list)
    if len(ends) != 2:
        raise DatasetError(
            f"{path}: angle_range is {shortened(ends)}; write [first, last] in degrees"
        )
    return number(ends[0], "angle_range", str(path))


def _thing(config: Mapping[str, Any], part: str, path: Path) -> Thing:
    """The object with its colour, where the colour has a name."""
    shape = _word(entry(config, f"{part}_shape", str(path), str))
    color = config.get(f"{part}_color")
    named = isinstance(color, str) and color not in ("", "unknown")
    return Thing(f"{color} {shape}" if named and shape in ("sphere", "cube", "cylinder") else shape)


def _word(shape: str) -> str:
    return _SHAPES.get(shape) or " ".join(_WORD.findall(shape)).lower() or shape
