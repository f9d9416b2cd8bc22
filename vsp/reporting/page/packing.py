"""Packs the rows of a chart's data by columns, which takes a third of their space. page.js unpacks them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

_Row = Mapping[str, Any]


def packed_spec(spec: _Row) -> dict[str, Any]:
    """The specification with its rows packed: `values` becomes `{"rows": n, "columns": …}`.

    Rows without a field that others have stay as they are.
    """
    data = spec.get("data", {})
    rows = data.get("values")
    if not rows or any(row.keys() != rows[0].keys() for row in rows):
        return dict(spec)
    columns = {name: _column([row[name] for row in rows]) for name in rows[0]}
    return {**spec, "data": {**data, "values": {"rows": len(rows), "columns": columns}}}


def unpacked_spec(spec: _Row) -> dict[str, Any]:
    """The specification as it was before it was packed."""
    values = spec.get("data", {}).get("values")
    if not isinstance(values, dict):
        return dict(spec)
    columns = {
        name: one if isinstance(one, list) else [one["of"][at] for at in one["at"]]
        for name, one in values["columns"].items()
    }
    rows = [{name: column[i] for name, column in columns.items()} for i in range(values["rows"])]
    return {**spec, "data": {**spec["data"], "values": rows}}


def _column(values: Sequence[Any]) -> Any:
    """The values, or each different one with the place of every row's among them if that is shorter."""
    texts = [json.dumps(one) for one in values]
    place = {text: number for number, text in enumerate(dict.fromkeys(texts))}
    if sum(map(len, place)) + 3 * len(texts) >= sum(map(len, texts)):
        return list(values)
    return {"of": [json.loads(text) for text in place], "at": [place[text] for text in texts]}
