"""Read VRD's annotations, in both published layouts.

`json_dataset`, the first layout, is a mapping of image → relations. Numbers are indices of names in
objects.json and predicates.json; boxes are [ymin, ymax, xmin, xmax]. `sg_dataset`, the second
layout, is a list of records with objects and relationships between their indices, in free words.
The first character of a file shows its layout.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from vsp.datasets.importers import checked_fields
from vsp.datasets.importers.annotations import Beginning, Box, Importer, Picture, Relation, Thing
from vsp.datasets.importers.checked_fields import Place, Where, entry
from vsp.datasets.importers.image_index import stem
from vsp.datasets.json_stream import first_character, read_members, read_records
from vsp.datasets.row_problems import RowProblems, row_problems
from vsp.errors import DatasetError

_HINT = "use `vsp import` with the source that this file is from"
_SG_KEYS = ("filename", "objects", "relationships")


def read(files: Sequence[tuple[str, Path]], options: Mapping[str, str]) -> Iterator[Picture]:
    """Yield the pictures of the files in order.

    Options for the first layout: `objects` and `predicates` are files with the names (default: in
    the folder of the annotations). `sizes`, for both layouts, is a file with width and height of
    each image.
    """
    sizes = _sizes(options)
    with row_problems() as problems:
        for split, path in files:
            if first_character(path) == "{":
                yield from _json_dataset(path, split, options, sizes, problems)
            else:
                yield from _sg_dataset(path, split, sizes, problems)


def _recognises(start: Beginning) -> bool:
    if not isinstance(start.record, dict):
        return False
    relations = next(iter(start.record.values()), None)
    first = relations[0] if isinstance(relations, list) and relations else None
    in_first_layout = isinstance(first, dict) and first.keys() >= {"predicate", "subject", "object"}
    return start.names >= set(_SG_KEYS) or in_first_layout


IMPORTER = Importer(read, options=("objects", "predicates", "sizes"), recognises=_recognises)

Sizes = Mapping[str, tuple[int, int] | None]


def _json_dataset(
    path: Path, split: str, options: Mapping[str, str], sizes: Sizes, problems: RowProblems
) -> Iterator[Picture]:
    objects = _vocabulary("objects", path, options)
    predicates = _vocabulary("predicates", path, options)
    for image, values in read_members(path):
        if not isinstance(values, list):
            raise DatasetError(
                f"{path}: image {image!r} is {checked_fields.describe(values)}, but VRD's first layout "
                f"has a list of relations; {_HINT}"
            )
        relations = problems.all_caught(
            _coded_relation,
            ((value, objects, predicates, Place(path, f"image {image!r}, relation {k}"))
             for k, value in enumerate(values)),
        )  # fmt: skip
        if not problems:
            things = (thing for one in relations for thing in (one.subject, one.reference))
            yield checked_fields.picture(image, things, relations, split, _size(sizes, image))


def _coded_relation(
    value: Any, objects: Sequence[str], predicates: Sequence[str], where: Place
) -> Relation:
    return Relation(
        _coded_thing(entry(value, "subject", where), objects, f"{where}, subject"),
        _decode(entry(value, "predicate", where), predicates, where, "predicate"),
        _coded_thing(entry(value, "object", where), objects, f"{where}, object"),
        file=str(where.file),
        where=where.place,
    )


def _coded_thing(value: Any, objects: Sequence[str], where: Where) -> Thing:
    name = _decode(entry(value, "category", where), objects, where, "object")
    return Thing(name, _box(entry(value, "bbox", where), where))


def _decode(code: Any, words: Sequence[str], where: Where, kind: str) -> str:
    if type(code) is not int or not 0 <= code < len(words):
        raise DatasetError(
            f"{where}: {code!r} is not the number of a known {kind}, 0 to {len(words) - 1}; give "
            f"the {kind}s of these annotations with --option {kind}s=FILE"
        )
    return words[code]


def _box(value: Any, where: Where) -> Box:
    if not isinstance(value, list) or len(value) != 4:
        raise DatasetError(f"{where}: bbox {value!r} is not [ymin, ymax, xmin, xmax]")
    top, bottom, left, right = (checked_fields.number(edge, "bbox", where) for edge in value)
    return (left, top, right, bottom)


def _vocabulary(option: str, path: Path, options: Mapping[str, str]) -> list[str]:
    file = checked_fields.existing_file(
        Path(options.get(option, path.parent / f"{option}.json")), option
    )
    words = list(read_records(file))
    for i, word in enumerate(words):
        if not isinstance(word, str) or not word.strip():
            raise DatasetError(f"{file}: record {i} is {word!r}; write a list of names")
    return [word.strip() for word in words]


def _sizes(options: Mapping[str, str]) -> Sizes:
    """Width and height by name and by stem: one image has another suffix in the annotations."""
    sizes: dict[str, tuple[int, int] | None] = {}
    if "sizes" in options:
        path = checked_fields.existing_file(Path(options["sizes"]), "sizes")
        for image, value in read_members(path):
            where = f"{path}: image {image!r}"
            sides = {side: entry(value, side, where) for side in ("width", "height")}
            sizes[image] = checked_fields.size(sides, where)
            sizes.setdefault(stem(image), sizes[image])
    return sizes


def _size(sizes: Sizes, image: str) -> tuple[int, int] | None:
    return sizes.get(image) or sizes.get(stem(image))


def _sg_dataset(path: Path, split: str, sizes: Sizes, problems: RowProblems) -> Iterator[Picture]:
    for i, record in enumerate(read_records(path)):
        picture = problems.caught(
            _sg_picture, record, split, sizes, Place(path, f"record {i}"), problems
        )
        if picture is not None and not problems:
            yield picture


def _sg_picture(
    record: Any, split: str, sizes: Sizes, where: Place, problems: RowProblems
) -> Picture:
    if not isinstance(record, dict) or not record.keys() >= set(_SG_KEYS):
        raise DatasetError(
            f"{where} is {checked_fields.describe(record)}, but VRD's second layout has a mapping "
            f"of {', '.join(_SG_KEYS)}; {_HINT}"
        )
    things = [
        _sg_thing(value, f"{where}, object {k}")
        for k, value in enumerate(entry(record, "objects", where, list))
    ]
    relations = problems.all_caught(
        _sg_relation,
        ((value, things, where.within(f"relationship {k}"))
         for k, value in enumerate(entry(record, "relationships", where, list))),
    )  # fmt: skip
    image = entry(record, "filename", where, str)
    size = _size(sizes, image) or checked_fields.size(record, where)
    return checked_fields.picture(image, things, relations, split, size)


def _sg_thing(value: Any, where: str) -> Thing:
    return Thing(
        checked_fields.name(value, where),
        checked_fields.sized_box(entry(value, "bbox", where), where),
    )


def _sg_relation(value: Any, things: Sequence[Thing], where: Place) -> Relation:
    """A relationship. If it lacks words or objects, the import counts it as incomplete."""
    words = checked_fields.words(value, "relationship", where)
    ends = entry(value, "objects", where)
    file, place = str(where.file), where.place
    if not ends:
        return Relation(None, words, None, file=file, where=place)
    if not isinstance(ends, list) or len(ends) != 2:
        raise DatasetError(f"{where}: objects {ends!r} are not [subject, object]")
    for end in ends:
        if type(end) is not int or not 0 <= end < len(things):
            raise DatasetError(
                f"{where}: {end!r} is not the number of an object, 0 to {len(things) - 1}"
            )
    return Relation(things[ends[0]], words, things[ends[1]], file=file, where=place)
