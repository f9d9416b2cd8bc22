"""How often a direction is called used, and how often intervals hold the truth, by simulation.

    python tests/benchmarks/effects_simulation.py

Answers are those of planted linear readouts (`helpers.planted_effects`). In the null worlds the direction
is one more random direction. The program prints, for each world, the percent of runs in which some layer
is called used: by the rank among random directions alone, by the test over groups alone, and by both; and
the percent of 95 % intervals that hold the true mean change and excess. Tests use the same functions with
fewer runs.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

import numpy as np
from helpers.planted_effects import EffectWorld, drawn_effects, steering

from vsp.evaluation.effects import EffectSettings, effect_figures
from vsp.storage.found_effects import STEER

LAYERS = (0.0, 0.5, 1.0, 1.0, 1.0, 1.0, 0.5, 0.2)
WORLDS = {
    "one more random direction": EffectWorld(LAYERS, is_null=True),
    "the same, 8 groups": EffectWorld(LAYERS, is_null=True, n_groups=8, per_group=10),
    "the same, 200 groups": EffectWorld(LAYERS, is_null=True, n_groups=200),
    "the same, answers read nothing": EffectWorld((0.0,) * 8, is_null=True),
    "right direction": EffectWorld(LAYERS),
    "right direction, one layer of 32": EffectWorld((0.0,) * 20 + (0.3,) + (0.0,) * 11),
}
QUICK = EffectSettings(resamples=400, flips=399)


def judged(world, settings, seed, how=QUICK):
    """Whether the rank test, the group test or both pass in a layer, and how many intervals hold the truth."""
    rows, truth = drawn_effects(world, settings, seed)
    found = effect_figures(rows, STEER, settings, how)
    main = [i for i, one in enumerate(settings) if one.name == "direction"]
    by_rank = found.p_random_corrected[:, main] < how.level
    by_groups = (found.p_corrected < how.level)[:, main] & (found.excess[:, main] > 0)
    both = by_rank & by_groups & (found.change_low[:, main] > 0)
    random_mean = {
        one.scale: truth[:, [i for i, r in enumerate(settings) if r.is_random and r.scale == one.scale]].mean(axis=1)
        for one in settings
    }  # fmt: skip
    excess = truth - np.stack([random_mean[one.scale] for one in settings], axis=1)
    active = np.array(world.strength) > 0
    holds = [
        ((low <= true) & (true <= high))[active][:, main].mean() if active.any() else np.nan
        for low, high, true in (
            (found.change_low, found.change_high, truth),
            (found.excess_low, found.excess_high, excess),
        )
    ]
    return by_rank.any(), by_groups.any(), both.any(), *holds


def rates(world, n, settings=None, first=0):
    """The means of `judged` over `n` runs."""
    settings = steering() if settings is None else settings
    return np.mean([judged(world, settings, seed) for seed in range(first, first + n)], axis=0)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--runs", type=int, default=400)
    n = parser.parse_args().runs
    heads = ("by rank", "over groups", "both: used", "change holds", "excess holds")
    print(f"percent of {n} runs, 20 random directions at 3 scales")
    print("| world |", " | ".join(heads), "|")
    print("|---" * (len(heads) + 1) + "|")
    worlds = [(name, world, steering()) for name, world in WORLDS.items()]
    weak = replace(WORLDS["right direction, one layer of 32"], noise=2.0)
    worlds.append(("the same, 100 random directions", weak, steering(n_random=100)))
    for name, world, settings in worlds:
        found = rates(world, n, settings)
        print(f"| {name} |", " | ".join(f"{100 * one:.1f}" for one in found), "|", flush=True)


if __name__ == "__main__":
    main()
