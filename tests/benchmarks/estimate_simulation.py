"""Coverage of confidence intervals and false positive rates of permutation tests, by simulation.

    python tests/benchmarks/estimate_simulation.py

The program draws small datasets whose true accuracy is known, makes splits, fits a nearest-centroid
probe and evaluates it. It prints one line for each kind of dataset. Tests use the same functions
with fewer datasets.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
from helpers.fitted import losses
from scipy.stats import norm

from vsp.evaluation.controls import permuted_labels
from vsp.evaluation.design import make_design
from vsp.evaluation.evaluate import EvaluatedRows, EvaluationSettings, evaluate
from vsp.evaluation.metrics import METRICS


@dataclass(frozen=True)
class World:
    """Distribution of a dataset: dependent rows in groups; two labels that differ in dimension 0."""

    n_groups: int = 60
    rows: float = 3  # mean number of rows in a group
    unequal: bool = True
    one_label: bool = True  # all rows of a group have the same label
    depend: float = 0.5  # share of the variance that is common to the rows of a group
    apart: tuple[float, ...] = (1.0,)  # half the distance between the class means [layer]
    dims: int = 5
    own_split: bool = False
    n_test: int = 40  # groups
    larger: float = 0  # additional rows of groups of the second label, on average
    prior: bool = False  # the probe prefers the more common training label


def draw(world: World, rng: np.random.Generator, n_groups: int | None = None):
    """Labels, groups and states [layer, row, dim]; the states of the layers are correlated."""
    n_groups = n_groups or world.n_groups
    # Equal class sizes: with folds, a more common training label is the rarer test label.
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


def split_names(world: World, group):
    """Split names [row]: the last groups are the test rows; empty for cross-validation."""
    if not world.own_split:
        return np.full(len(group), "")
    tested = np.unique(group)[-world.n_test :]
    return np.where(np.isin(group, tested), "test", "train")


def fit(states, y, train, prior):
    """Nearest-centroid direction and threshold of each layer, fitted on the rows of a mask."""
    rows = [train & (y == label) for label in (1, 0)]
    one, other = (mask / mask.sum() @ states for mask in rows)
    direction = one - other
    odds = np.log(rows[0].sum() / rows[1].sum()) if prior else 0.0
    return direction, np.einsum("ld,ld->l", (one + other) / 2, direction) - odds


def predict(probe, states):
    direction, threshold = probe
    return (np.einsum("lrd,ld->lr", states, direction) > threshold[:, None]).astype(np.int16)


def recall_of(probe, world: World, label: int):
    """True recall of a label, of a probe [layer]."""
    direction, threshold = probe
    size, mean = np.linalg.norm(direction, axis=1), np.array(world.apart) * direction[:, 0]
    return norm.cdf((mean + (1 - 2 * label) * threshold) / size)


def accuracy(probe, world: World):
    """True accuracy of a probe [layer]."""
    return (recall_of(probe, world, 0) + recall_of(probe, world, 1)) / 2


def fit_layers(states, y, design, labels=None, prior=False):
    """The arrays of `merge_pieces` for every layer, and the probe of each outer split."""
    n_layers = len(states)
    probes = [fit(states, y, train, prior) for train in design.train_sets]
    predicted_by = [predict(probe, states) for probe in probes]
    inner = np.zeros((n_layers, len(design.outer), 1))
    predicted = np.full((n_layers, design.n_repeats, len(y)), -1, np.int16)
    for i, outer in enumerate(design.outer):
        predicted[:, outer.repeat, outer.test] = predicted_by[outer.train_set][:, outer.test]
        right = [
            (predicted_by[one.train_set] == y)[:, one.validation].mean(axis=1)
            for one in outer.inner
        ]
        inner[:, i, 0] = np.mean(right, axis=0)
    null = {} if labels is None else _null(states, y, design, labels, prior)
    fits = [
        {
            "strengths": np.array([np.nan]), "chosen": np.zeros(len(design.outer), np.intp),
            "inner": inner[k], "predicted": predicted[k], "gap": np.full(1, np.nan, np.float32),
            **losses(y, design, predicted[k]), **{name: values[k] for name, values in null.items()},
        }
        for k in range(n_layers)
    ]  # fmt: skip
    return fits, [probes[outer.train_set] for outer in design.outer]


def _null(states, y, design, labels, prior):
    observed, *null = (_statistic(states, one, design, prior) for one in (y, *labels))
    return {"null_observed": observed, "null": np.stack(null, axis=1)}


def _statistic(states, y, design, prior):
    """Accuracy [layer] over the outer splits of the first repeat, for these labels."""
    outers = [outer for outer in design.outer if outer.repeat == 0]
    right = sum(
        (
            predict(fit(states, y, design.train_sets[one.train_set], prior), states[:, one.test])
            == y[one.test]
        ).sum(axis=1)
        for one in outers
    )
    return right / sum(len(outer.test) for outer in outers)


def judge(world: World, rng: np.random.Generator, n_permutations=0, resamples=300, seed=0):
    """Scores and summary of one dataset, and the true accuracy [outer, layer] of its outer fits."""
    y, group, states = draw(world, rng)
    design = make_design(y, group, split_names(world, group), seed=seed)
    labels = None
    if n_permutations:
        labels = permuted_labels(y, group, design.blocks, n_permutations, seed)[0]
    fits, probes = fit_layers(states, y, design, labels, world.prior)
    layers = list(range(len(fits)))
    rows = EvaluatedRows(y, group, design, METRICS["accuracy"], ["a", "b"])
    settings = EvaluationSettings(resamples=resamples, seed=seed)
    scores, summary = evaluate(layers, fits, rows, settings)
    return scores, summary, np.stack([accuracy(probe, world) for probe in probes])


def coverage(world: World, n_worlds: int, seed: int = 0):
    """Share of datasets whose interval for the first layer covers the truth, and its mean width.

    With a dataset split the truth is the accuracy of its single probe. With cross-validation it is
    the mean accuracy of probes that are fitted on as many rows, over all datasets.
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
    """Share of datasets without an effect that have p ≤ 0.05.

    Returns the share for the first layer, uncorrected, and for any layer, corrected over layers.
    """
    rng, alone, together = np.random.default_rng(seed), [], []
    for i in range(n_worlds):
        scores, _, _ = judge(world, rng, n_permutations, resamples=2, seed=i)
        alone.append(scores[0].p <= 0.05)
        together.append(min(score.p_corrected for score in scores) <= 0.05)
    return float(np.mean(alone)), float(np.mean(together))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--worlds", type=int, default=400, help="datasets of each kind")
    n = parser.parse_args().worlds
    for world in _interval_worlds():
        _print_coverage(world, n)
    for world in _null_worlds():
        _print_false_positives(world, n)


