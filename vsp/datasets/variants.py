"""Variants of a dataset, used as controls: the same rows with another picture or another question.

A variant says how a record, its label and its pictures change. Rows, their order, ids, groups and
splits stay, so that two runs can be compared row by row.
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

_OTHER_PART = {"subject": "reference", "reference": "subject"}
_REGION = re.compile(r"_box(es)?$|_mask$|^depth_filename$|^regions$")  # keys of a record
_GREY = (128, 128, 128)

Record = dict[str, Any]
Notes = tuple[str, ...]  # what rows lost; each note completes "3 of 9 rows …"


@dataclass(frozen=True, slots=True)
class Redrawn:
    """A new picture of a variant."""

    name: str  # in the variant's folder
    width: int  # pixels, upright


# redraw(source, target, name) reads picture `name` in `source` and writes the new one to `target`.
Redraw = Callable[[Path, Path, str], Redrawn]


@dataclass(frozen=True, slots=True)
class Variant:
    """How a record and its pictures change."""

    # Takes a record whose label is already changed, and the width of its picture (None: the
    # picture cannot be read). Raises DatasetError if the record cannot be changed.
    change_record: Callable[[Record, int | None], tuple[Record, Notes]]
    # Returns None if the label cannot be changed. Two calls in a row restore the label.
    change_label: Callable[[str], str | None] = str
    refusal: str = ""  # why a label cannot be changed
    redraw: Mapping[str, Redraw] = field(default_factory=dict)  # by folder; other folders are links
    exchange_images: bool = False  # give each row another image of the same split


def _keep_record(record: Record, width: int | None) -> tuple[Record, Notes]:
    return record, ()


def _redraw_grey(source: Path, target: Path, name: str) -> Redrawn:
    """A grey picture; all pictures of one size share one file."""
    width, height = upright_size(source / name)
    path = target / f"grey_{width}x{height}.png"
    if not path.exists():
        with write_aside(path) as file:
            Image.new("RGB", (width, height), _GREY).save(file, format="PNG")
    return Redrawn(path.name, width)


def _redraw_mirrored(source: Path, target: Path, name: str) -> Redrawn:
    """Saved as PNG, so that no format loses quality."""
    picture, _ = open_rgb(source / name)
    name = name if name.lower().endswith(".png") else f"{name}.png"
    (target / name).parent.mkdir(parents=True, exist_ok=True)
    try:
        with (target / name).open("xb") as file:
            ImageOps.mirror(picture).save(file, format="PNG", compress_level=1)
    except FileExistsError:
        raise ConfigError(
            f"{source}: two mirrored pictures would have the name {name!r}; rename one"
        ) from None
    return Redrawn(name, picture.width)


def _drop_regions(record: Record, width: int | None) -> tuple[Record, Notes]:
    """Boxes, masks and depth belong to the image that is exchanged."""
    kept = {key: value for key, value in record.items() if not _REGION.search(key)}
    has_regions = len(kept) < len(record)
    return kept, ("lost boxes, masks and depth, which belong to their own image",) * has_regions


def _ask_names_only(record: Record, width: int | None) -> tuple[Record, Notes]:
    """Set the prompt to the names, and drop all keys from which another prompt could be made."""
    question = questions.question_of(record)
    if question is None:
        raise DatasetError("names neither subject and reference nor a shape, so it has no names")
    dropped = {*metadata.LABEL_KEYS, "shape_type"}
    kept = {
        key: value
        for key, value in record.items()
        if key not in dropped and _exchange_key(key) == key and not _REGION.search(key)
    }
    names = [name for field, name in question.fields if not field.startswith("to_")]
    prompt = " ".join(f"{name}." for name in names)
    return {**kept, "label": metadata.label_of(record), "prompt": prompt}, ()


def _mirror_record(record: Record, width: int | None) -> tuple[Record, Notes]:
    record, notes = _drop_source_words(record)
    record, box_notes = _mirror_boxes(record, width)
    notes += box_notes
    if _names_a_side(_CHOICES.sub(_drop_symmetric, str(record.get("prompt", "")))):
        record = _drop_prompt(record, "which says left or right")
        notes += ("lost their own prompt, which says left or right",)
    if any(_names_a_side(name) for name in questions.fields_of(record).values()):
        notes += ("have left or right in a name, which is not changed",)
    return record, notes


def _mirror_boxes(record: Record, width: int | None) -> tuple[Record, Notes]:
    keys = [key for key in record if key.endswith(("_box", "_boxes"))]
    notes: Notes = ()
    mirrored = dict(record)
    for key in keys:
        is_list = key.endswith("_boxes")
        boxes = metadata.boxes_of(record, key) if is_list else [metadata.box_of(record, key)]
        if width is None:
            del mirrored[key]
            notes = ("lost their boxes, as the picture cannot be read",)
        else:
            turned = [[width - right, top, width - left, bottom]
                      for left, top, right, bottom in boxes]  # fmt: skip
            mirrored[key] = turned if is_list else turned[0]
    if "regions" in record and width is None:
        del mirrored["regions"]
        notes = ("lost their boxes, as the picture cannot be read",)
    elif "regions" in record and width is not None:  # masks are mirrored as pictures
        mirrored["regions"] = [
            one if isinstance(one, str) else [width - one[2], one[1], width - one[0], one[3]]
            for one in metadata.regions_of(record)
        ]
    return mirrored, notes


def _mirror_label(label: str) -> str | None:
    mirrored = _exchanged(MIRRORED, label)
    return None if mirrored is None and _names_a_side(label) else mirrored or label


def _inverse_label(label: str) -> str | None:
    return _exchanged(INVERSE, label)


def _exchanged(labels: Mapping[str, str], label: str) -> str | None:
    """The other label of a pair, written as the label is: "left_of" or "left of"."""
    other = labels.get(label)
    if other is None and label.replace(" ", "_") in labels:
        return prompts.label_words(labels[label.replace(" ", "_")])
    return other


def _swap_roles(record: Record, width: int | None) -> tuple[Record, Notes]:
    """Exchange subject and reference in keys, flags and prompt."""
    fields = questions.fields_of(record)
    if not fields.keys() >= _OTHER_PART.keys():
        raise DatasetError("names no subject and reference that could be swapped")
    record, notes = _drop_source_words(record)
    record = {_exchange_key(key): value for key, value in record.items()}
    if isinstance(record.get("flags"), list):
        record["flags"] = [_exchange_key(str(flag)) for flag in record["flags"]]
    if "prompt" in record:
        text = _exchange_names(str(record["prompt"]), fields["subject"], fields["reference"])
        why = "which does not name both" if text is None else ""
        if not why and any(map(_lacks_inverse, _CHOICES.finditer(str(record["prompt"])))):
            why = "which lists choices without their inverses"
        if why:
            record = _drop_prompt(record, why)
            notes += (f"lost their own prompt, {why}",)
        else:
            record["prompt"] = text
    return record, notes


def _drop_source_words(record: Record) -> tuple[Record, Notes]:
    """Drop the source's own words for a relation: they describe the original picture only."""
    lost = [key for key in ("relation", "predicate") if "label" in record and key in record]
    kept = {key: value for key, value in record.items() if key not in lost}
    return kept, tuple(f"lost `{key}`, the source's words for the old label" for key in lost)


