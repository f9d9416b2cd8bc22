"""`studies/NAME.yaml`: one question about one model, and the runs that answer it.

The file holds what a user typed, so that it can be versioned, edited and run again:

    question: does the model look at the picture?
    model: llava15
    dataset: data/vrd
    with: [blank, mirrored]
    other-datasets: [data/raw/spatial]
    plan: {checkpoint: /shared/llava-1.5-7b-hf, prompt: question}
    probe: --probe mass-mean --repeats 10

`plan` has the other options of `vsp plan`, by their names on the command line, and `probe` the options of
`vsp probe` as they are typed after `--`. The runs are ordinary runs, named NAME-ROLE. Results of the study as a whole lie in `results/NAME/`.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

import yaml

from vsp.config import NAME_PATTERN, read_yaml
from vsp.errors import ConfigError
from vsp.utils.files import write_text
from vsp.utils.spelling import did_you_mean, unknown_name

FOLDER = "studies"
ORIGINAL, UNTRAINED, ON = "original", "untrained", "on"  # roles; ON is the beginning of several
_OTHERS = "other-datasets"  # YAML reads `on` as true
_KEYS = ("question", "model", "dataset", "with", _OTHERS, "plan", "probe")
_REQUIRED = ("model", "dataset")
# The options of `vsp plan` that a study may have, and the type of their values. --run is the study's,
# --profile is not of a study: it changes no result.
PLAN_OPTIONS: Mapping[str, type] = {
    **dict.fromkeys(("checkpoint", "revision", "adapter", "quantization", "dtype"), str),
    **dict.fromkeys(("weights", "prompt", "store-dtype", "positions", "modules"), str),
    "option": dict,
    "answer-start": str,
    "answers": bool,
    **dict.fromkeys(("no-sharing", "lens", "drop-unreadable", "keep-copies"), bool),
    **dict.fromkeys(("batch-size", "limit", "shards", "shard-size"), int),
    "devices": str,
}
_TYPES = {str: "text", bool: "true or false", int: "a whole number", dict: "`key: value` pairs"}
_ROLE_LENGTH = 40  # of the name of a dataset in a role
_HEAD = "# `vsp study {name}` plans and submits what is missing; docs/study.md explains the keys.\n"


@dataclass(frozen=True, slots=True)
class Study:
    """A question, and the model, the dataset and the controls that answer it."""

    name: str
    question: str
    model: str  # as typed; options of it are among `options`
    dataset: str
    variants: tuple[str, ...] = ()  # controls: variants of the dataset, and the untrained model
    on: tuple[str, ...] = ()  # other datasets
    options: Mapping[str, Any] = field(default_factory=dict)  # of `vsp plan`, see PLAN_OPTIONS
    probe: tuple[str, ...] = ()  # words after --: options of `vsp probe`

    @property
    def datasets(self) -> dict[str, str]:
        """Role → dataset, of the original and the other datasets."""
        found = {ORIGINAL: self.dataset}
        for dataset in self.on:
            name = _plain(PurePath(dataset).name or "dataset")[:_ROLE_LENGTH]
            stem = role = f"{ON}-{name}"
            n = 1
            while role in found:
                n += 1
                role = f"{stem}-{n}"
            found[role] = dataset
        return found

    @property
    def runs(self) -> dict[str, str]:
        """Role → name of the run: the original first, then the controls, then the other datasets."""
        roles = [ORIGINAL, *self.variants, *(one for one in self.datasets if one != ORIGINAL)]
        return {role: f"{self.name}-{role}" for role in roles}


def study_path(name: str, work: Path) -> Path:
    """Raises ConfigError for a name that no study can have."""
    if not re.fullmatch(NAME_PATTERN, name):
        raise ConfigError(f"study {name!r}: use letters, digits, '.', '_' and '-' only")
    return work / FOLDER / f"{name}.yaml"


def study_names(work: Path) -> list[str]:
    """The studies of a project folder."""
    return sorted(path.stem for path in (work / FOLDER).glob("*.yaml"))


def results_folder(name: str, work: Path) -> Path:
    """Where the results of the study as a whole lie."""
    return work / "results" / name


def read_study(name: str, work: Path) -> Study:
    """Raises ConfigError if there is no such study, or for a key or a value that it cannot have."""
    path = study_path(name, work)
    if not path.exists():
        known = study_names(work)
        near = did_you_mean(name, known)
        there = f"; there is {', '.join(known[:5])}" if known else ""
        advice = near or "`vsp study --model … --name` makes one"
        raise ConfigError(f"{path}: no such study{there}; {advice}")
    values = read_yaml(path)
    for key in values:
        if key not in _KEYS:
            raise ConfigError(f"{path}: {unknown_name('key', str(key), _KEYS)}")
    for key in _REQUIRED:
        if key not in values:
            raise ConfigError(f"{path}: {key}: is missing; add a line `{key}: …`")
    study = Study(
        name=name,
        question=_text(path, "question", values.get("question", ""), empty=True),
        model=_text(path, "model", values["model"]),
        dataset=_text(path, "dataset", values["dataset"]),
        variants=_texts(path, "with", values.get("with")),
        on=_texts(path, _OTHERS, values.get(_OTHERS)),
        options=_options(path, values.get("plan")),
        probe=_words(path, values.get("probe", "")),
    )
    check_study(study, str(path))
    return study


def write_study(study: Study, work: Path) -> Path:
    """Write the file of a study, and return its path. Raises ConfigError as `check_study` does."""
    path = study_path(study.name, work)
    check_study(study, str(path))
    write_text(path, study_yaml(study))
    return path


def study_yaml(study: Study) -> str:
    """The file of a study."""
    values: dict[str, Any] = {
        "question": study.question,
        "model": study.model,
        "dataset": study.dataset,
        "with": list(study.variants),
        _OTHERS: list(study.on),
        "plan": dict(study.options),
        "probe": shlex.join(study.probe),
    }
    kept = {key: value for key, value in values.items() if value or key in _REQUIRED}
    body: str = yaml.safe_dump(kept, sort_keys=False, allow_unicode=True, width=88)
    return _HEAD.format(name=study.name) + body


def check_study(study: Study, source: str) -> None:
    """Raise ConfigError, naming `source`, for controls and datasets that do not go together."""
    for variant in study.variants:
        if not re.fullmatch(NAME_PATTERN, variant) or variant == ORIGINAL:
            raise ConfigError(f"{source}: with {variant!r}: is not a control; remove it")
        if variant.startswith(f"{ON}-"):
            raise ConfigError(f"{source}: with {variant!r}: write datasets under {_OTHERS}")
    if study.dataset in study.on:
        raise ConfigError(
            f"{source}: {_OTHERS} {study.dataset!r}: is the dataset itself; remove it"
        )
    for run in study.runs.values():
        if not re.fullmatch(NAME_PATTERN, run):
            raise ConfigError(
                f"{source}: the run of {study.name!r} would be named {run!r}, of {len(run)} "
                "characters; choose a shorter --name"
            )


def _text(path: Path, key: str, value: Any, empty: bool = False) -> str:
    if not isinstance(value, str) or not (value.strip() or empty):
        raise ConfigError(f"{path}: {key} {_shown(value)}: write text")
    return value


def _words(path: Path, value: Any) -> tuple[str, ...]:
    try:
        return tuple(shlex.split(_text(path, "probe", value, empty=True)))
    except ValueError:
        raise ConfigError(f"{path}: probe {_shown(value)}: a quote is not closed") from None


def _texts(path: Path, key: str, value: Any) -> tuple[str, ...]:
    values = [] if value is None else value
    if not isinstance(values, list):
        raise ConfigError(f"{path}: {key} {_shown(value)}: write a list, as [a, b]")
    texts = tuple(_text(path, key, one) for one in values)
    for text in texts:
        if texts.count(text) > 1:
            raise ConfigError(f"{path}: {key} {text!r}: is listed twice; keep one")
    return texts


def _options(path: Path, values: Any) -> dict[str, Any]:
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: plan {_shown(values)}: write `key: value` lines")
    for key, value in values.items():
        if key not in PLAN_OPTIONS:
            raise ConfigError(f"{path}: plan: {unknown_name('option', str(key), PLAN_OPTIONS)}")
        wanted = PLAN_OPTIONS[key]
        is_number = isinstance(value, int) and not isinstance(value, bool)
        fits = is_number if wanted is int else isinstance(value, wanted)
        if not fits and not (wanted is str and is_number):  # a revision may be a number
            raise ConfigError(f"{path}: plan: {key} {_shown(value)}: write {_TYPES[wanted]}")
    return {key: str(one) if PLAN_OPTIONS[key] is str else one for key, one in values.items()}


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]} …"


def _plain(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]", "-", text)
