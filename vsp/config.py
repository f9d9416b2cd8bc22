"""Configurations: immutable, validated models of YAML files and options."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from vsp.errors import ConfigError

Quantization = Literal["none", "4bit", "8bit"]
Weights = Literal["checkpoint", "random"]
ComputeDtype = Literal["auto", "bfloat16", "float16", "float32"]
StoreDtype = Literal["float16", "float32"]
# GPUs that hold the layers of one model; auto: all that a task sees.
Devices = Literal["auto"] | Annotated[int, Field(ge=1)]

# One path component without special characters, so that it never needs quoting.
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"
Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]


class Frozen(BaseModel):
    """Base of all configurations: immutable; unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ModelConfig(Frozen):
    """The model and its numeric precision; part of a result's identity."""

    family: str
    checkpoint: str | None = None  # a folder in save_pretrained layout, or a hub name
    revision: str | None = None
    weights: Weights = "checkpoint"  # random: untrained weights of the same shapes
    template: str = "{instruction}"  # text around a row's prompt
    quantization: Quantization = "none"
    dtype: ComputeDtype = "auto"  # of the computation; auto: the checkpoint's dtype
    options: dict[str, Any] = {}  # further options of the family


class Resources(Frozen):
    """Resources that a task requests from the batch system; None: the system's default."""

    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    time: str | None = None  # D-HH:MM:SS
    gres: str | None = None  # gpu:1
    mem: str | None = None  # 32G
    cpus_per_task: Annotated[int, Field(ge=1)] = 1


class Profile(Resources):
    """Where and how tasks run; never changes a result. The resources are for extraction."""

    scheduler: str = "slurm"
    cpu: Resources = Resources()  # for stages without a model: verify, probe, report
    throttle: Annotated[int, Field(ge=1)] | None = None  # array tasks running at once
    signal_seconds: Annotated[int, Field(ge=1, le=65535)] = (
        120  # send SIGUSR1 this long before `time`
    )
    logs: str | None = None  # folder of the tasks' logs; default: logs/ in the run's folder
    modules: tuple[str, ...] = ()  # `module load` before the worker starts
    environment: dict[str, str] = {}  # exported before the worker starts

    def cpu_resources(self) -> Resources:
        """Resources of stages without a model; partition, account and qos default to extraction's."""
        named = self.cpu.model_fields_set
        same = {"partition", "account", "qos"} - named
        return self.cpu.model_copy(update={key: getattr(self, key) for key in same})


# PyYAML also raises these: a date with a 13th month is a ValueError.
_NO_YAML = (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError)

AnyModel = TypeVar("AnyModel", bound=BaseModel)


def parse(model: type[AnyModel], values: Any, source: str) -> AnyModel:
    """Validate `values`. Raises ConfigError, one line that names `source`, key and value."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"]) or "the whole"
        said = first["msg"].removeprefix("Value error, ")
        reason = said[:1].lower() + said[1:]
        place = f"{key} {first['input']!r}: "
        if first["type"] == "missing":
            place = f"{key}: "
        elif first["type"] == "value_error" and not first["loc"]:
            place = ""  # a check of several keys names them in its message
        raise ConfigError(f"{source}: {place}{reason}") from None


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file with one mapping. Raises ConfigError if it holds anything else."""
    try:
        values = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; name an existing YAML file") from None
    except (yaml.YAMLError, *_NO_YAML) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"{path}: cannot be read as YAML: {reason}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: holds a {type(values).__name__}; write `key: value` lines")
    return values
