"""The part of a layer's scores that depends on this layer only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vsp.evaluation.design import Design
from vsp.evaluation.scores import (
    are_numbers,
    brier_score,
    calibration_error,
    class_scores,
    confusion,
)

Fit = Mapping[str, NDArray[Any]]  # arrays of a fitted layer, named as in layer_fits.merge_pieces

_CLEAR_GAIN = 0.01  # of an inner score by the last step of the grid
_CLASS_FIGURES = (
    "accuracy", "balanced_accuracy", "macro_f1", "recall", "precision", "confusion", "ece", "brier",
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
        **_description_length(fit),
        **_certificates(fit, tolerance),
        "capacity": float(fit["capacity"].mean()) if "capacity" in fit else None,
        "n_train": int(design.train_sets[first.train_set].sum()),
        "n_test": len(first.test),
    }


def prediction_scores(
    fit: Fit, y: NDArray[Any], design: Design, names: Sequence[str]
) -> dict[str, Any]:
    """Scores of classes and probabilities, or the RMSE of numbers, over the rows of all repeats."""
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
    if "probability" in fit:
        probability = fit["probability"][tested]
        figures["ece"] = calibration_error(probability, predicted, true)
        figures["brier"] = brier_score(probability, true)
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


def _description_length(fit: Fit) -> dict[str, Any]:
    """Online code length and learning curve."""
    curve: list[list[float]] = []
    if "curve" in fit:
        pairs = zip(fit["portion_rows"], fit["curve"], strict=True)
        curve = [[float(rows), float(score)] for rows, score in pairs]
    if "code_bits" not in fit:
        return {"code_bits": None, "compression": None, "curve": curve}
    bits, uniform = float(fit["code_bits"]), float(fit["uniform_bits"])
    compression = finite_or_none(uniform / bits)
    return {"code_bits": finite_or_none(bits), "compression": compression, "curve": curve}


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
