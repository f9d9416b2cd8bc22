"""The scores of one layer: a line of scores.jsonl."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from pydantic import ConfigDict, TypeAdapter

from vsp.storage.summary import Count, Figure

ERASURE_FIGURES = ("rank", "train", "train_chance", "random", "random_low", "random_high")


@dataclass(frozen=True, slots=True)
class LayerScore:
    """How well the probe of one layer predicts the labels of rows that it was not fitted on.

    None: not defined for this target or probe, or switched off.
    """

    __pydantic_config__ = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)

    layer: Count
    score: Figure  # accuracy, or R² where the target is a number
    low: Figure | None  # bounds of the interval
    high: Figure | None
    over_training: dict[str, Figure] | None  # low and high, if the training rows are new as well
    chance: Figure  # score of always predicting the most frequent training label, or the mean
    accuracy: Figure | None
    balanced_accuracy: Figure | None
    macro_f1: Figure | None
    recall: dict[str, Figure | None] | None  # by class
    precision: dict[str, Figure | None] | None
    confusion: list[list[Count]] | None  # [true class, predicted class], summed over repeats
    # Calibration error of the likeliest class; None with class weights, as the Brier score.
    ece: Figure | None
    brier: Figure | None
    rmse: Figure | None
    strength: Figure | None  # C or alpha of the saved probe
    strengths: list[Figure]  # chosen in each outer split
    at_edge: Count  # outer splits for which a wider grid might choose a better strength
    by_strength: dict[str, Figure | None]  # strength → score
    # Control → normalised score, that of the control task, and selectivity, their difference; each
    # {difference, low, high}.
    controls: dict[str, dict[str, dict[str, Figure | None] | None]]
    capacity: Figure | None  # accuracy on training rows of probes fitted on random labels of rows
    p: Figure | None
    p_corrected: Figure | None  # over layers
    p_within: Figure | None  # of labels permuted among rows with the same prompt
    p_within_corrected: Figure | None
    code_bits: Figure | None  # online code length, mean over orders of the rows
    code_error: Figure | None  # its standard error
    compression: Figure | None  # uniform code length / online code length
    control_code_bits: Figure | None  # of the first control task
    control_code_error: Figure | None
    control_compression: Figure | None
    curve: list[list[Figure | None]]  # [rows fitted on, score, its standard error over orders]
    # Score minus that of layer 0, and score minus that of the best layer.
    over_embedding: dict[str, Figure | None] | None  # difference, low, high
    below_best: dict[str, Figure | None] | None  # difference, low, high
    n_fits: Count
    n_uncertified: Count  # fits whose gap is not within the tolerance
    max_gap: Figure | None  # relative duality gap
    n_train: Count
    n_test: Count
    # Score of the answers that are read from the layer; see `says` in the summary.
    lens: dict[str, Figure] | None = None  # score, low, high
    # With --erase: rank, the score on training rows (train) and chance there (train_chance), and the
    # mean, least and largest score without random subspaces (random, random_low, random_high).
    erasure: dict[str, Figure] | None = None


@cache
def score_type() -> TypeAdapter[LayerScore]:
    """Checks the types of a score that was read."""
    return TypeAdapter(LayerScore)


def is_consistent(score: LayerScore) -> bool:
    """Whether the parts of a score fit each other."""
    names = {"difference", "low", "high"}
    differences = [d for d in (score.over_embedding, score.below_best) if d is not None]
    recall, precision, confusion = score.recall, score.precision, score.confusion
    n = len(recall or {})
    return (
        all(names <= difference.keys() for difference in differences)
        and all(len(point) == 3 and point[0] is not None for point in score.curve)
        and all(
            one is not None and names <= one.keys()
            for control in score.controls.values()
            for one in (control.get(name) for name in ("score", "control", "selectivity"))
        )
        and (recall is None) == (precision is None) == (confusion is None)
        and (score.over_training is None or {"low", "high"} <= score.over_training.keys())
        and (confusion is None or (0 < n == len(confusion) == len(confusion[0])))
        and all(len(counts) == n for counts in confusion or ())
        and (score.erasure is None or set(ERASURE_FIGURES) <= score.erasure.keys())
        and (score.lens is None or {"score", "low", "high"} <= score.lens.keys())
    )
