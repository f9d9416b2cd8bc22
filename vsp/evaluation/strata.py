"""Scores of probe and answer in strata of the tested rows, and the gaps between strata.

Strata are the values of a field of the dataset's records, or of `vsp.evaluation.intuition`. All rows
are predicted by the layer that their own split selected on training rows; strata play no part in that.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vsp.evaluation import intuition
from vsp.evaluation.paired_effects import (
    Cell,
    Effect,
    EffectDraws,
    Estimate,
    estimate_effects,
    holm,
)
from vsp.evaluation.record_fields import PickedRows, field_values, pick_rows
from vsp.evaluation.statistics import Folds
from vsp.evaluation.study_rows import StudyRows, Texts, read_study_rows
from vsp.storage.results import Results

_LEAST_ROWS = 10  # in two groups or more; smaller strata have no figures
_MOST = 20  # strata with figures; the largest
_DISTINCT = 8  # numbers with more different values are cut into quarters
_LONGEST = 200  # characters of a value


@dataclass(frozen=True, slots=True)
class StrataSettings:
    """Confidence level and number of random draws."""

    confidence: float = 0.95
    resamples: int = 2000
    flips: int = 1999
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Share:
    """A share of right rows, or a difference of two, with its interval; p values of a difference."""

    value: float
    low: float
    high: float
    p: float | None = None
    p_corrected: float | None = None  # over the gaps


@dataclass(frozen=True, slots=True)
class Stratum:
    """The rows with one value. Without figures, they are too few."""

    name: str
    n_rows: int
    n_groups: int
    knows: Share | None  # by the probe
    says: Share | None  # by the model's own answers; None also without answers


@dataclass(frozen=True, slots=True)
class Gap:
    """The accuracy of one stratum minus that of another, or of all other strata together."""

    first: str
    other: str  # empty: all others
    knows: Share
    says: Share | None


@dataclass(frozen=True, slots=True)
class Strata:
    """The strata of a run's tested rows."""

    run: str
    field: str
    meaning: str  # of a stratum of `intuition`; empty for a field
    source: str  # of the records
    confidence: float
    n_rows: int  # tested
    n_without: int  # of them, rows that have no stratum
    n_smaller: int  # rows in strata beyond the largest ones
    says_rows: int  # rows whose label is one of the options; 0: no answers
    strata: tuple[Stratum, ...]
    gaps: tuple[Gap, ...]

    @property
    def too_few(self) -> tuple[Stratum, ...]:
        """The strata without figures."""
        return tuple(one for one in self.strata if one.knows is None)


def strata_of(results: Results, name: str, settings: StrataSettings | None = None) -> Strata:
    """Scores by a field of the records, or by `usual-label` or `box-cue`.

    Raises ConfigError if no record has the field or the probe predicts numbers, RunError if the records
    are gone.
    """
    settings = settings or StrataSettings()
    rows = read_study_rows(results.name, results)
    tested = np.flatnonzero(rows.tested)
    picked, values = row_strata(results, rows, tested, name)
    counts = Counter(one for one in values if one is not None)
    largest = [one for one, _ in counts.most_common(_MOST)]
    order = _ordered(largest)
    members = {one: np.array([value == one for value in values]) for one in order}
    answers = _answers(rows, tested)
    judged = [_Judged(rows.predicted[:, tested] == rows.label[tested], None, rows.folds)]
    if answers is not None:
        judged.append(_Judged(answers[0][None], answers[1], Folds()))
    found = [_figures(one, members, rows.group[tested], settings) for one in judged]
    (shares, gaps), (said, said_gaps) = found[0], found[1] if len(found) > 1 else ({}, {})
    group = rows.group[tested]
    return Strata(
        run=rows.name,
        field=name,
        meaning=intuition.MEANING.get(name, ""),
        source=picked.source,
        confidence=settings.confidence,
        n_rows=len(tested),
        n_without=sum(one is None for one in values),
        n_smaller=sum(n for _, n in counts.most_common()[_MOST:]),
        says_rows=0 if answers is None else int(answers[1].sum()),
        strata=tuple(
            Stratum(
                one,
                int(rows_of.sum()),
                len(np.unique(group[rows_of])),
                shares.get(one),
                said.get(one),
            )
            for one, rows_of in members.items()
        ),
        gaps=tuple(Gap(*pair, gap, said_gaps.get(pair)) for pair, gap in gaps.items()),
    )


@dataclass(frozen=True, eq=False)
class _Judged:
    """Whether predictions are right [repeat, row], and which rows count."""

    right: NDArray[np.bool_]
    counted: NDArray[np.bool_] | None  # [row]; None: all
    folds: Folds


def _answers(
    rows: StudyRows, tested: NDArray[np.intp]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]] | None:
    """Whether the answer is right [row], and whether the label is an option [row]."""
    if rows.answer is None or not rows.answerable[tested].any():
        return None
    return rows.answer[tested] == rows.label[tested], rows.answerable[tested]


