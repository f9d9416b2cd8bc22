"""Read the records of a file in JSON or Arrow: a JSON list, JSON lines, Parquet, or an Arrow stream."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from vsp.datasets.importers.arrow_files import ARROW_START, PARQUET_START, arrow_rows, starts_with
from vsp.datasets.importers.text_lines import beginning, json_records, text_lines
from vsp.datasets.json_stream import read_records
from vsp.datasets.row_problems import RowProblems


def is_arrow(path: Path) -> bool:
    """Whether a file is Parquet or an Arrow stream."""
    return starts_with(path, PARQUET_START) or starts_with(path, ARROW_START)


def placed_records(
    path: Path, problems: RowProblems, wanted: Callable[[str], bool] = bool
) -> Iterator[tuple[str, Any]]:
    """Yield place and value of each record; of Arrow files, only the columns that are `wanted`.

    Lines that are no JSON are skipped and added to `problems`.
    """
    if is_arrow(path):
        yield from arrow_rows(path, wanted)
    elif beginning(path).startswith("["):
        with closing(read_records(path)) as records:
            for index, record in enumerate(records):
                yield f"record {index}", record
    else:
        with text_lines(path) as lines:
            for number, record in json_records(path, lines, problems):
                yield f"line {number}", record
