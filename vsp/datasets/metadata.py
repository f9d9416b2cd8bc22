"""A dataset folder → samples: `metadata.json`, a list of records, and `images/`.

A record names its picture (`image_filename`) and its label (`label`, or `relation` or
`color_label` as the synthetic tasks call it). The prompt is the record's own or is rendered from
what it names (`subject_*` and `reference_*`, or `shape_type`). Optional: `id` or `image_id`,
`group` (default: the picture), `split` (train, val or test), `question` (which of the prompt forms;
see vsp.datasets.questions), `language`, and `flags`, a list of what an import found odd.

For a model that is asked about regions a record also has `subject_box` and `reference_box`, each
[left, top, right, bottom] in pixels of the upright picture, or `subject_mask` and `reference_mask`,
pictures in `masks/` that are not black where the thing is; and, for depth, `depth_filename`, a
picture in `depth/`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache, lru_cache
from pathlib import Path
from string import Formatter
from typing import Any

from vsp.datasets import prompts, questions
from vsp.datasets.json_stream import read_records
from vsp.datasets.questions import Fields
from vsp.errors import DatasetError
from vsp.storage.manifest import Sample
from vsp.utils.files import write_aside
from vsp.utils.text import is_encodable

NAME = "metadata.json"
LABEL_KEYS = ("label", "relation", "color_label")
_RELATIONS = ("left_of", "right_of", "above", "below", "in_front_of", "behind")
SPLITS = ("", "train", "val", "test")
_REMEMBERED = 1 << 16  # texts at most: beyond, memory would go to those that never come again

Regions = tuple[tuple[float, ...] | str, ...]


def read_samples(
    folder: Path, style: str | None, marker: str = ""
) -> tuple[list[Sample], list[str], str]:
    """The samples in the order of the records, the labels, and the prompt style in use.

    Without a style the instruction is asked where the records name what it needs and none says
    that its question is its own, else their own prompt. With a region `marker` it takes the place
    of the names. Raises DatasetError, naming the record, for whatever cannot be used.
    """
    labels, names_things = _survey(folder)
    if style is None:
        style = "instruction" if names_things else prompts.DATASET
    return _samples(folder, _SampleMaker(folder, style, labels, marker)), labels, style


def _survey(folder: Path) -> tuple[list[str], bool]:
    """All labels, and whether every record is for the prompt forms and names what they need."""
    labels, names_things = set(), True
    for index, record in enumerate(records(folder)):
        try:
            labels.add(label_of(record))
            own = record.get("question") == questions.OWN
            names_things = names_things and not own and questions.question_of(record) is not None
        except DatasetError as error:
            raise record_error(folder, index, error) from None
    return order_labels(labels), names_things


def _samples(folder: Path, make: _SampleMaker) -> list[Sample]:
    samples: list[Sample] = []
    ids: set[str] = set()
    for index, record in enumerate(records(folder)):
        try:
            sample = make.sample(index, record)
            if sample.id in ids:
                first = next(i for i, one in enumerate(samples) if one.id == sample.id)
                raise DatasetError(
                    f"has the id {sample.id!r} of record {first}; give each record an `id` of its own"
                )
        except DatasetError as error:
            raise record_error(folder, index, error) from None
        ids.add(sample.id)
        samples.append(sample)
    return samples


def records(folder: Path) -> Iterator[dict[str, Any]]:
    """The records in their order; of a million only the one in hand is in memory."""
    return read_records(metadata_path(folder))


def write_records(folder: Path, lines: Iterable[bytes]) -> None:
    """Write `metadata.json` from encoded records, one record per line.

    A person can read such a file, and a diff shows the records that differ.
    """
    with write_aside(folder / NAME) as file:
        file.write(b"[\n")
        for index, line in enumerate(lines):
            file.write(b",\n" + line if index else line)
        file.write(b"\n]\n")


def encode_record(record: Mapping[str, Any]) -> bytes:
    return json.dumps(record).encode()


def metadata_path(folder: Path) -> Path:
    """The file of records. Raises DatasetError if there is none."""
    path = folder / NAME
    if not path.is_file():
        raise DatasetError(
            f"{path}: no such file; make the dataset with `vsp generate --config "
            "configs/spatial_dataset.yaml` or name a folder with --dataset"
        )
    return path


def record_error(folder: Path, index: int, error: DatasetError) -> DatasetError:
    """The error, with the place of the record that it is about."""
    return DatasetError(f"{folder / NAME}: record {index} {error}")


def order_labels(labels: Iterable[str]) -> list[str]:
    """As prompts list them."""
    return sorted(labels, key=_place)


def example_prompts(folder: Path, record: dict[str, Any], labels: Sequence[str]) -> dict[str, str]:
    """The record's prompt in each style in which it can be asked."""
    found = {}
    for style in prompts.STYLES:
        with suppress(DatasetError):
            found[style] = _SampleMaker(folder, style, labels, "").sample(0, record).prompt
    return found


def _place(label: str) -> tuple[int, str]:
    """Relations in the order in which prompts list them, then the other labels by name."""
    return (_RELATIONS.index(label) if label in _RELATIONS else len(_RELATIONS), label)


