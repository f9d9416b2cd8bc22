"""How often intervals hold the truth, and how often tests find what is not there.

`python tests/estimates_sim.py` draws small worlds in which the truth is known, runs splits, a
nearest-centroid probe and evaluate on each, and prints a line for each kind of world. The worlds
and `give`, the probe's share of the work, are those of the tests.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from vsp.evaluation.controls import permuted_labels
from vsp.evaluation.design import make_design
from vsp.evaluation.evaluate import EvaluatedRows, EvaluationSettings, evaluate


@dataclass(frozen=True)
class World:
    """Groups of rows that depend on each other; two labels, told apart by the first dimension."""

    n_groups: int = 60
    rows: float = 3  # in a group, on average
    unequal: bool = True
    one_label: bool = True  # in a group
    depend: float = 0.5  # share of the variance that rows of a group have in common
    apart: tuple[float, ...] = (1.0,)  # half the distance of the labels' means, in each layer
    dims: int = 5
    own_split: bool = False
    n_test: int = 40  # groups
    larger: float = 0  # rows that groups of the second label have more, on average
    prior: bool = False  # the probe favours the label of which it was fitted on more rows


def draw(world: World, rng: np.random.Generator, n_groups: int | None = None):
    """Labels, groups and states [layer, row, dim]; layers depend on each other as rows do."""
    n_groups = n_groups or world.n_groups
    # Of one number in training and test, a label that training has more of is rarer in the test.
    of_group = rng.integers(2, size=n_groups)
    if not world.own_split:
        of_group = rng.permutation(np.arange(n_groups) % 2)
    size = np.full(n_groups, int(world.rows))
    if world.unequal:
        mean = world.rows + world.larger * of_group
        size = np.clip(rng.geometric(1 / mean, n_groups), 1, int(5 * world.rows))
    number = np.repeat(np.arange(n_groups), size)
    y = of_group[number] if world.one_label else rng.integers(2, size=len(number))
    shape = (len(world.apart), len(number), world.dims)
    shared = rng.standard_normal((n_groups, world.dims))[number]
    common = (
        0.5**0.5 * shared
        + 0.5**0.5 * rng.standard_normal((shape[0], n_groups, world.dims))[:, number]
    )
    states = world.depend**0.5 * common + (1 - world.depend) ** 0.5 * rng.standard_normal(shape)
    states[:, :, 0] += np.array(world.apart)[:, None] * (2 * y - 1)
    return y, np.char.add("g", np.char.zfill(number.astype(str), 6)), states


def split_of(world: World, group):
    """A split of the dataset's own: its last groups are the test."""
    if not world.own_split:
        return np.full(len(group), "")
    tested = np.unique(group)[-world.n_test :]
    return np.where(np.isin(group, tested), "test", "train")


def fit(states, y, train, prior):
    """Direction and threshold of each layer's nearest centroids, on the rows of a mask."""
    rows = [train & (y == label) for label in (1, 0)]
    one, other = (states[:, mask].mean(axis=1) for mask in rows)
    direction = one - other
    odds = np.log(rows[0].sum() / rows[1].sum()) if prior else 0.0
    return direction, np.einsum("ld,ld->l", (one + other) / 2, direction) - odds


def says(probe, states):
    direction, threshold = probe
    return (np.einsum("lrd,ld->lr", states, direction) > threshold[:, None]).astype(np.int16)


def accuracy(probe, world: World):
    """Of a probe on all rows there could be [layer]."""
    direction, threshold = probe
    size, mean = np.linalg.norm(direction, axis=1), np.array(world.apart) * direction[:, 0]
    return (norm.cdf((mean - threshold) / size) + norm.cdf((mean + threshold) / size)) / 2


def give(states, y, made, labels=None, prior=False):
    """What `fit_layer` gives of every layer, and the probe of each outer split."""
    n_layers = len(states)
    probes = [fit(states, y, train, prior) for train in made.train_sets]
    said = [says(probe, states) for probe in probes]
    inner = np.zeros((n_layers, len(made.outer), 1))
    predicted = np.full((n_layers, made.n_repeats, len(y)), -1, np.int16)
    for i, outer in enumerate(made.outer):
        predicted[:, outer.repeat, outer.test] = said[outer.train_set][:, outer.test]
        right = [(said[one.train_set] == y)[:, one.validation].mean(axis=1) for one in outer.inner]
        inner[:, i, 0] = np.mean(right, axis=0)
    null = {} if labels is None else _null(states, y, made, labels, prior)
    fits = [
        {
            "strengths": np.array([np.nan]), "chosen": np.zeros(len(made.outer), np.intp),
            "inner": inner[k], "predicted": predicted[k], "gap": np.full(1, np.nan, np.float32),
            **{name: values[k] for name, values in null.items()},
        }
        for k in range(n_layers)
    ]  # fmt: skip
    return fits, [probes[outer.train_set] for outer in made.outer]


