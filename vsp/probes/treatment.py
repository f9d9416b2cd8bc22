"""Treatments of hidden states before a probe, learned from the rows the probe is fitted on.

`none`         nothing
`center`       subtract the mean of each dimension
`standardize`  subtract the mean and divide by the standard deviation of each dimension
`unit-norm`    divide each row by its Euclidean norm

A dimension that never changes is divided by 1, and so is a row of zeros. Standardising and unit
norm change the problem that a penalised probe solves: they are part of the probe.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vsp.errors import ProbeError
from vsp.probes.names import TREATMENTS
from vsp.utils.spelling import unknown_name

_NORM_ROWS = 512  # rows, about, from which the mean squared norm is estimated
_BLOCK_VALUES = 1 << 20  # values in memory as float64 at a time: 8 MB

Array = NDArray[np.floating]


@dataclass(frozen=True, slots=True)
class Treatment:
    """A learned treatment: (states − mean) / scale, or unit norm."""

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
        """Slices of rows and those rows treated, as float64, a few megabytes at a time."""
        for rows in row_slices(states):
            block = states[rows].astype(np.float64)
            if self.name == "unit-norm":
                norm = np.linalg.norm(block, axis=1, keepdims=True)
                block /= np.where(norm > 0, norm, 1)
            elif self.name != "none":
                block -= self.mean
                block /= self.scale
            yield rows, block


def learn(name: str, states: Array, weights: Array | None = None) -> Treatment:
    """Learn a treatment from `states` [sample, hidden] of any float type.

    Rows of weight 0 have no influence. Raises ProbeError if the name is not known, no row has a
    weight, or the variance of a dimension overflows.
    """
    if name not in TREATMENTS:
        raise ProbeError(unknown_name("treatment", name, TREATMENTS))
    zero, one = np.zeros(states.shape[1]), np.ones(states.shape[1])
    if name in ("none", "unit-norm"):
        return Treatment(name, zero, one)
    mean, deviation = moments(states, weights)
    return Treatment(name, mean, one if name == "center" else np.where(deviation > 0, deviation, 1))


def mean_squared_norm(name: str, states: Array, train: NDArray[np.bool_]) -> float:
    """Mean ‖x‖² of the training rows [row], treated and centred, estimated from some of them."""
    rows = np.flatnonzero(train)
    sampled = states[rows[:: -(-len(rows) // _NORM_ROWS)]]
    treated = learn(name, sampled).apply(sampled)
    treated -= treated.mean(axis=0)
    return float(np.vecdot(treated, treated).mean())


def moments(states: Array, weights: Array | None = None) -> tuple[Array, Array]:
    """Mean and standard deviation [hidden] of `states` [sample, hidden], in float64, in one pass.

    Blocks are merged as in Chan, Golub & LeVeque 1983. The first row is subtracted from all rows,
    so the deviation of a dimension that never changes is exactly 0. Raises ProbeError as `learn`
    does.
    """
    weight = np.ones(len(states)) if weights is None else np.asarray(weights, dtype=np.float64)
    weighted = np.flatnonzero(weight > 0)
    if not len(weighted):
        raise ProbeError(
            f"none of {len(states)} rows has a weight; a treatment is learned from some"
        )
    first = states[weighted[0]].astype(np.float64)
    total, mean, squares = 0.0, np.zeros(len(first)), np.zeros(len(first))
    with np.errstate(over="ignore", invalid="ignore"):
        for rows in row_slices(states):
            used = weight[rows] > 0
            if not used.any():
                continue
            block, w = states[rows][used].astype(np.float64) - first, weight[rows][used]
            block_total, block_mean = float(w.sum()), w @ block / w.sum()
            block -= block_mean
            shift = block_mean - mean
            between = shift * shift * (total * block_total / (total + block_total))
            squares += w @ (block * block) + between
            total += block_total
            mean += shift * (block_total / total)
        deviation = np.sqrt(squares / total)
    if not np.isfinite(deviation).all():
        dimension = int(np.flatnonzero(~np.isfinite(deviation))[0])
        raise ProbeError(
            f"dimension {dimension} is too large for its variance to be a number; "
            "leave such rows out, or scale the states down"
        )
    return first + mean, deviation


def row_slices(states: Array) -> Iterator[slice]:
    """Slices of the rows of `states` [sample, hidden], in order, a few megabytes each."""
    step = max(1, _BLOCK_VALUES // max(1, states.shape[1]))
    for start in range(0, len(states), step):
        yield slice(start, min(start + step, len(states)))
