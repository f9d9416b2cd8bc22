"""Reads the figures of a probed run, for simulations. The only place that knows their names.

Each reader takes the summary and the scores of a run. It returns a figure with its interval, or a p
value; None where the results have no such figure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vsp.storage.results import LayerScore

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
    if values is None or values.get("low") is None:
        return None
    return Figure(values[name], values["low"], values["high"])


def _best(summary: Summary, scores: Scores) -> LayerScore:
    return next(score for score in scores if score.layer == summary["best_layer"])


def _of_peak(summary: Summary, name: str) -> Any:
    """A figure of the estimate for the selected layer; None if the results have none."""
    return (summary["peak"] or {}).get(name)


def fixed_score(summary: Summary, scores: Scores) -> Figure | None:
    """The score of the deepest layer, which no one selected."""
    last = scores[-1]
    return _figure({"score": last.score, "low": last.low, "high": last.high}, "score")


def best_score(summary: Summary, scores: Scores) -> Figure | None:
    """The score that the report prints for the selected layer."""
    if _of_peak(summary, "over_text"):
        return _figure(summary["peak"], "estimate")
    best = _best(summary, scores)
    return _figure({"score": best.score, "low": best.low, "high": best.high}, "score")


def peak(summary: Summary, scores: Scores) -> Figure | None:
    """The estimate whose layer is chosen anew in each outer split."""
    return _figure(summary["peak"], "estimate")


def over_text(summary: Summary, scores: Scores) -> Figure | None:
    values = _of_peak(summary, "over_text") or summary["best_over_prompt"]
    return _figure(values, "difference")


def over_embedding(summary: Summary, scores: Scores) -> Figure | None:
    values = _of_peak(summary, "over_embedding") or _best(summary, scores).over_embedding
    return _figure(values, "difference")


def over_chance(summary: Summary, scores: Scores) -> Figure | None:
    return _figure(_of_peak(summary, "over_chance"), "difference")


def _baseline(summary: Summary, *names: str) -> Figure | None:
    found = [summary["baselines"][name] for name in names if summary["baselines"].get(name)]
    return _figure(found[0], "score") if found else None


def text(summary: Summary, scores: Scores) -> Figure | None:
    return _baseline(summary, "text", "prompt-only")


def random_features(summary: Summary, scores: Scores) -> Figure | None:
    return _baseline(summary, "random features")


def p_fixed(summary: Summary, scores: Scores) -> float | None:
    return scores[-1].p


def p_any(summary: Summary, scores: Scores) -> float | None:
    """The smallest p value corrected over layers."""
    known = [score.p_corrected for score in scores if score.p_corrected is not None]
    return min(known) if known else None


def p_within(summary: Summary, scores: Scores) -> float | None:
    """The smallest corrected p value of the test that exchanges labels within prompts."""
    known = [getattr(score, "p_within_corrected", None) for score in scores]
    found = [p for p in known if p is not None]
    return min(found) if found else None


def selectivity(summary: Summary, scores: Scores) -> float | None:
    """Score minus control score, of the selected layer."""
    return _best(summary, scores).selectivity


def compression(summary: Summary, scores: Scores) -> float | None:
    return _best(summary, scores).compression


def calibration(summary: Summary, scores: Scores) -> float | None:
    """Calibration error of the selected layer."""
    return _best(summary, scores).ece


INTERVALS: dict[str, Callable[[Summary, Scores], Figure | None]] = {
    "one layer: score": fixed_score,
    "best layer: score": best_score,
    "peak: estimate": peak,
    "best layer: over text": over_text,
    "best layer: over layer 0": over_embedding,
    "best layer: over chance": over_chance,
    "text baseline": text,
    "random features": random_features,
}
P_VALUES: dict[str, Callable[[Summary, Scores], float | None]] = {
    "one layer: p": p_fixed,
    "any layer: p corrected": p_any,
    "any layer: p within prompts": p_within,
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
    """Mean with its standard error."""
    error = np.std(values, ddof=1) / np.sqrt(len(values)) if len(values) > 1 else float("nan")
    return f"{np.mean(values):.{digits}f} ± {error:.{digits}f}"


def known(found: Sequence[Mapping[str, Any]], name: str) -> list[Any]:
    """The values of that name of all replicates that have one."""
    return [one[name] for one in found if one.get(name) is not None]
