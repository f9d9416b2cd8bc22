"""Reads the figures of a probed run, for simulations. The only place that knows their names.

Each reader takes the summary and the scores of a run. It returns a figure with its interval, or a p
value; None where the results have no such figure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vsp.storage.layer_score import LayerScore

Summary = Mapping[str, Any]
Scores = Sequence[LayerScore]


@dataclass(frozen=True)
class Figure:
    """A figure and the bounds of its interval."""

    value: float
    low: float
    high: float

    def above(self, truth: float) -> bool:
        return self.low > truth

    def misses(self, truth: float) -> bool:
        return not self.low <= truth <= self.high


def _figure(values: Mapping[str, Any] | None, name: str) -> Figure | None:
    if values is None or values["low"] is None:
        return None
    return Figure(values[name], values["low"], values["high"])


def _best(summary: Summary, scores: Scores) -> LayerScore:
    return next(score for score in scores if score.layer == summary["best_layer"])


def fixed_score(summary: Summary, scores: Scores) -> Figure | None:
    """The score of the deepest layer, which no one selected."""
    last = scores[-1]
    return _figure({"score": last.score, "low": last.low, "high": last.high}, "score")


def best_score(summary: Summary, scores: Scores) -> Figure | None:
    """The score that the report prints for the selected layer."""
    return _figure(summary["peak"], "estimate")


def over_words(summary: Summary, scores: Scores) -> Figure | None:
    return _figure(summary["peak"]["over_words"], "difference")


def over_embedding(summary: Summary, scores: Scores) -> Figure | None:
    return _figure(summary["peak"]["over_embedding"], "difference")


def over_chance(summary: Summary, scores: Scores) -> Figure | None:
    return _figure(summary["peak"]["over_chance"], "difference")


def words(summary: Summary, scores: Scores) -> Figure | None:
    """The score of the best baseline that reads the words only."""
    return _figure(summary["baselines"].get("words alone"), "score")


def random_features(summary: Summary, scores: Scores) -> Figure | None:
    return _figure(summary["baselines"].get("random features"), "score")


def p_fixed(summary: Summary, scores: Scores) -> float | None:
    return scores[-1].p


def p_any(summary: Summary, scores: Scores) -> float | None:
    """The smallest p value corrected over layers."""
    return min((s.p_corrected for s in scores if s.p_corrected is not None), default=None)


def p_within(summary: Summary, scores: Scores) -> float | None:
    return scores[-1].p_within


def p_within_any(summary: Summary, scores: Scores) -> float | None:
    """The smallest corrected p value of the test that exchanges labels within prompts."""
    known = (s.p_within_corrected for s in scores if s.p_within_corrected is not None)
    return min(known, default=None)


def selectivity(summary: Summary, scores: Scores) -> dict[str, Figure | None]:
    """Normalised score of the task minus that of each control, by the control's name."""
    controls = summary["peak"]["controls"]
    return {name: _figure(one["selectivity"], "difference") for name, one in controls.items()}


def compression(summary: Summary, scores: Scores) -> float | None:
    return _best(summary, scores).compression


INTERVALS: dict[str, Callable[[Summary, Scores], Figure | None]] = {
    "one layer: score": fixed_score,
    "best layer: score": best_score,
    "best layer: over words": over_words,
    "best layer: over layer 0": over_embedding,
    "best layer: over chance": over_chance,
    "words alone": words,
    "random features": random_features,
}
P_VALUES: dict[str, Callable[[Summary, Scores], float | None]] = {
    "one layer: p": p_fixed,
    "any layer: p corrected": p_any,
    "one layer: p within words": p_within,
    "any layer: p within words": p_within_any,
}


def read_all(summary: Summary, scores: Scores) -> dict[str, Figure | float | None]:
    """Every figure that a report prints with an interval or as a p value."""
    return {name: read(summary, scores) for name, read in (INTERVALS | P_VALUES).items()}


@dataclass(frozen=True)
class Line:
    """A line of the table."""

    world: str
    figure: str
    truth: str
    value: str


def share(flags: Sequence[bool]) -> str:
    """Share of true values with its binomial standard error, in percent."""
    p, n = float(np.mean(flags)), len(flags)
    return f"{100 * p:.1f} ± {100 * np.sqrt(max(p * (1 - p), 0.25 / n) / n):.1f} %"


def mean(values: Sequence[float], digits: int = 3) -> str:
    """Mean, with its standard error if there are several values."""
    if len(values) == 1:
        return f"{values[0]:.{digits}f}"
    error = np.std(values, ddof=1) / np.sqrt(len(values))
    return f"{np.mean(values):.{digits}f} ± {error:.{digits}f}"


def known(found: Sequence[Mapping[str, Any]], name: str) -> list[Any]:
    """The values of that name of all replicates that have one."""
    return [one[name] for one in found if one.get(name) is not None]
