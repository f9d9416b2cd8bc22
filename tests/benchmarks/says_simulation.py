"""Coverage of the intervals of answers, and level of the tests of equal accuracy, by simulation.

    python tests/benchmarks/says_simulation.py

The datasets are those of `estimate_simulation`: a nearest-centroid probe is fitted on folds. The
model's own answers are drawn with a known accuracy, and answers of a group depend on each other. The
program prints one line for each kind of dataset. Tests use the same functions with fewer datasets.
"""

from __future__ import annotations

import argparse

import numpy as np
from benchmarks.estimate_simulation import World, accuracy, draw, fit_layers, split_names
from scipy.stats import norm

from vsp.evaluation.answers import RowOptions
from vsp.evaluation.design import make_design
from vsp.evaluation.evaluate import EvaluatedRows, EvaluationSettings
from vsp.evaluation.metrics import METRICS
from vsp.evaluation.peak import Selection, inner_scores
from vsp.evaluation.says import says_beside_peak

_NAMES = ["left_of", "right_of"]
_WORLDS = {
    "rows alone": World(rows=1, unequal=False),
    "rows in groups": World(),
    "dependent rows": World(rows=6, depend=0.9),
    "own split": World(own_split=True, n_groups=100),
}


def options_of(y, answer, margin):
    """Options of rows whose log-likelihoods have the best score at `answer` [row]."""
    total = np.full((len(y), 2), -9.0)
    total[np.arange(len(y)), answer] += margin
    lengths = np.full(total.shape, 2)
    return RowOptions([[" left of", " right of"]] * len(y), total, lengths, lengths)


def draw_answers(y, group, accurate, depend, rng):
    """Options whose best is the label with probability `accurate`; answers of a group depend."""
    number = np.unique(group, return_inverse=True)[1]
    shared = rng.standard_normal(number.max() + 1)[number]
    luck = depend**0.5 * shared + (1 - depend) ** 0.5 * rng.standard_normal(len(y))
    right = luck < norm.ppf(accurate)
    return options_of(y, np.where(right, y, 1 - y), 1 + rng.random(len(y)))


def judge_answers(world, accurate, rng, seed=0, resamples=100):
    """Summary of the answers of one dataset, and the true accuracy of its probe."""
    y, group, states = draw(world, rng)
    design = make_design(y, group, split_names(world, group), seed=seed)
    fits, probes = fit_layers(states, y, design)
    peak = Selection(design, np.stack([inner_scores(fit) for fit in fits]))
    peak.take(0, fits[0])
    options = draw_answers(y, group, accurate, world.depend, rng)
    rows = EvaluatedRows(y, group, design, METRICS["accuracy"], _NAMES)
    settings = EvaluationSettings(resamples=resamples, seed=seed)
    says = says_beside_peak(options, "total", rows, peak, [0], settings)
    return says.summary, float(np.mean([accuracy(probe, world)[0] for probe in probes]))


def probe_accuracy(world, n=200, seed=1):
    """The mean true accuracy of probes of a kind of dataset."""
    rng, found = np.random.default_rng(seed), []
    for i in range(n):
        y, group, states = draw(world, rng)
        design = make_design(y, group, split_names(world, group), seed=i)
        _, probes = fit_layers(states, y, design)
        found.append(np.mean([accuracy(probe, world)[0] for probe in probes]))
    return float(np.mean(found))


def error_rates(world, n_worlds, gain=0.0, seed=0, n_probes=200, resamples=100):
    """Shares of datasets: intervals without the truth, and p values up to 0.05.

    The probe is better than the answers by `gain`. Returns the shares for the accuracy of the
    answers, for the difference, for the test with groups and for McNemar's test of rows.
    """
    knows = probe_accuracy(world, n_probes)
    rng, found = np.random.default_rng(seed), []
    for i in range(n_worlds):
        summary, own = judge_answers(world, knows - gain, rng, i, resamples)
        figures, test = summary["figures"]["accuracy"], summary["test"]
        says, difference = figures["says"], figures["difference"]
        true = own - knows + gain if world.own_split else gain
        found.append((
            not says["low"] <= knows - gain <= says["high"],
            not difference["low"] <= true <= difference["high"],
            test["p"] <= 0.05,
            test["p_rows"] <= 0.05,
        ))  # fmt: skip
    return np.mean(found, axis=0).tolist()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--worlds", type=int, default=400, help="datasets of each kind")
    n = parser.parse_args().worlds
    for name, world in _WORLDS.items():
        for gain in (0.0, 0.1):
            shares = error_rates(world, n, gain)
            words = ("says", "difference", "p", "p of rows")
            figures = ", ".join(f"{w} {s:.3f}" for w, s in zip(words, shares, strict=True))
            print(f"{name}, gain {gain:g}: {figures}", flush=True)


if __name__ == "__main__":
    main()
