"""Group the rows of annotation files into pictures; the rows of an image may be anywhere in a file.

The rows are stored in a database in the folder for temporary files (`TMPDIR`), so that ten million
rows need no more memory than one picture.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import groupby, islice
from operator import itemgetter
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir
from typing import Any

from vsp.datasets.importers.annotations import Box, Picture, Relation, Thing
from vsp.datasets.row_problems import RowProblems, row_problems
from vsp.errors import DatasetError, DiskError
from vsp.utils.files import disk_errors
from vsp.utils.text import composed

_CHUNK = 1 << 12  # rows that are stored in one call
_N_CACHED = 1 << 14  # keys whose number is kept in memory
# The database is not needed after a crash. The cache is in KiB.
_SET_UP = """
PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -16384;
CREATE TABLE keys (number INTEGER PRIMARY KEY, key TEXT UNIQUE);
CREATE TABLE rows (number INTEGER, value TEXT);
"""
_encode = json.JSONEncoder(separators=(",", ":")).encode


@dataclass(frozen=True, slots=True)
class AnnotatedRow:
    """One relation of an image, as a row of a file."""

    image: str
    relation: Relation
    split: str = ""
    group: str = ""  # "": the row names no group


def rows_of_files(
    files: Iterable[tuple[str, Path]],
    read: Callable[..., Iterator[AnnotatedRow]],
    *options: object,
) -> Iterator[AnnotatedRow]:
    """Yield the rows of all files in order; `read` gets split, path, `options` and a RowProblems.

    Raises one DatasetError with the problems of all files.
    """
    with row_problems() as problems:
        for split, path in files:
            yield from read(split, path, *options, problems)


def rows_of_records(
    path: Path,
    records: Iterable[tuple[str, Any]],
    problems: RowProblems,
    make: Callable[..., AnnotatedRow],
    *arguments: object,
) -> Iterator[AnnotatedRow]:
    """Yield the row that `make` returns for each record and `arguments`; `records` have their places.

    A row that cannot be made is added to `problems`.
    """
    for place, record in records:
        row = problems.caught(placed_row, path, place, make, record, *arguments)
        if row is not None:
            yield row


def not_empty(
    records: Iterator[tuple[str, Any]], problems: RowProblems, what: str
) -> Iterator[tuple[str, Any]]:
    """Yield the records. Raises DatasetError, with `what`, if there is none and no problem either."""
    is_empty = True
    for record in records:
        is_empty = False
        yield record
    if is_empty and not problems:
        raise DatasetError(what)


def placed_row(
    path: Path, place: str, make: Callable[..., AnnotatedRow], *arguments: object
) -> AnnotatedRow:
    """The row that `make` returns, with file and place; a DatasetError begins with them."""
    try:
        row = make(*arguments)
    except DatasetError as error:
        raise DatasetError(f"{path}: {place} {error}") from None
    return replace(row, relation=replace(row.relation, file=str(path), where=place))


def group_into_pictures(rows: Iterable[AnnotatedRow]) -> Iterator[Picture]:
    """Yield a picture for each image of each split, in the order of their first rows.

    Raises DatasetError if the rows of an image name two groups, DiskError if the rows cannot be
    stored.
    """
    keyed = (((row.split, composed(row.image)), _as_json(row)) for row in rows)
    with closing(group_by_key(keyed)) as images:
        for (split, _), values in images:
            image = values[0][1]  # as the first row spells it
            relations = tuple(_relation(*value[2:]) for value in values)
            things = (thing for r in relations for thing in (r.subject, r.reference) if thing)
            group = _group(image, [value[0] for value in values], relations)
            yield Picture(image, tuple(dict.fromkeys(things)), relations, split, group=group)


def group_by_key(
    rows: Iterable[tuple[Any, Any]],
) -> Generator[tuple[Any, list[Any]], None, None]:
    """Yield each key of (key, value) pairs with all its values; keys and values keep their order.

    Keys and values must be JSON values; tuples become lists. Raises DiskError if the temporary
    folder cannot hold them.
    """
    with disk_errors(Path(gettempdir())):
        folder = TemporaryDirectory(prefix="vsp-rows-")
    with folder:
        try:
            with closing(sqlite3.connect(f"{folder.name}/rows", isolation_level=None)) as database:
                yield from _store_and_group(database, iter(rows))
        except sqlite3.OperationalError as error:
            raise DiskError(
                f"{folder.name}: cannot store rows: {error}; free space, or set TMPDIR to a "
                "folder on a larger disk, and run the same command again"
            ) from error


def _store_and_group(
    database: sqlite3.Connection, rows: Iterator[tuple[Any, Any]]
) -> Iterator[tuple[Any, list[Any]]]:
    database.executescript(_SET_UP)
    order = "rowid" if _store(database, rows) else "number, rowid"
    stored = database.execute(f"SELECT number, value FROM rows ORDER BY {order}")
    for number, same_key in groupby(stored, itemgetter(0)):
        key = database.execute("SELECT key FROM keys WHERE number = ?", (number,)).fetchone()[0]
        yield json.loads(key), [json.loads(value) for _, value in same_key]


def _store(database: sqlite3.Connection, rows: Iterator[tuple[Any, Any]]) -> bool:
    """Store the rows. True if the rows of each key are together, so that they need no sorting."""

    @lru_cache(_N_CACHED)
    def number_of(key: str) -> int:
        database.execute("INSERT OR IGNORE INTO keys (key) VALUES (?)", (key,))
        query = database.execute("SELECT number FROM keys WHERE key = ?", (key,))
        number: int = query.fetchone()[0]
        return number

    together, last = True, 0
    database.execute("BEGIN")
    while chunk := [(number_of(_encode(k)), _encode(value)) for k, value in islice(rows, _CHUNK)]:
        database.executemany("INSERT INTO rows VALUES (?, ?)", chunk)
        for number, _ in chunk:
            together, last = together and number >= last, number
    database.execute("COMMIT")
    return together


def _as_json(row: AnnotatedRow) -> tuple[Any, ...]:
    r = row.relation
    things = ((t.name, t.box) if t else None for t in (r.subject, r.reference))
    texts = r.predicate, r.id, r.prompt, r.label, r.file, r.where
    return (row.group, row.image, *things, *texts, r.options, r.regions, r.unusable)


def _relation(subject: Any, reference: Any, predicate: str, *rest: Any) -> Relation:
    id_, prompt, label, file, where, options, regions, unusable = rest
    return Relation(
        _thing(subject),
        predicate,
        _thing(reference),
        id_,
        prompt,
        label,
        file,
        where,
        tuple(options),
        tuple(one if isinstance(one, str) else _box(one) for one in regions),
        unusable,
    )


def _thing(value: tuple[str, list[float] | None] | None) -> Thing | None:
    if value is None:
        return None
    name, box = value
    return Thing(name, _box(box) if box else None)


def _box(edges: Sequence[float]) -> Box:
    left, top, right, bottom = edges
    return left, top, right, bottom


def _group(image: str, groups: list[str], relations: tuple[Relation, ...]) -> str:
    """The group that the rows of an image name; "" if they name none."""
    place_of = {
        group: f"{Path(r.file).name} {r.where}"
        for group, r in zip(groups, relations, strict=True)
        if group
    }
    if len(place_of) > 1:
        (one, place), (other, other_place) = list(place_of.items())[:2]
        raise DatasetError(
            f"image {image!r} is in group {one!r} ({place}) and in group {other!r} ({other_place}); "
            "give each image one group"
        )
    return next(iter(place_of), "")
