"""Writes exported states as `.npz`, `.safetensors` or `.parquet`, as a stream.

Equal exports give equal bytes. Files are written aside and renamed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vsp.choices import ExportFormat
from vsp.errors import RunError
from vsp.storage.exported import Export, check_out
from vsp.storage.npz import Blocks, write_arrays
from vsp.storage.npz_entries import MAX_TEXTS
from vsp.storage.npz_states import CARD, KEYS, STATES
from vsp.storage.safetensors_states import metadata_text, rows_path
from vsp.utils.files import sha256, write_aside, write_together
from vsp.utils.text import format_bytes

_DTYPES = {"float16": "F16", "float32": "F32"}
_ALIGNED = 8  # bytes; tensors begin at a multiple of this


def write_export(export: Export, form: ExportFormat, path: Path) -> list[Path]:
    """Write the files of a format, `npz`, `safetensors` or `parquet`, and return their paths.

    Raises RunError if one exists already, or the format cannot hold the export.
    """
    check_out(path, f".{form}")
    return _WRITERS[form](export, path)


def _write_npz(export: Export, path: Path) -> list[Path]:
    """`representations [sample, layer, hidden]`, `labels`, `image_ids` and more arrays of texts."""
    arrays: dict[str, NDArray[Any] | Blocks] = {
        STATES: Blocks(
            (len(export), len(export.layers), export.hidden_size),
            export.dtype,
            chain.from_iterable(export.sample_blocks()),
        )
    }
    for column, key in KEYS.items():
        arrays[key] = _text_array(path, column, export.columns[column])
    if export.answers is not None:
        arrays["answers"] = export.answers
        most = export.answers.shape[1]
        arrays["options"] = np.array(
            [[*options, *[""] * (most - len(options))] for options in export.options]
        )
    if export.predictions is not None:
        arrays["predictions"] = export.predictions
    arrays[CARD] = np.array([json.dumps(export.card, ensure_ascii=False)])
    with write_aside(path) as file:
        write_arrays(file, arrays)
    return [path]


def _text_array(path: Path, column: str, texts: list[str]) -> NDArray[np.str_]:
    n_bytes = 4 * len(texts) * max(map(len, texts))
    if n_bytes > MAX_TEXTS:
        raise RunError(
            f"{path}: {column} of all rows takes {format_bytes(n_bytes)} as an array of equal lengths, "
            f"more than {format_bytes(MAX_TEXTS)}; use --to safetensors"
        )
    return np.array(texts, dtype=str)


def _write_safetensors(export: Export, path: Path) -> list[Path]:
    """A tensor `layer.N [sample, hidden]` for each layer, and the rows beside it as lines of JSON."""
    beside = rows_path(path)
    check_out(beside, ".jsonl")
    with write_together([beside, path]) as (rows, file):
        for line in _json_rows(export):
            rows.write(line)
        rows.flush()
        file.write(_header(export, sha256(rows)))
        rows.seek(0, 2)
        for layer in export.layers:
            for block in export.layer_blocks(layer):
                file.write(np.ascontiguousarray(block).data.cast("B"))
    return [path, beside]


def _header(export: Export, rows_sha256: str) -> bytes:
    n_bytes = len(export) * export.store.layout.row_bytes
    values: dict[str, Any] = {"__metadata__": metadata_text(export.card, rows_sha256)}
    for place, layer in enumerate(export.model_layers):
        values[f"layer.{layer}"] = {
            "dtype": _DTYPES[export.dtype.name],
            "shape": [len(export), export.hidden_size],
            "data_offsets": [place * n_bytes, (place + 1) * n_bytes],
        }
    text = json.dumps(values, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNED)
    return len(text).to_bytes(8, "little") + text


def _json_rows(export: Export) -> Iterator[bytes]:
    names = list(export.columns)
    for i, texts in enumerate(zip(*export.columns.values(), strict=True)):
        row: dict[str, Any] = dict(zip(names, texts, strict=True))
        if export.answers is not None:
            row["options"] = list(export.options[i])
            row["answers"] = export.answers[i, : len(export.options[i])].tolist()
        if export.predictions is not None:
            row["predictions"] = export.predictions[i].tolist()
        yield json.dumps(row, ensure_ascii=False).encode() + b"\n"


def _write_parquet(export: Export, path: Path) -> list[Path]:
    """A row for each sample, with a list of numbers in the column `layer_N` for each layer."""
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError:
        raise RunError(
            "--to parquet needs pyarrow, which is not installed: pip install 'vsp[parquet]'"
        ) from None
    number = pa.float16() if export.dtype == np.float16 else pa.float32()
    fields = [pa.field(name, pa.string()) for name in export.columns]
    if export.answers is not None:
        fields += [pa.field("options", pa.list_(pa.string()))]
        fields += [pa.field("answers", pa.list_(pa.float32()))]
    if export.predictions is not None:
        fields += [pa.field("predictions", pa.list_(pa.string()))]
    lists = pa.list_(number, export.hidden_size)
    fields += [pa.field(f"layer_{layer}", lists) for layer in export.model_layers]
    card = json.dumps(export.card, ensure_ascii=False)
    schema = pa.schema(fields, metadata={"vsp": card})
    dictionary = [one.name for one in fields if one.type == pa.string()]
    with (
        write_aside(path) as file,
        parquet.ParquetWriter(file, schema, use_dictionary=dictionary) as writer,
    ):
        start = 0
        for block in export.sample_blocks():
            stop = start + len(block)
            columns: list[Any] = [pa.array(texts[start:stop]) for texts in export.columns.values()]
            if export.answers is not None:
                some = range(start, stop)
                columns += [pa.array([list(export.options[i]) for i in some])]
                columns += [pa.array(_answer_lists(export, start, stop), pa.list_(pa.float32()))]
            if export.predictions is not None:
                columns += [pa.array(export.predictions[start:stop].tolist())]
            for place in range(len(export.layers)):
                values = np.ascontiguousarray(block[:, place]).reshape(-1)
                columns += [pa.FixedSizeListArray.from_arrays(pa.array(values), type=lists)]
            writer.write_batch(pa.record_batch(columns, schema=schema))
            start = stop
    return [path]


def _answer_lists(export: Export, start: int, stop: int) -> list[list[float]]:
    assert export.answers is not None
    return [export.answers[i, : len(export.options[i])].tolist() for i in range(start, stop)]


_WRITERS: Mapping[ExportFormat, Callable[[Export, Path], list[Path]]] = {
    "npz": _write_npz,
    "safetensors": _write_safetensors,
    "parquet": _write_parquet,
}