class _SampleMaker:
    """Makes samples of records. Texts that come again are the same object, so that a million
    samples take no more than what is different in them."""

    def __init__(self, folder: Path, style: str, labels: Sequence[str], marker: str) -> None:
        self._folder, self._style, self._labels, self._marker = folder, style, labels, marker
        self._same = lru_cache(_REMEMBERED)(str)
        self._image = cache(lambda name: _inside(folder / "images", name))
        self._rendered = lru_cache(_REMEMBERED)(self._render)

    def sample(self, index: int, record: dict[str, Any]) -> Sample:
        image = self._same(text_of(record, "image_filename"))
        prompt, regions, depth = self._prompt(record)
        return Sample(
            id=id_of(record, index),
            image=self._image(image),
            prompt=prompt,
            label=self._same(label_of(record)),
            group=self._same(group_of(record)),
            split=self._same(split_of(record)),
            regions=regions,
            depth=depth,
        )

    def _prompt(self, record: dict[str, Any]) -> tuple[str, Regions, str]:
        """The prompt, and what it asks about besides the image."""
        if self._marker:
            return self._about_regions(record)
        if self._style == prompts.DATASET:
            return self._same(text_of(record, "prompt")), (), ""
        found = questions.question_of(record)
        if found is None:
            raise DatasetError(
                f"names no subject and reference; --prompt {self._style} needs them, "
                f"use --prompt {prompts.DATASET}"
            )
        forms, fields = found
        return self._rendered(forms[self._style], fields), (), ""

    def _about_regions(self, record: dict[str, Any]) -> tuple[str, Regions, str]:
        """Asked about regions instead of names, as often as the prompt names them."""
        forms, fields = questions.question_of(record) or ({}, ())
        if self._style not in forms or not dict(fields).keys() >= set(questions.PARTS):
            raise DatasetError(f"cannot be asked about regions with --prompt {self._style}")
        form = forms[self._style]
        # In some languages a form asks for a name as it stands behind a preposition.
        regions = {
            name: _region(self._folder, record, name.removeprefix("to_")) for name, _ in fields
        }
        named = [name for _, name, _, _ in Formatter().parse(form) if name in regions]
        depth = ""
        if "<depth>" in self._marker:
            depth = _inside(self._folder / "depth", text_of(record, "depth_filename"))
        prompt = self._rendered(form, tuple((name, self._marker) for name in regions))
        return prompt, tuple(regions[name] for name in named if name), self._same(depth)

    def _render(self, form: str, fields: Fields) -> str:
        return prompts.render(form, dict(fields), self._labels)


def _region(folder: Path, record: dict[str, Any], part: str) -> tuple[float, ...] | str:
    if f"{part}_mask" in record:
        return _inside(folder / "masks", text_of(record, f"{part}_mask"))
    return box_of(record, f"{part}_box")


def _inside(folder: Path, name: str) -> str:
    return os.path.abspath(folder / name)  # noqa: PTH100 - links stay links


def label_of(record: dict[str, Any]) -> str:
    """Under the first of the keys that a label may have."""
    if not isinstance(record, dict):
        raise DatasetError(f"is a {type(record).__name__}, not a mapping")
    for key in LABEL_KEYS:
        if key in record:
            return text_of(record, key)
    return text_of(record, LABEL_KEYS[0])


def id_of(record: dict[str, Any], index: int) -> str:
    return _encodable("id", str(record.get("id", record.get("image_id", index))))


def split_of(record: dict[str, Any]) -> str:
    split = record.get("split", "")
    if split not in SPLITS:
        raise DatasetError(f"split {split!r} is none of train, val, test")
    return str(split)


def group_of(record: dict[str, Any]) -> str:
    return _encodable("group", str(record.get("group", record.get("image_filename"))))


def box_of(record: dict[str, Any], key: str) -> tuple[float, ...]:
    """Left, top, right and bottom in pixels of the upright picture, as they are written."""
    return _box(key, record.get(key))


def boxes_of(record: dict[str, Any], key: str) -> list[tuple[float, ...]]:
    """As `box_of`, of each of several things."""
    boxes = record.get(key)
    if not isinstance(boxes, list):
        raise DatasetError(f"has {key} {boxes!r}; give it a list of boxes")
    return [_box(key, box) for box in boxes]


def _box(key: str, box: Any) -> tuple[float, ...]:
    if (
        not isinstance(box, list)
        or len(box) != 4
        or not all(isinstance(edge, int | float) for edge in box)
    ):
        raise DatasetError(f"has {key} {box!r}; give it [left, top, right, bottom] or a mask")
    return tuple(box)


def text_of(record: dict[str, Any], key: str) -> str:
    value = record.get(key)
    if not isinstance(value, str) or not value or value.isspace():
        raise DatasetError(f"has {key} {value!r}; give it a text")
    return _encodable(key, value)


def _encodable(key: str, value: str) -> str:
    if not is_encodable(value):
        raise DatasetError(f"has {key} {value!a}, which is no text")
    return value
