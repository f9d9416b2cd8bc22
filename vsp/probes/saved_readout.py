"""Saved arrays of a linear estimator of the user. They are read and used without its code."""

from __future__ import annotations

from typing import Any, NoReturn

import numpy as np

from vsp.errors import ProbeError
from vsp.probes.base import LabelProbe, NumberProbe
from vsp.probes.linear_probe import LinearProbe, Readout


class _SavedReadout(LinearProbe):
    """A fitted probe that holds no code to fit it again."""

    def __init__(self, treatment: str = "none") -> None:
        self.treatment = treatment

    def fit(self, states: Any, y: Any) -> NoReturn:
        raise ProbeError(
            "these are saved weights of a class that is not loaded; fit the class itself"
        )


class SavedLabelReadout(_SavedReadout, LabelProbe):
    """Scores of a linear classifier; the largest wins."""


class SavedNumberReadout(_SavedReadout, NumberProbe):
    """A number read by a linear regressor."""


def linear_readout(estimator: Any, n_classes: int | None) -> Readout | None:
    """Weights and biases that give the scores of a fitted estimator, if it has such attributes.

    The caller checks that they do. `n_classes`: None for a number. For two classes, scikit-learn has
    one score; half of it goes to each class, so that differences and their softmax are the same.
    """
    coef, intercept = getattr(estimator, "coef_", None), getattr(estimator, "intercept_", 0.0)
    if coef is None or not hasattr(coef, "shape"):
        return None
    if hasattr(coef, "toarray"):  # a sparse matrix
        coef = coef.toarray()
    coef, wanted = np.atleast_2d(np.asarray(coef)), 1 if n_classes is None else n_classes
    intercept = np.atleast_1d(np.asarray(intercept))
    if coef.dtype.kind != "f" or intercept.dtype.kind not in "fiu":
        return None
    if wanted == 2 and len(coef) == 1:
        coef, intercept = np.vstack([-coef, coef]) / 2, np.concatenate([-intercept, intercept]) / 2
    if len(coef) != wanted or intercept.ndim != 1 or len(intercept) not in (1, wanted):
        return None
    intercept = np.broadcast_to(intercept, (wanted,)).astype(np.float64)
    if not (np.isfinite(coef).all() and np.isfinite(intercept).all()):
        return None
    return Readout(coef.astype(np.float64), intercept)
