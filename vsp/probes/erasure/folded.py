"""Probes of erased states: scores without rounding errors, and the same probes for raw states."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vsp.probes.base import TaskFit
from vsp.probes.erasure.methods import concept_of
from vsp.storage.changes import Eraser

_LINEAR = ("none", "center", "standardize")  # treatments that keep a linear probe linear

_LEAST = 1e-5  # scores of training rows that differ by less are equal
_UNRELATED = 1e-3  # correlation of scores and labels below which a constant is as good


def without_rounding_errors(fit: TaskFit, y: NDArray[Any], train: NDArray[np.intp]) -> TaskFit:
    """The fit with the same score for all rows, where scores and labels are not correlated.

    `y` are the labels [row] that were fitted, `train` the fitted rows. A convex loss is least at a
    constant if the mean score of each label is the same, as it is after LEACE. A solver that stops
    within a tolerance finds weights that are almost 0, and their signs would choose among labels that
    are equally common; the constant chooses the same label for all rows.
    """
    # -inf: class without training row
    known = np.asarray(np.isfinite(fit.scores[..., train]).all(axis=-1))
    of_train = np.where(known[..., None], fit.scores[..., train], 0).astype(np.float64)
    mean = of_train.mean(axis=-1)
    concept = concept_of(y[train])
    concept -= concept.mean(axis=0)
    concept /= np.maximum(concept.std(axis=0), np.finfo(np.float64).tiny)
    centred = of_train - mean[..., None]
    related = np.abs(centred @ concept).max(axis=-1) / len(train)  # [strength, class]
    unrelated = related < _UNRELATED * centred.std(axis=-1)
    flat = np.asarray(known & (unrelated | (np.ptp(of_train, axis=-1) < _LEAST)))
    constant = np.round(mean, 4)
    scores = np.where(flat[..., None], constant[..., None], fit.scores).astype(np.float32)
    probes = [_constant(one, flat[k], constant[k]) for k, one in enumerate(fit.probes)]
    return replace(fit, scores=scores, probes=tuple(probes))


def _constant(
    arrays: Mapping[str, NDArray[Any]], flat: NDArray[np.bool_], constant: NDArray[np.float64]
) -> Mapping[str, NDArray[Any]]:
    """The arrays of a linear probe without the weights of classes whose scores are constant."""
    if "coef" not in arrays:
        return arrays
    own = arrays["classes"] if "classes" in arrays else np.zeros(1, np.intp)
    coef = np.where(flat[own, None], 0.0, arrays["coef"])
    return {
        **arrays,
        "coef": coef,
        "intercept": np.where(flat[own], constant[own], arrays["intercept"]),
    }


def folded(arrays: Mapping[str, NDArray[Any]], eraser: Eraser) -> dict[str, NDArray[Any]]:
    """The arrays of a linear probe that gives raw states the scores of `arrays` on erased ones.

    Empty if `arrays` are not of a linear probe with such a treatment: it cannot be saved.
    """
    if "coef" not in arrays or str(arrays.get("treatment", "")) not in _LINEAR:
        return {}
    weights = arrays["coef"] / arrays["scale"]
    changed = weights - (weights @ eraser.left.T) @ eraser.right.T
    shift = (eraser.mean - arrays["mean"]) @ (weights - changed).T
    return {
        **arrays,
        "coef": changed * arrays["scale"],
        "intercept": arrays["intercept"] + shift,
    }