def _null(states, y, made, labels, prior):
    observed, *null = (_statistic(states, one, made, prior) for one in (y, *labels))
    return {"null_observed": observed, "null": np.stack(null, axis=1)}


def _statistic(states, y, made, prior):
    """Accuracy [layer] over the outer splits of the first repeat, with these labels."""
    outers = [outer for outer in made.outer if outer.repeat == 0]
    right = sum(
        (
            says(fit(states, y, made.train_sets[one.train_set], prior), states[:, one.test])
            == y[one.test]
        ).sum(axis=1)
        for one in outers
    )
    return right / sum(len(outer.test) for outer in outers)


def judge(world: World, rng: np.random.Generator, n_permutations=0, resamples=300, seed=0):
    """One world's scores and facts, and the true accuracy [outer, layer] of its outer fits."""
    y, group, states = draw(world, rng)
    made = make_design(y, group, split_of(world, group), seed=seed)
    labels = None
    if n_permutations:
        labels = permuted_labels(y, group, made.blocks, n_permutations, seed)[0]
    fits, probes = give(states, y, made, labels, world.prior)
    layers = list(range(len(fits)))
    rows = EvaluatedRows(y, group, made, ["a", "b"])
    settings = EvaluationSettings(resamples=resamples, seed=seed)
    scores, facts = evaluate(layers, fits, rows, settings)
    return scores, facts, np.stack([accuracy(probe, world) for probe in probes])


def coverage(world: World, n_worlds: int, seed: int = 0):
    """Share of worlds whose first layer's interval holds the truth, and its mean width.

    The truth of an own split is its one probe's accuracy; of folds, what probes fitted on so many
    rows have on average over all worlds.
    """
    rng, bounds, truth = np.random.default_rng(seed), [], []
    for i in range(n_worlds):
        scores, _, true = judge(world, rng, seed=i)
        bounds.append((scores[0].low, scores[0].high))
        truth.append(true[:, 0].mean())
    low, high = np.array(bounds).T
    true = np.array(truth) if world.own_split else np.full(n_worlds, np.mean(truth))
    return float(np.mean((low <= true) & (true <= high))), float(np.mean(high - low))


def false_positives(world: World, n_worlds: int, n_permutations: int, seed: int = 0):
    """Share of worlds without an effect whose first layer, or any layer corrected, has p ≤ 0.05."""
    rng, alone, together = np.random.default_rng(seed), [], []
    for i in range(n_worlds):
        scores, _, _ = judge(world, rng, n_permutations, resamples=2, seed=i)
        alone.append(scores[0].p <= 0.05)
        together.append(min(score.p_corrected for score in scores) <= 0.05)
    return float(np.mean(alone)), float(np.mean(together))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--worlds", type=int, default=400)
    n = parser.parse_args().worlds
    for own in (True, False):
        for n_groups in (30, 100, 300):
            for apart in (0.0, 0.5, 1.0, 2.0):
                for rows, unequal, one_label, depend in (
                    (1, False, True, 0.0), (4, True, True, 0.5), (4, True, False, 0.5),
                ):  # fmt: skip
                    for dims in (5, 50):
                        world = World(
                            n_groups + n_groups * own, rows, unequal, one_label, depend, (apart,),
                            dims, own, n_groups,
                        )  # fmt: skip
                        start = time.perf_counter()
                        share, width = coverage(world, n)
                        print(
                            f"{'own split' if own else 'folds'}, {n_groups} groups judged of "
                            f"{rows} rows{' ±' * unequal}, {'one label' if one_label else 'labels'} "
                            f"a group, {dims} dims, apart {apart}: {share:.1%} of intervals hold "
                            f"the truth, width {width:.3f} ({time.perf_counter() - start:.1f} s)",
                            flush=True,
                        )
    for one_label in (True, False):
        for rows in (1, 4):
            for larger in (0, 4) if one_label and rows > 1 else (0,):
                world = World(
                    60, rows, rows > 1, one_label, 0.5, (0.0,) * 6, larger=larger, prior=larger > 0
                )
                alone, together = false_positives(world, n, 39)
                print(
                    f"no effect, {rows} rows a group (of one label {larger} more), "
                    f"{'one label' if one_label else 'labels'}: p ≤ 0.05 in {alone:.1%}, "
                    f"corrected over 6 layers in {together:.1%}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
