"""A dataset folder with `metadata.json`, a list of records, and `images/`: records → samples.

A record has the keys `image_filename` and `label` (or `relation` or `color_label`, as in the
synthetic tasks). Its prompt is its own `prompt`, or a prompt form filled with the names in the
record (`subject`, `reference`, `subject_shape`, …). Optional keys: `id` or `image_id`, `group`
(default: the picture), `split` (train, val or test), `question` (see vsp.datasets.questions),
`language`, `flags`, a list of problems that an import found, and `options`, the texts among which a
model chooses its answer (default: all labels, as words).

For models that take regions, a record also has `subject_box` and `reference_box`, each [left, top,
right, bottom] in pixels of the upright picture, or `subject_mask` and `reference_mask`, pictures in
`masks/` that are not black where the object is. If the record's own prompt has markers `<mask>`, it
has `regions` instead: a list with the box, or the file name of the mask, of each marker. For depth,
it has `depth_filename`, a picture in `depth/`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache, lru_cache, partial
from pathlib import Path
from string import Formatter
from typing import Any, TypeVar

from vsp.datasets import prompts, questions
from vsp.datasets.json_stream import read_records
from vsp.datasets.names import NamedPrompt, named_prompt, rendered
from vsp.datasets.picture_paths import PicturePaths
from vsp.datasets.questions import Fields, Question
from vsp.datasets.row_problems import row_problems
from vsp.errors import DatasetError
from vsp.storage.manifest import Sample
from vsp.utils.config_files import config_names
from vsp.utils.files import write_aside
from vsp.utils.looked_in import nothing_in
from vsp.utils.spelling import nearest_names
from vsp.utils.text import is_encodable

NAME = "metadata.json"
_HOME = Path("data/raw")  # where `vsp generate` writes datasets
_N_NAMED = 6  # datasets in a message
LABEL_KEYS = ("label", "relation", "color_label")
_RELATIONS = ("left_of", "right_of", "above", "below", "in_front_of", "behind")
SPLITS = ("", "train", "val", "test")
_CACHE_SIZE = 1 << 16  # texts; a larger cache would fill up with texts that occur once

Made = TypeVar("Made")
Regions = tuple[tuple[float, ...] | str, ...]


def read_samples(
    folder: Path, style: str | None, marker: str = ""
) -> tuple[list[Sample], list[str], str]:
    """The samples in the order of the records, the labels, and the prompt style used.

    The default style is the instruction if all records have the names that it needs and none has
    the question "own"; otherwise it is the records' own prompt. A region `marker` replaces the
    names in the prompt. Raises DatasetError, naming the record, if a record cannot be used.
    """
    labels, has_forms = _survey(folder)
    if style is None:
        style = "instruction" if has_forms else prompts.DATASET
    return _samples(folder, _SampleMaker(folder, style, labels, marker)), labels, style


def _survey(folder: Path) -> tuple[list[str], bool]:
    """All labels, and whether the prompt forms can be used for every record."""
    labels: set[str] = set()
    has_forms = True

    def look_at(record: dict[str, Any]) -> None:
        nonlocal has_forms
        labels.add(label_of(record))
        own = record.get("question") == questions.OWN
        has_forms = has_forms and not own and questions.question_of(record) is not None

    with row_problems() as problems:
        for index, record in enumerate(records(folder)):
            problems.caught(read_record, folder, index, look_at, record)
    return order_labels(labels), has_forms


def _samples(folder: Path, make: _SampleMaker) -> list[Sample]:
    samples: list[Sample] = []
    index_of_id: dict[str, int] = {}
    with row_problems() as problems:
        for index, record in enumerate(records(folder)):
            sample = problems.caught(
                read_record, folder, index, make.new_sample, index, record, index_of_id
            )
            if sample is not None:
                samples.append(sample)
    return samples


def records(folder: Path) -> Iterator[dict[str, Any]]:
    """The records in file order; they are read one by one, so a large file needs little memory."""
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
    """The path of `metadata.json`. Raises DatasetError, with what to do, if there is no such file."""
    path = folder / NAME
    if path.is_file():
        return path
    if folder.is_dir():
        raise DatasetError(
            f"{path}: no such file, so {folder} is not a dataset; make one with `vsp generate` or `vsp "
            "import`, or name another folder"
        )
    what = "not a folder" if folder.exists() else "no such folder"
    raise DatasetError(f"{folder}: {what}; {_other_dataset(folder)}")


def _is_same(one: Path, other: Path) -> bool:
    return one.absolute() == other.absolute()


def _other_dataset(folder: Path) -> str:
    """Advice if there is no dataset `folder`: datasets with a close name, or how to make one."""
    name = folder.absolute().name
    if name in config_names("configs", Path(), "_dataset.yaml") and _is_same(folder.parent, _HOME):
        return f"make it with `vsp generate --config {name}`, or name another folder"
    beside = {path.parent for home in (_HOME, folder.parent) for path in home.glob(f"*/{NAME}")}
    close = nearest_names(name, {path.name for path in beside})
    paths = [str(path) for one in close for path in sorted(beside) if path.name == one]
    if paths:
        return f"did you mean {' or '.join(paths)}?"
    if not beside:
        return nothing_in(
            _HOME, "dataset", "make one with `vsp generate --config spatial` or `vsp import`"
        )
    more = ", …" if len(beside) > _N_NAMED else ""
    return f"the datasets here are {', '.join(map(str, sorted(beside)[:_N_NAMED]))}{more}"


def read_record(folder: Path, index: int, read: Callable[..., Made], *arguments: object) -> Made:
    """The result of `read`; the file and the record number are put before a DatasetError's message."""
    try:
        return read(*arguments)
    except DatasetError as error:
        raise DatasetError(f"{folder / NAME}: record {index} {error}") from None


