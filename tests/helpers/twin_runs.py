"""Pairs of runs whose relation axes are known: a run and its swapped twin of given directions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from helpers.stored_runs import Rows, run_of
from numpy.typing import NDArray

from vsp.datasets.relations import INVERSE
from vsp.evaluation.axis_sums import axis_groups
from vsp.evaluation.twins import Twins
from vsp.storage.axes import Axis
from vsp.storage.run import Run

Floats = NDArray[np.float64]
HIDDEN = 48


def direction(angle: float = 0.0, size: int = HIDDEN) -> Floats:
    """A unit vector at this angle to the first coordinate, in the plane of the first two."""
    vector = np.zeros(size)
    vector[:2] = np.cos(angle), np.sin(angle)
    return vector


def planted(
    directions: Mapping[str, Floats],
    signal: Sequence[float],
    n_rows: int = 240,
    per_group: int = 2,
    noise: float = 1.0,
    seed: int = 0,
) -> tuple[Rows, Rows]:
    """Rows of a run and of its twin. `directions`: first label → direction of its axis.

    In each layer, the difference of a row is ±`signal` in the direction of its axis, and noise of
    length about `noise`, one half of it common to the rows of a group. Labels are in turn.
    """
    rng = np.random.default_rng([7, seed])
    labels = [name for first in directions for name in (first, INVERSE[first])]
    label = np.array(labels)[np.arange(n_rows) % len(labels)]
    group = rng.permutation(n_rows) // per_group
    signed = {
        one: v for first, d in directions.items() for one, v in ((first, d), (INVERSE[first], -d))
    }
    size = len(next(iter(directions.values())))
    shape = (len(signal), n_rows, size)
    common = rng.normal(size=(len(signal), group.max() + 1, size))[:, group]
    of_noise = (rng.normal(size=shape) + common) * noise / np.sqrt(2 * size)
    strength = np.asarray(signal)[:, None, None]
    difference = strength * np.stack([signed[one] for one in label]) + of_noise
    base = rng.normal(size=shape)
    names = {
        "id": np.array([f"row{i}" for i in range(n_rows)]),
        "group": np.array([f"image{i}" for i in group]),
        "image": np.array([f"image{i}" for i in group]),
    }
    inverse = np.array([INVERSE[one] for one in label])
    return (
        {"states": base + difference / 2, "label": label, **names},
        {"states": base - difference / 2, "label": inverse, **names},
    )


def twin_runs(
    work: Path, both: tuple[Rows, Rows], names: Sequence[str] = ("one", "twin")
) -> tuple[Run, Run]:
    first, other = (run_of(work, name, rows) for name, rows in zip(names, both, strict=True))
    return first, other


def twins_of(kind: Sequence[int], group: Sequence[int]) -> tuple[Twins, list[NDArray[np.intp]]]:
    """Twins of row i with row i, sorted as they must be, and the groups of each axis."""
    order = np.lexsort((kind, group))
    kinds, groups = np.asarray(kind)[order], np.asarray(group)[order]
    groups = np.unique(groups, return_inverse=True)[1]
    axes = tuple(Axis(f"a{i}", f"b{i}", 0, 0, 0) for i in range(max(kinds) // 2 + 1))
    twins = Twins(order, order, kinds, groups, axes, {})
    return twins, axis_groups(twins)