def _drop_prompt(record: Record, why: str) -> Record:
    """Drop the record's own prompt. Raises DatasetError if no prompt form can replace it."""
    kept = {key: value for key, value in record.items() if key != "prompt"}
    if record.get("question") == questions.OWN or questions.question_of(kept) is None:
        raise DatasetError(
            f"has prompt {record['prompt']!r}, {why}, and no prompt form can replace it; "
            "leave the record out"
        )
    return kept


def _exchange_key(key: str) -> str:
    """`subject_box` → `reference_box` and back; other keys stay."""
    part, separator, rest = key.partition("_")
    return f"{_OTHER_PART[part]}{separator}{rest}" if part in _OTHER_PART else key


def _exchange_names(text: str, subject: str, reference: str) -> str | None:
    """The text with the two names exchanged; None unless the text contains both."""
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
_SEPARATOR = r"[\s,;/|'\"\[\]()]*(?:(?<![a-z])(?:or|and)(?![a-z]))?[\s,;/|'\"\[\]()]+"
# A list of choices, such as "left of, right of, above or below".
_CHOICES = re.compile(rf"(?<![a-z]){_CHOICE}(?:{_SEPARATOR}{_CHOICE})+(?![a-z])", re.IGNORECASE)


def _names_a_side(text: str) -> bool:
    return _SIDE.search(text) is not None


# The words of choices that are each other's inverses.
_OPPOSITES = (
    *(("left", "right"), ("above", "below"), ("in front", "behind"), ("larger", "smaller")),
    *(("top", "bottom"), ("over", "beneath")),
)


def _lacks_inverse(choices: re.Match[str]) -> bool:
    """Whether a list of choices names a relation and not its inverse."""
    text = prompts.label_words(choices[0].lower())
    return any((one in text) != (other in text) for one, other in _OPPOSITES)


def _drop_symmetric(choices: re.Match[str]) -> str:
    """A list of choices with both left and right stays true in a mirror, so it is no obstacle."""
    sides = {side[1].lower() for side in _SIDE.finditer(choices[0])}
    return "" if sides == {"left", "right"} else choices[0]


BLANK = Variant(_keep_record, redraw={"images": _redraw_grey, "depth": _redraw_grey})
NAMES = Variant(_ask_names_only, redraw={"images": _redraw_grey})
SHUFFLED = Variant(_drop_regions, exchange_images=True)
MIRROR = Variant(
    _mirror_record,
    _mirror_label,
    "say left or right in words other than left_of and right_of",
    {"images": _redraw_mirrored, "masks": _redraw_mirrored, "depth": _redraw_mirrored},
)
SWAPPED = Variant(_swap_roles, _inverse_label, "have no inverse")
