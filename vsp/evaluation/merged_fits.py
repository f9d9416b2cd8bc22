"""The arrays of a layer, from those of all its pieces."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vsp.evaluation.layer_fits import Arrays, LayerTasks, StrengthChoice
from vsp.evaluation.metrics import label_shares, score_of_sums
from vsp.evaluation.scores import Floats
from vsp.evaluation.statistics import first_best
from vsp.evaluation.tested_rows import score_splits
from vsp.evaluation.within_words import studentised
from vsp.probes.base import ProbeBase
from vsp.probes.links import probabilities

_CURVE = (
    "portion_rows", "curve", "code_bits", "uniform_bits", "control_code_bits",
    "control_uniform_bits", "portion_errors",
)  # fmt: skip
ERASED = ("erased_train", "erased_chance", "erased_rank", "random_erased")


def choose_strengths(tasks: LayerTasks, searched: Sequence[Arrays]) -> StrengthChoice:
    """For each outer split the strengths with the best inner validation score, and likelihood.

    Of equally good strengths the smallest one is chosen. `searched` are the arrays of the search
    pieces.
    """
    arrays = _union(searched)
    inner = _inner_means(tasks, arrays, "inner")
    chosen = first_best(inner, axis=1)
    likeliest = chosen
    if "inner_likelihood.0.0" in arrays:
        likeliest = first_best(_inner_means(tasks, arrays, "inner_likelihood"), axis=1)
    return StrengthChoice(inner, chosen, likeliest, int(first_best(inner.mean(axis=0))))


def _inner_means(tasks: LayerTasks, arrays: Arrays, name: str) -> Floats:
    """Mean over inner splits of the figures [strength] of this name, [outer, strength]."""
    return np.array([
        np.mean([arrays[f"{name}.{i}.{j}"] for j in range(len(outer.inner))], axis=0)
        for i, outer in enumerate(tasks.design.outer)
    ])  # fmt: skip


def merge_pieces(
    tasks: LayerTasks,
    probe: ProbeBase,
    searched: Sequence[Arrays],
    choice: StrengthChoice,
    later: Sequence[Arrays],
) -> Arrays:
    """The arrays of a layer from those of all its pieces; `evaluate` reads them.

    strengths [strength], inner [outer, strength], chosen and likeliest [outer], predicted [repeat,
    row], probability [repeat, row, class], loss and base [repeat, row], outer_score [outer], by_strength
    [strength], null_observed, null [permutation], capacity [draw], within_observed, within
    [permutation], control.NAME.score, control.NAME.loss [repeat, row], refit [resample],
    portion_rows [portion], curve [order, portion], code_bits and control_code_bits [order],
    uniform_bits, control_uniform_bits, final_strength, gap and iterations [fit], portion_errors (how
    many, and the first), and the arrays of the saved probe as probe.NAME, and of those of the outer
    splits as fold.SPLIT.NAME; none of them if one probe has no arrays.
    """
    arrays = {**_union(searched), **_union(later)}
    pieces = [*searched, *later]
    chosen = _chosen_scores(tasks, arrays, choice)
    merged = {
        "strengths": arrays["strengths"],
        "inner": choice.inner,
        "chosen": choice.chosen,
        "likeliest": choice.likeliest,
        **_test_predictions(tasks, chosen),
        **_test_probabilities(tasks, probe, arrays, choice),
        **_test_losses(tasks, probe, chosen),
        **_scores_by_strength(tasks, probe, arrays, choice),
        "gap": np.concatenate([piece["gap"] for piece in pieces]),
        "iterations": np.concatenate([piece["iterations"] for piece in pieces]),
    }
    drawn: dict[str, Any] = {kind: _joined(arrays, kind) for kind in ("null", "within", "refit")}
    if drawn["null"] is not None:
        merged["null"] = score_of_sums(drawn["null"])
    if drawn["within"] is not None:
        observed = np.bincount(tasks.group, merged["loss"][0], drawn["within"].shape[1])
        merged |= studentised(observed.astype(np.float64), drawn["within"])
    if drawn["refit"] is not None:
        merged["refit"] = drawn["refit"]
    kept = ("control.", "probe.", "fold.") if _all_saved(tasks, arrays) else ("control.",)
    return merged | {
        name: array
        for name, array in arrays.items()
        if name in (*_CURVE, *ERASED, "capacity", "final_strength") or name.startswith(kept)
    }


def _all_saved(tasks: LayerTasks, arrays: Arrays) -> bool:
    """Whether the probe of every fold, and that of all rows, has arrays: all are kept, or none."""
    n_folds = len(tasks.design.outer) if tasks.keep_folds else 1
    prefixes = ["probe.", *(f"fold.{i}." for i in range(n_folds) if n_folds > 1)]
    return all(any(name.startswith(one) for name in arrays) for one in prefixes)


def _chosen_scores(tasks: LayerTasks, arrays: Arrays, choice: StrengthChoice) -> list[NDArray[Any]]:
    """Scores [class, row] of the test rows of each outer split, of the probe that is saved.

    Those of the search, which differ within the tolerance of a fit, if the probe is not saved.
    """
    return [
        arrays.get(f"saved_scores.{i}", arrays[f"scores.{i}"][choice.chosen[i]])
        for i in range(len(tasks.design.outer))
    ]


def _union(pieces: Sequence[Arrays]) -> Arrays:
    return {name: array for piece in pieces for name, array in piece.items()}


def _joined(arrays: Arrays, kind: str) -> Floats | None:
    """The arrays of all pieces of this kind, joined in order; None if there are none."""
    starts = sorted(int(name.split(".")[1]) for name in arrays if name.startswith(f"{kind}."))
    return np.concatenate([arrays[f"{kind}.{start}"] for start in starts]) if starts else None


def _test_predictions(tasks: LayerTasks, chosen: Sequence[NDArray[Any]]) -> Arrays:
    """Predictions of test rows; `chosen` are the scores of each outer split."""
    shape, numbers = (tasks.design.n_repeats, len(tasks.y)), tasks.are_numbers
    predicted = np.full(shape, np.nan, np.float32) if numbers else np.full(shape, -1, np.int16)
    for outer, scores in zip(tasks.design.outer, chosen, strict=True):
        predicted[outer.repeat, outer.test] = scores[0] if numbers else scores.argmax(axis=0)
    return {"predicted": predicted}


def _test_probabilities(
    tasks: LayerTasks, probe: ProbeBase, arrays: Arrays, choice: StrengthChoice
) -> Arrays:
    """Probabilities of test rows, at the strength with the best inner likelihood."""
    if not probe.link or tasks.are_numbers:
        return {}
    shape = tasks.design.n_repeats, len(tasks.y), int(tasks.y.max()) + 1
    probability = np.full(shape, np.nan, np.float32)
    for i, outer in enumerate(tasks.design.outer):
        scores = arrays[f"scores.{i}"][choice.likeliest[i]].astype(np.float64)
        probability[outer.repeat, outer.test] = probabilities(scores, probe.link, axis=0).T
    return {"probability": probability}


def _test_losses(tasks: LayerTasks, probe: ProbeBase, chosen: Sequence[NDArray[Any]]) -> Arrays:
    """Losses of test rows, and the score of each outer split."""
    metric, y, design = tasks.metric, tasks.y, tasks.design
    loss, base, of_split = score_splits(metric, y, design, chosen, probe.link)
    return {"loss": loss, "base": base, "outer_score": of_split}


def _scores_by_strength(
    tasks: LayerTasks, probe: ProbeBase, arrays: Arrays, choice: StrengthChoice
) -> Arrays:
    """The score of the first repeat at each strength, and at the chosen strengths."""
    total: Any = 0.0
    at_chosen: Any = 0.0
    for i in tasks.design.first_repeat:
        outer = tasks.design.outer[i]
        shares = label_shares(tasks.y, tasks.design.train_sets[outer.train_set])
        sums = tasks.metric.sums(tasks.y[outer.test], arrays[f"scores.{i}"], shares, probe.link)
        total = total + sums
        at_chosen = at_chosen + sums[choice.chosen[i]]
    return {
        "by_strength": score_of_sums(np.asarray(total)),
        "null_observed": score_of_sums(np.asarray(at_chosen)),
    }