def _interval_worlds() -> Iterator[World]:
    kinds = ((1, False, True, 0.0), (4, True, True, 0.5), (4, True, False, 0.5))
    for own_split, n_groups, apart, (rows, unequal, one_label, depend), dims in product(
        (True, False), (30, 100, 300), (0.0, 0.5, 1.0, 2.0), kinds, (5, 50)
    ):
        yield World(
            2 * n_groups if own_split else n_groups, rows, unequal, one_label, depend, (apart,),
            dims, own_split, n_groups,
        )  # fmt: skip


def _null_worlds() -> Iterator[World]:
    for one_label, rows in product((True, False), (1, 4)):
        for larger in (0, 4) if one_label and rows > 1 else (0,):
            yield World(
                60, rows, rows > 1, one_label, 0.5, (0.0,) * 6, larger=larger, prior=larger > 0
            )


def _print_coverage(world: World, n: int) -> None:
    start = time.perf_counter()
    share, width = coverage(world, n)
    print(
        f"{'dataset split' if world.own_split else 'folds'}, {world.n_test} test groups of "
        f"{world.rows} rows{' ±' * world.unequal}, "
        f"{'one label' if world.one_label else 'several labels'} a group, {world.dims} dims, "
        f"apart {world.apart[0]}: coverage {share:.1%}, width {width:.3f} "
        f"({time.perf_counter() - start:.1f} s)",
        flush=True,
    )


def _print_false_positives(world: World, n: int) -> None:
    alone, together = false_positives(world, n, 39)
    print(
        f"no effect, {world.rows} rows a group ({world.larger} more for one label), "
        f"{'one label' if world.one_label else 'several labels'}: p ≤ 0.05 in {alone:.1%}, "
        f"corrected over 6 layers in {together:.1%}",
        flush=True,
    )


if __name__ == "__main__":
    main()