def order_labels(labels: Iterable[str]) -> list[str]:
    """The labels in the order in which prompts list them: relations first, then by name."""
    return sorted(labels, key=_label_order)


def example_prompts(folder: Path, record: dict[str, Any], labels: Sequence[str]) -> dict[str, str]:
    """The record's prompt in each style that works for it."""
    examples = {}
    for style in prompts.STYLES:
        with suppress(DatasetError):
            examples[style] = _SampleMaker(folder, style, labels, "").sample(0, record).prompt
    return examples


def _label_order(label: str) -> tuple[int, str]:
    return (_RELATIONS.index(label) if label in _RELATIONS else len(_RELATIONS), label)


class _SampleMaker:
    """Makes samples from records. Equal texts become one object, which saves memory when many
    samples share an image, a label or a prompt."""

    def __init__(self, folder: Path, style: str, labels: Sequence[str], marker: str) -> None:
        self._style, self._labels, self._marker = style, labels, marker
        self._intern = lru_cache(_CACHE_SIZE)(str)
        self._intern_options = lru_cache(_CACHE_SIZE)(tuple[str, ...])
        paths = PicturePaths(folder)
        self._path = paths.path
        self._image_path = cache(partial(paths.path, "image_filename"))
        self._render = lru_cache(_CACHE_SIZE)(self._render_form)
        self._own_prompt = lru_cache(_CACHE_SIZE)(named_prompt)

    def new_sample(self, index: int, record: dict[str, Any], index_of_id: dict[str, int]) -> Sample:
        """A sample whose id no earlier record has; `index_of_id` takes its id."""
        sample = self.sample(index, record)
        first = index_of_id.setdefault(sample.id, index)
        if first != index:
            raise DatasetError(
                f"has the id {sample.id!r} of record {first}; give each record an `id` of its own"
            )
        return sample

    def sample(self, index: int, record: dict[str, Any]) -> Sample:
        image = self._intern(text_of(record, "image_filename"))
        question = questions.question_of(record)
        prompt, regions, depth = self._prompt(record, question)
        return Sample(
            id=id_of(record, index),
            image=self._image_path(image),
            prompt=prompt.text,
            label=self._intern(label_of(record)),
            group=self._intern(group_of(record)),
            split=self._intern(split_of(record)),
            regions=regions,
            depth=depth,
            options=self._intern_options(options_of(record)),
            subject_span=prompt.subject,
            reference_span=prompt.reference,
            **self._objects(record, {} if question is None else dict(question.fields)),
        )

    def _objects(self, record: dict[str, Any], fields: Mapping[str, str]) -> dict[str, Any]:
        """Names and boxes of subject and reference, as far as the record has them."""
        names = {
            "subject": fields.get("subject", fields.get("shape", "")),
            "reference": fields.get("reference", ""),
        }
        boxes = [f"{part}_box" for part in questions.PARTS]
        return {
            **{part: self._intern(name) for part, name in names.items()},
            **{key: box_of(record, key) for key in boxes if key in record},
        }

    def _prompt(
        self, record: dict[str, Any], question: Question | None
    ) -> tuple[NamedPrompt, Regions, str]:
        """The prompt, its regions, and the path of its depth picture."""
        is_own = self._style == prompts.DATASET
        if is_own and "regions" in record:
            return self._own_region_prompt(record)
        if self._marker:
            return self._region_prompt(record, question)
        if is_own:
            fields = () if question is None else question.fields
            return self._own_prompt(text_of(record, "prompt"), fields), (), ""
        if question is None:
            raise DatasetError(
                f"names no subject and reference; --prompt {self._style} needs them, "
                f"use --prompt {prompts.DATASET}"
            )
        return self._render(question.forms[self._style], question.fields), (), ""

    def _region_prompt(
        self, record: dict[str, Any], question: Question | None
    ) -> tuple[NamedPrompt, Regions, str]:
        """As `_prompt`, with the marker in place of each name, and a region for each marker."""
        if (
            question is None
            or self._style not in question.forms
            or not dict(question.fields).keys() >= set(questions.PARTS)
        ):
            raise DatasetError(
                f"has no prompt with regions in style {self._style!r}; use another --prompt"
            )
        form = question.forms[self._style]
        # Some languages have a second field for a name, as it is after a preposition: "to_subject".
        regions = {
            name: self._region(record, name.removeprefix("to_")) for name, _ in question.fields
        }
        named = [name for _, name, _, _ in Formatter().parse(form) if name in regions]
        prompt = self._render(form, tuple((name, self._marker) for name in regions))
        return prompt, tuple(regions[name] for name in named if name), self._depth(record)

    def _own_region_prompt(self, record: dict[str, Any]) -> tuple[NamedPrompt, Regions, str]:
        """As `_prompt`, for a record whose own prompt has a marker for each of its regions."""
        text = text_of(record, "prompt").replace("<mask> <depth>", "<mask>")
        regions = regions_of(record)
        if text.count("<mask>") != len(regions):
            raise DatasetError(
                f"has {text.count('<mask>')} <mask> in its prompt and {len(regions)} regions; give "
                "each <mask> one region"
            )
        if not self._marker:
            raise DatasetError(
                "has a prompt about regions, which the model as it is planned does not take; use "
                "SpatialRGPT with --option regions=mask, or another --prompt"
            )
        paths = (self._path("regions", r) if isinstance(r, str) else r for r in regions)
        prompt = self._own_prompt(text.replace("<mask>", self._marker), ())
        return prompt, tuple(paths), self._depth(record)

    def _depth(self, record: dict[str, Any]) -> str:
        """The path of the depth picture; "" if the model takes none."""
        if "<depth>" not in self._marker:
            return ""
        path = self._path("depth_filename", text_of(record, "depth_filename"))
        return self._intern(path)

    def _region(self, record: dict[str, Any], part: str) -> tuple[float, ...] | str:
        if (key := f"{part}_mask") in record:
            return self._path(key, text_of(record, key))
        return box_of(record, f"{part}_box")

    def _render_form(self, form: str, fields: Fields) -> NamedPrompt:
        return rendered(form, fields, self._labels)


