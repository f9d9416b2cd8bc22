"""Line search for many problems at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vsp.probes.solver.curvature_pairs import dot
from vsp.probes.solver.iterates import Iterates, per_problem, weight_dot
from vsp.probes.treatment import Array

_MOST_TRIES = 20  # step sizes


def search_step_size(
    iterates: Iterates,
    direction: Array,
    image: Array,
    slope: Array,
    along: Array,
    active: NDArray[np.bool_],
) -> tuple[Array, Array, Array]:
    """Step sizes [problem] with scores and residuals after the step; 0 if no step size is good.

    `slope` [problem]: the directional derivative. `along` [problem, score, row]: the change of the
    scores at step size 1. `active` [problem]: the search ends once the step sizes of these problems are good.

    The directional derivative at the end of a step may be positive up to a limit that still
    guarantees a lower objective. The limit follows from a bound on the curvature of the logistic
    loss: along a line it changes at most by the factor exp(change of a score) (Bach 2010,
    Self-concordant analysis for logistic regression). The search compares derivatives and not
    objectives, because rounding hides changes of the objective near the optimum.
    """
    mixed, squared_norm = weight_dot(direction, iterates.image), weight_dot(direction, image)
    reach = np.abs(along).max((1, 2)) * (1 if along.shape[1] == 1 else 2)
    target, weight = iterates.problems.target, iterates.problems.weight
    size = np.where(slope < 0, 1, 0).astype(iterates.point.dtype)
    for _ in range(_MOST_TRIES):
        scores = along * per_problem(size)
        scores += iterates.scores
        residuals = iterates.loss.residuals(scores, target, weight)
        slope_there = mixed + size * squared_norm - dot(residuals, along)
        too_far = ~(slope_there <= 0.5 * np.exp(-0.5 * reach * size) * -slope) & (size > 0)
        if not (too_far & active).any():
            break
        secant = np.clip(-slope / np.where(too_far, slope_there - slope, 1), 0.1, 0.5)
        size = np.where(too_far, size * secant, size)
    if too_far.any():
        size[too_far] = 0
        scores[too_far] = iterates.scores[too_far]
        residuals[too_far] = iterates.residuals[too_far]
    return size, scores, residuals
