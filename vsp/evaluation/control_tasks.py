"""The control tasks of a run: which types of rows get random labels, and why a control is not drawn.

A control task gives a random label to each type of row. A probe that predicts these labels on new
rows reads the type from the states and has memorised its label. A control needs many types that
recur.

names     the ordered pair of subject and reference; `prompt` if the dataset has no names
cell      the cell of the picture, 8 × 8, that holds the centre of the subject's box

The cell alone is used, not the cell with the name. In a thousand rows, most pairs of a cell and a
name occur once, and a probe cannot learn the label of such a type.

A new control is one line in `_types`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vsp.evaluation.controls import control_labels
from vsp.evaluation.design import Design, is_constant
from vsp.evaluation.probed_rows import ProbedRows
from vsp.evaluation.seen_pairs import is_seen
from vsp.utils.text import format_count

_CELLS = 8  # on a side of the picture
_MIN_TYPES = 10
_RECURRING = 0.5  # of the test rows must have a type that their training rows have
_MAJORITY_TOLERANCE = 0.1  # difference of the share of the most frequent label to the task's


@dataclass(frozen=True, slots=True)
class ControlTasks:
    """The tasks of one control."""

    labels: NDArray[Any]  # [task, row]; no task if the control is not drawn
    n_types: int
    note: str  # why it is not drawn, or how many tasks are left out; empty: all are drawn

    @property
    def facts(self) -> dict[str, Any]:
        """The facts for the summary of a run."""
        return {"tasks": len(self.labels), "types": self.n_types, "note": self.note}


def control_tasks(
    rows: ProbedRows, y: NDArray[Any], design: Design, n: int, seed: int
) -> dict[str, ControlTasks]:
    """`n` tasks of each control by its name; none if `n` is 0.

    Labels are drawn for the types in the order of their names and for rows in the order of ids, so
    they do not depend on the order of the rows if `rows` are in the order of ids.
    """
    if not n:
        return {}
    return {name: _tasks(kind, y, design, n, seed) for name, kind in _types(rows)}


def _types(rows: ProbedRows) -> Iterator[tuple[str, NDArray[Any] | str]]:
    """Names of controls, each with the type [row] of the rows, or the reason why there are none."""
    names = rows.names
    yield ("prompt", rows.prompt) if names is None else ("names", names)
    n_known, n_rows = int(np.isfinite(rows.subject_box).all(axis=1).sum()), len(rows.subject_box)
    if n_known == n_rows:
        yield "cell", _cells(rows.subject_box)
    elif n_known:
        yield "cell", f"{n_known} of {n_rows} rows have a box of the subject; it needs all"
    else:
        yield "cell", "no row has a box of the subject"


def _cells(box: NDArray[np.float64]) -> NDArray[np.intp]:
    """The number of the cell of a box's centre [row]; `box` is [row, 4] in shares of the picture."""
    centre = (box[:, :2] + box[:, 2:]) / 2
    column_and_row = np.clip((centre * _CELLS).astype(np.intp), 0, _CELLS - 1)
    return np.asarray(column_and_row @ [1, _CELLS])


def _tasks(
    kind: NDArray[Any] | str, y: NDArray[Any], design: Design, n: int, seed: int
) -> ControlTasks:
    nothing = np.empty((0, len(y)), dtype=y.dtype)
    if isinstance(kind, str):
        return ControlTasks(nothing, 0, kind)
    n_types = len(np.unique(kind))
    note = _why_unsuitable(kind, n_types, design)
    drawn = None if note else control_labels(kind, y, n, seed)
    if drawn is None:
        return ControlTasks(nothing, n_types, note or "the task has one label")
    note = _why_uneven(drawn, y)
    if note:
        return ControlTasks(nothing, n_types, note)
    usable = np.array([_has_two_labels(labels, design) for labels in drawn])
    if not usable.all():
        n_lost = int(n - usable.sum())
        note = (
            f"{n_lost} of {format_count(n, 'task')} left out, with one label on a side of a split"
        )
    return ControlTasks(drawn[usable], n_types, note)


def _why_unsuitable(kind: NDArray[Any], n_types: int, design: Design) -> str:
    """Why these types control nothing; empty if they do."""
    if n_types < _MIN_TYPES:
        return f"{format_count(n_types, 'type')} of rows; it needs {_MIN_TYPES}"
    n_tested = sum(len(design.outer[i].test) for i in design.first_repeat)
    known = int(is_seen(design, kind)[0].sum())
    if known < _RECURRING * n_tested:
        return (
            f"{known} of {n_tested} test rows have a type that occurs among their training rows; it "
            "needs half of them"
        )
    return ""


def _why_uneven(labels: NDArray[Any], y: NDArray[Any]) -> str:
    """Why the most frequent label is predicted far more often right than that of the task."""
    if y.dtype.kind == "f":
        return ""
    share = float(np.mean([np.bincount(one).max() for one in labels])) / len(y)
    of_task = float(np.bincount(y).max()) / len(y)
    if abs(share - of_task) <= _MAJORITY_TOLERANCE:
        return ""
    return (
        f"its most frequent label has {share:.0%} of the rows, because few types have most rows; "
        f"that of the task has {of_task:.0%}"
    )


def _has_two_labels(labels: NDArray[Any], design: Design) -> bool:
    """Whether all training sets of outer splits, and the test rows of each repeat, have two labels."""
    trained = [design.train_sets[one.train_set] for one in design.outer]
    return not any(is_constant(labels[rows]) for rows in (*trained, *(design.test_split >= 0)))
