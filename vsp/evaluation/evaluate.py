"""Scores of all layers from their fits, and the summary of a run: peak, baselines, p values.

All layers are tested on the same rows and share the bootstrap resamples of groups. Differences
between layers are therefore paired. The intervals of these differences and the corrected p values
account for the number of layers.

The figures that the report shows first are those of the peak (`vsp.evaluation.peak`): in each outer
split, the layer that its inner folds chose, on the test rows of this split.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vsp.errors import ProbeError
from vsp.evaluation.baseline_features import RANDOM_FEATURES
from vsp.evaluation.baselines import WORDS, look_up
from vsp.evaluation.calibration import calibration_null, calibration_scores
from vsp.evaluation.column_table import (
    ColumnTable,
    Difference,
    TestedRows,
    column_intervals,
    differences,
)
from vsp.evaluation.controls import n_exchangeable_rows
from vsp.evaluation.design import Design
from vsp.evaluation.layer_scores import Fit, prediction_scores, single_layer_scores
from vsp.evaluation.metrics import Metric
from vsp.evaluation.peak import Selection, inner_scores, recall_intervals
from vsp.evaluation.scores import Floats
from vsp.evaluation.seen_pairs import seen_and_unseen
from vsp.evaluation.selectivity import Selectivity
from vsp.evaluation.statistics import GroupBootstrap, first_best, permutation_p
from vsp.evaluation.tested_rows import chance_losses
from vsp.storage.layer_score import LayerScore

_SMALL_ARRAYS = (
    "inner", "chosen", "null", "null_observed", "within", "within_observed", "refit"
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class EvaluatedRows:
    """The rows of a run, their splits, and the metric."""

    y: NDArray[Any]  # [row], class index or number
    group: NDArray[np.str_]  # [row]
    design: Design
    metric: Metric
    names: Sequence[str] = ()  # of the classes
    prompt: NDArray[np.str_] | None = None  # [row]; None: no look-up by prompt
    pair: NDArray[np.str_] | None = None  # name pair [row]; None: prompts take its place
    weighted: bool = False  # probes have class weights, so probabilities are not those of labels
    has_embedding: bool = True  # layer 0 is the embedding output

    def embedding_index(self, layers: Sequence[int]) -> int | None:
        """The index of the embedding output among several layers; None if it is not among them."""
        known = self.has_embedding and 0 in layers and len(layers) > 1
        return list(layers).index(0) if known else None


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
    baselines: Mapping[str, Fit] | None = None,
) -> tuple[list[LayerScore], dict[str, Any]]:
    """Scores of each of `layers`, and the fields of the summary of the run.

    `baselines` are fits on other features of the rows, by name. Each item of `fits` is read twice,
    one after the other, so a lazy sequence needs memory for one layer only. Raises ProbeError if
    there is no layer.
    """
    if not len(fits):
        raise ProbeError("no layer was fitted; choose one or more")
    test = TestedRows(rows.y, rows.group, rows.design)
    chance = chance_losses(rows.metric, rows.y, rows.design)
    small = [{name: fit[name] for name in _SMALL_ARRAYS if name in fit} for fit in fits]
    peak = Selection(rows.design, np.stack([inner_scores(fit) for fit in small]))
    table = ColumnTable(test, chance[1], rows.metric)
    selectivity = Selectivity(test, chance, rows.metric)
    parts = []
    for k, fit in enumerate(fits):
        _add_fit(table, k, fit)
        selectivity.add(k, fit)
        peak.take(k, fit)
        parts.append(_own_scores(fit, rows, test, settings.tolerance))
    table.add("peak", peak.losses(rows.metric, rows.y), peak.excess)
    selectivity.add("peak", peak.arrays)
    named, words = _add_baselines(table, chance[0], _with_look_up(rows, dict(baselines or {})))
    draws = settings.confidence, settings.resamples, settings.seed
    bootstrap = table.bootstrap(*draws)
    controls = selectivity.figures(*draws)
    best = int(first_best(peak.inner.mean(axis=1)))
    refitted = _refit_intervals(small, peak, table, bootstrap)
    embedding = rows.embedding_index(layers)
    scores = _layer_scores(
        layers, parts, small, table, bootstrap, best, embedding, controls, refitted
    )
    return scores, {
        **_how_evaluated(rows, settings),
        "n_groups": test.n_groups,
        **_permutation_counts(small, rows),
        "chance": scores[0].chance,
        "best_layer": layers[best],
        "peak": {
            **_peak_figures(layers, peak, table, bootstrap, scores, embedding),
            "over_training": refitted[table.column["peak"]],
            **_peak_predictions(test, rows, peak, words, draws),
            "controls": controls["peak"],
        },
        "baselines": _baseline_figures(embedding, named, table, bootstrap),
        **_fit_counts(scores),
    }


def _own_scores(
    fit: Fit, rows: EvaluatedRows, test: TestedRows, tolerance: float
) -> dict[str, Any]:
    """The scores of a layer that need no other layer."""
    return {
        **single_layer_scores(fit, rows.y, rows.design, rows.names, tolerance),
        **calibration_scores(_probability(fit, rows), rows.y, test.tested),
    }


def _how_evaluated(rows: EvaluatedRows, settings: EvaluationSettings) -> dict[str, Any]:
    return {
        "statistic": rows.metric.statistic,
        "confidence": settings.confidence,
        "resamples": settings.resamples,
        "tolerance": settings.tolerance,
    }


def _peak_predictions(
    test: TestedRows,
    rows: EvaluatedRows,
    peak: Selection,
    words: Selection | None,
    draws: tuple[float, int, int],
) -> dict[str, Any]:
    """Figures of the peak from what it predicts for each row."""
    return {
        **prediction_scores(peak.arrays, rows.y, rows.design, rows.names),
        **_peak_calibration(peak, rows, draws[2]),
        "recall": recall_intervals(test, peak.arrays["predicted"], rows.names, *draws),
        "pairs": _pair_figures(test, rows, peak, words, draws),
    }


def _add_fit(table: ColumnTable, name: str | int, fit: Fit) -> None:
    table.add(name, fit["loss"], inner_scores(fit) - fit["outer_score"])


def _with_look_up(rows: EvaluatedRows, baselines: dict[str, Fit]) -> dict[str, Fit]:
    """The baselines and the look-up by prompt, if there are two prompts."""
    if rows.prompt is None or (rows.prompt == rows.prompt[0]).all():
        return baselines
    return {"look-up": look_up(rows.metric, rows.y, rows.design, rows.prompt), **baselines}


def _add_baselines(
    table: ColumnTable, chance: Floats, baselines: Mapping[str, Fit]
) -> tuple[list[str], Selection | None]:
    """Add the columns of all baselines, and of the best of those that read the words.

    The best is chosen in each outer split by its inner validation score, as the peak is. Returns
    the names of the columns and the choice; None if no baseline reads the words.
    """
    best = None
    table.add("majority", chance)
    for name, fit in baselines.items():
        _add_fit(table, name, fit)
    words = [name for name in WORDS if name in baselines]
    if words:
        inner = np.stack([inner_scores(baselines[name]) for name in words])
        best = Selection(table.test.design, inner)
        for k, name in enumerate(words):
            best.take(k, baselines[name])
        table.add("words alone", best.losses(table.metric, table.test.y), best.excess)
    return ["majority", *baselines, *(["words alone"] if words else [])], best


def _pair_figures(
    test: TestedRows,
    rows: EvaluatedRows,
    peak: Selection,
    words: Selection | None,
    draws: tuple[float, int, int],
) -> dict[str, Any] | None:
    """Accuracy of the peak and of the words alone on seen and unseen name pairs, or prompts."""
    kind = rows.prompt if rows.pair is None else rows.pair
    if kind is None:
        return None
    selections = {"peak": peak} | ({} if words is None else {"words": words})
    predicted = {name: one.arrays["predicted"] for name, one in selections.items()}
    sides = seen_and_unseen(test, kind, predicted, *draws)
    if sides is None:
        return None
    return {"kind": "prompt" if rows.pair is None else "name pair", **sides}


def _layer_scores(
    layers: Sequence[int],
    parts: Sequence[dict[str, Any]],
    small: Sequence[Fit],
    table: ColumnTable,
    bootstrap: GroupBootstrap,
    best: int,
    embedding: int | None,
    controls: Mapping[str | int, dict[str, Any]],
    refitted: Sequence[dict[str, float] | None],
) -> list[LayerScore]:
    """Complete the scores of each layer with intervals and differences to other layers."""
    intervals, columns = column_intervals(bootstrap), range(len(layers))
    over: list[Difference | None] = [None] * len(layers)
    if embedding is not None:
        errors = bootstrap.simultaneous_errors(columns, [embedding])
        over = differences(bootstrap, columns, embedding, errors)
    # Any layer could have been the best, so the intervals cover the differences of all pairs.
    errors = bootstrap.simultaneous_errors(columns, columns)
    below = differences(bootstrap, columns, best, errors)
    p, p_within = _p_values(small, "null"), _p_values(small, "within")
    return [
        LayerScore(
            layer=layers[k],
            **intervals[k],
            chance=float(bootstrap.value[table.column["majority"]]),
            over_training=refitted[k],
            over_embedding=over[k],
            below_best=below[k],
            p=p[k][0],
            p_corrected=p[k][1],
            p_within=p_within[k][0],
            p_within_corrected=p_within[k][1],
            controls=controls[k],
            **parts[k],
        )
        for k in columns
    ]


def _refit_intervals(
    small: Sequence[Fit], peak: Selection, table: ColumnTable, bootstrap: GroupBootstrap
) -> list[dict[str, float] | None]:
    """Intervals over test rows and training rows of the layers and of the peak, by column.

    None without refits. Only the single split of a dataset has them, so the peak is one layer.
    """
    refitted = [k for k, fit in enumerate(small) if "refit" in fit]
    found: list[dict[str, float] | None] = [None] * len(bootstrap.value)
    if not refitted:
        return found
    variance = np.zeros(len(found))
    for k in refitted:
        variance[k] = small[k]["refit"].var(ddof=1)
    column = table.column["peak"]
    variance[column] = variance[peak.chosen[0]]
    low, high = bootstrap.intervals(variance)
    for k in (*refitted, column):
        found[k] = {"low": float(low[k]), "high": float(high[k])}
    return found


def _p_values(small: Sequence[Fit], kind: str) -> list[tuple[float | None, float | None]]:
    """p value of each layer and p value corrected over layers; None without permutations."""
    figures: list[tuple[float | None, float | None]] = [(None, None)] * len(small)
    permuted = [k for k, fit in enumerate(small) if kind in fit]
    if permuted:
        null = np.stack([small[k][kind] for k in permuted]).astype(np.float64)
        observed = np.array([float(small[k][f"{kind}_observed"]) for k in permuted])
        for k, p, corrected in zip(permuted, *permutation_p(observed, null), strict=True):
            figures[k] = float(p), float(corrected)
    return figures


def _permutation_counts(small: Sequence[Fit], rows: EvaluatedRows) -> dict[str, Any]:
    n = max((len(fit["null"]) for fit in small if "null" in fit), default=0)
    n_rows = n_exchangeable_rows(rows.y, rows.group, rows.design.blocks) if n else None
    return {"n_permutations": n, "n_movable": n_rows}


def _peak_figures(
    layers: Sequence[int],
    peak: Selection,
    table: ColumnTable,
    bootstrap: GroupBootstrap,
    scores: Sequence[LayerScore],
    embedding: int | None,
) -> dict[str, Any]:
    """Score of the peak, and its differences to chance, to baselines and to layer 0."""
    column = table.column
    of_peak = column_intervals(bootstrap)[column["peak"]]
    references: dict[str, str | int] = {
        "over_chance": "majority",
        "over_words": "words alone",
        "over_random": RANDOM_FEATURES,
    }
    if embedding is not None:
        references["over_embedding"] = embedding
    over = {
        name: differences(bootstrap, [column["peak"]], column[reference])[0]
        for name, reference in references.items()
        if reference in column
    }
    return {
        "estimate": of_peak["score"],
        "low": of_peak["low"],
        "high": of_peak["high"],
        "layers": peak.counts(layers),
        "naive": max(score.score for score in scores),
        **dict.fromkeys(("over_chance", "over_words", "over_random", "over_embedding")),
        **over,
    }


def _probability(fit: Fit, rows: EvaluatedRows) -> NDArray[np.floating] | None:
    """Probabilities [repeat, row, class]; None if the probe has none, or has class weights."""
    return None if rows.weighted else fit.get("probability")


def _peak_calibration(peak: Selection, rows: EvaluatedRows, seed: int) -> dict[str, float | None]:
    probability, tested = _probability(peak.arrays, rows), rows.design.test_split >= 0
    return {
        **calibration_scores(probability, rows.y, tested),
        **calibration_null(probability, tested, seed),
    }


def _baseline_figures(
    embedding: int | None, names: Sequence[str], table: ColumnTable, bootstrap: GroupBootstrap
) -> dict[str, Any]:
    figures = column_intervals(bootstrap)
    baselines: dict[str, Any] = {name: figures[table.column[name]] for name in names}
    baselines["majority"] |= {"low": None, "high": None}
    if embedding is not None:
        baselines["embedding output"] = figures[embedding]
    return baselines


def _fit_counts(scores: Sequence[LayerScore]) -> dict[str, Any]:
    return {
        "n_fits": sum(score.n_fits for score in scores),
        "n_uncertified": sum(score.n_uncertified for score in scores),
        "max_gap": max((s.max_gap for s in scores if s.max_gap is not None), default=None),
    }
