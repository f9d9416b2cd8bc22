"""Hidden states drawn by a second generator, unlike that of `solver_speed.RealisticStates`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_INFORMATIVE = slice(8, 72)  # directions that differ between classes; not the widest ones
_MASSIVE = np.array([50, 100, 300, 1000], np.float32)  # scales relative to the other dimensions
_FREEDOM = 3.0  # degrees of freedom of the scales of rows, as in Student's t
_NOISE = 0.15
_LARGEST = 60_000.0  # float16 ends at 65,504


class MixedStates:
    """States whose directions of variance are mixed into all dimensions by a random rotation.

    Variances follow a power law over all dimensions, four dimensions are 50 to 1000 times as
    large as the others, and the scales of rows have heavy tails.
    """

    def __init__(self, hidden: int, n_classes: int, signal: float, seed: int = 0) -> None:
        """`signal` is the class separation, as of `RealisticStates`."""
        self._rng = rng = np.random.default_rng(seed)
        self._n_classes = n_classes
        spectrum = 1 / np.arange(1, hidden + 1)
        self._spread = (spectrum * np.sqrt(hidden) / np.linalg.norm(spectrum)).astype(np.float32)
        self._centres = np.zeros((n_classes, hidden), np.float32)
        shape = self._centres[:, _INFORMATIVE].shape
        self._centres[:, _INFORMATIVE] = signal / 4 * rng.standard_normal(shape)
        square = rng.standard_normal((hidden, hidden), dtype=np.float32)
        self._rotation: NDArray[np.float32] = np.linalg.qr(square)[0]
        self._mean = (1.5 * rng.standard_normal(hidden)).astype(np.float32)
        self._scale = np.ones(hidden, np.float32)
        large = rng.choice(hidden, min(hidden, len(_MASSIVE)), replace=False)
        self._scale[large] = _MASSIVE[: len(large)]

    def draw(self, n_rows: int) -> tuple[NDArray[np.float16], NDArray[np.int64]]:
        """States [row, hidden] and labels [row]; each call draws new rows."""
        rng, hidden = self._rng, len(self._spread)
        labels = rng.integers(self._n_classes, size=n_rows)
        latent = rng.standard_normal((n_rows, hidden), dtype=np.float32) + self._centres[labels]
        states = (latent * self._spread) @ self._rotation
        states += np.float32(_NOISE) * rng.standard_normal((n_rows, hidden), dtype=np.float32)
        states *= np.sqrt(_FREEDOM / rng.chisquare(_FREEDOM, (n_rows, 1))).astype(np.float32)
        states = (states + self._mean) * self._scale
        return np.clip(states, -_LARGEST, _LARGEST).astype(np.float16), labels
