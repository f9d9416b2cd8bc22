"""The rows that `vsp report --rows` lists: what the probe and the model say about each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import RenderableType
from rich.table import Table

from vsp.errors import ConfigError, RunError
from vsp.storage.results import Results
from vsp.utils.terminal import folded_text, text_line
from vsp.utils.text import format_count, shorten

_SHOWN = 40  # rows on a page; `--json` has all
_TEXT = 60  # characters of a label or answer on a page
_TITLES = {
    "knows-not-says": "The probe is right and the model's answer is wrong",
    "says-not-knows": "The model's answer is right and the probe is wrong",
    "all": "Answers of the model, and the probe",
}


@dataclass(frozen=True, slots=True)
class AnsweredRow:
    """A row whose label is one of its options."""

    id: str
    label: str
    answer: str  # the model's own
    margin: float | None  # score of the label's option minus the best of the others
    n_right: int  # repeats in which the probe is right
    n_tested: int  # repeats in which the row is tested


def answered_rows(results: Results, kind: str) -> list[AnsweredRow]:
    """The rows of a kind of ROW_KINDS, the clearest wrong answers first.

    The probe knows a row if it is right in more than half of the repeats that test the row. Raises
    ConfigError if the results hold no answers, RunError if they are damaged.
    """
    summary = results.read()[0]
    if summary["says"] is None:
        why = summary["no_answers"] or "they are of an older version"
        raise ConfigError(f"--rows {kind}: {results.folder} holds no answers of the model: {why}")
    arrays = _checked(results)
    label, margin = arrays["label"], arrays["answer_margin"].astype(np.float64)
    names, tested = arrays["answer_names"], arrays["outer"] >= 0
    answer = names[np.maximum(arrays["answer"], 0)]
    right = (arrays["classes"][np.maximum(arrays["peak"], 0)] == label) & tested
    n_right, n_tested = right.sum(axis=0), tested.sum(axis=0)
    knows, says = 2 * n_right > n_tested, answer == label
    wanted = {"knows-not-says": knows & ~says, "says-not-knows": ~knows & says}
    judged = (n_tested > 0) & (arrays["answer"] >= 0) & ~np.isnan(margin)
    rows = np.flatnonzero(judged & wanted.get(kind, np.ones(len(label), dtype=bool)))
    return [
        AnsweredRow(
            id=str(arrays["id"][row]),
            label=str(label[row]),
            answer=str(answer[row]),
            margin=float(margin[row]) if np.isfinite(margin[row]) else None,
            n_right=int(n_right[row]),
            n_tested=int(n_tested[row]),
        )
        for row in rows[np.argsort(margin[rows], kind="stable")].tolist()
    ]


def rows_page(rows: Sequence[AnsweredRow], kind: str) -> list[RenderableType]:
    """A table of the first rows, and the number of the others."""
    title = f"{_TITLES[kind]}: {format_count(len(rows), 'row')}"
    parts: list[RenderableType] = [text_line(title, style="bold")]
    if not rows:
        return parts
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 1, 0, 0))
    for name in ("id", "label", "answer"):
        table.add_column(name, overflow="fold")
    for name in ("margin", "probe right"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows[:_SHOWN]:
        texts = (row.id, shorten(row.label, _TEXT), shorten(row.answer, _TEXT))
        margin = "–" if row.margin is None else f"{row.margin:+.2f}"
        table.add_row(*map(text_line, (*texts, margin, f"{row.n_right} of {row.n_tested}")))
    parts.append(table)
    notes = ["margin: score of the label's option minus the best score of the others."]
    if len(rows) > _SHOWN:
        notes.append(
            f"{len(rows) - _SHOWN} more rows; `vsp report --rows {kind} --json` lists all."
        )
    return [*parts, *map(folded_text, notes)]


def _checked(results: Results) -> dict[str, NDArray[Any]]:
    """The arrays of the answers. Raises RunError unless they are as `vsp probe` writes them."""
    names = ("id", "label", "outer", "classes", "peak", "answer", "answer_names", "answer_margin")
    arrays = results.arrays("predictions", names)
    n_rows = len(arrays["id"]) if "id" in arrays and arrays["id"].ndim == 1 else -1
    n_repeats = len(arrays["outer"]) if "outer" in arrays and arrays["outer"].ndim == 2 else -1
    expected: dict[str, tuple[tuple[int, ...], str]] = {
        "id": ((n_rows,), "U"),
        "label": ((n_rows,), "U"),
        "outer": ((n_repeats, n_rows), "iu"),
        "peak": ((n_repeats, n_rows), "iu"),
        "answer": ((n_rows,), "iu"),
        "answer_margin": ((n_rows,), "f"),
    }
    for name, (shape, kinds) in expected.items():
        array = arrays.get(name)
        if array is None or array.shape != shape or array.dtype.kind not in kinds:
            raise _not_arrays(results, name)
    for name, index in (("classes", "peak"), ("answer_names", "answer")):
        array = arrays.get(name)
        if array is None or array.ndim != 1 or array.dtype.kind != "U" or not len(array):
            raise _not_arrays(results, name)
        if arrays[index].size and arrays[index].max() >= len(array):
            raise _not_arrays(results, index)
    return arrays


def _not_arrays(results: Results, name: str) -> RunError:
    return RunError(
        f"{results.folder}: the array {name} is not what vsp writes; run `vsp probe` again"
    )
