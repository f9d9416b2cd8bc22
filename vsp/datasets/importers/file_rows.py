"""Read the cells of CSV and TSV files, and the records of JSON files, with their places."""

from __future__ import annotations

import csv
import logging
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from reprlib import repr as shortened
from typing import Any

from vsp.datasets.importers.text_lines import LONGEST_LINE, beginning, json_records, text_lines
from vsp.datasets.json_stream import read_records
from vsp.datasets.row_problems import RowProblems
from vsp.errors import DatasetError

_log = logging.getLogger(__name__)
_MAX_LISTED = 300  # characters of column names in a message


def rows_of_cells(
    path: Path, lines: Iterator[str], delimiter: str, problems: RowProblems
) -> Iterator[tuple[str, list[str]]]:
    """Yield place and cells of the header, then of each row that is not empty.

    Rows with more or fewer cells than the header are skipped and added to `problems`.
    """
    rows = _cells(path, lines, delimiter)
    number, header = next(rows, (1, []))
    yield f"line {number}", header
    for number, cells in rows:
        if len(cells) == len(header):
            yield f"line {number}", cells
            continue
        problems.add(
            DatasetError(
                f"{path}: line {number} has {len(cells)} cells, the header {len(header)}; give "
                "each row as many, and quote cells that contain the separator"
            )
        )


def json_rows(
    path: Path, problems: RowProblems, encoding: str = ""
) -> Generator[tuple[str, dict[str, Any]], None, None]:
    """Yield place and record of a JSON list of mappings, or of JSON lines.

    Values that are no mapping are skipped and added to `problems`.
    """
    if beginning(path, encoding).startswith("["):
        with closing(read_records(path)) as values:
            for index, record in enumerate(values):
                if isinstance(record, dict):
                    yield f"record {index}", record
                else:
                    text = f"{path}: record {index} is {shortened(record)}, not a mapping"
                    problems.add(DatasetError(text))
    else:
        with text_lines(path, encoding) as lines:
            for number, record in json_records(path, lines, problems):
                yield f"line {number}", record


def log_unread(path: Path, names: Sequence[str], kind: str = "columns") -> None:
    """Log the columns that are not read: a name may be misspelt."""
    if names:
        _log.info("%s: %s that are not read: %s", path, kind, listed_names(names))


def listed_names(names: Iterable[str]) -> str:
    """The names, or the first of very many, in one line."""
    text = ", ".join(name.strip() or "one without a name" for name in names)
    return f"{text[:_MAX_LISTED]} …" if len(text) > _MAX_LISTED else text or "none"


def _cells(path: Path, lines: Iterator[str], delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows that are not empty, each with the number of its first line."""
    csv.field_size_limit(LONGEST_LINE)  # a picture is longer than Python's limit for a cell
    reader = csv.reader(lines, delimiter=delimiter, skipinitialspace=True, strict=True)
    number = 1
    try:
        for cells in reader:
            if any(map(str.strip, cells)):
                yield number, cells
            number = reader.line_num + 1
    except csv.Error as error:
        raise DatasetError(
            f"{path}: line {number} is not CSV: {error}; look for a quotation mark that is not "
            "closed, and write quotation marks inside a cell twice"
        ) from None
