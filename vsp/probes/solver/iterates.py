"""The current point of many problems, with its scores, residuals, gradient and objective."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vsp.probes.solver.curvature_pairs import dot
from vsp.probes.solver.losses import mean_curvature
from vsp.probes.solver.problems import Loss, Problems, Selection, Space
from vsp.probes.treatment import Array

_LEAST_CURVATURE = 1e-7  # times the largest weight: lower bound on the mean curvature
_STRETCH = 10**0.25  # factor by which a warm start is lengthened
_MOST_STRETCHES = 8


def weight_dot(one: Array, image: Array) -> Array:
    """Inner products [problem] of the weights alone: intercepts are not penalised."""
    return dot(one, image) - dot(one[..., -1:], image[..., -1:])


def per_problem(factors: Array) -> Array:
    """Factors [problem] in a shape that multiplies arrays [problem, score, …]."""
    return factors[:, None, None]


class Iterates:
    """Points [problem, score, coordinate], updated in each step or recomputed.

    `exact`: compute from the states themselves, in float64, and not from their products.
    """

    def __init__(
        self, space: Space, loss: Loss, problems: Problems, start: Array, exact: bool
    ) -> None:
        self.space, self.loss, self.problems, self.exact = space, loss, problems, exact
        self.point, self.image = start, np.empty_like(start)
        self.gradient = np.empty_like(start)
        self.scores = np.empty(problems.target.shape, start.dtype)
        self.residuals = np.empty_like(self.scores)
        self.objective: Array = np.full(len(problems), np.inf)  # at the last gap check

    def __len__(self) -> int:
        return len(self.point)

    def recompute(self, which: Selection, image: Array | None = None) -> None:
        """Recompute everything from the points, with intercepts that make the residuals sum to 0.

        `image`: the image of the points, if it is known.
        """
        point, problems = self.point[which], self.problems.take(which)
        if self.exact:
            scores, squared_norm, image = self.space.evaluate_exactly(point)
        else:
            if image is None:  # in float64: the spread of the states multiplies rounding errors
                image = self.space.image(point.astype(np.float64)).astype(point.dtype, copy=False)
            scores, squared_norm = self.space.scores(point, image), weight_dot(point, image)
        shift = self.loss.intercept_shift(scores, problems.target, problems.weight)
        if shift.shape[1] > 1:  # the softmax depends on differences only: fix the mean at 0
            shift = shift - (point[..., -1] + shift).mean(1, keepdims=True)
        point[..., -1] += shift
        image[..., -1] += shift
        scores = scores + shift[..., None]
        residuals = self.loss.residuals(scores, problems.target, problems.weight)
        objective = 0.5 * squared_norm.astype(float)
        objective += self.loss.value(scores, problems.target, problems.weight)
        self.point[which], self.image[which], self.scores[which] = point, image, scores
        self.residuals[which] = residuals
        self.gradient[which] = self.gradient_at(point, residuals)
        # A value that is not positive is a rounding error.
        self.objective[which] = np.where(objective > 0, objective, np.nan)

    def update_objective(self, which: Selection) -> None:
        """Compute the objective from the current scores."""
        problems = self.problems.take(which)
        value = self.loss.value(self.scores[which], problems.target, problems.weight)
        self.objective[which] = value + 0.5 * weight_dot(self.point[which], self.image[which])

    def gradient_at(self, point: Array, residuals: Array) -> Array:
        """Coordinates of the gradient w − Σ rᵢxᵢ; the last is −Σ rᵢ."""
        gradient = -self.space.combine_rows(residuals)
        gradient[..., :-1] += point[..., :-1]
        return gradient

    def stretch(self) -> Array:
        """Lengthen the weights while the objective falls, since they grow with C; returns the image."""
        target, weight = self.problems.target, self.problems.weight
        image = self.space.image(self.point)
        intercepts = per_problem(np.ones(len(self), self.point.dtype)) * self.point[..., -1:]
        along = self.space.scores(self.point, image) - intercepts
        squared_norm = weight_dot(self.point, image)
        factor = np.ones(len(self), self.point.dtype)
        for _ in range(_MOST_STRETCHES):
            longer = factor * np.float32(_STRETCH)
            residuals = self.loss.residuals(
                per_problem(longer) * along + intercepts, target, weight
            )
            falls = longer * squared_norm < dot(residuals, along)
            if not falls.any():
                break
            factor = np.where(falls, longer, factor)
        self.point[..., :-1] *= per_problem(factor)
        image[..., :-1] *= per_problem(factor)
        return image

    def mean_curvature(self) -> Array:
        """Mean second derivative of the loss [problem], bounded away from 0."""
        least = _LEAST_CURVATURE * self.problems.weight.max((1, 2))
        return np.asarray(np.maximum(mean_curvature(self.residuals, self.problems.weight), least))

    def curvature_at_constant(self) -> NDArray[np.float64]:
        """Mean second derivative of the loss [problem] at the best constant scores."""
        target, weight = self.problems.target, self.problems.weight
        constant = np.zeros_like(self.scores)
        constant += self.loss.best_intercepts(target, weight)[..., None]
        return mean_curvature(self.loss.residuals(constant, target, weight), weight)

    def keep(self, which: NDArray[np.intp]) -> None:
        """Drop all other problems."""
        self.problems = self.problems.take(which)
        for name in ("point", "image", "gradient", "scores", "residuals", "objective"):
            setattr(self, name, getattr(self, name)[which])
