"""Scores of all layers from their fits, and the summary of a run: peak layer, baselines, p values.

All layers are tested on the same rows and share the bootstrap resamples of groups. Differences
between layers are therefore paired. The intervals of these differences and the corrected p values
account for the number of layers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vsp.errors import ProbeError
from vsp.evaluation.baselines import majority, n_known_prompts, prompt_only
from vsp.evaluation.controls import n_exchangeable_rows
from vsp.evaluation.design import Design
from vsp.evaluation.layer_scores import Fit, single_layer_scores
from vsp.evaluation.scores import Floats, are_numbers, base_loss, row_loss, statistic
from vsp.evaluation.statistics import (
    Folds,
    GroupBootstrap,
    GroupSums,
    bootstrap_groups,
    first_best,
    permutation_p,
)
from vsp.storage.results import LayerScore

_SMALL_ARRAYS = ("inner", "chosen", "null", "null_observed")  # kept in memory for all layers


@dataclass(frozen=True, slots=True)
class EvaluatedRows:
    """The rows of a run and their splits."""

    y: NDArray[Any]  # [row], class index or number
    group: NDArray[np.str_]  # [row]
    design: Design
    names: Sequence[str] = ()  # of the classes
    prompt: NDArray[np.str_] | None = None  # [row]; None: no prompt-only baseline


@dataclass(frozen=True, slots=True)
class EvaluationSettings:
    """Confidence level and resamples of the bootstrap, and tolerance of the duality gap."""

    confidence: float = 0.95
    resamples: int = 2000
    seed: int = 0
    tolerance: float = 1e-6  # fits with a larger relative gap are counted


def evaluate(
    layers: Sequence[int],
    fits: Sequence[Fit],
    rows: EvaluatedRows,
    settings: EvaluationSettings,
    random: Fit | None = None,
) -> tuple[list[LayerScore], dict[str, Any]]:
    """Scores of each of `layers`, and the fields of the summary of the run.

    `random` is the fit of the random-features baseline. Each item of `fits` is read twice, one
    after the other, so a lazy sequence needs memory for one layer only. Raises ProbeError if there
    is no layer.
    """
    if not len(fits):
        raise ProbeError("no layer was fitted; choose one or more")
    test = _test_rows(rows)
    small = [{name: fit[name] for name in _SMALL_ARRAYS if name in fit} for fit in fits]
    inner = np.stack([_inner_scores(fit) for fit in small])  # [layer, outer]
    peak = first_best(inner)
    table, parts = _ColumnTable(test, len(fits) + 4), []
    peak_loss = np.zeros(test.base.shape)
    for k, fit in enumerate(fits):
        loss = test.loss(fit["predicted"])
        for i in np.flatnonzero(peak == k):
            split = rows.design.outer[i]
            peak_loss[split.repeat, split.test] = loss[split.repeat, split.test]
        table.add(k, loss, inner[k])
        parts.append(single_layer_scores(fit, rows.y, rows.design, rows.names, settings.tolerance))
    table.add("peak", peak_loss, inner.max(axis=0))
    prompt = None if rows.prompt is None else np.unique(rows.prompt, return_inverse=True)[1]
    _add_baselines(table, prompt, random)
    bootstrap = table.bootstrap(settings)
    best = int(first_best(inner.mean(axis=1)))
    scores = _layer_scores(layers, parts, small, table, bootstrap, best)
    summary = {
        "statistic": "R²" if are_numbers(rows.y) else "accuracy",
        "confidence": settings.confidence,
        "resamples": settings.resamples,
        "tolerance": settings.tolerance,
        "n_groups": test.n_groups,
        **_permutation_counts(small, rows),
        "n_prompt_known": None if prompt is None else n_known_prompts(rows.design, prompt),
        **_run_figures(layers, scores, table, bootstrap, peak, best),
        **_fit_counts(scores),
    }
    return scores, summary


@dataclass(frozen=True, slots=True)
class _TestRows:
    """The rows that are tested, and their base loss."""

    y: NDArray[Any]
    group: NDArray[np.intp]  # [row], a number from 0; 0 for rows that are never tested
    n_groups: int
    design: Design
    tested: NDArray[np.bool_]  # [repeat, row]
    base: Floats  # [repeat, row], 0 for rows that are not tested

    def loss(self, predicted: NDArray[Any]) -> Floats:
        """Loss of `predicted` [repeat, row]; 0 for rows that are not tested."""
        return np.where(self.tested, row_loss(self.y, predicted), 0.0)

    def group_sums(self, values: Floats) -> Floats:
        """Sums [repeat, group] of `values` [repeat, row]."""
        return np.stack([np.bincount(self.group, one, self.n_groups) for one in values])

    def outer_scores(self, loss: Floats) -> Floats:
        """The statistic on the test rows of each outer split."""
        tests = [(split.repeat, split.test) for split in self.design.outer]
        return np.array([statistic(loss[rows], self.base[rows]) for rows in tests])


def _test_rows(rows: EvaluatedRows) -> _TestRows:
    tested, number = rows.design.test_split >= 0, np.zeros(len(rows.y), dtype=np.intp)
    in_first = np.flatnonzero(tested[0])
    number[in_first] = np.unique(rows.group[in_first], return_inverse=True)[1]
    base = outer_base_loss(rows.y, rows.design)
    return _TestRows(rows.y, number, int(number.max()) + 1, rows.design, tested, base)


def outer_base_loss(y: NDArray[Any], design: Design) -> Floats:
    """Base loss [repeat, row]; 0 for rows that are not tested."""
    base = np.zeros((design.n_repeats, len(y)))
    for split in design.outer:
        train = design.train_sets[split.train_set]
        base[split.repeat, split.test] = base_loss(y, train, split.test)
    return base


class _ColumnTable:
    """Losses summed over groups, one column for each layer, for the peak and for each baseline."""

    def __init__(self, test: _TestRows, n_columns: int) -> None:
        self.test = test
        self.column: dict[int | str, int] = {}  # number of each column, by layer index or by name
        self._loss = np.zeros((n_columns, test.design.n_repeats, test.n_groups))
        self._inner_excess = np.zeros((len(test.design.outer), n_columns))

    def add(self, name: int | str, loss: Floats, inner: Floats | None = None) -> None:
        """Add losses [repeat, row] and the inner validation scores [outer], if there are any."""
        column = self.column[name] = len(self.column)
        self._loss[column] = self.test.group_sums(loss)
        if inner is not None:
            self._inner_excess[:, column] = inner - self.test.outer_scores(loss)

    def bootstrap(self, settings: EvaluationSettings) -> GroupBootstrap:
        test, n = self.test, len(self.column)
        sums = GroupSums(
            self._loss[:n],
            test.group_sums(test.base),
            n_rows=int(test.tested[0].sum()),
            is_proportion=not are_numbers(test.y),
            inner_excess=self._inner_excess[:, :n],
            folds=Folds(test.design.n_folds, test.design.n_repeats),
        )
        return bootstrap_groups(sums, settings.confidence, settings.resamples, settings.seed)


def _inner_scores(fit: Fit) -> Floats:
    """Inner validation scores [outer] at the chosen strength; -inf if undefined, never the best."""
    inner = fit["inner"][np.arange(len(fit["inner"])), fit["chosen"]].astype(np.float64)
    return np.where(np.isfinite(inner), inner, -np.inf)


def _add_baselines(
    table: _ColumnTable, prompt: NDArray[np.intp] | None, random: Fit | None
) -> None:
    """Add the columns of the baselines; `prompt` [row] are numbers from 0."""
    test = table.test
    table.add("majority", test.loss(majority(test.y, test.design)))
    if prompt is not None and prompt.any():
        table.add("prompt-only", test.loss(prompt_only(test.y, test.design, prompt)))
    if random is not None:
        table.add("random features", test.loss(random["predicted"]), _inner_scores(random))


def _layer_scores(
    layers: Sequence[int],
    parts: Sequence[dict[str, Any]],
    small: Sequence[Fit],
    table: _ColumnTable,
    bootstrap: GroupBootstrap,
    best: int,
) -> list[LayerScore]:
    """Complete the scores of each layer with intervals and differences to other layers."""
    (low, high), columns = bootstrap.intervals(), range(len(layers))
    chance = float(bootstrap.value[table.column["majority"]])
    over: list[dict[str, float | None] | None] = [None] * len(layers)
    if 0 in layers and len(layers) > 1:
        embedding = list(layers).index(0)
        errors = bootstrap.simultaneous_errors(columns, [embedding])
        over = _differences(bootstrap, columns, embedding, errors)
    # Any layer could have been the best, so the intervals cover the differences of all pairs.
    errors = bootstrap.simultaneous_errors(columns, columns)
    below = _differences(bootstrap, columns, best, errors)
    p = _p_values(small)
    return [
        LayerScore(
            layer=layers[k],
            score=float(bootstrap.value[k]),
            low=float(low[k]),
            high=float(high[k]),
            chance=chance,
            selectivity=_selectivity(bootstrap.value[k], parts[k]["control"]),
            over_embedding=over[k],
            below_best=below[k],
            **p[k],
            **parts[k],
        )
        for k in columns
    ]


def _selectivity(score: float, control: float | None) -> float | None:
    return None if control is None else float(score - control)


def _differences(
    bootstrap: GroupBootstrap, columns: Sequence[int], reference: int, errors: float | None
) -> list[dict[str, float | None] | None]:
    """Difference of each column to the reference; None for the reference itself."""
    figures = zip(columns, *bootstrap.differences(columns, reference, errors), strict=True)
    return [
        None
        if k == reference
        else {"difference": float(difference), "low": float(low), "high": float(high)}
        for k, difference, low, high in figures
    ]


def _p_values(small: Sequence[Fit]) -> list[dict[str, Any]]:
    figures: list[dict[str, Any]] = [{"p": None, "p_corrected": None} for _ in small]
    permuted = [k for k, fit in enumerate(small) if "null" in fit]
    if permuted:
        null = np.stack([small[k]["null"] for k in permuted]).astype(np.float64)
        observed = np.array([float(small[k]["null_observed"]) for k in permuted])
        for k, p, corrected in zip(permuted, *permutation_p(observed, null), strict=True):
            figures[k] = {"p": float(p), "p_corrected": float(corrected)}
    return figures


def _permutation_counts(small: Sequence[Fit], rows: EvaluatedRows) -> dict[str, Any]:
    n = max((len(fit["null"]) for fit in small if "null" in fit), default=0)
    n_rows = n_exchangeable_rows(rows.y, rows.group, rows.design.blocks) if n else None
    return {"n_permutations": n, "n_movable": n_rows}


def _run_figures(
    layers: Sequence[int],
    scores: Sequence[LayerScore],
    table: _ColumnTable,
    bootstrap: GroupBootstrap,
    peak: NDArray[np.intp],
    best: int,
) -> dict[str, Any]:
    """The best layer, the estimate for the peak layer, and the baselines.

    The best layer has the highest inner validation score, averaged over outer splits. The peak is
    chosen again in each outer split, and its estimate uses the test rows of that split only.
    """
    figures, column = _column_figures(bootstrap), table.column
    baselines: dict[str, Any] = {
        "majority": {**figures[column["majority"]], "low": None, "high": None}
    }
    over_prompt = None
    if "prompt-only" in column:
        baselines["prompt-only"] = figures[column["prompt-only"]]
        over_prompt = _differences(bootstrap, [best], column["prompt-only"], None)[0]
    if "random features" in column:
        baselines["random features"] = figures[column["random features"]]
    if 0 in layers and len(layers) > 1:
        baselines["embedding output"] = figures[list(layers).index(0)]
    chosen = Counter(str(layers[k]) for k in peak)
    of_peak = figures[column["peak"]]
    estimated = {
        "estimate": of_peak["score"],
        "low": of_peak["low"],
        "high": of_peak["high"],
        "layers": dict(sorted(chosen.items(), key=lambda item: int(item[0]))),
        "naive": max(score.score for score in scores),
    }
    return {
        "chance": scores[0].chance,
        "best_layer": layers[best],
        "peak": estimated if len(layers) > 1 else None,
        "baselines": baselines,
        "best_over_prompt": over_prompt,
    }


def _column_figures(bootstrap: GroupBootstrap) -> list[dict[str, float]]:
    return [
        {"score": float(value), "low": float(low), "high": float(high)}
        for value, low, high in zip(bootstrap.value, *bootstrap.intervals(), strict=True)
    ]


def _fit_counts(scores: Sequence[LayerScore]) -> dict[str, Any]:
    return {
        "n_fits": sum(score.n_fits for score in scores),
        "n_uncertified": sum(score.n_uncertified for score in scores),
        "max_gap": max((s.max_gap for s in scores if s.max_gap is not None), default=None),
    }
