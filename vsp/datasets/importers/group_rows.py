"""Rows in the order of a file → pictures: the rows about an image may stand anywhere in the file.

Rows wait in a database in the folder for temporary files (`TMPDIR`), so that ten million of them
take no more memory than the picture in hand.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby, islice
from operator import itemgetter
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir
from typing import Any

from vsp.datasets.importers.annotations import Picture, Relation, Thing
from vsp.errors import DatasetError, DiskError
from vsp.utils.files import disk_errors

_AT_ONCE = 1 << 12  # rows that are written together
_REMEMBERED = 1 << 14  # images whose number needs no look-up
# What is lost in a crash is not missed. The cache is in KiB.
_SET_UP = """
PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -16384;
CREATE TABLE keys (number INTEGER PRIMARY KEY, key TEXT UNIQUE);
CREATE TABLE rows (number INTEGER, value TEXT);
"""
_encode = json.JSONEncoder(separators=(",", ":")).encode


@dataclass(frozen=True, slots=True)
class Row:
    """What a source says in one place of one image."""

    image: str
    relation: Relation
    split: str = ""
    group: str = ""  # "": none is named


def pictures(rows: Iterable[Row]) -> Iterator[Picture]:
    """A picture for each image of each split, in the order in which they first appear.

    Raises DatasetError where an image is said to be in two groups, DiskError where the rows find no
    room.
    """
    keyed = (((row.split, row.image), _value(row)) for row in rows)
    with closing(grouped(keyed)) as found:
        for (split, image), values in found:
            relations = tuple(_relation(*value[1:]) for value in values)
            named = (thing for r in relations for thing in (r.subject, r.reference) if thing)
            group = _group(image, [value[0] for value in values], relations)
            yield Picture(image, tuple(dict.fromkeys(named)), relations, split, group=group)


def grouped(
    rows: Iterable[tuple[Any, Any]],
) -> Generator[tuple[Any, list[Any]], None, None]:
    """(key, value) pairs → each key with all its values, keys and values in their first order.

    Both must be what JSON can hold; tuples come back as lists. Raises DiskError.
    """
    with disk_errors(Path(gettempdir())):
        folder = TemporaryDirectory(prefix="vsp-rows-")
    with folder:
        try:
            with closing(sqlite3.connect(f"{folder.name}/rows", isolation_level=None)) as base:
                yield from _through(base, iter(rows))
        except sqlite3.OperationalError as error:
            raise DiskError(
                f"{folder.name}: rows cannot wait there: {error}; free space, or set TMPDIR to a "
                "folder on a larger disk, and run the same command again"
            ) from error


def _through(
    base: sqlite3.Connection, rows: Iterator[tuple[Any, Any]]
) -> Iterator[tuple[Any, list[Any]]]:
    base.executescript(_SET_UP)
    # Rows that are together already need not be sorted.
    order = "rowid" if _stored(base, rows) else "number, rowid"
    found = base.execute(f"SELECT number, value FROM rows ORDER BY {order}")
    for number, same in groupby(found, itemgetter(0)):
        key = base.execute("SELECT key FROM keys WHERE number = ?", (number,)).fetchone()[0]
        yield json.loads(key), [json.loads(value) for _, value in same]


def _stored(base: sqlite3.Connection, rows: Iterator[tuple[Any, Any]]) -> bool:
    """Store the rows; true if they came with all the rows of a key together."""

    @lru_cache(_REMEMBERED)
    def number(key: str) -> int:
        base.execute("INSERT OR IGNORE INTO keys (key) VALUES (?)", (key,))
        found: int = base.execute("SELECT number FROM keys WHERE key = ?", (key,)).fetchone()[0]
        return found

    together, last = True, 0
    base.execute("BEGIN")
    while some := [(number(_encode(key)), _encode(value)) for key, value in islice(rows, _AT_ONCE)]:
        base.executemany("INSERT INTO rows VALUES (?, ?)", some)
        for one, _ in some:
            together, last = together and one >= last, one
    base.execute("COMMIT")
    return together


def _value(row: Row) -> tuple[Any, ...]:
    r = row.relation
    things = ((t.name, t.box) if t else None for t in (r.subject, r.reference))
    return (row.group, *things, r.predicate, r.id, r.prompt, r.label, r.where)


def _relation(subject: Any, reference: Any, predicate: str, *rest: str) -> Relation:
    return Relation(_thing(subject), predicate, _thing(reference), *rest)


def _thing(value: tuple[str, list[float] | None] | None) -> Thing | None:
    if value is None:
        return None
    name, box = value
    return Thing(name, (box[0], box[1], box[2], box[3]) if box else None)


def _group(image: str, groups: list[str], relations: tuple[Relation, ...]) -> str:
    """The group that rows of an image name; some may name none."""
    said = {group: r.where for group, r in zip(groups, relations, strict=True) if group}
    if len(said) > 1:
        (one, place), (other, other_place) = list(said.items())[:2]
        raise DatasetError(
            f"image {image!r} is in group {one!r} ({place}) and in group {other!r} ({other_place}); "
            "give an image one group"
        )
    return next(iter(said), "")
