"""Variants of a dataset, the controls that a claim needs: the same rows, with something else to see
or to ask.

A variant is a function of a record, and what becomes of pictures and labels. It keeps rows, their
order, ids, groups and splits, so that runs can be compared row by row.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps

from vsp.datasets import metadata, prompts, questions
from vsp.datasets.relations import INVERSE, MIRRORED
from vsp.errors import ConfigError, DatasetError
from vsp.utils.files import write_aside
from vsp.utils.images import open_rgb, upright_size

# What a record names its pictures by, and the folder in which they are.
PICTURES = {
    "image_filename": "images",
    "subject_mask": "masks",
    "reference_mask": "masks",
    "depth_filename": "depth",
}
_PARTS = {"subject": "reference", "reference": "subject"}
_REGION = re.compile(r"_box(es)?$|_mask$|^depth_filename$")  # of a record's keys
_GREY = (128, 128, 128)

Record = dict[str, Any]
Notes = tuple[str, ...]  # what a row has lost; counted, and said in the end


@dataclass(frozen=True, slots=True)
class Drawn:
    """A picture that was made anew."""

    name: str  # in the variant's folder
    width: int  # pixels, upright


# Draws the picture of that name in the first folder anew, into the second.
Draw = Callable[[Path, Path, str], Drawn]


@dataclass(frozen=True, slots=True)
class Variant:
    """What becomes of a record. DatasetError is for one that cannot be turned."""

    # Of the record, its label already turned, and its picture's width (None: it cannot be read).
    record: Callable[[Record, int | None], tuple[Record, Notes]]
    # The label as it has to be; None: it cannot be turned. Turned twice it is what it was.
    label: Callable[[str], str | None] = str
    cannot: str = ""  # why not
    draw: Mapping[str, Draw] = field(default_factory=dict)  # by folder; the others are links
    exchange: bool = False  # whether images change places


def _as_it_is(record: Record, width: int | None) -> tuple[Record, Notes]:
    return record, ()


def _grey(source: Path, target: Path, name: str) -> Drawn:
    """One file for each size."""
    width, height = upright_size(source / name)
    path = target / f"grey_{width}x{height}.png"
    if not path.exists():
        with write_aside(path) as file:
            Image.new("RGB", (width, height), _GREY).save(file, format="PNG")
    return Drawn(path.name, width)


def _flipped(source: Path, target: Path, name: str) -> Drawn:
    """Without loss, whatever the format was."""
    picture, _ = open_rgb(source / name)
    name = name if name.lower().endswith(".png") else f"{name}.png"
    (target / name).parent.mkdir(parents=True, exist_ok=True)
    try:
        with (target / name).open("xb") as file:
            ImageOps.mirror(picture).save(file, format="PNG", compress_level=1)
    except FileExistsError:
        raise ConfigError(
            f"{source}: two pictures would be {name!r} when mirrored; rename one"
        ) from None
    return Drawn(name, picture.width)


def _without_regions(record: Record, width: int | None) -> tuple[Record, Notes]:
    """Regions and depth are those of the picture that went away."""
    kept = {key: value for key, value in record.items() if not _REGION.search(key)}
    lost = len(kept) < len(record)
    return kept, ("without boxes, masks and depth, which are another picture's",) * lost


def _names_alone(record: Record, width: int | None) -> tuple[Record, Notes]:
    """The prompt is the names; nothing stays from which another could be made."""
    found = questions.question_of(record)
    if found is None:
        raise DatasetError("names neither subject and reference nor a shape, so it has no names")
    gone = {*metadata.LABEL_KEYS, "shape_type"}
    kept = {
        key: value
        for key, value in record.items()
        if key not in gone and _exchanged_key(key) == key and not _REGION.search(key)
    }
    prompt = " ".join(f"{name}." for field, name in found[1] if not field.startswith("to_"))
    return {**kept, "label": metadata.label_of(record), "prompt": prompt}, ()


def _in_a_mirror(record: Record, width: int | None) -> tuple[Record, Notes]:
    record, notes = _as_labelled(record)
    for key in [key for key in record if key.endswith(("_box", "_boxes"))]:
        several = key.endswith("_boxes")
        boxes = metadata.boxes_of(record, key) if several else [metadata.box_of(record, key)]
        if width is None:
            del record[key]
            notes = ("without boxes, as their picture cannot be read",)
        else:
            turned = [[width - right, top, width - left, bottom]
                      for left, top, right, bottom in boxes]  # fmt: skip
            record[key] = turned if several else turned[0]
    if _names_a_side(_CHOICES.sub(_unless_both, str(record.get("prompt", "")))):
        record = _without_prompt(record, "which says left or right")
        notes += ("without their own prompt, which says left or right",)
    if any(_names_a_side(name) for _, name in (questions.question_of(record) or ((), ()))[1]):
        notes += ("with left or right in a name, which stays as it is",)
    return record, notes


def _mirrored_label(label: str) -> str | None:
    return None if label not in MIRRORED and _names_a_side(label) else MIRRORED.get(label, label)


def _roles_exchanged(record: Record, width: int | None) -> tuple[Record, Notes]:
    fields = dict((questions.question_of(record) or ((), ()))[1])
    if not fields.keys() >= _PARTS.keys():
        raise DatasetError("names no subject and reference to change places")
    record, notes = _as_labelled(record)
    record = {_exchanged_key(key): value for key, value in record.items()}
    if isinstance(record.get("flags"), list):
        record["flags"] = [_exchanged_key(str(flag)) for flag in record["flags"]]
    if "prompt" in record:
        text = _exchanged_names(str(record["prompt"]), fields["subject"], fields["reference"])
        if text is None:
            record = _without_prompt(record, "which does not name both")
            notes += ("without their own prompt, which does not name both",)
        else:
            record["prompt"] = text
    return record, notes


def _as_labelled(record: Record) -> tuple[Record, Notes]:
    """Beside a label other words are what the source wrote, and true of its picture alone."""
    lost = [key for key in ("relation", "predicate") if "label" in record and key in record]
    kept = {key: value for key, value in record.items() if key not in lost}
    return kept, tuple(f"without `{key}`, the source's words for another label" for key in lost)


def _without_prompt(record: Record, why: str) -> Record:
    kept = {key: value for key, value in record.items() if key != "prompt"}
    if record.get("question") == questions.OWN or questions.question_of(kept) is None:
        raise DatasetError(
            f"has prompt {record['prompt']!r}, {why}, and there is nothing that could be "
            "asked instead; leave the record out"
        )
    return kept


def _exchanged_key(key: str) -> str:
    """`subject_box` → `reference_box`, and back; any other key as it is."""
    part, separator, rest = key.partition("_")
    return f"{_PARTS[part]}{separator}{rest}" if part in _PARTS else key


def _exchanged_names(text: str, subject: str, reference: str) -> str | None:
    """The text with each name in the other's place; None unless both are in it."""
    names = sorted((subject, reference), key=len, reverse=True)  # "red car" before "car"
    either = re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, names))})(?!\w)")
    if set(either.findall(text)) != {subject, reference}:
        return None
    return either.sub(lambda m: reference if m[0] == subject else subject, text)


