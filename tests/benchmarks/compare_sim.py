"""Two runs whose states are drawn alike, probed with folds: how often is a difference found?

Run as a program, it takes a number of experiments and prints the rates.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from helpers import made
from numpy.typing import NDArray

from vsp.evaluation.compare import Pair, Settings, compare

FOLDS = 5


def _predicted(
    states: NDArray[np.float64], y: NDArray[np.intp], train: NDArray[np.bool_]
) -> NDArray[np.intp]:
    """By the difference of class means of the training rows."""
    means = [states[train & (y == label)].mean(axis=0) for label in (0, 1)]
    normal = means[1] - means[0]
    return np.asarray(states @ normal > sum(means) @ normal / 2, np.intp)


def _run(
    rng: np.random.Generator, y: NDArray[np.intp], group: NDArray[np.intp], signal: float,
    n_layers: int, repeats: int,
) -> tuple[dict[str, NDArray[Any]], NDArray[np.float64]]:  # fmt: skip
    """Predictions, and the scores inside the training rows [layer, outer, 1]."""
    n_groups, hidden = int(group.max()) + 1, 30
    outer = made.outer(n_groups, repeats).astype(np.intp)
    predicted = np.zeros((n_layers, repeats, len(y)), np.int16)
    inner = np.zeros((n_layers, FOLDS * repeats, 1))
    for layer in range(n_layers):
        own = rng.normal(size=(n_groups, hidden))[group]
        states = own + rng.normal(size=(len(y), hidden))
        states[:, 0] += signal * (2 * y - 1)
        for split in range(FOLDS * repeats):
            fold = outer[split // FOLDS]
            judge = fold == split
            predicted[layer, split // FOLDS, judge] = _predicted(states, y, ~judge)[judge]
            choosing = [one for one in np.unique(fold) if one != split]
            right = [
                _predicted(states, y, (fold != one) & ~judge)[fold == one] == y[fold == one]
                for one in choosing
            ]
            inner[layer, split] = np.concatenate(right).mean()
    arrays = {
        "id": np.arange(len(y)).astype(str),
        "group": group.astype(str),
        "label": np.array(["above", "below"])[y],
        "layers": np.arange(n_layers),
        "classes": np.array(["above", "below"]),
        "predicted": predicted,
        "outer": outer.astype(np.int16),
    }
    return arrays, inner


def experiment(
    seed: int, folder: Path, signals: tuple[float, float] = (0.8, 0.8), n_groups: int = 60,
    repeats: int = 1, n_layers: int = 3,
) -> Pair:  # fmt: skip
    """Two runs of 60 groups of two rows, their states with as much signal as is said."""
    rng = np.random.default_rng(seed)
    group = np.repeat(np.arange(n_groups), 2)
    y = np.repeat(rng.permutation(np.arange(n_groups) // FOLDS % 2), 2)
    runs = []
    for name, signal in zip("ab", signals, strict=True):
        arrays, inner = _run(rng, y, group, signal, n_layers, repeats)
        scores = made.scores(made.predictions(np.full(n_layers, 0.5), 4, 1))
        results = made.made(folder / name, arrays, scores, inner)
        runs.append((name, results))
    return compare(runs, Settings(resamples=200, flips=199))[0]


def rates(n: int, repeats: int) -> dict[str, float]:
    """Over so many experiments, of which none has anything to find."""
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None  # nothing to flush
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        pairs = [experiment(i, Path(folder), repeats=repeats, n_layers=6) for i in range(n)]
    one = [layer for pair in pairs for layer in pair.layers]
    return {
        "covered": float(np.mean([d.low <= 0 <= d.high for d in one])),
        "p": float(np.mean([d.p <= 0.05 for d in one])),
        "p corrected": float(
            np.mean([min(d.p_corrected for d in q.layers) <= 0.05 for q in pairs])
        ),
        "p peak": float(np.mean([q.peak.p <= 0.05 for q in pairs])),
        "peak covered": float(np.mean([q.peak.low <= 0 <= q.peak.high for q in pairs])),
    }


if __name__ == "__main__":
    print(rates(int(sys.argv[1]), int(sys.argv[2])))
