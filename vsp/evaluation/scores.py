"""From what every layer gave to what a run found: scores, intervals, the peak, corrections.

All layers are judged on the same rows, so groups are resampled once for all of them: differences
are paired, and what is said of the best layer allows for its being the best of many.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vsp.errors import ProbeError
from vsp.evaluation.design import Design, Outer, movable
from vsp.evaluation.statistics import (
    Estimates,
    Floats,
    Folds,
    brier_score,
    calibration_error,
    class_scores,
    confusion,
    estimate,
    permutation_p,
    preferred,
)
from vsp.storage.results import LayerScore

Fit = Mapping[str, NDArray[Any]]  # what one layer gave, as programme.fit_layer names it
_LIGHT = ("inner", "chosen", "null", "null_observed")  # what is read of all layers at once


def evaluate(
    layers: Sequence[int],
    fits: Sequence[Fit],
    y: NDArray[Any],
    group: NDArray[np.str_],
    design: Design,
    names: Sequence[str],
    target: str,
    prompts: NDArray[np.str_] | None = None,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
    tolerance: float = 1e-6,
    random: Fit | None = None,
) -> tuple[list[LayerScore], dict[str, Any]]:
    """A score for each of `layers`, and the facts of the run as a whole.

    `random` is what random features gave, a baseline. `y`, `group` and `prompts` are [row], `names`
    those of the classes; `target` is "label" or "number"; fits with a relative gap above `tolerance`
    are counted. Each of `fits` is asked for twice, one after the other, so that they need not be in
    memory together.
    """
    if not len(fits):
        raise ProbeError("no layer was fitted; choose one or more")
    judge = _judge(y, group, design, target == "label")
    light = [{name: fit[name] for name in _LIGHT if name in fit} for fit in fits]
    inner = np.stack([_inner(fit) for fit in light])  # [layer, outer]
    peak = preferred(inner)
    table, parts = _Table(judge, len(fits) + 4), []
    peak_loss = np.zeros(judge.base.shape)
    for k, fit in enumerate(fits):
        loss = judge.loss(fit["predicted"])
        for outer in _where(design.outer, peak == k):
            peak_loss[outer.repeat, outer.judge] = loss[outer.repeat, outer.judge]
        table.add(k, loss, inner[k])
        parts.append(_of_one_layer(fit, judge, names, tolerance))
    table.add("peak", peak_loss, inner.max(axis=0))
    kind = None if prompts is None else np.unique(prompts, return_inverse=True)[1]
    _add_baselines(table, kind, random)
    found = table.estimates(confidence, resamples, seed)
    best = int(preferred(inner.mean(axis=1)))
    scores = _scores(layers, parts, light, table, found, best)
    run = {
        "statistic": "accuracy" if judge.by_label else "R²",
        "confidence": confidence,
        "resamples": resamples,
        "tolerance": tolerance,
        "n_groups": judge.n_groups,
        **_permuted(light, judge, group),
        "n_prompt_known": None if kind is None else _n_known(judge, kind),
        **_across_layers(layers, scores, table, found, peak, best),
        **_fits_counted(scores),
    }
    return scores, run


@dataclass(frozen=True, slots=True)
class _Judge:
    """The rows that are judged, and what a wrong prediction costs."""

    y: NDArray[Any]
    group: NDArray[np.intp]  # [row], a number from 0 on; that of rows never judged is 0
    n_groups: int
    design: Design
    judged: NDArray[np.bool_]  # [repeat, row]
    base: Floats  # [repeat, row], 0 where not judged
    by_label: bool

    def loss(self, predicted: NDArray[Any]) -> Floats:
        """Of `predicted` [repeat, row]; 0 where not judged."""
        if self.by_label:
            return np.asarray((predicted != self.y) & self.judged, dtype=np.float64)
        away = predicted.astype(np.float64) - self.y
        return np.where(self.judged, away**2, 0.0)

    def sums(self, values: Floats) -> Floats:
        """Of `values` [repeat, row] over the rows of each group [repeat, group]."""
        return np.stack([np.bincount(self.group, one, self.n_groups) for one in values])

    def by_outer(self, loss: Floats) -> Floats:
        """The statistic on the judged rows of each outer split."""
        at = [(outer.repeat, outer.judge) for outer in self.design.outer]
        return np.array([_statistic(loss[one], self.base[one]) for one in at])


def _statistic(loss: Floats, base: Floats) -> float:
    return 1 - float(loss.sum() / base.sum()) if base.sum() else float("nan")


def _judge(y: NDArray[Any], group: NDArray[np.str_], design: Design, by_label: bool) -> _Judge:
    judged, base = design.judged_by >= 0, base_of(y, design, by_label)
    rows, number = np.flatnonzero(judged[0]), np.zeros(len(y), dtype=np.intp)
    number[rows] = np.unique(group[rows], return_inverse=True)[1]
    return _Judge(y, number, int(number.max()) + 1, design, judged, base, by_label)


def base_of(y: NDArray[Any], design: Design, by_label: bool) -> Floats:
    """What the losses of judged rows are measured by [repeat, row]; 0 where not judged.

    1 for labels; for numbers the squared distance from the mean of the fit's training rows.
    """
    base = np.zeros((design.n_repeats, len(y)))
    for outer in design.outer:
        away = 1.0 if by_label else (y[outer.judge] - y[design.train[outer.fit]].mean()) ** 2
        base[outer.repeat, outer.judge] = away
    return base


class _Table:
    """Losses of layers, of the peak and of baselines, a column each, summed over groups."""

    def __init__(self, judge: _Judge, n_columns: int) -> None:
        self.judge = judge
        self.at: dict[int | str, int] = {}  # a layer's column is its place
        self._loss = np.zeros((n_columns, judge.design.n_repeats, judge.n_groups))
        self._surprise = np.zeros((len(judge.design.outer), n_columns))

    def add(self, name: int | str, loss: Floats, inner: Floats | None = None) -> None:
        """`loss` [repeat, row]; `inner` [outer] is what inner splits gave, where there are any."""
        column = self.at[name] = len(self.at)
        self._loss[column] = self.judge.sums(loss)
        if inner is not None:
            self._surprise[:, column] = inner - self.judge.by_outer(loss)

    def estimates(self, confidence: float, resamples: int, seed: int) -> Estimates:
        judge, n = self.judge, len(self.at)
        return estimate(
            self._loss[:n],
            judge.sums(judge.base),
            n_rows=int(judge.judged[0].sum()),
            shares=judge.by_label,
            surprise=self._surprise[:, :n],
            folds=Folds(judge.design.n_folds, judge.design.n_repeats),
            confidence=confidence,
            resamples=resamples,
            seed=seed,
        )


def _inner(fit: Fit) -> Floats:
    """What the inner splits gave [outer] at the strength that was taken."""
    inner = fit["inner"][np.arange(len(fit["inner"])), fit["chosen"]].astype(np.float64)
    return np.where(np.isfinite(inner), inner, -np.inf)  # undefined: never the best


def _add_baselines(table: _Table, kind: NDArray[np.intp] | None, random: Fit | None) -> None:
    """`kind` [row]: which prompt a row has, a number from 0 on."""
    table.add("majority", table.judge.loss(_majority(table.judge)))
    if kind is not None and kind.any():
        table.add("prompt-only", table.judge.loss(_prompt_only(table.judge, kind)))
    if random is not None:
        table.add("random features", table.judge.loss(random["predicted"]), _inner(random))


def _where(outers: Sequence[Outer], chosen: NDArray[np.bool_]) -> list[Outer]:
    return [outer for outer, yes in zip(outers, chosen, strict=True) if yes]


def _majority(judge: _Judge) -> NDArray[Any]:
    """The commonest label of the rows the saved probe is fitted on; each fit's mean of numbers.

    Not each fold's own commonest label: of two that are about as common it would be the one that
    the judged rows have less of, and chance be far below a half.
    """
    predicted = np.zeros(judge.judged.shape, dtype=judge.y.dtype)
    if judge.by_label:
        predicted[:] = np.bincount(judge.y[judge.design.train[judge.design.final]]).argmax()
        return predicted
    for outer in judge.design.outer:
        predicted[outer.repeat, outer.judge] = judge.y[judge.design.train[outer.fit]].mean()
    return predicted


def _prompt_only(judge: _Judge, kind: NDArray[np.intp]) -> NDArray[Any]:
    """The commonest label, or mean number, of a fit's rows with the same prompt [repeat, row].

    Of all the fit's rows where none has the prompt.
    """
    of_kind = _commonest if judge.by_label else _mean
    predicted = np.zeros(judge.judged.shape, dtype=judge.y.dtype)
    for outer in judge.design.outer:
        mask = judge.design.train[outer.fit]
        known = of_kind(kind[mask], judge.y[mask], int(kind.max()) + 1)
        predicted[outer.repeat, outer.judge] = known[kind[outer.judge]]
    return predicted


def _n_known(judge: _Judge, kind: NDArray[np.intp]) -> int:
    """Judged rows of the first repeat with a prompt that was among the rows of their fit."""
    return sum(
        int(np.isin(kind[outer.judge], kind[judge.design.train[outer.fit]]).sum())
        for outer in judge.design.outer
        if outer.repeat == 0
    )


def _commonest(kind: NDArray[np.intp], y: NDArray[np.intp], n_kinds: int) -> NDArray[Any]:
    """The commonest label of each kind; of equals the lowest."""
    n_classes = int(y.max()) + 1
    pairs, counts = np.unique(kind * n_classes + y, return_counts=True)
    order = np.lexsort((pairs, -counts, pairs // n_classes))
    first, found = np.unique(pairs[order] // n_classes, return_index=True)
    labels = np.full(n_kinds, np.bincount(y).argmax())
    labels[first] = pairs[order][found] % n_classes
    return labels


def _mean(kind: NDArray[np.intp], y: Floats, n_kinds: int) -> Floats:
    n, total = np.bincount(kind, minlength=n_kinds), np.bincount(kind, y, n_kinds)
    return np.where(n > 0, total / np.maximum(n, 1), y.mean())


def _of_one_layer(
    fit: Fit, judge: _Judge, names: Sequence[str], tolerance: float
) -> dict[str, Any]:
    """What needs no other layer."""
    design = judge.design
    return {
        **_class_figures(fit, judge, names),
        **_strength_figures(fit, design),
        **_code_figures(fit),
        **_fit_figures(fit, tolerance),
        "n_train": int(design.train[design.outer[0].fit].sum()),
        "n_test": len(design.outer[0].judge),
    }


def _class_figures(fit: Fit, judge: _Judge, names: Sequence[str]) -> dict[str, Any]:
    """Of the classes, and of probabilities; every repeat counts each of its rows once."""
    missing = ("balanced_accuracy", "macro_f1", "recall", "precision", "confusion", "ece", "brier")
    if not judge.by_label:
        squared = judge.loss(fit["predicted"])[judge.judged]
        return {**dict.fromkeys(missing), "rmse": float(np.sqrt(squared.mean()))}
    true = np.broadcast_to(judge.y, judge.judged.shape)[judge.judged]
    predicted = fit["predicted"][judge.judged].astype(np.intp)
    counts = confusion(true, predicted, len(names))
    scores = class_scores(counts)
    figures: dict[str, Any] = {**dict.fromkeys(missing), "rmse": None}
    figures |= {
        "balanced_accuracy": scores.balanced_accuracy,
        "macro_f1": scores.macro_f1,
        "recall": dict(zip(names, scores.recall.tolist(), strict=True)),
        "precision": dict(zip(names, scores.precision.tolist(), strict=True)),
        "confusion": counts.tolist(),
    }
    if "probability" in fit:
        probability = fit["probability"][judge.judged]
        figures["ece"] = calibration_error(probability, predicted, true)
        figures["brier"] = brier_score(probability, true)
    return figures


def _strength_figures(fit: Fit, design: Design) -> dict[str, Any]:
    """Strengths, where the probe has a grid, and scores and control tasks at them."""
    grid, chosen = fit["strengths"].astype(np.float64), fit["chosen"]
    unknown = np.full(len(grid), np.nan)
    control = fit["control"].mean(axis=0) if "control" in fit else unknown
    first = [i for i, outer in enumerate(design.outer) if outer.repeat == 0]
    figures: dict[str, Any] = {"control": _figure(control[chosen[first]].mean())}
    if np.isnan(grid).any():
        return {**figures, "strength": None, "strengths": [], "at_edge": 0, "by_strength": {}}
    by_strength = {
        f"{strength:g}": {
            "score": _figure(score),
            "control": _figure(of_control),
            "selectivity": _figure(score - of_control),
        }
        for strength, score, of_control in zip(
            grid, fit.get("by_strength", unknown), control, strict=True
        )
    }
    edges = (0, len(grid) - 1) if len(grid) > 1 else ()
    return {
        **figures,
        "strength": _figure(fit["final_strength"]),
        "strengths": grid[chosen].tolist(),
        "at_edge": int(np.isin(chosen, edges).sum()),
        "by_strength": by_strength,
    }


def _code_figures(fit: Fit) -> dict[str, Any]:
    curve: list[list[float]] = []
    if "curve" in fit:
        pairs = zip(fit["portion_rows"], fit["curve"], strict=True)
        curve = [[float(rows), float(score)] for rows, score in pairs]
    if "code_bits" not in fit:
        return {"code_bits": None, "compression": None, "curve": curve}
    bits, uniform = float(fit["code_bits"]), float(fit["uniform_bits"])
    return {"code_bits": _figure(bits), "compression": _figure(uniform / bits), "curve": curve}


def _fit_figures(fit: Fit, tolerance: float) -> dict[str, Any]:
    gap = fit["gap"].astype(np.float64)
    known = gap[~np.isnan(gap)]
    return {
        "n_fits": gap.size,
        # Gaps are kept in float32, in which one may be a little larger than it was.
        "n_uncertified": int((known > tolerance * (1 + 1e-6)).sum()),
        "max_gap": _figure(known.max()) if len(known) else None,
    }


def _figure(value: Any) -> float | None:
    """None where it is not defined."""
    number = float(value)
    return number if np.isfinite(number) else None


def _scores(
    layers: Sequence[int],
    parts: Sequence[dict[str, Any]],
    light: Sequence[Fit],
    table: _Table,
    found: Estimates,
    best: int,
) -> list[LayerScore]:
    """Of each layer, with what it is beside the others."""
    (low, high), places = found.intervals(), range(len(layers))
    chance = float(found.value[table.at["majority"]])
    over: list[dict[str, float | None] | None] = [None] * len(layers)
    if 0 in layers and len(layers) > 1:
        embedding = list(layers).index(0)
        over = _differences(found, places, embedding, found.simultaneous(places, [embedding]))
    # The best was chosen of all; so an interval holds for whichever it might have been.
    below = _differences(found, places, best, found.simultaneous(places, places))
    p = _permutation_figures(light)
    return [
        LayerScore(
            layer=layers[k],
            score=float(found.value[k]),
            low=float(low[k]),
            high=float(high[k]),
            chance=chance,
            selectivity=_less(found.value[k], parts[k]["control"]),
            over_embedding=over[k],
            below_best=below[k],
            **p[k],
            **parts[k],
        )
        for k in places
    ]


def _less(score: float, control: float | None) -> float | None:
    return None if control is None else float(score - control)


def _differences(
    found: Estimates, columns: Sequence[int], to: int, errors: float | None
) -> list[dict[str, float | None] | None]:
    """Of each column to one; None for that one itself."""
    made = zip(columns, *found.differences(columns, to, errors), strict=True)
    return [
        None if k == to else {"difference": float(by), "low": float(low), "high": float(high)}
        for k, by, low, high in made
    ]


def _permutation_figures(light: Sequence[Fit]) -> list[dict[str, Any]]:
    figures: list[dict[str, Any]] = [{"p": None, "p_corrected": None} for _ in light]
    permuted = [k for k, fit in enumerate(light) if "null" in fit]
    if permuted:
        null = np.stack([light[k]["null"] for k in permuted]).astype(np.float64)
        observed = np.array([float(light[k]["null_observed"]) for k in permuted])
        for k, p, corrected in zip(permuted, *permutation_p(observed, null), strict=True):
            figures[k] = {"p": float(p), "p_corrected": float(corrected)}
    return figures


def _permuted(light: Sequence[Fit], judge: _Judge, group: NDArray[np.str_]) -> dict[str, Any]:
    n = max((len(fit["null"]) for fit in light if "null" in fit), default=0)
    rows = movable(judge.y, group, judge.design.blocks) if n else None
    return {"n_permutations": n, "n_movable": rows}


def _across_layers(
    layers: Sequence[int],
    scores: Sequence[LayerScore],
    table: _Table,
    found: Estimates,
    peak: NDArray[np.intp],
    best: int,
) -> dict[str, Any]:
    """The best layer, what the choice of a layer is worth on rows that did not make it, baselines.

    The best layer is the one that inner splits prefer over all outer ones.
    """
    low, high = found.intervals()

    def interval(column: int) -> dict[str, float]:
        return {"low": float(low[column]), "high": float(high[column])}

    def score(column: int) -> dict[str, float]:
        return {"score": float(found.value[column]), **interval(column)}

    at, chosen = table.at, Counter(str(layers[k]) for k in peak)
    baselines: dict[str, Any] = {"majority": {**score(at["majority"]), "low": None, "high": None}}
    over = None
    if "prompt-only" in at:
        baselines["prompt-only"] = score(at["prompt-only"])
        over = _differences(found, [best], at["prompt-only"], None)[0]
    if "random features" in at:
        baselines["random features"] = score(at["random features"])
    if 0 in layers and len(layers) > 1:
        baselines["embedding output"] = score(list(layers).index(0))
    estimated = {
        "estimate": float(found.value[at["peak"]]),
        **interval(at["peak"]),
        "layers": dict(sorted(chosen.items(), key=lambda one: int(one[0]))),
        "naive": max(score.score for score in scores),
    }
    return {
        "chance": scores[0].chance,
        "best_layer": layers[best],
        "peak": estimated if len(layers) > 1 else None,
        "baselines": baselines,
        "best_over_prompt": over,
    }


def _fits_counted(scores: Sequence[LayerScore]) -> dict[str, Any]:
    return {
        "n_fits": sum(score.n_fits for score in scores),
        "n_uncertified": sum(score.n_uncertified for score in scores),
        "max_gap": max((s.max_gap for s in scores if s.max_gap is not None), default=None),
    }
