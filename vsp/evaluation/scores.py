"""Further figures of predictions: class scores and calibration.

Labels `y` [row] are class indices, or float64 numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_BINS = 15  # of the calibration error


def are_numbers(y: NDArray[Any]) -> bool:
    """Whether the target is a number; otherwise it is a class index."""
    return bool(y.dtype.kind == "f")


def confusion(
    true: NDArray[np.intp], predicted: NDArray[np.intp], n_classes: int
) -> NDArray[np.intp]:
    """Row counts [true class, predicted class]."""
    both = np.bincount(true * n_classes + predicted, minlength=n_classes**2)
    return both.reshape(n_classes, n_classes)


@dataclass(frozen=True, slots=True)
class ClassScores:
    """Scores that give each class the same weight."""

    recall: Floats  # [class]; 0 if no row is of the class
    precision: Floats  # [class]; 0 if the class is never predicted
    balanced_accuracy: float  # mean recall of the classes that have rows
    macro_f1: float  # mean F1 of the classes that have rows or are predicted


def class_scores(counts: NDArray[np.intp]) -> ClassScores:
    """Compute class scores from the confusion matrix `counts` [true class, predicted class]."""
    correct, n_true, n_predicted = np.diag(counts), counts.sum(axis=1), counts.sum(axis=0)
    recall, precision = correct / np.maximum(n_true, 1), correct / np.maximum(n_predicted, 1)
    present = n_true + n_predicted > 0
    f1 = 2 * correct[present] / (n_true + n_predicted)[present]
    return ClassScores(recall, precision, float(recall[n_true > 0].mean()), float(f1.mean()))


def calibration_error(
    probability: NDArray[np.floating], predicted: NDArray[np.intp], true: NDArray[np.intp]
) -> float:
    """Expected calibration error of the predicted class; `probability` is [row, class].

    Mean absolute difference of confidence and accuracy over 15 bins of equal width, weighted by
    rows. Source: Guo et al., "On Calibration of Modern Neural Networks", 2017.
    """
    # `predicted` is not recomputed: rounded probabilities can tie where scores do not.
    return error_of_bins(probability[np.arange(len(true)), predicted], predicted == true)


def error_of_bins(confidence: NDArray[np.floating], correct: NDArray[np.bool_]) -> float:
    """Calibration error from the confidence [row] of predictions, and whether they are right."""
    place = np.clip(np.ceil(confidence * _BINS).astype(np.intp) - 1, 0, _BINS - 1)
    gap = np.bincount(place, correct - confidence.astype(np.float64), _BINS)
    return float(np.abs(gap).sum() / len(correct))


def brier_score(probability: NDArray[np.floating], true: NDArray[np.intp]) -> float:
    """Mean over rows of Σ (probability − indicator)² over classes; `probability` is [row, class]."""
    squared = np.einsum("rc,rc->r", probability, probability, dtype=np.float64)
    of_true = probability[np.arange(len(true)), true].astype(np.float64)
    return float(np.mean(squared - 2 * of_true + 1))
