"""Worlds without an effect: how often a figure's interval or p value says that there is one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import truth_figures as figures
from truth_figures import Figure, Line, known
from truth_planted import PLAIN, labels
from truth_runs import Rows, results_of, work_folder

from vsp.evaluation.compare import ComparisonSettings, Pair, compare

_SETTINGS = replace(PLAIN, permutations=39, random=True)
_LAYERS, _DIMS = 4, 8
PREFIX = "null: "  # of the names of these worlds in the table


@dataclass(frozen=True)
class Null:
    """Rows whose states say nothing about their labels, except what their prompts say."""

    groups: int = 120
    rows: int = 1  # of a group
    one_label: bool = True  # all rows of a group have the same label
    depend: float = 0.0  # share of the variance that the rows of a group share
    rare: float = 0.5  # share of the second label
    prompts: int = 5  # number of different prompts; 0: each of two groups
    predict: float = 0.0  # share of rows whose label is that of their prompt
    read: float = 0.0  # size of the prompt's own vector in the states
    own_split: bool = False


NULLS = {
    "rows alone": Null(),
    "rows in groups": Null(40, 3, depend=0.5),
    "dependent rows": Null(40, 3, one_label=False, depend=0.8),
    "unbalanced labels": Null(rare=0.2),
    "prompts predict labels": Null(predict=0.4, read=2.0),
    "prompts predict labels, not in states": Null(predict=0.4),
    "prompts twice": Null(prompts=0, read=2.0),
    "own split": Null(180, own_split=True),
    "own split, groups": Null(90, 2, depend=0.5, own_split=True),
}


def draw(null: Null, rng: np.random.Generator) -> tuple[Rows, Any]:
    """Rows, and what their states have in common by group and prompt [row, hidden]."""
    number = np.repeat(np.arange(null.groups), null.rows)
    n = len(number)
    of_group = (rng.random(null.groups) < null.rare).astype(int)
    y = of_group[number] if null.one_label else (rng.random(n) < null.rare).astype(int)
    n_prompts = null.prompts or n // 2
    prompt = rng.integers(n_prompts, size=n) if null.prompts else rng.permutation(n) % n_prompts
    y = np.where(rng.random(n) < null.predict, prompt % 2, y)
    split = np.where(number < 2 * null.groups // 3, "train", "test").tolist()
    rows = Rows(
        labels(y),
        [f"g{i:04d}" for i in number],
        [f"Question {k}?" for k in prompt],
        split if null.own_split else (),
    )
    return rows, null.read * rng.standard_normal((n_prompts, _DIMS))[prompt]


def states(null: Null, rng: np.random.Generator, rows: Rows, common: Any) -> Any:
    """States [layer, row, hidden] of one of two runs."""
    number = np.unique(rows.group, return_inverse=True)[1]
    shape = (_LAYERS, len(number), _DIMS)
    shared = rng.standard_normal((_LAYERS, number.max() + 1, _DIMS))[:, number]
    own = rng.standard_normal(shape)
    return common + null.depend**0.5 * shared + (1 - null.depend) ** 0.5 * own


def simulate(seed: int, kind: str) -> dict[str, Any]:
    null, rng = NULLS[kind], np.random.default_rng(seed)
    rows, common = draw(null, rng)
    with work_folder() as work:
        runs = [
            (name, results_of(work, states(null, rng, rows, common), rows, settings, name))
            for name, settings in (
                ("one", replace(_SETTINGS, seed=seed)),
                ("other", replace(PLAIN, seed=seed)),
            )
        ]
        summary, scores = runs[0][1].read()
        (pair,) = compare(runs, ComparisonSettings(resamples=400, flips=399, seed=seed))
    found = figures.read_all(summary, scores)
    return {**found, **_of_pair(pair), _CHANCE: summary["chance"]}


def _of_pair(pair: Pair) -> dict[str, Any]:
    last, peak = pair.layers[-1], pair.peak
    return {
        "compare: one layer": Figure(last.difference, last.low, last.high),
        "compare: peak": Figure(peak.difference, peak.low, peak.high),
        "compare: one layer p": last.p,
        "compare: any layer p corrected": min(one.p_corrected for one in pair.layers),
        "compare: peak p": peak.p,
    }


def lines(kind: str, found: Sequence[dict[str, Any]]) -> list[Line]:
    """Shares of false positives. The truth of a score is its mean over all replicates."""
    truth = _truths(found)
    table = []
    for name in found[0]:
        values = known(found, name)
        if name == _CHANCE or not values or (name in _KNOWING and _is_known(NULLS[kind])):
            continue
        if isinstance(values[0], Figure):
            wrong = [one.misses(truth[name]) for one in values]
            above = np.mean([one.above(truth[name]) for one in values])
            more = f" ({100 * above:.1f} above)"
        else:
            wrong, more = [p <= 0.05 for p in values], ""
        table.append(Line(f"{PREFIX}{kind}", name, "5 %", f"{100 * np.mean(wrong):.1f}{more}"))
    return table


_CHANCE = "chance"
# These p values have no null hypothesis that is true where states hold prompts that predict labels.
_KNOWING = ("one layer: p", "any layer: p corrected")


def _is_known(null: Null) -> bool:
    return bool(null.read and null.predict)


# Figures whose true value is taken to be their mean.
_ON_AVERAGE = ("words alone", "random features")


def _truths(found: Sequence[dict[str, Any]]) -> dict[str, float]:
    """True values: all layers are alike, so the selected one is no better than another."""

    def average(name: str) -> float:
        values = known(found, name)
        return float(np.mean([one.value for one in values])) if values else 0.0

    layer = average("one layer: score")
    truth = dict.fromkeys(found[0], 0.0)
    truth |= dict.fromkeys(("one layer: score", "best layer: score"), layer)
    truth |= {name: average(name) for name in _ON_AVERAGE}
    truth["best layer: over words"] = layer - average("words alone")
    truth["best layer: over chance"] = layer - float(np.mean(known(found, _CHANCE)))
    return truth
