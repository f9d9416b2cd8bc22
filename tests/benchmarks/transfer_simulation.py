"""Coverage of the intervals of `vsp evaluate`, by simulation.

    python tests/benchmarks/transfer_simulation.py

Probes are fitted on a dataset of `estimate_simulation`, and judged on another one whose states are
noisier, or on noisier states of the same rows. The true accuracy of each probe is known. The program
prints, for each kind of dataset, the share of intervals without the truth: of the score, and of the
difference to the score on the run's own test rows. Tests use the same functions with fewer datasets.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.estimate_simulation import World, draw, fit, fit_layers, split_names
from scipy.stats import norm

from vsp.evaluation.design import make_design
from vsp.evaluation.judges import FINAL, FittedRows
from vsp.evaluation.metrics import METRICS
from vsp.evaluation.row_identity import RowIdentity
from vsp.evaluation.target_states import TargetStates
from vsp.evaluation.trained_probes import TrainedProbes
from vsp.evaluation.transfer import TransferSettings, transfer
from vsp.storage.convention import LayerConvention
from vsp.storage.results import Results

_NAMES = ("left_of", "right_of")
_LAYERS = LayerConvention((0,))
WORLDS = {
    "rows alone": World(rows=1, unequal=False),
    "rows in groups": World(),
    "dependent rows": World(rows=6, depend=0.9),
    "own split": World(own_split=True, n_groups=100),
}


@dataclass(frozen=True)
class _Centroids:
    """A nearest-centroid probe with two labels."""

    direction: Any
    threshold: float

    def scores(self, states):
        right = states @ self.direction - self.threshold
        return np.stack([-right, right], axis=1)

    def accuracy(self, world, noise=0.0):
        """True accuracy on states of this world, to which noise of this deviation is added."""
        size = np.linalg.norm(self.direction) * (1 + noise**2) ** 0.5
        mean = world.apart[0] * self.direction[0]
        signs = np.array([-1, 1])
        return float(norm.cdf((mean - signs * self.threshold) / size).mean())


@dataclass(frozen=True, eq=False)
class _DrawnProbes(TrainedProbes):
    """Probes in memory."""

    by_judge: Any = None

    def probes(self, layer, folds):
        return self.by_judge


def _identity(prefix, n):
    return RowIdentity.of_texts([(f"{prefix}{i}", "s", "r", "", "", "") for i in range(n)])


def _trained(world, rng, seed):
    """The probes of a drawn dataset, its labels, groups and states [row, dim]."""
    y, group, states = draw(world, rng)
    design = make_design(y, group, split_names(world, group), seed=seed)
    (one,), outer_probes = fit_layers(states, y, design)
    final = fit(states, y, design.train_sets[design.final], prior=False)
    by_judge = {
        judge: _Centroids(direction[0], float(threshold[0]))
        for judge, (direction, threshold) in enumerate([*outer_probes, final])
    }
    by_judge[FINAL] = by_judge.pop(len(outer_probes))
    arrays = {name: one[name][None] for name in ("loss", "predicted")}
    arrays |= {"base": one["base"], "group": group, "layers": np.array([0])}
    sets = design.train_sets[[outer.train_set for outer in design.outer]]
    fitted = FittedRows(
        _identity("a", len(y)),
        design.test_split.astype(np.intp),
        design.train_sets[design.final],
        sets,
    )
    probes = _DrawnProbes(
        "a", Results(Path("results/a")), _NAMES, "", METRICS["accuracy"], "accuracy", "centroid", 0, _LAYERS,
        world.dims, fitted, y, arrays, by_judge,
    )  # fmt: skip
    return probes, y, group, states[0]


def _target(identity, y, group, states):
    names = np.array(_NAMES)[y]
    ids = np.arange(len(y)).astype(str)
    return TargetStates(
        "b", "last", ids, names, group, identity, _LAYERS, states.shape[1], lambda layer: states
    )


def judged(world, same_rows, noise, rng, seed=0, resamples=100):
    """The figures of a dataset, and the true score and difference of its probes."""
    probes, y, group, states = _trained(world, rng, seed)
    identity = probes.fitted.identity
    if not same_rows:
        y, group, (states,) = draw(world, rng)
        identity = _identity("b", len(y))
    noisy = states + noise * rng.standard_normal(states.shape)
    settings = TransferSettings(resamples=resamples, seed=seed)
    made = transfer(probes, _target(identity, y, group, noisy), list, settings)
    by_judge = dict(probes.by_judge)
    final = by_judge.pop(FINAL)
    of_folds = list(by_judge.values())
    own = float(np.mean([one.accuracy(world) for one in of_folds]))
    judges = of_folds if same_rows else [final]
    score = float(np.mean([one.accuracy(world, noise) for one in judges]))
    assert made.paired == same_rows
    return made.layers[0], score, score - own


def error_rates(world, same_rows, n_worlds, noise=1.0, seed=0, resamples=100):
    """Shares of datasets whose intervals miss the truth, of the score and of the difference.

    Also the mean half width of the interval of the difference.
    """
    rng, found = np.random.default_rng(seed), []
    for i in range(n_worlds):
        one, score, difference = judged(world, same_rows, noise, rng, i, resamples)
        found.append((
            not one.low <= score <= one.high,
            not one.difference_low <= difference <= one.difference_high,
            (one.difference_high - one.difference_low) / 2,
        ))  # fmt: skip
    return np.mean(found, axis=0).tolist()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--worlds", type=int, default=400, help="datasets of each kind")
    n = parser.parse_args().worlds
    for name, world in WORLDS.items():
        for same_rows in (False, True):
            for noise in (0.0, 1.0):
                score, difference, width = error_rates(world, same_rows, n, noise)
                rows = "same rows" if same_rows else "other rows"
                print(f"{name}, {rows}, noise {noise:g}: score {score:.3f}, difference "
                      f"{difference:.3f}, ± {width:.3f}", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
