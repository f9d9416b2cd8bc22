"""The effects that answer the questions of a verdict, for all rows and for each class."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vsp.evaluation.metrics import METRICS
from vsp.evaluation.paired_effects import Cell, Effect, Mask
from vsp.evaluation.scores import Floats
from vsp.evaluation.study_rows import Texts
from vsp.evaluation.verdict_evidence import Finding, Question
from vsp.utils.text import format_count

OWN_PROBE = ("blank", "names", "shuffled", "untrained")  # variants with a probe of their own
TURNED = ("mirrored", "swapped")  # variants that change labels


@dataclass(frozen=True, eq=False)
class Aligned:
    """Predictions about a variant, in the order of the original's rows."""

    predicted: Texts  # [repeat, row]
    label: Texts  # [row], of the variant
    rows: Mask  # [row], which the variant has


@dataclass(frozen=True, eq=False)
class SubjectRows:
    """The judged rows of the original, and predictions of probe or answer about its variants."""

    group: Texts
    label: Texts
    predicted: Texts  # [repeat, row]
    usual: str  # the most frequent label of the training rows
    statistic: str  # of the score of all rows: accuracy or balanced accuracy
    own: Mapping[str, Aligned]  # of OWN_PROBE, as far as there are any
    turned: Mapping[str, Aligned]  # of the original's probe, or of the answer: TURNED and blank
    missing: Mapping[str, str]  # role → why there are no predictions

    @property
    def balances(self) -> bool:
        return self.statistic == METRICS["balanced"].statistic


@dataclass(frozen=True, eq=False)
class Asked:
    """A question about all rows (`of_class` is empty) or one class."""

    question: Question
    of_class: str
    effect: Effect | None = None
    first: float | None = None
    other: float | None = None
    finding: Finding = "missing"  # without an effect
    why: str = ""


def ask(rows: SubjectRows, classes: Sequence[str], least: int) -> list[Asked]:
    """All questions about all rows, then about each class; cells have `least` rows or more."""
    asked: list[Asked] = []
    for of_class in ("", *classes):
        asked.append(_over_chance(rows, of_class))
        for role in OWN_PROBE:
            if role in ("blank", *rows.own):
                asked.append(_over_variant(rows, role, of_class))
        asked += [_turned(rows, role, of_class, least) for role in TURNED]
        asked.append(_changed(rows, of_class))
    return [_with_enough_rows(one, rows.group, least) for one in asked]


def score(rows: SubjectRows, of_class: str) -> Effect:
    """The score of the original: of a class, balanced accuracy against the other classes."""
    every = np.ones(len(rows.label), np.bool_)
    return _scored(rows, of_class, _right(rows.predicted, rows.label, of_class), every, True)


def _right(predicted: Texts, label: Texts, of_class: str) -> Floats:
    """Whether predictions are right [repeat, row]; of a class, about being the class or not."""
    if not of_class:
        return np.asarray(predicted == label, np.float64)
    return np.asarray((predicted == of_class) == (label == of_class), np.float64)


def _scored(
    rows: SubjectRows, of_class: str, values: Floats, used: Mask, is_share: bool = False
) -> Effect:
    """The mean of `values` over the cells that the score has: all rows, or rows of each label."""
    if of_class:
        cells = [used & (rows.label == of_class), used & (rows.label != of_class)]
    elif rows.balances:
        cells = [used & (rows.label == name) for name in np.unique(rows.label[used])]
    else:
        cells = [used]
    return Effect(tuple(Cell(one, values, 1 / len(cells)) for one in cells), is_share)


def _value(effect: Effect) -> float | None:
    if not all(cell.rows.any() for cell in effect.cells):
        return None
    return float(sum(cell.weight * cell.values[:, cell.rows].mean() for cell in effect.cells))


