"""Random directions and random subspaces: the controls of steering and erasing.

They are drawn from a seed, so that files keep the seed and not the draws. Draws of the same seed
differ between layers and between numbers. Sums are in float64 and values are float32, so that other
machines draw the same values, but for rare last bits.
"""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_DIRECTION, _SUBSPACE = 0, 1  # kinds of draws, which have different seeds
_NAME = re.compile(r"random-([1-9][0-9]{0,5})")


def random_names(n: int) -> tuple[str, ...]:
    """The names of `n` random directions or subspaces: random-1, random-2, …"""
    return tuple(f"random-{k + 1}" for k in range(n))


def random_number(name: str) -> int | None:
    """The number in a name such as random-3; None for another name."""
    found = _NAME.fullmatch(name)
    return int(found[1]) if found else None


def random_directions(
    vectors: NDArray[np.floating], seed: int, layer: int, number: int
) -> NDArray[np.float32]:
    """`vectors` [pair, hidden], all turned by the same random rotation.

    The result has their norms and their angles to each other. A single vector is turned to one that
    is uniform on the sphere, as a Gaussian vector of the same norm.
    """
    given = vectors.astype(np.float64)
    n_pairs, hidden = given.shape
    rng = np.random.default_rng([_DIRECTION, seed, layer, number])
    if n_pairs < hidden:
        root = _symmetric_power(given @ given.T, 0.5)
        turned = root @ _orthonormal(rng.standard_normal((n_pairs, hidden)))
    else:
        turned = given @ _orthonormal(rng.standard_normal((hidden, hidden)))
    return with_norms(turned, np.linalg.norm(given, axis=1)).astype(np.float32)


def random_subspace(hidden: int, rank: int, seed: int, layer: int, number: int) -> Floats:
    """An orthonormal basis [hidden, rank] of a uniformly random subspace; `rank` ≤ `hidden`."""
    rng = np.random.default_rng([_SUBSPACE, seed, layer, number])
    return _orthonormal(rng.standard_normal((rank, hidden))).T


def _orthonormal(rows: Floats) -> Floats:
    """The nearest orthonormal rows: unlike a QR decomposition, they have no free signs."""
    if not len(rows):
        return rows
    once = _symmetric_power(rows @ rows.T, -0.5) @ rows
    return _symmetric_power(once @ once.T, -0.5) @ once  # the rounding errors of the first step


def _symmetric_power(gram: Floats, power: float) -> Floats:
    """A power of a symmetric matrix without negative eigenvalues."""
    values, basis = np.linalg.eigh(gram)
    positive = values > len(gram) * np.finfo(np.float64).eps * max(float(values[-1]), 0.0)
    raised = np.where(positive, np.where(positive, values, 1.0) ** power, 0.0)
    return np.asarray((basis * raised) @ basis.T)


def with_norms(vectors: Floats, norms: NDArray[np.floating]) -> Floats:
    """`vectors` [vector, hidden] scaled to `norms` [vector]; a vector of zeros stays."""
    own = np.linalg.norm(vectors, axis=1)
    return vectors * (norms / np.where(own > 0, own, 1.0))[:, None]
