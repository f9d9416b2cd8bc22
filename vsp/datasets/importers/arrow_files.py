"""Read Parquet files and Arrow streams as rows of Python values, with bounded memory.

These files may come from a stranger, and a few kilobytes of them can hold gigabytes of values. The
sizes that a Parquet file declares are checked before anything is decompressed, repeated values stay
in dictionaries, and rows become Python values in slices of a few megabytes. pyarrow is an optional
dependency; no other library is needed, and nothing is unpickled.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from vsp.datasets.importers.embedded import LONGEST_PICTURE
from vsp.errors import ConfigError, DatasetError
from vsp.utils.reading import open_regular, unreadable
from vsp.utils.text import format_bytes

_PARQUET, _STREAM = b"PAR1", b"\xff\xff\xff\xff"  # the first bytes
_DICTIONARY = 2  # the type of a message with a dictionary
_MAX_GROUP = 1 << 30  # uncompressed bytes of the columns that are read, in a row group
_MAX_VALUES = 1 << 24  # values of a column of lists in a row group
_MAX_NAMES = 1 << 24  # bytes of a text in a file's footer
_SLICE = 1 << 24  # bytes of the rows that are Python values at a time
_MAX_ROWS = 1 << 10  # of a slice
_BUFFER = 1 << 20  # bytes of a read

Row = tuple[str, dict[str, Any]]  # its place, and its values by column


def arrow_rows(path: Path, wanted: Callable[[str], bool]) -> Iterator[Row]:
    """Yield place and values of each row of a Parquet file or an Arrow stream.

    Only columns that are `wanted` are read. A number with names, a ClassLabel of Hugging Face, becomes
    its name. Raises DatasetError if the file is damaged or a value too large, ConfigError if pyarrow
    is not installed.
    """
    with _arrow_errors(path):
        is_parquet = _starts_with(path, _PARQUET)
        batches = _parquet_batches(path, wanted) if is_parquet else _stream_batches(path, wanted)
        first = 0
        for batch, names in batches:
            for start, rows in _slices(path, batch, first):
                for index, row in enumerate(rows, start):
                    yield f"row {index}", _named(row, names, f"{path}: row {index}")
            first += batch.num_rows


def column_names(path: Path) -> list[str]:
    """The names of a file's columns."""
    with _arrow_errors(path):
        if _starts_with(path, _PARQUET):
            with _parquet(path) as file:
                return list(file.schema_arrow.names)
        with _stream(path) as reader:
            return list(reader.schema.names)


def is_arrow(path: Path) -> bool:
    """Whether a file is Parquet or an Arrow stream. Raises DatasetError if it cannot be read."""
    return _starts_with(path, _PARQUET, _STREAM)


def _starts_with(path: Path, *marks: bytes) -> bool:
    try:
        with open_regular(path) as file:
            return file.read(4) in marks
    except OSError as error:
        raise DatasetError(f"{path}: {unreadable(error)}; give a readable file") from None


def _pyarrow() -> Any:
    try:
        import pyarrow.compute
        import pyarrow.parquet
    except ImportError:
        raise ConfigError(
            "Parquet and Arrow files need pyarrow, which is not installed: pip install 'vsp[parquet]'"
        ) from None
    return pyarrow


@contextmanager
def _arrow_errors(path: Path) -> Iterator[None]:
    """Raise DatasetError for what pyarrow raises for a damaged file."""
    damage = (_pyarrow().ArrowException, OSError, UnicodeDecodeError, struct.error, IndexError)
    try:
        yield
    except damage as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise DatasetError(
            f"{path}: cannot be read as Parquet or as an Arrow stream: {lines[0][:200]}; download or "
            "write it again"
        ) from None


@contextmanager
def _parquet(path: Path, **options: Any) -> Iterator[Any]:
    with open_regular(path) as file:
        yield _pyarrow().parquet.ParquetFile(
            file,
            buffer_size=_BUFFER,
            pre_buffer=False,
            thrift_string_size_limit=_MAX_NAMES,
            **options,
        )


