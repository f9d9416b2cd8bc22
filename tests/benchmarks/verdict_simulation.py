"""How often a verdict is called in worlds whose truth is known, by simulation.

    python tests/benchmarks/verdict_simulation.py

Probes are nearest-centroid probes of drawn states (`helpers.planted_studies`), fitted on five folds of
groups; the original's probes also judge the states of the variants. Answers are drawn with known
probabilities: a share of rows looks at the picture, and the others say what the words suggest. Rows of
a group may depend on each other. The program prints, for each world, the percent of studies that get
each verdict, and the percent in which any class is called grounded. Tests use the same functions with
fewer studies.
"""

from __future__ import annotations

import argparse
from collections import Counter
from dataclasses import replace

import numpy as np
from helpers.planted_studies import (
    LABELS,
    MIRRORED,
    NOTHING,
    PRIOR,
    SWAPPED,
    WORDS_ALONE,
    World,
    draw,
)
from scipy.stats import norm

from vsp.evaluation.statistics import Folds
from vsp.evaluation.verdict import VerdictSettings, subject_verdict
from vsp.evaluation.verdict_effects import Aligned, SubjectRows

VERDICTS = ("grounded", "words alone", "prior", "undecided")
_FOLDS = 5
QUICK = VerdictSettings(resamples=400, flips=999)
PROBE_WORLDS = {
    "nothing": replace(NOTHING, n_groups=300),
    "nothing, few rows": replace(NOTHING, n_groups=30),
    "words alone": replace(WORDS_ALONE, n_groups=300),
    "words alone, few rows": replace(WORDS_ALONE, n_groups=30),
    "prior": replace(PRIOR, n_groups=300),
    "picture": World(picture=2.5, n_groups=300),
    "faint picture": World(picture=0.5, n_groups=300),
}
# Share of rows that look, share of rows whose words suggest the true label, dependence within groups.
ANSWER_WORLDS = {
    "answers by chance": (0.0, 0.0, 0.0),
    "answers by words": (0.0, 0.7, 0.0),
    "gain of the margin over the words": (0.05 / 0.225, 0.7, 0.0),
    "gain of the margin, words say nothing": (0.05 / 0.75, 0.0, 0.0),
    "the same, dependent rows": (0.05 / 0.75, 0.0, 0.8),
    "half of the rows look": (0.5, 0.0, 0.8),
}


def rows_of(group, label, said, judged, own):
    """The rows of a subject from class indices; `judged` and `own` are by role."""
    every = np.ones(len(label), np.bool_)
    labels = {"mirrored": MIRRORED[label], "swapped": SWAPPED[label]}
    return SubjectRows(
        group=group.astype(str),
        label=LABELS[label],
        predicted=LABELS[said],
        usual=str(LABELS[np.bincount(label, minlength=4).argmax()]),
        statistic="accuracy",
        own={role: Aligned(LABELS[one], LABELS[label], every) for role, one in own.items()},
        turned={
            role: Aligned(LABELS[one], LABELS[labels.get(role, label)], every)
            for role, one in judged.items()
        },
        missing={},
    )


def probe_rows(world, seed):
    """The rows of a probe that is fitted on folds, in the original and in variants with own probes."""
    drawn = draw(world, seed)
    fold, label = drawn.group % _FOLDS, drawn.label["original"]
    said = {role: np.zeros((1, len(label)), np.intp) for role in ("original", "blank", "names")}
    judged = {role: np.zeros((1, len(label)), np.intp) for role in ("blank", "mirrored", "swapped")}
    for one in range(_FOLDS):
        train, test = fold != one, fold == one
        for role, of_role in said.items():
            centres = _centroids(drawn.states[role][train, 1], label[train])
            of_role[0, test] = _nearest(drawn.states[role][test, 1], centres)
            if role == "original":
                for variant, predicted in judged.items():
                    predicted[0, test] = _nearest(drawn.states[variant][test, 1], centres)
    return rows_of(drawn.group, label, said.pop("original"), judged, said)


def _centroids(states, label):
    return np.stack([states[label == one].mean(axis=0) for one in range(4)])


def _nearest(states, centres):
    return ((states[:, None] - centres) ** 2).sum(axis=2).argmin(axis=1)


def answer_rows(looks, suggests, depend, seed, n_groups=200, per_group=4):
    """The rows of answers of which a share `looks`; luck is shared by the rows of a group."""
    rng = np.random.default_rng(seed)
    group = np.repeat(np.arange(n_groups), per_group)
    n = len(group)
    shared = rng.standard_normal(n_groups)[group]
    luck = depend**0.5 * shared + (1 - depend) ** 0.5 * rng.standard_normal(n)
    looking = luck < norm.ppf(looks)
    label = rng.integers(4, size=n)
    words = np.where(rng.random(n) < suggests, label, rng.integers(4, size=n))
    said = np.where(looking, label, words)[None]
    mirrored = np.where(looking, MIRRORED[label], words)[None]
    swapped = np.where(looking, SWAPPED[label], SWAPPED[words])[None]
    judged = {"blank": words[None], "mirrored": mirrored, "swapped": swapped}
    return rows_of(group, label, said, judged, {"blank": words[None], "names": words[None]})


def verdicts(rows, folds=Folds(_FOLDS, 1), settings=QUICK):  # noqa: B008  (it does not change)
    """The verdict about all rows, and those about the classes."""
    found = subject_verdict("probe", rows, LABELS.tolist(), folds, settings)
    return found.overall.name, [one.name for one in found.classes]


def rates(make, folds, n, first=0):
    """Shares of `n` studies with each verdict, and with a class that is called grounded."""
    counts, any_class = Counter(), 0
    for seed in range(first, first + n):
        overall, classes = verdicts(make(seed), folds)
        counts[overall] += 1
        any_class += "grounded" in classes
    return {one: counts[one] / n for one in VERDICTS}, any_class / n


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--studies", type=int, default=400)
    n = parser.parse_args().studies
    print(f"percent of {n} studies; a nominal error is at most 5")
    print("| world |", " | ".join((*VERDICTS, "a class grounded")), "|")
    print("|---" * (len(VERDICTS) + 2) + "|")
    worlds = [
        (f"probe: {name}", lambda seed, world=world: probe_rows(world, seed), Folds(_FOLDS, 1))
        for name, world in PROBE_WORLDS.items()
    ] + [
        (name, lambda seed, how=how: answer_rows(*how, seed), Folds())
        for name, how in ANSWER_WORLDS.items()
    ]
    for name, make, folds in worlds:
        shares, any_class = rates(make, folds, n)
        figures = [f"{100 * share:.1f}" for share in (*shares.values(), any_class)]
        print(f"| {name} | {' | '.join(figures)} |", flush=True)


if __name__ == "__main__":
    main()
