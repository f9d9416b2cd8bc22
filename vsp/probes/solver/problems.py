"""Optimisation problems, their solutions, and the protocols that spaces and losses implement.

Arrays are [problem, score, …]: a problem has one score per row (one class against the rest) or one
score per class (softmax).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from vsp.probes.treatment import Array

if TYPE_CHECKING:
    from typing import Self

    from vsp.probes.solver.kernel_metric import WideMetric

Selection = NDArray[np.intp] | NDArray[np.bool_] | slice  # problems


class Space(Protocol):
    """The variables of a problem: coordinates [coordinate], the last of them the intercept b.

    G is the Gram matrix of the coordinates: aᵀGa = ‖w‖² + b². The image of a is Ga. Gradients are
    taken in the inner product of G, so a gradient has coordinates too.
    """

    n_coordinates: int
    check_gap_within: float  # compute the gap once the estimated distance is this many tolerances

    @property
    def mean_squared_norm(self) -> float:
        """The mean of ‖x‖² over the rows."""

    def image(self, coordinates: Array) -> Array:
        """Product of the Gram matrix and the coordinates."""

    def scores(self, coordinates: Array, image: Array) -> Array:
        """Scores w·xᵢ + b [problem, score, row]."""

    def combine_rows(self, factors: Array) -> Array:
        """Coordinates of Σᵢ rᵢxᵢ for factors r [problem, score, row]; the last one is Σᵢ rᵢ."""

    def expected_curvature(self, at_constant: Array, at_start: Array) -> Array:
        """Estimate of the mean curvature [problem] at the optimum.

        `at_constant`: the curvature at the best constant scores. `at_start`: at the first point.
        """

    def wide_metric(
        self, second: Array, curvature: Array, sets: NDArray[np.intp]
    ) -> WideMetric | None:
        """The part of the metric with the second derivatives [problem, score, row] of all rows.

        None if the metric depends on their mean only.
        """

    def precondition(
        self,
        gradient: Array,
        curvature: Array,
        sets: NDArray[np.intp],
        wide: WideMetric | None,
    ) -> tuple[Array, Array]:
        """Apply about (I + XᵀDX)⁻¹ for each problem and training set; result and its image.

        `curvature` [problem]: mean second derivative of the loss.
        """

    def dual_point(
        self, coordinates: Array, gradient: Array, residuals: Array, curvatures: Array
    ) -> Array | None:
        """A dual point α [problem, score, row] with Σᵢ αᵢ = 0 near coordinates and residuals.

        `curvatures` [problem, 1, row]: second derivatives of the loss. None if the space has no
        coordinates of rows.
        """

    def squared_distance(self, coordinates: Array, dual: Array) -> Array:
        """‖w − Σ αᵢxᵢ‖² [problem]."""

    def evaluate_exactly(self, coordinates: Array) -> tuple[Array, Array, Array]:
        """Scores, ‖w‖² [problem] and image, in float64 and from the states themselves."""

    def squared_distance_exactly(self, coordinates: Array, dual: Array) -> Array:
        """‖w − Σ αᵢxᵢ‖² [problem], in float64 and from the states themselves."""


class Loss(Protocol):
    """A convex loss of the scores of a row."""

    def best_intercepts(self, target: Array, weight: Array) -> Array:
        """Intercepts [problem, score] of the best constant scores."""

    def value(self, scores: Array, target: Array, weight: Array) -> NDArray[np.float64]:
        """The weighted sum of the losses [problem]."""

    def residuals(self, scores: Array, target: Array, weight: Array) -> Array:
        """Minus the gradient with respect to the scores, in the shape of `scores`."""

    def intercept_shift(self, scores: Array, target: Array, weight: Array) -> Array:
        """Shifts [problem, score] of the intercepts that make the residuals sum to 0."""

    def fenchel_bound(self, dual: Array, residuals: Array, target: Array, weight: Array) -> Array:
        """Upper bound [problem] of loss(f) + conjugate(−α) + αᵀf; inf outside of the domain."""


@dataclass(slots=True)
class Problems:
    """Problems in one space that are solved together."""

    target: Array  # [problem, score, row]
    weight: Array  # [problem, 1, row]: C times the weight of the row; 0: not a training row
    sets: NDArray[np.intp]  # [problem]: index of the training set in the space

    def __len__(self) -> int:
        return len(self.target)

    def take(self, which: Selection) -> Problems:
        return Problems(self.target[which], self.weight[which], self.sets[which])

    @classmethod
    def concatenate(cls, parts: Sequence[Problems]) -> Self:
        return cls(*(np.concatenate([getattr(one, f.name) for one in parts]) for f in fields(cls)))


@dataclass(slots=True)
class Solutions:
    """The best point of each problem."""

    coordinates: Array  # [problem, score, coordinate]
    scores: Array  # [problem, score, row]
    gap: NDArray[np.float64]  # [problem]: duality gap over the primal value
    n_steps: NDArray[np.int32]  # [problem]

    @classmethod
    def concatenate(cls, parts: Sequence[Solutions]) -> Self:
        return cls(*(np.concatenate([getattr(one, f.name) for one in parts]) for f in fields(cls)))

    def take(self, which: Selection) -> Solutions:
        return Solutions(
            self.coordinates[which], self.scores[which], self.gap[which], self.n_steps[which]
        )

    def replace(self, which: Selection, better: Solutions) -> None:
        """Overwrite some solutions; their steps are added to those already taken."""
        self.coordinates[which] = better.coordinates
        self.scores[which] = better.scores
        self.gap[which] = better.gap
        self.n_steps[which] += better.n_steps
