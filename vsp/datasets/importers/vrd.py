"""VRD's annotations, in both layouts that are about; the first character of a file tells which.

`json_dataset`, published first: a mapping of image → relations, with numbers that stand for names
in objects.json and predicates.json, and boxes [ymin, ymax, xmin, xmax]. `sg_dataset`, which came
later, with open words: a list of records with objects, and relationships between their numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from vsp.datasets.importers import checked_fields
from vsp.datasets.importers.annotations import Box, Importer, Picture, Relation, Thing
from vsp.datasets.importers.checked_fields import entry
from vsp.datasets.importers.image_index import stem
from vsp.datasets.json_stream import first_character, read_members, read_records
from vsp.errors import DatasetError

_HINT = "a file of another source is read with another `vsp import SOURCE`"
_SG_KEYS = ("filename", "objects", "relationships")


def read(files: Sequence[tuple[str, Path]], options: Mapping[str, str]) -> Iterator[Picture]:
    """Options of the first layout: `objects` and `predicates`, files with the vocabularies
    (default: beside the annotations); `sizes`, a file with width and height of each image.
    """
    sizes = _sizes(options)
    for split, path in files:
        if first_character(path) == "{":
            yield from _json_dataset(path, split, options, sizes)
        else:
            yield from _sg_dataset(path, split, sizes)


IMPORTER = Importer(read, options=("objects", "predicates", "sizes"))

Sizes = Mapping[str, tuple[int, int] | None]


def _json_dataset(
    path: Path, split: str, options: Mapping[str, str], sizes: Sizes
) -> Iterator[Picture]:
    objects = _vocabulary("objects", path, options)
    predicates = _vocabulary("predicates", path, options)
    for image, listed in read_members(path):
        where = f"{path}: image {image!r}"
        if not isinstance(listed, list):
            raise DatasetError(
                f"{where} is {checked_fields.described(listed)}, where VRD's first layout has a list of "
                f"relations; {_HINT}"
            )
        relations = [
            _coded(one, objects, predicates, f"{where}, relation {k}")
            for k, one in enumerate(listed)
        ]
        named = (thing for one in relations for thing in (one.subject, one.reference))
        yield checked_fields.picture(image, named, relations, split, _size(sizes, image))


def _coded(value: Any, objects: Sequence[str], predicates: Sequence[str], where: str) -> Relation:
    """By key: "object" may precede "subject"."""
    return Relation(
        _coded_thing(entry(value, "subject", where), objects, f"{where}, subject"),
        _word(entry(value, "predicate", where), predicates, where, "predicate"),
        _coded_thing(entry(value, "object", where), objects, f"{where}, object"),
        where=where,
    )


def _coded_thing(value: Any, objects: Sequence[str], where: str) -> Thing:
    name = _word(entry(value, "category", where), objects, where, "object")
    return Thing(name, _box(entry(value, "bbox", where), where))


def _word(code: Any, words: Sequence[str], where: str, of: str) -> str:
    if type(code) is not int or not 0 <= code < len(words):
        raise DatasetError(
            f"{where}: {code!r} stands for no {of}, there are 0 to {len(words) - 1}; name the "
            f"vocabulary of these annotations with --option {of}s=FILE"
        )
    return words[code]


def _box(value: Any, where: str) -> Box:
    if not isinstance(value, list) or len(value) != 4:
        raise DatasetError(f"{where}: bbox {value!r} is not [ymin, ymax, xmin, xmax]")
    top, bottom, left, right = (checked_fields.number(edge, "bbox", where) for edge in value)
    return (left, top, right, bottom)


def _vocabulary(of: str, path: Path, options: Mapping[str, str]) -> list[str]:
    file = checked_fields.existing(Path(options.get(of, path.parent / f"{of}.json")), of)
    words = list(read_records(file))
    for i, word in enumerate(words):
        if not isinstance(word, str) or not word.strip():
            raise DatasetError(f"{file}: record {i} is {word!r}; write a list of names")
    return [word.strip() for word in words]


def _sizes(options: Mapping[str, str]) -> Sizes:
    """By name and, as one image has another suffix here than in the annotations, by stem."""
    sizes: dict[str, tuple[int, int] | None] = {}
    if "sizes" in options:
        path = checked_fields.existing(Path(options["sizes"]), "sizes")
        for image, value in read_members(path):
            where = f"{path}: image {image!r}"
            sides = {side: entry(value, side, where) for side in ("width", "height")}
            sizes[image] = checked_fields.size(sides, where)
            sizes.setdefault(stem(image), sizes[image])
    return sizes


def _size(sizes: Sizes, image: str) -> tuple[int, int] | None:
    return sizes.get(image) or sizes.get(stem(image))


def _sg_dataset(path: Path, split: str, sizes: Sizes) -> Iterator[Picture]:
    for i, record in enumerate(read_records(path)):
        where = f"{path}: record {i}"
        if not isinstance(record, dict) or not record.keys() >= set(_SG_KEYS):
            raise DatasetError(
                f"{where} is {checked_fields.described(record)}, where VRD's second layout has a mapping "
                f"of {', '.join(_SG_KEYS)}; {_HINT}"
            )
        things = [
            _sg_thing(one, f"{where}, object {k}")
            for k, one in enumerate(entry(record, "objects", where, list))
        ]
        relations = [
            _numbered(one, things, f"{where}, relationship {k}")
            for k, one in enumerate(entry(record, "relationships", where, list))
        ]
        image = entry(record, "filename", where, str)
        size = _size(sizes, image) or checked_fields.size(record, where)
        yield checked_fields.picture(image, things, relations, split, size)


def _sg_thing(value: Any, where: str) -> Thing:
    return Thing(
        checked_fields.name(value, where),
        checked_fields.sized_box(entry(value, "bbox", where), where),
    )


def _numbered(value: Any, things: Sequence[Thing], where: str) -> Relation:
    """Relations with no words or no ends are said to occur: they name nothing, and are passed on
    to be counted."""
    words = checked_fields.words(value, "relationship", where)
    ends = entry(value, "objects", where)
    if not ends:
        return Relation(None, words, None, where=where)
    if not isinstance(ends, list) or len(ends) != 2:
        raise DatasetError(f"{where}: objects {ends!r} are not [subject, object]")
    for end in ends:
        if type(end) is not int or not 0 <= end < len(things):
            raise DatasetError(
                f"{where}: {end!r} stands for no object, there are 0 to {len(things) - 1}"
            )
    return Relation(things[ends[0]], words, things[ends[1]], where=where)
