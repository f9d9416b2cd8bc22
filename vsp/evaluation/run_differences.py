"""What differs between runs, by the settings that their results keep."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from vsp.choices import LAST, position_words
from vsp.storage.results import Results
from vsp.utils.files import json_sha256
from vsp.utils.text import shorten

_LONG = 48  # signs of a value in a sentence
_UNKNOWN = object()  # results of an older version do not say it
# Settings of a probe run that change its scores, and their names in a sentence.
_SETTINGS = {
    "strengths": "grid",
    "metric": "metric",
    "class_weight": "class weights",
    "split_by": "units that folds hold out",
    "folds": "folds",
    "repeats": "repeats",
    "seed": "seed of the splits",
    "drop_labels": "labels left out",
}


@dataclass(frozen=True, slots=True)
class RunDifference:
    """A setting that is not the same in all runs."""

    what: str
    values: tuple[str, ...]  # of each run, in their order


def run_differences(runs: Sequence[Results]) -> list[RunDifference]:
    """The settings in which runs differ, what decides most first; names stand for paths.

    Raises RunError if results cannot be read.
    """
    summaries = [results.summary() for results in runs]
    found = []
    for what, value in _COMPARED.items():
        values = [value(summary) for summary in summaries]
        if all(one is not _UNKNOWN for one in values) and any(one != values[0] for one in values):
            found.append(RunDifference(what, tuple(map(_shown, values))))
    return [one for one in found if not _follows(one.what, {other.what for other in found})]


def differences_sentence(names: Sequence[str], differences: Sequence[RunDifference]) -> str:
    """One sentence that says what differs, and in which run it is what."""
    if not differences:
        return "The runs have the same model, dataset, prompt, position and probe settings."
    words = [f"{one.what} ({_by_value(names, one.values)})" for one in differences]
    listed = words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
    return f"The runs differ in {listed}."


def _by_value(names: Sequence[str], values: Sequence[str]) -> str:
    """ "none in a; 4bit in b and c"."""
    runs_of: dict[str, list[str]] = {}
    for name, value in zip(names, values, strict=True):
        runs_of.setdefault(value, []).append(name)
    if len(runs_of) == 1:  # long values with the same beginning
        return "too long to show"
    return "; ".join(f"{value} in {' and '.join(runs)}" for value, runs in runs_of.items())


def _follows(what: str, found: set[str]) -> bool:
    """Whether a difference is already said by another one."""
    said_by = {
        "model": {"checkpoint"},
        "checkpoint files": {"model", "checkpoint"},
        "chat template": {"model", "checkpoint"},
        "data type": {"model", "checkpoint"},
        "labels": {"dataset", "dataset variant"},
        "number of layers": {"model", "checkpoint", "position"},
    }
    return bool(said_by.get(what, set()) & found)


def _of_plan(*keys: str) -> Callable[[Mapping[str, Any]], Any]:
    """Reads a value of the plan. Results may come from others, so any part may be missing."""

    def read(summary: Mapping[str, Any]) -> Any:
        value: Any = summary.get("plan")
        for key in keys:
            value = value.get(key) if isinstance(value, Mapping) else None
        return value

    return read


def _name_of_plan(*keys: str) -> Callable[[Mapping[str, Any]], Any]:
    read = _of_plan(*keys)

    def name(summary: Mapping[str, Any]) -> Any:
        value = read(summary)
        return PurePath(value).name or value if isinstance(value, str) else value

    return name


def _digest_of_plan(key: str) -> Callable[[Mapping[str, Any]], Any]:
    read = _of_plan(key)
    return lambda summary: json_sha256(read(summary))[:8]


def _variants(summary: Mapping[str, Any]) -> Any:
    return _of_plan("variants")(summary) or None


def _quantization(summary: Mapping[str, Any]) -> Any:
    model = _of_plan("model")
    values = model(summary)
    if not isinstance(values, Mapping):
        return None
    return values.get("stored_quantization") or values.get("quantization")


def _of_settings(key: str) -> Callable[[Mapping[str, Any]], Any]:
    def read(summary: Mapping[str, Any]) -> Any:
        settings = summary.get("settings")
        return settings.get(key, _UNKNOWN) if isinstance(settings, Mapping) else _UNKNOWN

    return read


def _of_probe(key: str) -> Callable[[Mapping[str, Any]], Any]:
    def read(summary: Mapping[str, Any]) -> Any:
        probe = summary.get("probe")
        return probe.get(key) if isinstance(probe, Mapping) else None

    return read


def _position(summary: Mapping[str, Any]) -> Any:
    position = summary.get("position", LAST)
    return position_words(position) if isinstance(position, str) else position


def _shown(value: Any) -> str:
    """A value in a sentence."""
    if value in (None, "", [], {}, ()):
        return "none"
    if isinstance(value, list | tuple) and all(isinstance(one, str | int | float) for one in value):
        value = ", ".join(map(str, value))
    if isinstance(value, Mapping | list):
        value = json.dumps(value, ensure_ascii=False, sort_keys=True)
    return shorten(str(value), _LONG)


_COMPARED: Mapping[str, Callable[[Mapping[str, Any]], Any]] = {
    "model": _of_plan("model", "family"),
    "checkpoint": _name_of_plan("model", "checkpoint"),
    "revision": _of_plan("model", "revision"),
    "checkpoint files": _digest_of_plan("checkpoint_files"),
    "adapter": _name_of_plan("model", "adapter"),
    "weights": _of_plan("model", "weights"),
    "quantization": _quantization,
    "data type": _of_plan("compute_dtype"),
    "model options": _of_plan("model", "options"),
    "dataset": _name_of_plan("dataset"),
    "dataset variant": _variants,
    "labels": _of_plan("labels"),
    "prompt": _of_plan("prompt"),
    "template": _of_plan("model", "template"),
    "chat template": _of_plan("model", "frame"),
    "number of rows": _of_plan("n_samples"),
    "position": _position,
    "number of layers": lambda summary: summary.get("n_layers"),
    "stored as": _of_plan("dtype"),
    "probe": _of_probe("probe"),
    "treatment": _of_probe("treatment"),
    **{words: _of_settings(key) for key, words in _SETTINGS.items()},
}
