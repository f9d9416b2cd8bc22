"""Read fields of annotation files. Each function raises DatasetError for a field of another type.

`where` is the place for the message: a `Place`, or text such as "FILE: record 3, object 1".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

from vsp.datasets.importers.annotations import Box, Picture, Relation, Thing
from vsp.errors import DatasetError
from vsp.utils.reading import unreadable


@dataclass(frozen=True, slots=True)
class Place:
    """A place in an annotation file; its text is "FILE: record 3"."""

    file: Path
    place: str

    def __str__(self) -> str:
        return f"{self.file}: {self.place}"

    def within(self, part: str) -> Place:
        return Place(self.file, f"{self.place}, {part}")


Where = Place | str

_TYPE_NAMES: dict[type, str] = {str: "text", list: "a list", dict: "a mapping"}


def entry(value: Any, key: str, where: Where, kind: type | None = None) -> Any:
    """`value[key]`, which must have the type `kind` if given."""
    if not isinstance(value, dict) or key not in value:
        raise DatasetError(f"{where} has no {key!r}; it is {describe(value)}")
    field = value[key]
    if kind is not None and not isinstance(field, kind):
        raise DatasetError(f"{where}: {key} is {describe(field)}, not {_TYPE_NAMES[kind]}")
    return field


def number(value: Any, key: str, where: Where) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
        raise DatasetError(f"{where}: {key} is {value!r}, not a finite number")
    return value


def sized_box(value: Any, where: Where) -> Box:
    """The box given by x, y, w and h."""
    left, top, width, height = (number(entry(value, key, where), key, where) for key in "xywh")
    return (left, top, left + width, top + height)


def size(value: Mapping[str, Any], where: Where) -> tuple[int, int] | None:
    """Width and height of an image; None if one is missing."""
    if value.get("width") is None or value.get("height") is None:
        return None
    return (
        round(number(value["width"], "width", where)),
        round(number(value["height"], "height", where)),
    )


def name(value: Any, where: Where) -> str:
    """The field `name`, or the first of `names`, without outer spaces."""
    if isinstance(value, dict) and value.get("names"):
        names = entry(value, "names", where, list)
        value, key = {"names": names[0]}, "names"
    else:
        key = "name"
    return str(entry(value, key, where, str)).strip()


def words(value: Any, key: str, where: Where) -> str:
    """The text in a field, without outer spaces; "" if it is missing or null."""
    text = value.get(key) if isinstance(value, dict) else entry(value, key, where)
    if text is not None and not isinstance(text, str):
        raise DatasetError(f"{where}: {key} is {describe(text)}, not text")
    return (text or "").strip()


def picture(
    image: str,
    things: Iterable[Thing | None],
    relations: Sequence[Relation],
    split: str,
    image_size: tuple[int, int] | None,
) -> Picture:
    """A picture with each thing once, in order; None stands for a missing thing."""
    distinct = tuple(dict.fromkeys(thing for thing in things if thing is not None))
    return Picture(image, distinct, tuple(relations), split, image_size)


def existing_file(path: Path, option: str) -> Path:
    if not path.is_file():
        raise DatasetError(f"{path}: no such file; give it with --option {option}=FILE")
    return path


def check_folder(path: Path) -> None:
    """Raise DatasetError if the names in a folder cannot be read."""
    try:
        next(path.iterdir(), None)
    except OSError as error:
        raise DatasetError(
            f"{path}: {unreadable(error)}; name a folder that you can read"
        ) from None


def describe(value: Any) -> str:
    """The type of a value, or a short value itself, for a message."""
    if isinstance(value, dict):
        return f"a mapping of {_list_keys(value)}" if value else "an empty mapping"
    if value is None or isinstance(value, int | float):
        return repr(value)
    return f"a {type(value).__name__}"


def _list_keys(keys: Iterable[Any]) -> str:
    texts = [str(key)[:40] for key in keys]
    return ", ".join(texts[:6]) + (", …" if len(texts) > 6 else "")
