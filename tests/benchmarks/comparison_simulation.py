"""False positive rates of `vsp compare`: two runs with equally informative random states.

    python tests/benchmarks/comparison_simulation.py 500 2

The arguments are the number of experiments and the repeats of cross-validation. The program prints
the coverage of the intervals and the rates at which the tests find a difference, over experiments
without a difference. Uncorrected intervals should cover 0 in 95 % of the cases, and tests should
find a difference in at most 5 %.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vsp.evaluation.compare import ComparisonSettings, Pair, compare
from vsp.storage.results import Results

FOLDS = 5
_HIDDEN = 30
_LABELS = np.array(["above", "below"])


def deal_folds(n_groups: int, repeats: int) -> NDArray[np.int16]:
    """Outer split [repeat, row] of two rows a group: five folds of groups, new in each repeat."""
    rng, fold = np.random.default_rng(0), np.arange(n_groups) % FOLDS
    folds = [rng.permutation(fold) + FOLDS * repeat for repeat in range(repeats)]
    return np.repeat(folds, 2, axis=1).astype(np.int16)


def _predict(
    states: NDArray[np.float64], y: NDArray[np.intp], train: NDArray[np.bool_]
) -> NDArray[np.intp]:
    """Class [row] by the difference of the class means of the training rows."""
    masks = [train & (y == label) for label in (0, 1)]
    means = [mask / mask.sum() @ states for mask in masks]
    normal = means[1] - means[0]
    return np.asarray(states @ normal > sum(means) @ normal / 2, np.intp)


def _run(
    rng: np.random.Generator,
    y: NDArray[np.intp],
    group: NDArray[np.intp],
    signal: float,
    n_layers: int,
    repeats: int,
) -> tuple[dict[str, NDArray[Any]], NDArray[np.float64]]:
    """Predictions, and inner validation scores [layer, outer split, 1]."""
    n_groups = int(group.max()) + 1
    outer = deal_folds(n_groups, repeats).astype(np.intp)
    predicted = np.zeros((n_layers, repeats, len(y)), np.int16)
    inner = np.zeros((n_layers, FOLDS * repeats, 1))
    for layer in range(n_layers):
        states = rng.normal(size=(n_groups, _HIDDEN))[group] + rng.normal(size=(len(y), _HIDDEN))
        states[:, 0] += signal * (2 * y - 1)
        for split in range(FOLDS * repeats):
            fold = outer[split // FOLDS]
            test = fold == split
            predicted[layer, split // FOLDS, test] = _predict(states, y, ~test)[test]
            inner_folds = [k for k in np.unique(fold) if k != split]
            correct = [
                _predict(states, y, (fold != k) & ~test)[fold == k] == y[fold == k]
                for k in inner_folds
            ]
            inner[layer, split] = np.concatenate(correct).mean()
    arrays = {
        "id": np.arange(len(y)).astype(str),
        "group": group.astype(str),
        "label": _LABELS[y],
        "layers": np.arange(n_layers),
        "classes": _LABELS,
        "loss": (predicted != y).astype(np.float64),
        "base": np.ones(outer.shape),
        "outer": outer.astype(np.int16),
    }
    return arrays, inner


def _write_results(
    folder: Path, arrays: dict[str, NDArray[Any]], inner: NDArray[np.float64]
) -> Results:
    """Results with what `vsp compare` reads, and no more."""
    summary = {
        "statistic": "accuracy",
        "probe": {"probe": "logistic", "treatment": "center", "target": "label"},
        "plan": {},
        "n_layers": len(arrays["layers"]),
        "best_layer": int(arrays["loss"].mean(axis=(1, 2)).argmin()),
    }
    results = Results(folder, folder.parent)
    results.write(summary, [], arrays, {"inner": inner}, [])
    return results


def experiment(
    seed: int,
    folder: Path,
    signals: tuple[float, float] = (0.8, 0.8),
    n_groups: int = 60,
    repeats: int = 1,
    n_layers: int = 3,
) -> Pair:
    """Compare two runs of groups of two rows; `signals` are their class separations."""
    rng = np.random.default_rng(seed)
    group = np.repeat(np.arange(n_groups), 2)
    y = np.repeat(rng.permutation(np.arange(n_groups) // FOLDS % 2), 2)
    runs = []
    for name, signal in zip("ab", signals, strict=True):
        arrays, inner = _run(rng, y, group, signal, n_layers, repeats)
        runs.append((name, _write_results(folder / name, arrays, inner)))
    return compare(runs, ComparisonSettings(resamples=200, flips=199))[0]


def rates(n: int, repeats: int) -> dict[str, float]:
    """Coverage and rejection rates over n experiments without a difference."""
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None  # faster: nothing is flushed
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        pairs = [experiment(i, Path(folder), repeats=repeats, n_layers=6) for i in range(n)]
    layers = [layer for pair in pairs for layer in pair.layers]
    smallest = [min(layer.p_corrected for layer in pair.layers) for pair in pairs]
    return {
        "covered": float(np.mean([d.low <= 0 <= d.high for d in layers])),
        "p": float(np.mean([d.p <= 0.05 for d in layers])),
        "p corrected": float(np.mean([p <= 0.05 for p in smallest])),
        "p peak": float(np.mean([pair.peak.p <= 0.05 for pair in pairs])),
        "peak covered": float(np.mean([pair.peak.low <= 0 <= pair.peak.high for pair in pairs])),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("experiments", type=int, help="number of experiments")
    parser.add_argument("repeats", type=int, help="repeats of cross-validation")
    arguments = parser.parse_args()
    for name, rate in rates(arguments.experiments, arguments.repeats).items():
        print(f"{name:14}{rate:.3f}")


if __name__ == "__main__":
    main()
