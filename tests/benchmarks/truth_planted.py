"""Planted worlds with a known truth: selection of a layer, code length, controls, rare labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import truth_figures as figures
from truth_figures import Line, known, mean, share
from truth_runs import Rows, probed, results_of, work_folder

from vsp.evaluation.calibration import calibration_null
from vsp.evaluation.compare import ComparisonSettings, compare
from vsp.evaluation.probe_settings import ProbeSettings
from vsp.evaluation.scores import calibration_error

PLAIN = ProbeSettings(permutations=0, controls=0, curve=False, random=False, resamples=400)
_NAMES = ["cat", "dog", "cup", "car", "hat", "box", "ball", "tree"]


def labels(y: Any) -> list[str]:
    return [f"label {one}" for one in y]


def named_rows(y: Any, rng: np.random.Generator, n_prompts: int = 5) -> Rows:
    """Rows with random prompts, and names of a subject and a reference."""
    pair = [rng.choice(_NAMES, 2, replace=False).tolist() for _ in y]
    return Rows(
        labels(y),
        prompt=[f"Question {k}?" for k in rng.integers(n_prompts, size=len(y))],
        others={"subject": [a for a, _ in pair], "reference": [b for _, b in pair]},
    )


# Part 1: 24 layers without information.


def null_layers(seed: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    y = rng.integers(2, size=100)
    settings = replace(PLAIN, seed=seed)
    found = probed(rng.standard_normal((24, len(y), 8)), named_rows(y, rng), settings)
    return figures.read_all(*found)


def null_layer_lines(found: Sequence[dict[str, Any]]) -> list[Line]:
    world, score = "24 null layers", known(found, "best layer: score")
    lines = [
        Line(world, "best layer: score", "0.500", mean([one.value for one in score])),
        Line(world, "best layer: interval above 1/2", "2.5 %", share([one.above(0.5) for one in score])),
    ]  # fmt: skip
    for name in ("best layer: over words", "best layer: over layer 0", "best layer: over chance"):
        above = [one.above(0.0) for one in known(found, name)]
        if above:
            lines.append(Line(world, f"{name} above 0", "2.5 %", share(above)))
    return lines


# Part 4: code length and calibration.

# Rows, hidden size, half the distance of the class means, and the size of the dimension that tells
# the classes apart. If it is small, accuracy asks for a large C, with which small portions overfit.
_CODES = {"clear": (1000, 256, 2.75, 1.0), "hard": (1500, 64, 0.68, 0.3)}


def code_length(seed: int, kind: str) -> dict[str, Any]:
    """Two Gaussian classes at a known distance; the true posterior is known."""
    rng = np.random.default_rng(seed)
    n, dims, apart, size = _CODES[kind]
    y, direction = rng.integers(2, size=n), np.eye(dims)[0]
    states = rng.standard_normal((n, dims)) + apart * np.outer(2 * y - 1, direction)
    states[:, 0] *= size
    settings = replace(PLAIN, curve=True, repeats=1, seed=seed)
    rows = Rows(labels(y))
    reported = figures.compression(*probed(states[None], rows, settings))
    fixed = [
        figures.compression(*probed(states[None], rows, replace(settings, strengths=(c,))))
        for c in 10.0 ** np.arange(-3, 3)
    ]
    return {"reported": reported, "fixed": max(fixed), "truth": _true_compression(apart)}


def _true_compression(apart: float) -> float:
    """One bit divided by the mean code length of the true posterior of two Gaussian classes."""
    draws = np.random.default_rng(0).standard_normal(1_000_000)
    return float(1 / np.mean(np.logaddexp(0, -2 * apart * (apart + draws)) / np.log(2)))


def code_lines(kind: str, found: Sequence[dict[str, Any]]) -> list[Line]:
    n, dims, *_ = _CODES[kind]
    world = f"code length, {kind}: n {n}, d {dims}"
    best = mean(known(found, "fixed"), 2)
    posterior = f"{found[0]['truth']:.2f} (true posterior)"
    return [
        Line(world, "compression at the best fixed C", posterior, best),
        Line(world, "compression reported", f"at least {best.split()[0]}", mean(known(found, "reported"), 2)),
    ]  # fmt: skip


def calibrated(seed: int) -> dict[str, Any]:
    """Calibration error of probabilities that are right, for 200 rows."""
    rng = np.random.default_rng(seed)
    chance = 1 / (1 + np.exp(-1.5 * rng.standard_normal(200)))
    probability = np.stack([1 - chance, chance], axis=1)
    true = (rng.random(200) < chance).astype(np.intp)
    ece = calibration_error(probability, probability.argmax(axis=1), true)
    null = calibration_null(probability[None], np.ones((1, 200), bool), seed)
    return {"ece": ece, "null": null["ece_null"], "over": ece > null["ece_null_high"]}


def calibration_lines(found: Sequence[dict[str, Any]]) -> list[Line]:
    world = "calibrated probabilities, 200 rows"
    return [
        Line(world, "ECE", "0", mean(known(found, "ece"))),
        Line(world, "ECE minus that of calibrated probabilities", "0", mean([
            one["ece"] - one["null"] for one in found
        ])),
        Line(world, "ECE over the 95 % bound", "5 %", share([one["over"] for one in found])),
    ]  # fmt: skip


# Part 5: control tasks.


def controls(seed: int, kind: str) -> dict[str, Any]:
    """States with the label, and the identity of the prompt or of both names beside it."""
    rng = np.random.default_rng(seed)
    y = rng.integers(4, size=600)
    rows = named_rows(y, rng)
    parts = [2.5 * np.eye(4)[y]]
    if kind == "label and prompt":
        parts.append(2.5 * _one_hot(rows.prompt))
    if kind == "label and names":
        parts += [2.5 * _one_hot(rows.others[name]) for name in ("subject", "reference")]
    states = np.concatenate(parts, axis=1)
    states = np.pad(states, ((0, 0), (0, 24 - states.shape[1])))
    states = states + 0.5 * rng.standard_normal((2, *states.shape))
    found = probed(states, rows, replace(PLAIN, controls=5, seed=seed))
    return figures.selectivity(*found)


def _one_hot(texts: Sequence[str]) -> Any:
    names, place = np.unique(texts, return_inverse=True)
    return np.eye(len(names))[place]


def control_lines(kind: str, found: Sequence[dict[str, Any]]) -> list[Line]:
    shown = [f"{name} {mean([one.value for one in known(found, name)])}" for name in found[0]]
    return [Line(f"states: {kind}", "selectivity", "above 0.5", "; ".join(shown) or "not drawn")]


# Part 6: two runs that are drawn alike.


def alike(seed: int, n_train: int, n_test: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    y = rng.integers(2, size=n_train + n_test)
    rows = Rows(labels(y), split=["train"] * n_train + ["test"] * n_test)
    settings = replace(PLAIN, over_training=True, seed=seed)
    with work_folder() as work:
        runs = [
            (name, results_of(work, _weak(rng, y), rows, settings, name))
            for name in ("one", "other")
        ]
        fixed = ComparisonSettings(resamples=300, flips=399, seed=seed)
        pairs = {
            what: compare(runs, replace(fixed, over_training=over))[0].peak
            for what, over in (("probes fixed", False), ("over training", True))
        }
    return {
        **{f"p, {what}": peak.p for what, peak in pairs.items()},
        **{f"misses, {what}": not peak.low <= 0 <= peak.high for what, peak in pairs.items()},
    }


def _weak(rng: np.random.Generator, y: Any) -> Any:
    states = rng.standard_normal((2, len(y), 24))
    states[:, :, 0] += 0.8 * (2 * y - 1)
    return states


def alike_lines(n_train: int, n_test: int, found: Sequence[dict[str, Any]]) -> list[Line]:
    world = f"two runs drawn alike, {n_train} training and {n_test} test rows"
    lines = []
    for what in ("probes fixed", "over training"):
        small = share([p <= 0.05 for p in known(found, f"p, {what}")])
        misses = share(known(found, f"misses, {what}"))
        lines.append(Line(world, f"compare: p ≤ .05, {what}", "5 %", small))
        lines.append(Line(world, f"compare: interval without 0, {what}", "5 %", misses))
    return lines


# Part 7: a rare label.


def rare(seed: int, part: float) -> dict[str, Any]:
    """300 rows; the state tells the rare label with an AUC of 0.90."""
    rng = np.random.default_rng(seed)
    y = (rng.permutation(300) < 300 * part).astype(int)
    states = rng.standard_normal((2, len(y), 32))
    states[1, :, 0] += 1.812 * y  # the AUC is the normal distribution function at 1.812 / √2
    found = probed(states, named_rows(y, rng), replace(PLAIN, permutations=39, seed=seed))
    return {"p": figures.p_any(*found), "over": figures.over_chance(*found)}


def rare_lines(part: float, found: Sequence[dict[str, Any]]) -> list[Line]:
    world = f"a label of {part:.0%} of 300 rows, AUC 0.90"
    lines = [Line(world, "p corrected ≤ .05", "near 100 %", share([p <= 0.05 for p in known(found, "p")]))]  # fmt: skip
    over = known(found, "over")
    if over:
        lines.append(Line(world, "over chance above 0", "near 100 %", share([o.above(0) for o in over])))  # fmt: skip
    return lines
