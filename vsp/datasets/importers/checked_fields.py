"""Parts of annotation files: taken by key, and refused with their place where they are not what
the layout says.

`where` names the place, as "FILE: record 3, object 1".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import Any

from vsp.datasets.importers.annotations import Box, Picture, Relation, Thing
from vsp.errors import DatasetError

_KINDS: dict[type, str] = {str: "text", list: "list", dict: "mapping"}


def entry(value: Any, key: str, where: str, kind: type | None = None) -> Any:
    """`value[key]`, of that kind where one is given."""
    if not isinstance(value, dict) or key not in value:
        raise DatasetError(f"{where} has no {key!r}; it is {described(value)}")
    found = value[key]
    if kind is not None and not isinstance(found, kind):
        raise DatasetError(f"{where}: {key} is {described(found)}, not a {_KINDS[kind]}")
    return found


def number(value: Any, key: str, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
        raise DatasetError(f"{where}: {key} holds {value!r}, which is no number")
    return value


def sized_box(value: Any, where: str) -> Box:
    """From x, y, w and h."""
    left, top, width, height = (number(entry(value, key, where), key, where) for key in "xywh")
    return (left, top, left + width, top + height)


def size(value: Mapping[str, Any], where: str) -> tuple[int, int] | None:
    """Width and height of an image, where both are said."""
    if value.get("width") is None or value.get("height") is None:
        return None
    return (
        round(number(value["width"], "width", where)),
        round(number(value["height"], "height", where)),
    )


def name(value: Any, where: str) -> str:
    """From `name`, or the first of `names`."""
    if isinstance(value, dict) and value.get("names"):
        names = entry(value, "names", where, list)
        value, key = {"names": names[0]}, "names"
    else:
        key = "name"
    return str(entry(value, key, where, str)).strip()


def words(value: Any, key: str, where: str) -> str:
    """A relation in the source's words; "" where it is empty or not there."""
    found = value.get(key) if isinstance(value, dict) else entry(value, key, where)
    if found is not None and not isinstance(found, str):
        raise DatasetError(f"{where}: {key} is {described(found)}, not a text")
    return (found or "").strip()


def picture(
    image: str,
    things: Iterable[Thing | None],
    relations: Sequence[Relation],
    split: str,
    of_size: tuple[int, int] | None,
) -> Picture:
    """Each thing once, in the order in which they come."""
    once = tuple(dict.fromkeys(thing for thing in things if thing is not None))
    return Picture(image, once, tuple(relations), split, of_size)


def existing(path: Path, option: str) -> Path:
    if not path.is_file():
        raise DatasetError(f"{path}: no such file; name it with --option {option}=FILE")
    return path


def described(value: Any) -> str:
    """What a value is, in a few words."""
    if isinstance(value, dict):
        return f"a mapping of {listed(value)}" if value else "an empty mapping"
    return (
        f"{value!r}"
        if value is None or isinstance(value, int | float)
        else f"a {type(value).__name__}"
    )


def listed(keys: Iterable[Any]) -> str:
    """The first few, in their order."""
    texts = [str(key)[:40] for key in keys]
    return ", ".join(texts[:6]) + (", …" if len(texts) > 6 else "")