def label_of(record: dict[str, Any]) -> str:
    """The value of the first key of LABEL_KEYS that the record has."""
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
        raise DatasetError(f"has split {split!r}; use train, val or test")
    return str(split)


def group_of(record: dict[str, Any]) -> str:
    return _encodable("group", str(record.get("group", record.get("image_filename"))))


def box_of(record: dict[str, Any], key: str) -> tuple[float, ...]:
    """Left, top, right and bottom in pixels of the upright picture, unchecked against its size."""
    return _box(key, record.get(key))


def boxes_of(record: dict[str, Any], key: str) -> list[tuple[float, ...]]:
    """As `box_of`, for a list of boxes."""
    boxes = record.get(key)
    if not isinstance(boxes, list):
        raise DatasetError(f"has {key} {boxes!r}; give it a list of boxes")
    return [_box(key, box) for box in boxes]


def regions_of(record: dict[str, Any]) -> list[tuple[float, ...] | str]:
    """The box, or the file name of the mask, of each `<mask>` in the record's own prompt."""
    regions = record.get("regions")
    if not isinstance(regions, list) or not regions:
        raise DatasetError(f"has regions {regions!r}; give it a list of boxes or names of masks")
    return [
        text_of({"regions": one}, "regions") if isinstance(one, str) else _box("regions", one)
        for one in regions
    ]


def _box(key: str, box: Any) -> tuple[float, ...]:
    if (
        not isinstance(box, list)
        or len(box) != 4
        or not all(isinstance(edge, int | float) for edge in box)
    ):
        raise DatasetError(f"has {key} {box!r}; give it [left, top, right, bottom] or a mask")
    return tuple(box)


def options_of(record: dict[str, Any]) -> tuple[str, ...]:
    """The record's own answer options; empty if it has none."""
    options = record.get("options", [])
    if not isinstance(options, list) or not all(isinstance(one, str) for one in options):
        raise DatasetError(f"has options {options!r}; give it a list of texts")
    if any(not one.strip() or not is_encodable(one) for one in options):
        raise DatasetError(f"has options {options!r}; each needs a text that UTF-8 can encode")
    if len(set(options)) < len(options) or len(options) == 1:
        raise DatasetError(f"has options {options!r}; give it two or more that differ, or none")
    return tuple(options)


def text_of(record: dict[str, Any], key: str) -> str:
    value = record.get(key)
    if not isinstance(value, str) or not value or value.isspace():
        raise DatasetError(f"has {key} {value!r}; give it a text")
    return _encodable(key, value)


def _encodable(key: str, value: str) -> str:
    if not is_encodable(value):
        raise DatasetError(f"has {key} {value!a}, which UTF-8 cannot encode")
    return value
