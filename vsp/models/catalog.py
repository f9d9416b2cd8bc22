"""The models that `vsp plan --model` accepts: families, and files in `configs/models/`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vsp import models
from vsp.config import ModelConfig, parse, read_yaml
from vsp.errors import ConfigError, VspError
from vsp.models import FAMILIES
from vsp.models.checkpoints import on_disk
from vsp.models.contract import ModelShape
from vsp.models.stored_quantization import as_stored
from vsp.utils.config_files import config_names, find_config, find_folder
from vsp.utils.spelling import did_you_mean, some_names, unknown_name

FOLDER = "configs/models"


@dataclass(frozen=True, slots=True)
class Entry:
    """A model that a file describes, with its shape if the checkpoint is on this disk."""

    name: str
    model: ModelConfig | None  # None: the file cannot be read
    shape: ModelShape | None  # None: the checkpoint is not on this disk, or cannot be used
    problem: str = ""  # why it cannot be used


def find(name: str, work: Path, **changes: Any) -> ModelConfig:
    """The model of that name or path, with every change that is not None; options are merged.

    Raises ConfigError, listing the known names, if there is no such model.
    """
    model = _complete(_named(name, work), name, work, changes)
    if model.adapter is not None:
        model = model.model_copy(update={"adapter": str(Path(model.adapter).absolute())})
    return as_stored(model, changes.get("quantization"))


def _complete(base: ModelConfig, name: str, work: Path, changes: Mapping[str, Any]) -> ModelConfig:
    """`base` with the changes, and with an absolute path if the checkpoint is a folder."""
    if changes.get("checkpoint") is not None:
        base = base.model_copy(update={"revision": None})  # it belongs to the file's checkpoint
    model = models.apply_changes(base, name, changes)
    if model.checkpoint is None:
        return model
    folder = find_folder(model.checkpoint, work)
    # Tasks may run in another folder, so the path must be absolute. Other names are the hub's.
    return model if folder is None else model.model_copy(update={"checkpoint": str(folder)})


def names(work: Path) -> list[str]:
    """Names of the files in `configs/models/`, including those shipped with vsp."""
    return config_names(FOLDER, work)


def entries(work: Path) -> list[Entry]:
    """Every model that a file describes. Never uses the network."""
    return [_entry(name, work) for name in names(work)]


def _entry(name: str, work: Path) -> Entry:
    model = None
    try:
        model = _complete(_named(name, work, log=False), name, work, {})
        folder = on_disk(model)
        if folder is None:
            return Entry(name, model, None)
        here = model.model_copy(update={"checkpoint": str(folder)})
        return Entry(name, model, models.shape(here))
    except VspError as error:
        return Entry(name, model, None, str(error))


def _named(name: str, work: Path, *, log: bool = True) -> ModelConfig:
    path = find_config(name, FOLDER, work, log=log)
    if path is not None:
        if name in FAMILIES:
            raise ConfigError(f"{path}: a model family has that name too; rename the file")
        return _read(path)
    if name in FAMILIES:
        return models.resolve(name)
    files, families = names(work), FAMILIES.names()
    near = did_you_mean(name, [*files, *families])
    in_folder = f"; in {FOLDER}/: {some_names(name, files, 3)}" if files else ""
    raise ConfigError(
        f"model {name!r} is not known; {f'{near} ' if near else ''}known: {', '.join(families)}{in_folder}; "
        "`vsp models` lists all"
    )


def _read(path: Path) -> ModelConfig:
    """The file's values over its family's defaults."""
    given = parse(ModelConfig, read_yaml(path), str(path))
    if given.family not in FAMILIES:
        raise ConfigError(f"{path}: {unknown_name('family', given.family, FAMILIES.names())}")
    for key in ("frame", "stored_quantization"):
        if key in given.model_fields_set:
            raise ConfigError(f"{path}: {key} is found by `vsp plan`; remove it")
    changes = given.model_dump(exclude_unset=True)
    return models.resolve(changes.pop("family"), **changes)
