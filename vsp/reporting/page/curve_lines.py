"""The lines of the curves: what each one is, its look, and its points."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vsp.reporting.answer import beats_chance
from vsp.reporting.page.page_run import PageRun
from vsp.storage.layer_score import LayerScore

N_COLORS = 8  # of the style sheet
DASHES = {"": [1, 0], "dashed": [7, 4], "dotted": [2, 3], "mixed": [8, 3, 2, 3]}
N_DASHES = len(DASHES)
DASHES["diamond"] = DASHES[""]


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of line: its words, and its colour if only one run is shown."""

    words: str
    color: int
    dash: str = ""  # of DASHES; a diamond is no line
    is_shown: bool = True  # at first, for one run
    is_shown_for_several: bool = False


PROBE, CITED = "probe", "cited"
KINDS = {
    PROBE: Kind("probe (knows)", 1, is_shown_for_several=True),
    CITED: Kind("selected layer, to cite", 1, "diamond"),
    "says": Kind("model's answer (says)", 4, "dashed"),
    "lens": Kind("logit lens", 6, "dotted", is_shown=False),
    "control": Kind("control tasks", 2, "dashed", is_shown=False),
    "untrained": Kind("untrained model", 3, "mixed"),
    "words": Kind("words alone", 5, "mixed"),
    "chance": Kind("chance", 7, "dotted", is_shown_for_several=True),
}


@dataclass(frozen=True, slots=True)
class Point:
    layer: int
    score: float
    low: float | None = None
    high: float | None = None
    beats_chance: bool | None = None  # at the corrected level; None: no test


@dataclass(frozen=True, slots=True)
class Line:
    run: PageRun
    kind: str
    color: int
    dash: str
    points: Sequence[Point]

    def label(self, with_run: bool, with_position: bool) -> str:
        """The words of the line, with run and position where there are several."""
        words = KINDS[self.kind].words
        words = f"{words}, {self.run.position}" if with_position else words
        return f"{self.run.name}: {words}" if with_run else words


def run_lines(run: PageRun, number: int, n_runs: int) -> Iterator[Line]:
    """All lines of a run at all its positions; several runs have a colour each."""
    for place, at in enumerate((run, *run.others)):
        for name, kind in KINDS.items():
            points = _points(at, name)
            if points:
                color = kind.color if n_runs == 1 else number % N_COLORS + 1
                dash = position_dash(place) if name == PROBE else kind.dash
                yield Line(at, name, color, dash, points)


def position_dash(place: int) -> str:
    """The look of lines of the run's first, second, … position."""
    return list(DASHES)[place % N_DASHES]


def _points(run: PageRun, kind: str) -> list[Point]:
    """The points of a kind of line; empty if the run has none."""
    summary, scores = run.summary, run.scores
    if kind == PROBE:
        return [Point(s.layer, s.score, s.low, s.high, _beats_chance(s)) for s in scores]
    if kind == CITED:
        peak = summary["peak"]
        layer = int(max(peak["layers"], key=lambda one: (peak["layers"][one], -int(one))))
        return (
            [Point(layer, peak["estimate"], peak["low"], peak["high"])] if len(scores) > 1 else []
        )
    if kind == "says":
        return _constant(scores, _says(summary))
    if kind == "lens":
        found = [(s.layer, s.lens) for s in scores if s.lens and _says(summary)]
        return [Point(layer, one["score"], one["low"], one["high"]) for layer, one in found]
    if kind == "control":
        values = [(s.layer, _control_score(s)) for s in scores]
        return [Point(layer, value) for layer, value in values if value is not None]
    if kind == "untrained":
        known = run.untrained.score if run.untrained else {}
        return [Point(s.layer, known[s.layer]) for s in scores if s.layer in known]
    if kind == "words":
        return _constant(scores, summary["baselines"].get("words alone"))
    return _constant(scores, {"score": summary["chance"], "low": None, "high": None})


def _beats_chance(score: LayerScore) -> bool | None:
    return None if score.p_corrected is None else beats_chance(score)


def _says(summary: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The score of the model's own answers; None if it is another statistic than that of the curve."""
    says = summary["says"]
    if says is None or says["statistic"] != summary["statistic"]:
        return None
    own: Mapping[str, Any] = says["figures"][says["statistic"]]["says"]
    return own


def _constant(scores: Sequence[LayerScore], one: Mapping[str, Any] | None) -> list[Point]:
    """A level line across all layers."""
    if one is None or one["score"] is None:
        return []
    return [Point(s.layer, one["score"], one["low"], one["high"]) for s in scores]


def _control_score(score: LayerScore) -> float | None:
    """The score of the first control task, normalised by its own chance, from the chance line up."""
    for control in score.controls.values():
        of_control = control.get("control")
        normalised = of_control["difference"] if of_control else None
        return None if normalised is None else score.chance + (1 - score.chance) * normalised
    return None
