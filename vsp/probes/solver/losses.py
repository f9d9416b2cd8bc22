"""The losses of logistic regression, for many problems at once: arrays [problem, score, row]."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]

_SETTLED = 8  # roundings of the sum of sizes: what residuals may sum to
_TINY = 1e-38


def bends(residuals: Array, weight: Array) -> Array:
    """Second derivatives by a score, of the shape of the residuals."""
    share = np.abs(residuals)
    bent = share / np.maximum(weight, _TINY)
    np.subtract(1, bent, out=bent)
    bent *= share
    return bent


class OneVsRest:
    """log(1 + exp(−y f)) with y = ±1, one score a problem."""

    def start(self, target: Array, weight: Array) -> Array:
        """Intercepts [problem, score] that fit best where there is nothing else."""
        ahead = (weight * (target > 0)).sum(-1, dtype=float)
        behind = (weight * (target < 0)).sum(-1, dtype=float)
        ratio: Array = np.log(ahead / behind)
        return ratio

    def losses(self, scores: Array, target: Array, weight: Array) -> NDArray[np.float64]:
        """The loss [problem]."""
        margin = target * scores
        losses = np.log1p(np.exp(-np.abs(margin)))
        losses -= np.minimum(margin, 0)
        losses *= weight
        return np.asarray(losses.sum((1, 2), dtype=float))

    def residuals(self, scores: Array, target: Array, weight: Array) -> Array:
        """Minus the derivative of the loss by each score."""
        share = target * scores
        with np.errstate(over="ignore"):  # where it does the residual is 0
            np.exp(share, out=share)
        share += 1
        np.divide(target, share, out=share)
        share *= weight
        return share

    def curvature(self, residuals: Array, target: Array, weight: Array) -> NDArray[np.float64]:
        """The mean second derivative by a score over the training rows [problem]."""
        bent = bends(residuals, weight).sum((1, 2), dtype=float)
        return np.asarray(bent / np.count_nonzero(weight, axis=(1, 2)))

    def settled(self, scores: Array, target: Array, weight: Array) -> Array:
        """Shifts of the intercept [problem, score] after which the residuals sum to nothing."""
        shift = np.zeros((len(scores), 1), scores.dtype)
        n_rows = np.count_nonzero(weight, axis=(1, 2))
        for _ in range(50):
            residuals = self.residuals(scores + shift[..., None], target, weight)
            missing = residuals.sum((1, 2), dtype=float)
            bent = self.curvature(residuals, target, weight) * n_rows
            step = np.clip(missing / np.maximum(bent, 1e-300), -3, 3)
            shift = shift + step[:, None].astype(shift.dtype)
            if _settled(missing[:, None], residuals):
                break
        return shift

    def divergence(self, dual: Array, residuals: Array, target: Array, weight: Array) -> Array:
        """At most this is lost [problem] by a dual point; inf where it is none.

        With dual points s·t·y and residuals s·p·y it is the sum of s·KL(t, p), which is at most
        (t − p)² / p(1 − p), and at most half of that with the smaller of p(1 − p) and t(1 − t).
        """
        there, here = dual * target, residuals * target
        apart = there - here
        there *= weight - there
        here *= weight - here
        feasible = there.min((1, 2)) >= 0
        np.minimum(there, here, out=there)
        here *= 0.5
        np.maximum(there, here, out=there)
        np.maximum(there, _TINY, out=there)
        with np.errstate(over="ignore"):
            apart *= apart
            apart /= there
            apart *= weight
        return np.where(feasible, 0.5 * apart.sum((1, 2), dtype=float), np.inf)


class Softmax:
    """−log of the softmax of the scores at the row's class; target 1 there and 0 elsewhere."""

    def start(self, target: Array, weight: Array) -> Array:
        """Intercepts [problem, score] that fit best where there is nothing else."""
        share = np.log((weight * target).sum(-1, dtype=float))
        return np.asarray(share - share.mean(-1, keepdims=True))

    def losses(self, scores: Array, target: Array, weight: Array) -> NDArray[np.float64]:
        """The loss [problem]."""
        top = scores.max(1, keepdims=True)
        total = np.exp(scores - top).sum(1, keepdims=True)
        losses = np.log(total) + top - (target * scores).sum(1, keepdims=True)
        return np.asarray((weight * losses).sum((1, 2), dtype=float))

    def residuals(self, scores: Array, target: Array, weight: Array) -> Array:
        """Minus the derivative of the loss by each score."""
        share = np.exp(scores - scores.max(1, keepdims=True))
        share /= share.sum(1, keepdims=True)
        residuals: Array = weight * (target - share)
        return residuals

    def curvature(self, residuals: Array, target: Array, weight: Array) -> NDArray[np.float64]:
        """The mean second derivative by a score over the training rows [problem]."""
        bent = bends(residuals, weight).sum((1, 2), dtype=float)
        return np.asarray(bent / np.count_nonzero(weight, axis=(1, 2)) / residuals.shape[1])

    def settled(self, scores: Array, target: Array, weight: Array) -> Array:
        """Shifts of the intercepts [problem, score] after which residuals sum to nothing."""
        shift = np.zeros(scores.shape[:2], scores.dtype)
        for _ in range(50):
            residuals = self.residuals(scores + shift[..., None], target, weight)
            missing = residuals.sum(-1, dtype=float)
            if _settled(missing, residuals):
                break
            step = np.clip(self._newton(residuals, missing, target, weight), -3, 3)
            shift += step.astype(shift.dtype)
        return shift

    def _newton(self, residuals: Array, missing: Array, target: Array, weight: Array) -> Array:
        share = (weight * target - residuals).astype(float)  # weight times probability
        part = share / np.maximum(weight, _TINY)
        bent = -np.matmul(share, part.swapaxes(1, 2))
        bent[:, np.arange(len(bent[0])), np.arange(len(bent[0]))] += share.sum(-1)
        inverse = np.linalg.pinv(bent, rcond=1e-10, hermitian=True)
        return np.asarray(np.matmul(inverse, missing[..., None])[..., 0])

    def divergence(self, dual: Array, residuals: Array, target: Array, weight: Array) -> Array:
        """At most this is lost [problem] by a dual point; inf where it is none.

        With dual points s·(y − t) and residuals s·(y − p) it is the sum of s·KL(t, p), which is at
        most Σ (t − p)² / p, and at most half of that with the smaller of p and t.
        """
        there, here = weight * target - dual, weight * target - residuals
        apart = dual - residuals
        feasible = there.min((1, 2)) >= 0
        np.minimum(there, here, out=there)
        np.maximum(there, 0.5 * here, out=there)
        with np.errstate(over="ignore"):
            apart *= apart
            apart /= np.maximum(there, _TINY)
        return np.where(feasible, 0.5 * apart.sum((1, 2), dtype=float), np.inf)


def _settled(missing: Array, residuals: Array) -> bool:
    total = np.abs(residuals).sum(-1, dtype=float)
    allowed = _SETTLED * np.finfo(residuals.dtype).eps * total
    return bool((np.abs(missing) <= allowed).all())
