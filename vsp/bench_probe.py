"""`vsp bench probe`: what an exact probe costs here and what it costs with scikit-learn.

Every way fits the same layers. The ways take turns on each layer, so that a busy neighbour slows
all of them, and the least of a few repeats counts: CPU seconds of one core.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_RANK = 1024  # directions that the states vary along, beside noise
_DECAY = 0.75  # of the power law that their spreads follow
_READABLE = slice(8, 72)  # directions that know the label: not the widest
_OUTLIERS = np.array([50, 100, 300, 1000], np.float32)  # times the median dimension


class Realistic:
    """Draws hidden states such as language models have them.

    A power law of spreads, a common mean, dimensions of different scale and among them a few
    that are 50 to 1000 times as large as the others, noise, all rounded to float16.
    """

    def __init__(self, hidden: int, n_classes: int, signal: float, seed: int = 0) -> None:
        """`signal`: how far classes are apart; 0: not at all, 1: most rows can be told."""
        self._rng = rng = np.random.default_rng(seed)
        self._n_classes = n_classes
        rank = min(hidden, _RANK)
        spreads = np.arange(1, rank + 1, dtype=np.float32) ** -_DECAY
        self._centres = np.zeros((n_classes, rank), np.float32)
        shape = self._centres[:, _READABLE].shape
        self._centres[:, _READABLE] = signal / 4 * rng.standard_normal(shape, dtype=np.float32)
        mixing = rng.standard_normal((rank, hidden), dtype=np.float32)
        self._mixing = mixing * (spreads / np.linalg.norm(spreads))[:, None]
        self._scale = np.exp(0.4 * rng.standard_normal(hidden)).astype(np.float32)
        self._mean = (1.5 * rng.standard_normal(hidden)).astype(np.float32)
        large = rng.choice(hidden, min(hidden, len(_OUTLIERS)), replace=False)
        self._scale[large] *= 0.3 * _OUTLIERS[: len(large)]
        self._mean[large] *= 0.5 * _OUTLIERS[: len(large)]

    def draw(self, n_rows: int) -> tuple[NDArray[np.float16], NDArray[np.int64]]:
        """States [row, hidden] and labels [row]; every call draws others."""
        labels = self._rng.integers(self._n_classes, size=n_rows)
        rank, hidden = self._mixing.shape
        latent = self._rng.standard_normal((n_rows, rank), dtype=np.float32)
        states = (latent + self._centres[labels]) @ self._mixing
        states += np.float32(0.15) * self._rng.standard_normal((n_rows, hidden), dtype=np.float32)
        states *= self._scale
        states += self._mean
        return states.astype(np.float16), labels
