"""Settings of `vsp probe`."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from vsp.choices import DEFAULT_PROBE, LAST, AnswerScore
from vsp.probes.own_code import probe_title
from vsp.utils.text import format_ranges


@dataclass(frozen=True, slots=True)
class ProbeSettings:
    """How probes are fitted and evaluated."""

    position: str = LAST  # of the states that the probes read
    probe: str = DEFAULT_PROBE  # or the user's code, as own_code.absolute_name gives it
    probe_options: tuple[tuple[str, Any], ...] = ()  # of the user's code, sorted by name
    probe_code: str = ""  # own_code.code_version of the user's code
    treatment: str = ""  # empty: the probe's default
    erase: str = ""  # a method of vsp.probes.erasure.methods; empty: nothing is erased
    erase_rank: int = 0  # dimensions that inlp and random erase; 0: their default
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

# Settings that came later, and their defaults. They count where they are used, so that names and fits
# of older settings stay what they were.
_LATER = {"erase": "", "erase_rank": 0}

_MAX_NAME = 80  # characters of the name of a setting without its digest


def setting_name(settings: ProbeSettings, layers: Sequence[int] | None = None) -> str:
    """The folder of these settings in `results/RUN/`: `logistic`, `mass-mean-at-subject-folds-10`.

    It names what differs from the defaults. Two settings never share a name: text that a file name
    should not hold, or that is too long, is cut, and a digest of all settings follows.
    """
    values = used_settings(settings) | {"layers": None if layers is None else sorted({*layers})}
    values["probe"] = probe_title(settings.probe)  # without folders of this machine
    defaults = asdict(ProbeSettings()) | {"layers": None}
    words = [values["probe"]]
    words += [
        _WORDS.get(name, _plain(name))(value)
        for name, value in values.items()
        if name not in ("probe", "probe_code") and value != defaults[name]
    ]
    name = "-".join(words)
    safe = re.sub(r"[^A-Za-z0-9_.,-]+", "_", name)[:_MAX_NAME].lstrip(".-")
    if safe == name and not settings.drop_labels:
        return name
    digest = hashlib.sha256(json.dumps(values).encode()).hexdigest()[:8]
    return f"{safe}-{digest}"


def used_settings(settings: ProbeSettings) -> dict[str, Any]:
    """All settings by name, without those of `_LATER` that have their default."""
    return {
        name: value
        for name, value in asdict(settings).items()
        if name not in _LATER or value != _LATER[name]
    }


def _plain(name: str) -> Callable[[Any], str]:
    return lambda value: f"{name.replace('_', '-')}-{_number(value)}"


def _number(value: Any) -> str:
    """A number with all its digits, a whole one without its point."""
    return repr(value).removesuffix(".0") if isinstance(value, float) else str(value)


# How the name of a setting says a value that is not the default.
_WORDS: dict[str, Callable[[Any], str]] = {
    "position": lambda value: f"at-{value}",
    "probe_options": lambda value: "-".join(f"{key}-{_number(one)}" for key, one in value),
    "treatment": str,
    "erase": lambda value: f"erase-{value}",
    "erase_rank": lambda value: f"rank-{value}",
    "strengths": lambda value: "-".join(["grid", *map(_number, value)]),
    "metric": str,
    "class_weight": lambda value: f"weights-{value}",
    "split_by": lambda value: f"by-{value}",
    "curve": lambda value: "no-curve",
    "random": lambda value: "no-random",
    "words": lambda value: "no-words",
    "over_training": lambda value: "over-training",
    "drop_labels": lambda value: "-".join(["without", *value]),
    "answer_score": lambda value: f"answers-{value}",
    "layers": lambda value: f"layers-{format_ranges(value)}",
}
