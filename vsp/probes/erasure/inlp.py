"""INLP: take out the weights of one linear classifier after the other.

Ravfogel, Elazar, Gonen, Twiton & Goldberg, "Null it out: guarding protected attributes by iterative
nullspace projection", 2020 (arXiv:2004.07667). Each round fits a classifier on the states that the
rounds before have left, and projects onto the nullspace of its weights.
"""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning

from vsp.probes.erasure.leace import mean_of
from vsp.probes.logistic import Logistic
from vsp.probes.treatment import mean_squared_norm
from vsp.storage.changes import Eraser

ROUNDS = 8  # by default, each removes one dimension for each label, or one for two labels
_TOLERANCE = 1e-3  # of the duality gap; a direction needs no more
_SMALL = 1e-8  # of the largest singular value of the weights


def inlp(states: NDArray[np.floating], y: NDArray[np.intp], rank: int) -> Eraser:
    """The eraser after as many rounds as remove `rank` dimensions, or all that a classifier finds.

    `states` are [row, hidden], `y` class indices [row]. Classifiers are logistic regressions of each
    label against the rest, with the middle C of the probe's grid. It ends before `rank` if a
    classifier is right no more often than the most frequent label.
    """
    mean = mean_of(states)
    left: NDArray[np.float64] = np.empty((0, states.shape[1]))
    centred = states.astype(np.float64) - mean
    majority = np.bincount(y).max()
    while len(left) < min(rank, states.shape[1]):
        classifier = _classifier(centred, y)
        if (
            classifier.scores(centred).argmax(axis=1) == np.unique(y, return_inverse=True)[1]
        ).sum() <= majority:
            break
        new = _basis(classifier.coef_ - (classifier.coef_ @ left.T) @ left)
        new = new[: rank - len(left)]
        if not len(new):
            break
        left = np.linalg.qr(np.concatenate([left, new]).T)[0].T
        centred -= (centred @ left.T) @ left
    return Eraser(mean, np.ascontiguousarray(left.T), left)


def _classifier(states: NDArray[np.float64], y: NDArray[np.intp]) -> Logistic:
    norm = mean_squared_norm("center", states, np.ones(len(states), dtype=np.bool_))
    grid = Logistic().grid_for(norm)
    probe = Logistic(C=grid[len(grid) // 2], tol=_TOLERANCE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return probe.fit(states, y)


def _basis(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Orthonormal rows that span the rows of `weights`, the strongest first."""
    _, values, rows = np.linalg.svd(weights, full_matrices=False)
    found: NDArray[np.float64] = rows[values > _SMALL * max(float(values[0]), 1e-300)]
    return found
