"""Duality gaps: certified upper bounds on the distance of the objective to its optimum.

Any dual point α with Σᵢ αᵢ = 0 gives the gap ½‖w − Σ αᵢxᵢ‖² plus the Fenchel–Young loss of the
scores and α. Two dual points are tried. For the residuals the Fenchel–Young loss is 0, but Σ rᵢxᵢ may
be far from w. A point between the residuals and the coordinates of the rows, if the space has such
coordinates, gives a gap that is close to the true distance after a few steps.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vsp.probes.solver.iterates import Iterates, weight_dot
from vsp.probes.solver.losses import curvatures
from vsp.probes.solver.problems import Selection
from vsp.probes.treatment import Array

_GROWTH = 1.001  # the objective has grown if it is above this multiple of its last value


def relative_gaps(
    iterates: Iterates, which: Selection, tolerance: float, recompute: bool
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Duality gaps over the objective [problem], and which objectives have grown.

    `recompute`: recompute the iterates first, which also makes the residuals feasible. Only
    rounding errors make an objective grow; its gap is then inf.
    """
    before = iterates.objective[which].copy()
    gap = None if recompute else _row_dual_gap(iterates, which)
    if gap is None:
        iterates.recompute(which)
        gap = _row_dual_gap(iterates, which)
        if gap is None:
            gap = _residual_gap(iterates, which)
        elif not (gap <= tolerance * iterates.objective[which]).all():
            gap = np.minimum(gap, _residual_gap(iterates, which))
    else:
        iterates.update_objective(which)
    objective = iterates.objective[which]
    grown = ~(objective <= before * _GROWTH)
    return np.where(grown, np.inf, gap / objective).astype(np.float64), grown


def _row_dual_gap(iterates: Iterates, which: Selection) -> Array | None:
    """Gaps [problem] at `Space.dual_point`; None if the space has no such point."""
    space, problems = iterates.space, iterates.problems.take(which)
    point, residuals = iterates.point[which], iterates.residuals[which]
    second = curvatures(residuals, problems.weight).min(1, keepdims=True)
    dual = space.dual_point(point, iterates.gradient[which], residuals, second)
    if dual is None:
        return None
    if iterates.exact:
        distance = space.squared_distance_exactly(point, dual)
    else:
        distance = space.squared_distance(point, dual)
    bound = iterates.loss.fenchel_bound(dual, residuals, problems.target, problems.weight)
    return bound + 0.5 * distance


def _residual_gap(iterates: Iterates, which: Selection) -> Array:
    """Gaps [problem] with the residuals, which must sum to 0, as the dual point."""
    space = iterates.space
    if iterates.exact:
        return 0.5 * space.squared_distance_exactly(
            iterates.point[which], iterates.residuals[which]
        )
    gradient = iterates.gradient[which]
    return 0.5 * np.maximum(weight_dot(gradient, space.image(gradient)), 0)
