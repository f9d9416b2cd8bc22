"""The losses of logistic regression, for many problems at once: arrays [problem, score, row]."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]

_SETTLED = 1e-9  # of the weight of a problem's rows: what its residuals may sum to


class OneVsRest:
    """log(1 + exp(−y f)) with y = ±1, one score a problem."""

    def start(self, target: Array, weight: Array) -> Array:
        """Intercepts [problem, score] that fit best where there is nothing else."""
        ahead = (weight * (target > 0)).sum(-1, dtype=float)
        behind = (weight * (target < 0)).sum(-1, dtype=float)
        return np.log(ahead / behind)

    def residuals(self, scores: Array, target: Array, weight: Array) -> tuple[Array, Array]:
        """The loss [problem] and minus its derivative by each score."""
        margin = target * scores
        small = np.exp(-np.abs(margin))
        losses = np.log1p(small)
        losses -= np.minimum(margin, 0)
        losses *= weight
        share = np.where(margin > 0, small, 1)
        share /= 1 + small
        share *= target
        share *= weight
        return losses.sum((1, 2), dtype=float), share

    def curvature(self, residuals: Array, target: Array, weight: Array) -> Array:
        """The mean second derivative by a score over the training rows [problem]."""
        share = np.abs(residuals)
        with np.errstate(divide="ignore", invalid="ignore"):
            bent = np.where(weight > 0, share * (1 - share / weight), 0)
        return bent.sum((1, 2), dtype=float) / np.count_nonzero(weight, axis=(1, 2))

    def settled(self, scores: Array, target: Array, weight: Array) -> Array:
        """Shifts of the intercept [problem, score] after which the residuals sum to nothing."""
        shift = np.zeros((len(scores), 1), scores.dtype)
        total = weight.sum((1, 2), dtype=float)
        for _ in range(50):
            _, residuals = self.residuals(scores + shift[..., None], target, weight)
            missing = residuals.sum((1, 2), dtype=float)
            bent = self.curvature(residuals, target, weight) * np.count_nonzero(weight, axis=(1, 2))
            step = np.clip(missing / np.maximum(bent, 1e-300), -3, 3)
            shift = shift + step[:, None].astype(shift.dtype)
            if (np.abs(missing) <= _SETTLED * total).all() or not np.abs(step).max() > 1e-7:
                break
        return shift


class Softmax:
    """−log of the softmax of the scores at the row's class; target 1 there and 0 elsewhere."""

    def start(self, target: Array, weight: Array) -> Array:
        """Intercepts [problem, score] that fit best where there is nothing else."""
        share = np.log((weight * target).sum(-1, dtype=float))
        return share - share.mean(-1, keepdims=True)

    def residuals(self, scores: Array, target: Array, weight: Array) -> tuple[Array, Array]:
        """The loss [problem] and minus its derivative by each score."""
        top = scores.max(1, keepdims=True)
        share = np.exp(scores - top)
        total = share.sum(1, keepdims=True)
        share /= total
        losses = np.log(total) + top - (target * scores).sum(1, keepdims=True)
        return (weight * losses).sum((1, 2), dtype=float), weight * (target - share)

    def curvature(self, residuals: Array, target: Array, weight: Array) -> Array:
        """The mean second derivative by a score over the training rows [problem]."""
        share = np.abs(residuals)
        with np.errstate(divide="ignore", invalid="ignore"):
            bent = np.where(weight > 0, share * (1 - share / weight), 0)
        n_rows = np.count_nonzero(weight, axis=(1, 2)) * residuals.shape[1]
        return bent.sum((1, 2), dtype=float) / n_rows

    def settled(self, scores: Array, target: Array, weight: Array) -> Array:
        """Shifts of the intercepts [problem, score] after which residuals sum to nothing."""
        shift = np.zeros(scores.shape[:2], scores.dtype)
        total = weight.sum((1, 2), dtype=float)
        for _ in range(50):
            _, residuals = self.residuals(scores + shift[..., None], target, weight)
            missing = residuals.sum(-1, dtype=float)
            if (np.abs(missing).max(1) <= _SETTLED * total).all():
                break
            share = (weight * target - residuals).astype(float)  # weight times probability
            with np.errstate(divide="ignore", invalid="ignore"):
                part = np.where(weight > 0, share / weight, 0)
            bent = -np.einsum("pin,pjn->pij", share, part)
            bent[:, np.arange(len(bent[0])), np.arange(len(bent[0]))] += share.sum(-1)
            step = np.einsum(
                "pij,pj->pi", np.linalg.pinv(bent, rcond=1e-10, hermitian=True), missing
            )
            step = np.clip(step, -3, 3)
            shift += step.astype(shift.dtype)
            if not np.abs(step).max() > 1e-7:
                break
        return shift
