"""How far the probabilities of a probe agree with the frequencies of its labels.

The expected calibration error is above 0 even if the probabilities are right, the more the fewer
rows there are. It is therefore shown beside its value for labels drawn from the probabilities.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vsp.evaluation.scores import Floats, brier_score, calibration_error, error_of_bins

_DRAWS = 200  # of labels


def calibration_scores(
    probability: NDArray[np.floating] | None, y: NDArray[Any], tested: NDArray[np.bool_]
) -> dict[str, float | None]:
    """ECE and Brier score of `probability` [repeat, row, class] on the `tested` rows [repeat, row].

    None without probabilities.
    """
    if probability is None:
        return {"ece": None, "brier": None}
    of_rows, true = probability[tested], np.broadcast_to(y, tested.shape)[tested]
    return {
        "ece": calibration_error(of_rows, of_rows.argmax(axis=1), true),
        "brier": brier_score(of_rows, true),
    }


def calibrated_errors(
    probability: NDArray[np.floating], tested: NDArray[np.bool_], seed: int
) -> Floats:
    """ECE [draw] of labels that are drawn from `probability` [repeat, row, class], in order of size.

    A draw gives a row about the same label in all repeats: its predicted class is right if its
    confidence is above one random number. Rows are drawn independently.
    """
    confidence = probability.max(axis=-1).astype(np.float64)
    known = np.where(tested, confidence, 0.0)
    rng = np.random.default_rng(seed)
    errors = [
        error_of_bins(confidence[tested], (rng.random(known.shape[1]) < known)[tested])
        for _ in range(_DRAWS)
    ]
    return np.sort(errors)


def calibration_null(
    probability: NDArray[np.floating] | None, tested: NDArray[np.bool_], seed: int
) -> dict[str, float | None]:
    """Mean and 95 % quantile of `calibrated_errors`; None without probabilities."""
    if probability is None:
        return {"ece_null": None, "ece_null_high": None}
    errors = calibrated_errors(probability, tested, seed)
    return {"ece_null": float(errors.mean()), "ece_null_high": float(np.quantile(errors, 0.95))}