def _parquet_batches(path: Path, wanted: Callable[[str], bool]) -> Iterator[tuple[Any, Any]]:
    """Yield the batches of the wanted columns, with the names of ClassLabel numbers."""
    with _parquet(path) as file:
        columns = [name for name in file.schema_arrow.names if wanted(name)]
        names = _class_names(file.schema_arrow)
        repeated = [file.schema.column(i).max_repetition_level > 0 for i in range(len(file.schema))]
        texts, row_bytes = set(), 1
        for number in range(file.num_row_groups):
            group = file.metadata.row_group(number)
            chunks = [(group.column(i), repeated[i]) for i in range(group.num_columns)]
            chunks = [one for one in chunks if one[0].path_in_schema.split(".")[0] in columns]
            n_bytes = _checked_size(path, number, chunks)
            row_bytes = max(row_bytes, n_bytes // max(group.num_rows, 1))
            texts |= {c.path_in_schema for c, _ in chunks if c.physical_type == "BYTE_ARRAY"}
    if not columns:
        return
    n_rows = max(1, min(_MAX_ROWS, _SLICE // row_bytes))
    # A value that many rows repeat is stored once, in the file and in a dictionary.
    with _parquet(path, read_dictionary=sorted(texts)) as file:
        for number in range(file.num_row_groups):  # pyarrow joins no dictionaries of two row groups
            for batch in file.iter_batches(n_rows, [number], columns=columns, use_threads=False):
                yield batch, names


def _checked_size(path: Path, number: int, chunks: list[tuple[Any, bool]]) -> int:
    """The uncompressed bytes of the columns in a row group. Raises DatasetError if they are many."""
    n_bytes = sum(chunk.total_uncompressed_size for chunk, _ in chunks)
    if n_bytes > _MAX_GROUP:
        raise DatasetError(
            f"{path}: row group {number} takes {format_bytes(n_bytes)} uncompressed, at most "
            f"{format_bytes(_MAX_GROUP)} are read; write the file again with smaller row groups"
        )
    for chunk, is_repeated in chunks:
        if is_repeated and chunk.num_values > _MAX_VALUES:
            raise DatasetError(
                f"{path}: row group {number} has {chunk.num_values:,} values in the lists of "
                f"{chunk.path_in_schema}, at most {_MAX_VALUES:,} are read; write the file again "
                "with smaller row groups"
            )
    return int(n_bytes)


@contextmanager
def _stream(path: Path) -> Iterator[Any]:
    """A reader of a stream's messages, with its `schema`. The file is mapped, not read."""
    arrow = _pyarrow()
    open_regular(path).close()
    with arrow.memory_map(str(path)) as mapped, arrow.ipc.open_stream(mapped) as reader:
        yield reader


def _stream_batches(path: Path, wanted: Callable[[str], bool]) -> Iterator[tuple[Any, Any]]:
    _refuse_compressed(path)
    with _stream(path) as reader:
        columns = [name for name in reader.schema.names if wanted(name)]
        names = _class_names(reader.schema)
        for batch in reader:
            batch.validate(full=True)  # offsets of a damaged file would lead anywhere
            yield batch.select(columns), names


def _refuse_compressed(path: Path) -> None:
    """Raise DatasetError if a record batch is compressed: its size in memory is not known."""
    arrow = _pyarrow()
    with arrow.memory_map(str(path)) as mapped:
        for message in arrow.ipc.MessageReader.open_stream(mapped):
            if message.type != "schema" and _is_compressed(message.metadata.to_pybytes()):
                raise DatasetError(
                    f"{path}: is a compressed Arrow stream, which cannot be bounded; write it again "
                    "without compression, as save_to_disk does, or as Parquet"
                )


def _is_compressed(message: bytes) -> bool:
    """Whether a record batch or a dictionary's batch is compressed, from its flatbuffer.

    A table begins with the distance back to its list of field offsets; 0 is a missing field.
    """

    def field(table: int, number: int) -> int:
        offsets = table - struct.unpack_from("<i", message, table)[0]
        size = struct.unpack_from("<H", message, offsets)[0]
        place = 4 + 2 * number
        at = struct.unpack_from("<H", message, offsets + place)[0] if place < size else 0
        return table + at if at else 0

    def table_in(table: int, number: int) -> int:
        at = field(table, number)
        return at + int(struct.unpack_from("<I", message, at)[0])

    root = struct.unpack_from("<I", message)[0]
    batch = table_in(root, 2)
    if message[field(root, 1)] == _DICTIONARY:
        batch = table_in(batch, 1)
    return bool(field(batch, 3))


def _slices(path: Path, batch: Any, first: int) -> Iterator[tuple[int, list[dict[str, Any]]]]:
    """Yield number of the first row and the rows of slices that need little memory."""
    done = 0
    while done < batch.num_rows:
        part = batch.slice(done, _MAX_ROWS)
        longest = max((_longest(column) for column in part.columns), default=0)
        if longest > LONGEST_PICTURE:
            raise DatasetError(
                f"{path}: rows {first + done} to {first + done + part.num_rows - 1}: one has a value "
                f"of {format_bytes(longest)}, at most {format_bytes(LONGEST_PICTURE)} can be read"
            )
        part = part.slice(0, max(1, _SLICE // max(longest, 1)))
        yield first + done, part.to_pylist()
        done += part.num_rows


def _longest(column: Any) -> int:
    """Bytes of the longest text, picture or list of a column's rows."""
    arrow = _pyarrow()
    types, kind = arrow.types, column.type
    if isinstance(column, arrow.ExtensionArray):
        return _longest(column.storage)
    if types.is_dictionary(kind):
        return _longest(column.dictionary)
    if types.is_struct(kind):
        return max((_longest(column.field(i)) for i in range(kind.num_fields)), default=0)
    if types.is_list(kind) or types.is_large_list(kind):
        lengths = arrow.compute.max(arrow.compute.list_value_length(column)).as_py() or 0
        return int(lengths) * max(_longest(column.flatten()), 8)
    if types.is_primitive(kind) or types.is_null(kind) or types.is_boolean(kind):
        return 8
    try:
        return arrow.compute.max(arrow.compute.binary_length(column)).as_py() or 0
    except arrow.ArrowNotImplementedError:
        raise DatasetError(f"a column has the type {kind}, which is not read; convert it") from None


def _class_names(schema: Any) -> dict[str, list[str]]:
    """Column → names of its numbers, as Hugging Face writes them to a schema."""
    text = (schema.metadata or {}).get(b"huggingface", b"{}")
    features: Any = {}
    with suppress(ValueError, RecursionError, KeyError, TypeError):
        features = json.loads(text)["info"]["features"]
    return {
        column: list(map(str, feature["names"]))
        for column, feature in (features.items() if isinstance(features, dict) else ())
        if isinstance(feature, dict)
        and feature.get("_type") == "ClassLabel"
        and isinstance(feature.get("names"), list)
    }


def _named(row: dict[str, Any], names: Mapping[str, list[str]], where: str) -> dict[str, Any]:
    """The row with names in place of numbers; -1 is a missing label."""
    for column, texts in names.items():
        number = row.get(column)
        if type(number) is not int:
            continue
        if not -1 <= number < len(texts):
            raise DatasetError(
                f"{where} has the {column} {number}, but the file names {len(texts)} classes; "
                "correct the file"
            )
        row[column] = texts[number] if number >= 0 else None
    return row
