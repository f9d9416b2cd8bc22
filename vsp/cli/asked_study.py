"""The study that the arguments of `vsp study` name: a new one, or that of a file."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vsp.cli.arguments import model_config
from vsp.cli.study_options import parsed_options, typed_options
from vsp.errors import ConfigError

if TYPE_CHECKING:
    from vsp.storage.study import Study

_OF_FILE = ("model", "dataset", "question", "name", "controls", "on")  # a study's file holds them
_DATASET = "data/raw/spatial"


def asked_study(arguments: argparse.Namespace, work: Path) -> tuple[Study, bool]:
    """The study that the arguments name, and whether its file is still to be written.

    Raises ConfigError for options beside a name, and for a study of the same name that asks something
    else.
    """
    from vsp.storage.study import read_study

    typed = typed_options(arguments)
    if arguments.study is not None:
        name = arguments.study.removeprefix("studies/").removesuffix(".yaml")
        others = [one for one in _OF_FILE if getattr(arguments, one) is not None]
        for option in [*("with" if one == "controls" else one for one in others), *typed]:
            raise ConfigError(
                f"--{option}: studies/{name}.yaml has the options of study {name}; edit that file, or "
                "leave out the name to begin another study"
            )
        if arguments.rest:
            raise ConfigError(
                f"{' '.join(arguments.rest)} after --: studies/{name}.yaml has the options of study "
                f"{name}; write them there under `probe`"
            )
        return read_study(name, work), False
    if arguments.model is None:
        raise ConfigError("name a study of studies/ to go on with, or a --model to begin one")
    return _new_study(arguments, typed, work)


def _new_study(
    arguments: argparse.Namespace, typed: dict[str, Any], work: Path
) -> tuple[Study, bool]:
    from vsp.storage.study import Study, check_study, read_study, study_path

    dataset = arguments.dataset or _DATASET
    study = Study(
        name=arguments.name or _default_name(arguments, dataset, typed),
        question=arguments.question or _default_question(arguments.model, dataset),
        model=arguments.model,
        dataset=dataset,
        variants=arguments.controls or (),
        on=tuple(dict.fromkeys(arguments.on or ())),
        options=typed,
        probe=tuple(arguments.rest),
    )
    path = study_path(study.name, work)
    check_study(study, f"study {study.name}")
    if not path.exists():
        _require_free(study, work)
        return study, True
    before = read_study(study.name, work)
    study = replace(
        study,
        question=before.question if arguments.question is None else study.question,
        variants=before.variants if arguments.controls is None else study.variants,
        probe=study.probe or before.probe,
    )
    for key in ("question", "model", "dataset", "variants", "on", "options", "probe"):
        if getattr(study, key) != getattr(before, key):
            shown = {"variants": "with", "options": "plan", "on": "other-datasets"}.get(key, key)
            raise ConfigError(
                f"{path}: exists and has another `{shown}`; edit that file and go on with `vsp study "
                f"{study.name}`, or choose another --name"
            )
    return before, False


def _default_name(arguments: argparse.Namespace, dataset: str, typed: dict[str, Any]) -> str:
    from vsp.extraction.run_names import stem_of

    parsed = parsed_options(typed, "study")
    return stem_of(model_config(parsed, arguments.model), arguments.model, Path(dataset))


def _default_question(model: str, dataset: str) -> str:
    return (
        f"Does {Path(model).stem if '/' in model else model} hold the labels of {Path(dataset).name}, and "
        "does it take them from the picture?"
    )


def _require_free(study: Study, work: Path) -> None:
    """Raise ConfigError if a run has the name of the study, whose results would lie in its folder."""
    from vsp.storage.run_list import run_names

    if study.name in run_names(work):
        raise ConfigError(f"study {study.name}: a run has that name; choose another --name")
