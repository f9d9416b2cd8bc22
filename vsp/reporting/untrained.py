"""Scores of the untrained model, which `vsp report` shows beside those of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from vsp.config import parse
from vsp.errors import RunError
from vsp.storage.plan import Plan
from vsp.storage.results import Results
from vsp.storage.untrained import find_untrained

_FITTED = ("probe", "treatment")  # keys of the probe that must be the same


@dataclass(frozen=True, slots=True)
class Untrained:
    """Results of the same rows and model with random weights, or why they are not shown."""

    name: str  # of the folder of results
    why_not: str  # empty if they are shown
    score: Mapping[int, float]  # of each layer
    peak: Mapping[str, Any]  # score, low, high
    # The score of the run's selected layer minus that of this model's, on the same rows.
    difference: Mapping[str, float] = field(default_factory=dict)


def read_untrained(results: Results, summary: Mapping[str, Any]) -> Untrained | None:
    """The results of the untrained model beside `results`; None if there are none."""
    plan = parse(Plan, summary["plan"], f"results {results.name}")
    found = find_untrained(results.home, results.setting, summary["position"], plan)
    if found is None:
        return None
    try:
        other, scores = found.read()
        why_not = _why_not(results, summary, found, other)
        difference = {} if why_not else _paired(found, results)
    except RunError as error:
        return Untrained(found.name, str(error), {}, {})
    if why_not:
        return Untrained(found.name, why_not, {}, {})
    peak = other["peak"]
    return Untrained(
        found.name,
        "",
        {score.layer: score.score for score in scores},
        {"score": peak["estimate"], "low": peak["low"], "high": peak["high"]},
        difference,
    )


def _paired(found: Results, results: Results) -> dict[str, float]:
    """Score of the run's selected layer minus that of the untrained model's, on the same rows."""
    from vsp.evaluation.compare import ComparisonSettings, compare_peaks

    peaks = compare_peaks(found, results, ComparisonSettings())
    return {"difference": peaks.difference, "low": peaks.low, "high": peaks.high}


def _why_not(
    results: Results, summary: Mapping[str, Any], found: Results, other: Mapping[str, Any]
) -> str:
    """Why the scores of two results cannot be compared; empty if they can."""
    if other["statistic"] != summary["statistic"]:
        return f"its statistic is {other['statistic']}, not {summary['statistic']}"
    if any(other["probe"][key] != summary["probe"][key] for key in _FITTED):
        return "it has another probe"
    own, its = (one.arrays("predictions", ("rows", "outer")) for one in (results, found))
    same = all(own[name].tobytes() == its[name].tobytes() for name in ("rows", "outer"))
    return "" if same else "it has other rows or another split"