def row_strata(
    results: Results, rows: StudyRows, tested: NDArray[np.intp], name: str
) -> tuple[PickedRows, list[str | None]]:
    """The stratum of each of the rows `tested`. Raises ConfigError and RunError as `strata_of`."""
    ids, label = rows.id[tested], rows.label[tested]
    if name == intuition.BOX_CUE:
        picked = pick_rows(results, ids, intuition.boxes_of)
        pairs = zip(picked.values, label.tolist(), strict=True)
        return picked, [intuition.box_cue_stratum(boxes, one) for boxes, one in pairs]
    if name == intuition.USUAL_LABEL:
        picked = pick_rows(results, rows.id, intuition.names_of)
        strata = intuition.usual_label_strata(
            picked.values, rows.label, rows.outer[0], _fitted(results)
        )
        return picked, [strata[row] for row in tested.tolist()]
    picked = field_values(results, ids, name)
    return picked, _as_strata(picked.values)


def _fitted(results: Results) -> NDArray[np.bool_]:
    """The training rows of each outer split [outer, row]."""
    arrays = results.arrays("predictions", ("outer_fitted", "fitted", "outer"))
    if "outer_fitted" in arrays:
        return arrays["outer_fitted"]
    outer = arrays["outer"]
    # Results of an older vsp: all rows of the repeat that the split does not test.
    return np.stack([
        outer[np.flatnonzero((outer == one).any(axis=1))[0]] != one for one in range(outer.max() + 1)
    ])  # fmt: skip


def _as_strata(values: Sequence[Any]) -> list[str | None]:
    """The name of each value's stratum; many different numbers are cut into quarters."""
    numbers = [one for one in values if isinstance(one, int | float) and not isinstance(one, bool)]
    finite = [float(one) for one in numbers if np.isfinite(one)]
    others = [one for one in values if one is not None]
    if len(numbers) == len(others) and len(set(finite)) > _DISTINCT:
        return _quarters(values, finite)
    return [None if one is None else _text(one) for one in values]


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_text, value)) or "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:g}"
    text = str(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def _quarters(values: Sequence[Any], finite: Sequence[float]) -> list[str | None]:
    edges = np.unique(np.quantile(finite, [0, 0.25, 0.5, 0.75, 1]))
    names = [f"{low:g} to {high:g}" for low, high in pairwise(edges)]
    strata: list[str | None] = []
    for one in values:
        if one is None or not np.isfinite(one):
            strata.append(None)
        else:
            place = int(np.searchsorted(edges[1:-1], float(one), side="left"))
            strata.append(names[place])
    return strata


def _ordered(names: Sequence[str]) -> list[str]:
    """Strata in the order of a table: intuition's own, numbers by size, or the alphabet."""
    if set(names) <= {intuition.CONSISTENT, intuition.COUNTER}:
        return [one for one in (intuition.CONSISTENT, intuition.COUNTER) if one in names]
    try:
        return sorted(names, key=lambda one: float(one.split(" to ")[0]))
    except ValueError:
        return sorted(names)


def _figures(
    judged: _Judged,
    members: dict[str, NDArray[np.bool_]],
    group: Texts,
    settings: StrataSettings,
) -> tuple[dict[str, Share], dict[tuple[str, str], Share]]:
    """Accuracy of each stratum, and the gaps between them."""
    counted = np.ones(len(group), np.bool_) if judged.counted is None else judged.counted
    right = judged.right.astype(np.float64)
    used = {name: rows & counted for name, rows in members.items()}
    used = {name: rows for name, rows in used.items() if _has_enough(rows, group)}
    shares = [Effect((Cell(rows, right),), is_share=True) for rows in used.values()]
    pairs, gaps = _pairs(used, right)
    draws = EffectDraws(
        0.05,
        settings.confidence,
        settings.resamples,
        max(settings.flips, 40 * len(gaps)),
        settings.seed,
    )
    estimates = estimate_effects([*shares, *gaps], group, judged.folds, draws)
    of_gaps = estimates[len(shares) :]
    corrected = holm([one.p if one.p is not None else 1.0 for one in of_gaps])
    return (
        {name: _share(one) for name, one in zip(used, estimates, strict=False)},
        {pair: _share(one, p) for pair, one, p in zip(pairs, of_gaps, corrected, strict=True)},
    )


def _pairs(
    used: dict[str, NDArray[np.bool_]], right: NDArray[np.float64]
) -> tuple[list[tuple[str, str]], list[Effect]]:
    """The gap of two strata, or of each stratum to all others."""
    names = list(used)
    if len(names) < 2:
        return [], []
    sides = (
        [(names[0], names[1], used[names[1]])]
        if len(names) == 2
        else [
            (one, "", np.logical_or.reduce([rows for other, rows in used.items() if other != one]))
            for one in names
        ]
    )
    pairs = [(first, other) for first, other, _ in sides]
    return pairs, [
        Effect((Cell(used[first], right), Cell(rest, right, -1.0))) for first, _, rest in sides
    ]


def _has_enough(rows: NDArray[np.bool_], group: Texts) -> bool:
    return int(rows.sum()) >= _LEAST_ROWS and len(np.unique(group[rows])) >= 2


def _share(one: Estimate, p_corrected: float | None = None) -> Share:
    return Share(one.value, one.low, one.high, one.p, p_corrected)
