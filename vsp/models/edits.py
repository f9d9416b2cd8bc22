"""Changes of hidden states during a forward pass: which tokens, at which layer, and to what.

Layers are counted as states are stored: 0 is the input of the first decoder layer, i the output of
layer i, and the last one is taken after the final norm. All changes of a layer are computed from
the states that the layer gave, so that their order does not matter; later layers see the result.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False, slots=True)
class Add:
    """Adds a vector to the state of each token."""

    vector: NDArray[np.float32]  # [hidden]


@dataclass(frozen=True, slots=True)
class Copy:
    """Puts the states of another row of the batch in the place of the row's own."""

    row: int  # of the batch, as in `Edit`
    tokens: tuple[int, ...]  # indices in that row's tokens, one for each token of the edit


@dataclass(frozen=True, eq=False, slots=True)
class Project:
    """Takes a subspace out of each token's state x: x - (x - mean) @ right @ left."""

    mean: NDArray[np.float32]  # [hidden]
    right: NDArray[np.float32]  # [hidden, rank]
    left: NDArray[np.float32]  # [rank, hidden]


Change = Add | Copy | Project


@dataclass(frozen=True, slots=True)
class Edit:
    """A change of some tokens of a row at a layer. Two edits may not change the same state."""

    row: int  # of the batch, in the order of the rows of all groups
    layer: int
    tokens: tuple[int, ...]  # indices in the row's tokens
    change: Change
