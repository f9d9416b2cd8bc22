"""The last steps of each problem and the L-BFGS direction they give.

The two-loop recursion is Nocedal & Wright (2006), algorithm 7.4. The inner products of the pairs
are stored, which saves passes over the pairs (Chen, Wang & Zhou 2014, Large-scale L-BFGS using
MapReduce).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from vsp.probes.treatment import Array

_MEMORY = 10  # pairs per problem
_LEAST_CURVATURE = 1e-12  # times the squared step length: pairs below this are not used


def dot(one: Array, other: Array) -> Array:
    """Inner products [problem] of arrays [problem, …]."""
    shape = (len(one), -1)
    products: Array = np.vecdot(one.reshape(shape), other.reshape(shape))
    return products


class CurvaturePairs:
    """The last steps s, their images Gs and gradient changes y, each [problem, pair, …]."""

    def __init__(self, like: Array) -> None:
        """For points of the shape [problem, score, coordinate] and dtype of `like`."""
        n, size = len(like), like[0].size if len(like) else 0
        self.steps, self.images, self.changes = (
            np.zeros((n, _MEMORY, size), like.dtype) for _ in range(3)
        )
        self.products = np.zeros((n, _MEMORY, _MEMORY), like.dtype)  # (Gs)ᵢ · yⱼ
        self.rho = np.zeros((n, _MEMORY), like.dtype)  # 1 / (Gs · y); 0: the pair is not used
        self.slots: list[int] = []  # oldest pair first

    def direction(
        self, gradient: Array, precondition: Callable[[Array], tuple[Array, Array]]
    ) -> tuple[Array, Array]:
        """Minus the approximate inverse Hessian times the gradient, and its image.

        `precondition` applies the initial inverse Hessian; it returns a vector and its image.
        """
        if not self.slots:
            direction, image = precondition(gradient)
            return -direction, -image
        n, last = len(gradient), len(self.slots)
        flat = gradient.reshape(n, -1, 1)
        along = np.matmul(self.images[:, :last], flat)[..., 0]
        alpha = np.zeros_like(along)
        for i in reversed(self.slots):
            remaining = along[:, i] - dot(alpha, self.products[:, i, :last])
            alpha[:, i] = self.rho[:, i] * remaining
        rest = flat[..., 0] - np.matmul(alpha[:, None], self.changes[:, :last])[:, 0]
        direction, image = precondition(rest.reshape(gradient.shape))
        along = np.matmul(self.changes[:, :last], image.reshape(n, -1, 1))[..., 0]
        factors = np.zeros_like(along)
        for i in self.slots:
            beta = along[:, i] + dot(factors, self.products[:, :last, i])
            factors[:, i] = alpha[:, i] - self.rho[:, i] * beta
        factors = -factors[:, None]
        direction, image = -direction, -image
        direction += np.matmul(factors, self.steps[:, :last]).reshape(gradient.shape)
        image += np.matmul(factors, self.images[:, :last]).reshape(gradient.shape)
        return direction, image

    def add(self, step: Array, image: Array, change: Array) -> None:
        """Store the newest pair of each problem in place of the oldest."""
        slot = len(self.slots) if len(self.slots) < _MEMORY else self.slots.pop(0)
        self.slots.append(slot)
        n, last = len(step), len(self.slots)
        for stored, new in ((self.steps, step), (self.images, image), (self.changes, change)):
            stored[:, slot] = new.reshape(n, -1)
        self.products[:, slot, :last] = np.matmul(
            self.changes[:, :last], self.images[:, slot, :, None]
        )[..., 0]
        self.products[:, :last, slot] = np.matmul(
            self.images[:, :last], self.changes[:, slot, :, None]
        )[..., 0]
        curvature = self.products[:, slot, slot]
        squared_length = np.vecdot(self.steps[:, slot], self.images[:, slot])
        unusable = ~(curvature > _LEAST_CURVATURE * squared_length)
        self.rho[:, slot] = np.where(unusable, 0, 1 / np.where(unusable, 1, curvature))
        self.rho[squared_length == 0] = 0  # no step was possible: forget all pairs of the problem

    def keep(self, which: NDArray[np.intp]) -> None:
        """Drop all other problems."""
        for name in ("steps", "images", "changes", "products", "rho"):
            setattr(self, name, getattr(self, name)[which])
