"""The losses of logistic regression, for many problems at once: arrays [problem, score, row]."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vsp.probes.treatment import Array

_MOST_NEWTON_STEPS = 50  # for the intercepts
_LONGEST_SHIFT = 3.0  # change of an intercept in one Newton step
_SUM_ROUNDING = 8  # a sum of residuals is 0 up to this many times eps times their sizes
_TINY = 1e-38


def curvatures(residuals: Array, weight: Array) -> Array:
    """Second derivatives s·p(1 − p) by each score, from residuals of size s·p or s·(1 − p)."""
    size = np.abs(residuals)
    second = size / np.maximum(weight, _TINY)
    np.subtract(1, second, out=second)
    second *= size
    return second


def mean_curvature(residuals: Array, weight: Array) -> NDArray[np.float64]:
    """Mean second derivative [problem] over the scores of the training rows."""
    total = curvatures(residuals, weight).sum((1, 2), dtype=float)
    return np.asarray(total / np.count_nonzero(weight, axis=(1, 2)) / residuals.shape[1])


class OneVsRest:
    """log(1 + exp(−y f)) with y = ±1; one score per problem."""

    def best_intercepts(self, target: Array, weight: Array) -> Array:
        """Intercepts [problem, score] that fit best when all weights are 0: the log odds."""
        positive = (weight * (target > 0)).sum(-1, dtype=float)
        negative = (weight * (target < 0)).sum(-1, dtype=float)
        ratio: Array = np.log(positive / negative)
        return ratio

    def value(self, scores: Array, target: Array, weight: Array) -> NDArray[np.float64]:
        """The weighted sum of the losses [problem]."""
        margin = target * scores
        losses = np.log1p(np.exp(-np.abs(margin)))
        losses -= np.minimum(margin, 0)
        losses *= weight
        return np.asarray(losses.sum((1, 2), dtype=float))

    def residuals(self, scores: Array, target: Array, weight: Array) -> Array:
        """Minus the derivative of the loss by each score: s·y·σ(−y f)."""
        residuals = target * scores
        with np.errstate(over="ignore"):  # the residual is 0 there
            np.exp(residuals, out=residuals)
        residuals += 1
        np.divide(target, residuals, out=residuals)
        residuals *= weight
        return residuals

    def intercept_shift(self, scores: Array, target: Array, weight: Array) -> Array:
        """Shifts of the intercept [problem, score] that make the residuals sum to 0 (Newton)."""
        shift = np.zeros((len(scores), 1), scores.dtype)
        n_rows = np.count_nonzero(weight, axis=(1, 2))
        for _ in range(_MOST_NEWTON_STEPS):
            residuals = self.residuals(scores + shift[..., None], target, weight)
            total = residuals.sum((1, 2), dtype=float)
            slope = mean_curvature(residuals, weight) * n_rows
            step = np.clip(total / np.maximum(slope, 1e-300), -_LONGEST_SHIFT, _LONGEST_SHIFT)
            shift = shift + step[:, None].astype(shift.dtype)
            if _is_zero(total[:, None], residuals):
                break
        return shift

    def fenchel_bound(self, dual: Array, residuals: Array, target: Array, weight: Array) -> Array:
        """Upper bound [problem] of the Fenchel–Young loss at a dual point; inf outside its domain.

        For dual points s·t·y and residuals s·p·y the loss is Σ s·KL(t, p). Each term is at most
        (t − p)² / p(1 − p), and at most (t − p)² over 2·min(p(1 − p), t(1 − t)).
        """
        at_dual, at_residuals = dual * target, residuals * target
        difference = at_dual - at_residuals
        at_dual *= weight - at_dual
        at_residuals *= weight - at_residuals
        feasible = at_dual.min((1, 2)) >= 0
        np.minimum(at_dual, at_residuals, out=at_dual)
        at_residuals *= 0.5
        np.maximum(at_dual, at_residuals, out=at_dual)
        np.maximum(at_dual, _TINY, out=at_dual)
        with np.errstate(over="ignore"):
            difference *= difference
            difference /= at_dual
            difference *= weight
        return np.where(feasible, 0.5 * difference.sum((1, 2), dtype=float), np.inf)


class Softmax:
    """−log softmax(f) at the row's class; the target is 1 for that class and 0 elsewhere."""

    def best_intercepts(self, target: Array, weight: Array) -> Array:
        """Intercepts [problem, score] that fit best when all weights are 0; their mean is 0."""
        log_weight = np.log((weight * target).sum(-1, dtype=float))
        return np.asarray(log_weight - log_weight.mean(-1, keepdims=True))

    def value(self, scores: Array, target: Array, weight: Array) -> NDArray[np.float64]:
        """The weighted sum of the losses [problem]."""
        top = scores.max(1, keepdims=True)
        total = np.exp(scores - top).sum(1, keepdims=True)
        losses = np.log(total) + top - (target * scores).sum(1, keepdims=True)
        return np.asarray((weight * losses).sum((1, 2), dtype=float))

    def residuals(self, scores: Array, target: Array, weight: Array) -> Array:
        """Minus the derivative of the loss by each score: s·(y − p)."""
        probability = np.exp(scores - scores.max(1, keepdims=True))
        probability /= probability.sum(1, keepdims=True)
        residuals: Array = weight * (target - probability)
        return residuals

    def intercept_shift(self, scores: Array, target: Array, weight: Array) -> Array:
        """Shifts of the intercepts [problem, score] that make the residuals sum to 0 (Newton)."""
        shift = np.zeros(scores.shape[:2], scores.dtype)
        for _ in range(_MOST_NEWTON_STEPS):
            residuals = self.residuals(scores + shift[..., None], target, weight)
            total = residuals.sum(-1, dtype=float)
            if _is_zero(total, residuals):
                break
            step = self._newton_step(residuals, total, target, weight)
            shift += np.clip(step, -_LONGEST_SHIFT, _LONGEST_SHIFT).astype(shift.dtype)
        return shift

    def _newton_step(self, residuals: Array, total: Array, target: Array, weight: Array) -> Array:
        weighted = (weight * target - residuals).astype(float)  # weight times probability
        probability = weighted / np.maximum(weight, _TINY)
        hessian = -np.matmul(weighted, probability.swapaxes(1, 2))
        diagonal = np.arange(len(hessian[0]))
        hessian[:, diagonal, diagonal] += weighted.sum(-1)
        inverse = np.linalg.pinv(hessian, rcond=1e-10, hermitian=True)
        return np.asarray(np.matmul(inverse, total[..., None])[..., 0])

    def fenchel_bound(self, dual: Array, residuals: Array, target: Array, weight: Array) -> Array:
        """Upper bound [problem] of the Fenchel–Young loss at a dual point; inf outside its domain.

        For dual points s·(y − t) and residuals s·(y − p) the loss is Σ s·KL(t, p). KL is at most
        Σ (t − p)² / p, and at most Σ (t − p)² over 2·min(p, t).
        """
        at_dual, at_residuals = weight * target - dual, weight * target - residuals
        difference = dual - residuals
        feasible = at_dual.min((1, 2)) >= 0
        np.minimum(at_dual, at_residuals, out=at_dual)
        np.maximum(at_dual, 0.5 * at_residuals, out=at_dual)
        with np.errstate(over="ignore"):
            difference *= difference
            difference /= np.maximum(at_dual, _TINY)
        return np.where(feasible, 0.5 * difference.sum((1, 2), dtype=float), np.inf)


def _is_zero(total: Array, residuals: Array) -> bool:
    """True if each sum of residuals is 0 up to rounding."""
    size = np.abs(residuals).sum(-1, dtype=float)
    allowed = _SUM_ROUNDING * np.finfo(residuals.dtype).eps * size
    return bool((np.abs(total) <= allowed).all())
