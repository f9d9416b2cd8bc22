"""Settings of `vsp probe`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from vsp.choices import LAST, AnswerScore
from vsp.probes.names import DEFAULT_PROBE


@dataclass(frozen=True, slots=True)
class ProbeSettings:
    """How probes are fitted and evaluated."""

    position: str = LAST  # of the states that the probes read
    probe: str = DEFAULT_PROBE  # or the user's code, as own_code.absolute_name gives it
    probe_options: tuple[tuple[str, Any], ...] = ()  # of the user's code, sorted by name
    probe_code: str = ""  # own_code.code_version of the user's code
    treatment: str = ""  # empty: the probe's default
    strengths: tuple[float, ...] = ()  # grid to choose from; empty: the probe's default
    metric: str = "auto"  # of vsp.evaluation.metrics.METRICS; auto: as the labels are balanced
    class_weight: str = "auto"  # none or balanced; auto: balanced if every label weighs the same
    tolerance: float = 0.0  # relative duality gap, if the probe has one; 0: the probe's default
    max_iter: int = 0  # 0: the probe's default
    split_by: str = "image"  # what the folds hold out: images (groups), pairs (of names) or names
    folds: int = 5
    repeats: int = 2  # repeats of cross-validation, if the dataset has no split
    permutations: int = 100
    controls: int = 5  # control tasks
    curve: bool = True  # learning curve and online code length
    random: bool = True  # random-features baseline
    words: bool = True  # baselines on names, words and boxes
    seed: int = 0
    over_training: bool = False  # also refit on resamples of the training rows
    drop_labels: tuple[str, ...] = ()  # rows with these labels are left out
    confidence: float = 0.95
    resamples: int = 2000
    answer_score: AnswerScore = "total"  # chooses the model's own answer


# Settings that influence no fit, or only by the choice of its rows.
NO_FIT_SETTINGS = ("random", "words", "confidence", "resamples", "drop_labels", "answer_score")