def _over_chance(rows: SubjectRows, of_class: str) -> Asked:
    right = _right(rows.predicted, rows.label, of_class)
    every = np.ones(len(rows.label), np.bool_)
    if of_class:
        chance = np.full(right.shape, 0.5)
    elif rows.balances:
        chance = np.full(right.shape, 1 / len(np.unique(rows.label)))
    else:
        chance = np.broadcast_to((rows.label == rows.usual).astype(np.float64), right.shape)
    parts = (_scored(rows, of_class, one, every) for one in (right - chance, right, chance))
    return _asked("chance", of_class, *parts)


def _over_variant(rows: SubjectRows, role: str, of_class: str) -> Asked:
    question: Question = role  # type: ignore[assignment]
    variant = rows.own.get(role)
    if variant is None:
        return Asked(question, of_class, why=rows.missing.get(role, "no such run"))
    n = min(len(variant.predicted), len(rows.predicted))
    right = _right(rows.predicted[:n], rows.label, of_class)
    other = _right(variant.predicted[:n], rows.label, of_class)
    parts = (_scored(rows, of_class, one, variant.rows) for one in (right - other, right, other))
    return _asked(question, of_class, *parts)


def _turned(rows: SubjectRows, role: str, of_class: str, least: int) -> Asked:
    """Recall by the changed labels minus recall by the old ones, on rows whose label changes."""
    question: Question = role  # type: ignore[assignment]
    variant = rows.turned.get(role)
    if variant is None:
        return Asked(question, of_class, why=rows.missing.get(role, "no such run"))
    changes = variant.rows & (variant.label != rows.label)
    found = {
        name: (changes & (variant.label == name), changes & (rows.label == name))
        for name in ([of_class] if of_class else np.unique(rows.label[changes]).tolist())
    }
    if not any(one.any() for sides in found.values() for one in sides):
        return Asked(question, of_class, finding="does not apply", why="no label changes")
    enough = {
        name: sides for name, sides in found.items() if min(one.sum() for one in sides) >= least
    }
    if not enough:
        fewest = max(min(int(one.sum()) for one in sides) for sides in found.values())
        return Asked(question, of_class, why=f"{format_count(fewest, 'row')} whose label changes to "
                     "and from one label, too few")  # fmt: skip
    weight = 1 / len(enough)
    said = {name: (variant.predicted == name).astype(np.float64) for name in enough}
    new, old = (
        [Cell(sides[k], said[name], weight) for name, sides in enough.items()] for k in (0, 1)
    )
    minus = [Cell(cell.rows, cell.values, -weight) for cell in old]
    return _asked(
        question, of_class, Effect((*new, *minus)), Effect(tuple(new)), Effect(tuple(old))
    )


def _changed(rows: SubjectRows, of_class: str) -> Asked:
    variant = rows.turned.get("blank")
    if variant is None:
        return Asked("changed", of_class, why=rows.missing.get("blank", "no such run"))
    n = min(len(variant.predicted), len(rows.predicted))
    changed = (variant.predicted[:n] != rows.predicted[:n]).astype(np.float64)
    used = variant.rows & (rows.label == of_class) if of_class else variant.rows
    return Asked("changed", of_class, Effect((Cell(used, changed),), is_share=True))


def _asked(
    question: Question, of_class: str, effect: Effect, first: Effect, other: Effect
) -> Asked:
    return Asked(question, of_class, effect, _value(first), _value(other))


def _with_enough_rows(asked: Asked, group: Texts, least: int) -> Asked:
    """The question without its effect if a cell has too few rows, or rows of one group alone."""
    if asked.effect is None:
        return asked
    counts = _counts((cell.rows for cell in asked.effect.cells), group)
    fewest = min(n_rows for n_rows, _ in counts)
    if fewest >= least and min(n_groups for _, n_groups in counts) >= 2:
        return asked
    why = f"{format_count(fewest, 'row')} of a label, too few"
    if fewest >= least:
        why = "all rows of a label are in one group"
    return Asked(asked.question, asked.of_class, why=why)


def _counts(cells: Iterable[NDArray[np.bool_]], group: Texts) -> list[tuple[int, int]]:
    """Rows and groups of each cell."""
    return [(int(one.sum()), len(np.unique(group[one]))) for one in cells]
