"""The part of a layer's scores that depends on this layer only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vsp.evaluation.design import Design
from vsp.evaluation.online_code import mean_and_error
from vsp.evaluation.scores import are_numbers, class_scores, confusion

Fit = Mapping[str, NDArray[Any]]  # arrays of a fitted layer, named as in layer_fits.merge_pieces

_CLEAR_GAIN = 0.01  # of an inner score by the last step of the grid
_CLASS_FIGURES = (
    "accuracy", "balanced_accuracy", "macro_f1", "recall", "precision", "confusion",
)  # fmt: skip


def single_layer_scores(
    fit: Fit, y: NDArray[Any], design: Design, names: Sequence[str], tolerance: float
) -> dict[str, Any]:
    """Fields of LayerScore by name. `names` are those of the classes.

    Fits with a relative duality gap above `tolerance` count as not certified.
    """
    first = design.outer[0]
    return {
        **prediction_scores(fit, y, design, names),
        **_strength_scores(fit, design),
        **_code_length(fit),
        **_code_length(fit, "control_"),
        "curve": _learning_curve(fit),
        **_certificates(fit, tolerance),
        "erasure": _erasure(fit),
        "capacity": float(fit["capacity"].mean()) if "capacity" in fit else None,
        "n_train": int(design.train_sets[first.train_set].sum()),
        "n_test": len(first.test),
    }


def prediction_scores(
    fit: Fit, y: NDArray[Any], design: Design, names: Sequence[str]
) -> dict[str, Any]:
    """Scores of predicted classes, or the RMSE of numbers, over the rows of all repeats."""
    figures: dict[str, Any] = {**dict.fromkeys(_CLASS_FIGURES), "rmse": None}
    tested = design.test_split >= 0
    true = np.broadcast_to(y, tested.shape)[tested]
    if are_numbers(y):
        squared = (fit["predicted"][tested].astype(np.float64) - true) ** 2
        return {**figures, "rmse": float(np.sqrt(squared.mean()))}
    predicted = fit["predicted"][tested].astype(np.intp)
    counts = confusion(true, predicted, len(names))
    scores = class_scores(counts)
    figures |= {
        "accuracy": float((predicted == true).mean()),
        "balanced_accuracy": scores.balanced_accuracy,
        "macro_f1": scores.macro_f1,
        "recall": dict(zip(names, scores.recall.tolist(), strict=True)),
        "precision": dict(zip(names, scores.precision.tolist(), strict=True)),
        "confusion": counts.tolist(),
    }
    return figures


def _strength_scores(fit: Fit, design: Design) -> dict[str, Any]:
    """Chosen regularisation strengths, and the score at every strength of the grid."""
    grid, chosen = fit["strengths"].astype(np.float64), fit["chosen"]
    if np.isnan(grid).any():  # the probe has no strength
        return {"strength": None, "strengths": [], "at_edge": 0, "by_strength": {}}
    scores = fit.get("by_strength", np.full(len(grid), np.nan))
    return {
        "strength": finite_or_none(fit["final_strength"]),
        "strengths": grid[chosen].tolist(),
        "at_edge": _n_at_edge(fit["inner"], chosen),
        "by_strength": {
            f"{strength:g}": finite_or_none(score)
            for strength, score in zip(grid, scores, strict=True)
        },
    }


def _n_at_edge(inner: NDArray[np.floating], chosen: NDArray[np.intp]) -> int:
    """Outer splits for which a wider grid might choose a better strength.

    The strength is the smallest or largest, and its inner score is clearly better than that of its
    neighbour: a curve that is flat at the end of the grid has nothing beyond it.
    """
    last = inner.shape[1] - 1
    if not last:
        return 0
    neighbour = np.where(chosen == 0, 1, last - 1)
    row = np.arange(len(chosen))
    gain = inner[row, chosen] - inner[row, neighbour]
    return int((np.isin(chosen, (0, last)) & (gain > _CLEAR_GAIN)).sum())


def _learning_curve(fit: Fit) -> list[list[float | None]]:
    """Rows, mean score over orders and its standard error, of each portion.

    The largest portion is all training rows, so its score has no error of this kind.
    """
    if "curve" not in fit:
        return []
    *n_rows, n_train = fit["portion_rows"].tolist()
    mean, error = mean_and_error(fit["curve"].astype(np.float64))
    points = [
        [rows, finite_or_none(one), finite_or_none(of_one)]
        for rows, one, of_one in zip(n_rows, mean, error, strict=True)
    ]
    return [*points, [n_train, finite_or_none(fit["outer_score"][0]), None]]


def _code_length(fit: Fit, kind: str = "") -> dict[str, Any]:
    """Mean code length over orders, its standard error, and the compression; `kind` "control_"."""
    names = (f"{kind}code_bits", f"{kind}code_error", f"{kind}compression")
    if names[0] not in fit:
        return dict.fromkeys(names)
    bits, error = mean_and_error(fit[names[0]].astype(np.float64))
    figures = float(bits), finite_or_none(error), float(fit[f"{kind}uniform_bits"] / bits)
    return dict(zip(names, figures, strict=True))


def _erasure(fit: Fit) -> dict[str, float] | None:
    """Scores on training rows after the erasure, and on test rows after that of random subspaces."""
    if "erased_train" not in fit:
        return None
    drawn = fit["random_erased"].astype(np.float64)
    return {
        "rank": float(fit["erased_rank"].max()),
        "train": float(fit["erased_train"].mean()),
        "train_chance": float(fit["erased_chance"].mean()),
        "random": float(drawn.mean()),
        "random_low": float(drawn.min()),
        "random_high": float(drawn.max()),
    }


def _certificates(fit: Fit, tolerance: float) -> dict[str, Any]:
    gap = fit["gap"].astype(np.float64)
    known = gap[~np.isnan(gap)]
    return {
        "n_fits": gap.size,
        # Gaps are stored in float32, and rounding can put them above the tolerance.
        "n_uncertified": int((known > tolerance * (1 + 1e-6)).sum()),
        "max_gap": finite_or_none(known.max()) if len(known) else None,
    }


def finite_or_none(value: Any) -> float | None:
    """The value as a float; None if it is not finite."""
    number = float(value)
    return number if np.isfinite(number) else None
