"""The methods of `vsp probe --erase` and `vsp steer --erase`, by name.

`leace`    all that a linear probe reads from the fitted rows, in closed form
`inlp`     the weights of one linear classifier after the other
`random`   a random subspace, a control
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vsp.errors import ConfigError
from vsp.probes.erasure.inlp import ROUNDS, inlp
from vsp.probes.erasure.leace import leace, mean_of
from vsp.storage.changes import Eraser
from vsp.storage.random_changes import random_subspace

LEACE, INLP, RANDOM = "leace", "inlp", "random"


@dataclass(frozen=True, slots=True)
class Erasure:
    """How states of a layer are erased."""

    method: str  # leace, inlp or random
    rank: int  # dimensions that inlp and random remove; 0: their default
    seed: int  # of random subspaces
    layer: int

    def fit(self, states: NDArray[np.floating], y: NDArray[np.generic]) -> Eraser:
        """The eraser of `y` [row], class indices or numbers, from `states` [row, hidden].

        All rows count as fitted rows. Raises ConfigError if the rank is larger than the states.
        """
        if self.method == LEACE:
            return leace(states, concept_of(y))
        rank = self.rank or min(default_rank(self.method, y), states.shape[1])
        if rank > states.shape[1]:
            raise ConfigError(
                f"--erase-rank {rank}: states of layer {self.layer} have {states.shape[1]} dimensions"
            )
        if self.method == RANDOM:
            return self.random(states, rank, 0)
        return inlp(states, np.asarray(y, np.intp), rank)

    def random(self, states: NDArray[np.floating], rank: int, number: int) -> Eraser:
        """The eraser of a random subspace of this rank, about the mean of `states`."""
        basis = random_subspace(states.shape[1], rank, self.seed, self.layer, number)
        return Eraser(mean_of(states), basis, np.ascontiguousarray(basis.T))


def concept_of(y: NDArray[np.generic]) -> NDArray[np.float64]:
    """One-hot labels [row, class] of class indices, or numbers [row, 1]."""
    if y.dtype.kind == "f":
        return np.asarray(y, np.float64)[:, None]
    return np.asarray(y[:, None] == np.unique(y), np.float64)


def default_rank(method: str, y: NDArray[np.generic]) -> int:
    """Dimensions that a method removes by default: as LEACE, or `ROUNDS` rounds of INLP."""
    n_classes = len(np.unique(y)) if y.dtype.kind != "f" else 2
    per_round = n_classes if n_classes > 2 else 1
    return ROUNDS * per_round if method == INLP else n_classes - 1


def check_erasure(method: str, rank: int, reads_numbers: bool) -> None:
    """Raise ConfigError for a rank that a method does not take, or for INLP of numbers."""
    if rank and not method:
        raise ConfigError(f"--erase-rank {rank} needs --erase inlp or --erase random")
    if rank and method == LEACE:
        raise ConfigError(
            f"--erase-rank {rank}: leace removes as many dimensions as the labels need; leave it out"
        )
    if method == INLP and reads_numbers:
        raise ConfigError("--erase inlp needs labels, not numbers; use --erase leace")
