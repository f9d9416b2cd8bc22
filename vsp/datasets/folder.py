"""A dataset folder → samples: `metadata.json`, a list of records, and `images/`.

A record names its picture (`image_filename`) and its label (`label`, or `relation` or
`color_label` as the synthetic tasks call it). The prompt is the record's own or is rendered from
what it names (`subject_*` and `reference_*`, or `shape_type`). Optional: `id` or `image_id`,
`group` (default: the picture) and `split` (train, val or test).

For a model that is asked about regions a record also has `subject_box` and `reference_box`, each
[left, top, right, bottom] in pixels of the upright picture, or `subject_mask` and `reference_mask`,
pictures in `masks/` that are not black where the thing is; and, for depth, `depth_filename`, a
picture in `depth/`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from string import Formatter
from typing import Any

from vsp import prompts
from vsp.errors import DatasetError
from vsp.manifest import Sample

_LABEL_KEYS = ("label", "relation", "color_label")
_RELATIONS = ("left_of", "right_of", "above", "below", "in_front_of", "behind")
_SPLITS = ("", "train", "val", "test")


def read(folder: Path, style: str | None, marker: str = "") -> tuple[list[Sample], list[str], str]:
    """The samples in the order of the records, the labels, and the prompt style in use.

    Without a style the instruction is asked where the records name what it needs, else their own
    prompt. With a region `marker` it takes the place of the names. Raises DatasetError, naming the
    record, for whatever cannot be used.
    """
    records = _records(folder)
    labels = sorted({_label(folder, i, r) for i, r in enumerate(records)}, key=_place)
    if style is None:
        style = "instruction" if all(map(_forms, records)) else prompts.DATASET
    samples = [_sample(folder, i, r, style, labels) for i, r in enumerate(records)]
    if marker:
        samples = [
            _with_regions(folder, i, r, sample, style, labels, marker)
            for i, (r, sample) in enumerate(zip(records, samples, strict=True))
        ]
    _check_unique(folder, samples)
    return samples, labels, style


def _records(folder: Path) -> list[dict[str, Any]]:
    path = folder / "metadata.json"
    try:
        records = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        raise DatasetError(
            f"{path}: no such file; make the dataset with `vsp generate --config "
            "configs/spatial_dataset.yaml` or name a folder with --dataset"
        ) from None
    except ValueError as error:
        raise DatasetError(f"{path}: is not JSON: {error}") from None
    if not isinstance(records, list) or not records:
        raise DatasetError(f"{path}: holds no list of records; write [{{...}}, ...]")
    return records


def _place(label: str) -> tuple[int, str]:
    """Relations in the order in which prompts list them, then the other labels by name."""
    return (_RELATIONS.index(label) if label in _RELATIONS else len(_RELATIONS), label)


def _sample(
    folder: Path, index: int, record: dict[str, Any], style: str, labels: list[str]
) -> Sample:
    image = _text(folder, index, record, "image_filename")
    split = record.get("split", "")
    if split not in _SPLITS:
        raise _bad(folder, index, f"split {split!r} is none of train, val, test")
    return Sample(
        id=_encodable(folder, index, "id", str(record.get("id", record.get("image_id", index)))),
        image=_inside(folder / "images", image),
        prompt=_prompt(folder, index, record, style, labels),
        label=_label(folder, index, record),
        group=_encodable(folder, index, "group", str(record.get("group", image))),
        split=split,
    )


def _with_regions(
    folder: Path,
    index: int,
    record: dict[str, Any],
    sample: Sample,
    style: str,
    labels: list[str],
    marker: str,
) -> Sample:
    """The sample asked about regions instead of names, as often as the prompt names them."""
    forms, fields = _forms(record) or ({}, {})
    if style not in forms or not fields.keys() >= {"subject", "reference"}:
        raise _bad(folder, index, f"cannot be asked about regions with --prompt {style}")
    regions = {part: _region(folder, index, record, part) for part in ("subject", "reference")}
    named = [name for _, name, _, _ in Formatter().parse(forms[style]) if name in regions]
    depth = ""
    if "<depth>" in marker:
        depth = _inside(folder / "depth", _text(folder, index, record, "depth_filename"))
    return replace(
        sample,
        prompt=prompts.render(forms[style], dict.fromkeys(regions, marker), labels),
        regions=tuple(regions[name] for name in named if name),
        depth=depth,
    )


def _region(folder: Path, index: int, record: dict[str, Any], part: str) -> tuple[float, ...] | str:
    if f"{part}_mask" in record:
        return _inside(folder / "masks", _text(folder, index, record, f"{part}_mask"))
    box = record.get(f"{part}_box")
    if (
        not isinstance(box, list)
        or len(box) != 4
        or not all(isinstance(edge, int | float) for edge in box)
    ):
        raise _bad(
            folder, index, f"has {part}_box {box!r}; give it [left, top, right, bottom] or a mask"
        )
    return tuple(box)


def _inside(folder: Path, name: str) -> str:
    return os.path.abspath(folder / name)  # noqa: PTH100 - links stay links


def _label(folder: Path, index: int, record: dict[str, Any]) -> str:
    if not isinstance(record, dict):
        raise _bad(folder, index, f"is a {type(record).__name__}, not a mapping")
    key = next((key for key in _LABEL_KEYS if key in record), _LABEL_KEYS[0])
    return _text(folder, index, record, key)


def _prompt(folder: Path, index: int, record: dict[str, Any], style: str, labels: list[str]) -> str:
    if style == prompts.DATASET:
        return _text(folder, index, record, "prompt")
    found = _forms(record)
    if found is None:
        raise _bad(
            folder,
            index,
            f"names no subject and reference; --prompt {style} needs them, "
            f"use --prompt {prompts.DATASET}",
        )
    forms, fields = found
    return prompts.render(forms[style], fields, labels)


def _forms(record: dict[str, Any]) -> tuple[Mapping[str, str], dict[str, str]] | None:
    """The prompt forms of the record's task and the fields they need, where it has them."""
    if {"subject_shape", "subject_color", "reference_shape", "reference_color"} <= record.keys():
        names = {
            part: f"{record[f'{part}_color']} {record[f'{part}_shape']}"
            for part in ("subject", "reference")
        }
        return prompts.SPATIAL, names
    if {"subject", "reference"} <= record.keys():
        return prompts.SPATIAL, {k: str(record[k]) for k in ("subject", "reference")}
    if {"shape_type", "color_label"} <= record.keys():
        return prompts.COLOR, {"shape": str(record["shape_type"])}
    return None


def _text(folder: Path, index: int, record: dict[str, Any], key: str) -> str:
    value = record.get(key)
    if not isinstance(value, str) or not value.strip():
        raise _bad(folder, index, f"has {key} {value!r}; give it a text")
    return _encodable(folder, index, key, value)


def _encodable(folder: Path, index: int, key: str, value: str) -> str:
    """JSON can hold half of a character, which no file and no tokenizer takes."""
    try:
        value.encode()
    except UnicodeEncodeError:
        raise _bad(folder, index, f"has {key} {value!a}, which is no text") from None
    return value


def _check_unique(folder: Path, samples: list[Sample]) -> None:
    seen: dict[str, int] = {}
    for index, sample in enumerate(samples):
        if sample.id in seen:
            raise _bad(
                folder,
                index,
                f"has the id {sample.id!r} of record {seen[sample.id]}; "
                "give each record an `id` of its own",
            )
        seen[sample.id] = index


def _bad(folder: Path, index: int, what: str) -> DatasetError:
    return DatasetError(f"{folder / 'metadata.json'}: record {index} {what}")
