"""What is done to hidden states before a probe sees them, learned from the rows it is fitted on.

`none`         nothing
`center`       the mean of each dimension is taken away
`standardize`  that, and each dimension is divided by its standard deviation
`unit-norm`    each row is divided by its Euclidean norm

A dimension that never changes is divided by 1, and so is a row of zeros. Standardising and unit
norm change the problem that a penalised probe solves: they are part of the probe.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vsp.errors import ProbeError

TREATMENTS = ("none", "center", "standardize", "unit-norm")
_SEEN = 512  # rows, about, that tell how large all of them are
_BLOCK = 1 << 20  # values that are in memory as float64 at a time: 8 MB

Array = NDArray[np.floating]


@dataclass(frozen=True, slots=True)
class Treatment:
    """A treatment as it was learned: (states − mean) / scale, after unit norm where it is that."""

    name: str
    mean: Array  # [hidden]
    scale: Array  # [hidden]

    def apply(self, states: Array) -> Array:
        """`states` [sample, hidden] of any float type, treated, as float64."""
        treated = np.empty(states.shape)
        for rows, block in self.blocks(states):
            treated[rows] = block
        return treated

    def blocks(self, states: Array) -> Iterator[tuple[slice, Array]]:
        """Which rows, and those rows treated, as float64; a few at a time."""
        for rows in blocks(states):
            block = states[rows].astype(np.float64)
            if self.name == "unit-norm":
                norm = np.linalg.norm(block, axis=1, keepdims=True)
                block /= np.where(norm > 0, norm, 1)
            elif self.name != "none":
                block -= self.mean
                block /= self.scale
            yield rows, block


def learn(name: str, states: Array, weights: Array | None = None) -> Treatment:
    """The treatment of `states` [sample, hidden], any float type; rows of weight 0 have no part.

    Raises ProbeError if the name is not known, no row has a weight, or the states are too large
    for their variance to be a number.
    """
    if name not in TREATMENTS:
        raise ProbeError(f"treatment {name!r} is not known; known: {', '.join(TREATMENTS)}")
    zero, one = np.zeros(states.shape[1]), np.ones(states.shape[1])
    if name in ("none", "unit-norm"):
        return Treatment(name, zero, one)
    mean, deviation = moments(states, weights)
    return Treatment(name, mean, one if name == "center" else np.where(deviation > 0, deviation, 1))


def size(name: str, states: Array, train: NDArray[np.bool_]) -> float:
    """Mean ‖x‖² of training rows [row], treated and centred, as some of them tell it."""
    rows = np.flatnonzero(train)
    some = states[rows[:: -(-len(rows) // _SEEN)]]
    treated = learn(name, some).apply(some)
    treated -= treated.mean(axis=0)
    return float(np.vecdot(treated, treated).mean())


def moments(states: Array, weights: Array | None = None) -> tuple[Array, Array]:
    """Mean and standard deviation [hidden] of `states` [sample, hidden], in float64, in one pass.

    Blocks are merged as in Chan, Golub & LeVeque 1983. Everything is seen from the first row, so
    that the deviation of a dimension that never changes is 0 and not a rounding error. Raises
    ProbeError as `learn` does.
    """
    weight = np.ones(len(states)) if weights is None else np.asarray(weights, dtype=np.float64)
    some = np.flatnonzero(weight > 0)
    if not len(some):
        raise ProbeError(
            f"none of {len(states)} rows has a weight; a treatment is learned from some"
        )
    first = states[some[0]].astype(np.float64)
    total, mean, squares = 0.0, np.zeros(len(first)), np.zeros(len(first))
    with np.errstate(over="ignore", invalid="ignore"):
        for rows in blocks(states):
            used = weight[rows] > 0
            if not used.any():
                continue
            block, w = states[rows][used].astype(np.float64) - first, weight[rows][used]
            here, of_block = float(w.sum()), w @ block / w.sum()
            block -= of_block
            away = of_block - mean
            squares += w @ (block * block) + away * away * (total * here / (total + here))
            total += here
            mean += away * (here / total)
        deviation = np.sqrt(squares / total)
    if not np.isfinite(deviation).all():
        where = int(np.flatnonzero(~np.isfinite(deviation))[0])
        raise ProbeError(
            f"dimension {where} is too large for its variance to be a number; "
            "leave such rows out, or scale the states down"
        )
    return first + mean, deviation


def blocks(states: Array) -> Iterator[slice]:
    """Rows of `states` [sample, hidden], in order, a few megabytes at a time."""
    step = max(1, _BLOCK // max(1, states.shape[1]))
    for start in range(0, len(states), step):
        yield slice(start, min(start + step, len(states)))