_SIDE = re.compile(r"(?<![a-z])(left|right)(most|wards?)?(?![a-z])", re.IGNORECASE)
_CHOICE = r"(?:(?:to|on|at) the )?(?:{})(?:[ _](?:side[ _])?of)?".format(
    "|".join(
        (*map(prompts.label_words, INVERSE), "left", "right", "top", "bottom", "over", "beneath")
    )
)
_BETWEEN = r"[\s,;/|'\"\[\]()]*(?:(?<![a-z])(?:or|and)(?![a-z]))?[\s,;/|'\"\[\]()]+"
_CHOICES = re.compile(rf"(?<![a-z]){_CHOICE}(?:{_BETWEEN}{_CHOICE})+(?![a-z])", re.IGNORECASE)


def _names_a_side(text: str) -> bool:
    return _SIDE.search(text) is not None


def _unless_both(choices: re.Match[str]) -> str:
    """A list to choose from is the same in a mirror, if it has both sides."""
    sides = {side[1].lower() for side in _SIDE.finditer(choices[0])}
    return "" if sides == {"left", "right"} else choices[0]


BLANK = Variant(_as_it_is, draw={"images": _grey, "depth": _grey})
NAMES = Variant(_names_alone, draw={"images": _grey})
SHUFFLED = Variant(_without_regions, exchange=True)
MIRROR = Variant(
    _in_a_mirror,
    _mirrored_label,
    "say left or right otherwise than left_of and right_of",
    {"images": _flipped, "masks": _flipped, "depth": _flipped},
)
SWAPPED = Variant(_roles_exchanged, INVERSE.get, "have no inverse")
