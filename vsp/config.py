"""YAML and options → frozen, validated models; an unknown key is refused."""

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

# One path component that needs no quoting anywhere, not even in a Slurm file name pattern.
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"
Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]


class Frozen(BaseModel):
    """Base of every configuration: immutable, strict about keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ModelConfig(Frozen):
    """Which model reads the images, and how its numbers are held: part of a result's identity."""

    family: str
    checkpoint: str | None = None  # a folder in save_pretrained layout, or a hub name
    revision: str | None = None
    weights: Weights = "checkpoint"  # random: of the same shape, untrained
    template: str = "{instruction}"  # what the family wraps around a row's prompt
    quantization: Quantization = "none"
    dtype: ComputeDtype = "auto"  # what the model computes in; auto: as the checkpoint says
    options: dict[str, Any] = {}  # whatever else the family takes


class Resources(Frozen):
    """What a task asks of the batch system; None: its default."""

    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    time: str | None = None  # D-HH:MM:SS
    gres: str | None = None  # gpu:1
    mem: str | None = None  # 32G
    cpus_per_task: Annotated[int, Field(ge=1)] = 1


class Profile(Resources):
    """Where and how a run's tasks run; the resources are those of extraction. Changes no result."""

    scheduler: str = "slurm"
    cpu: Resources = Resources()  # of the stages that need no model: verify, probe, report
    throttle: Annotated[int, Field(ge=1)] | None = None  # array tasks running at once
    signal_seconds: Annotated[int, Field(ge=1, le=65535)] = 120  # before `time` is over
    logs: str | None = None  # folder of the tasks' logs; default: logs/ in the run's folder
    modules: tuple[str, ...] = ()  # `module load` before the worker starts
    environment: dict[str, str] = {}  # exported before the worker starts

    def cpu_resources(self) -> Resources:
        """Of stages without a model: who pays and where is as for extraction, unless named."""
        named = self.cpu.model_fields_set
        same = {"partition", "account", "qos"} - named
        return self.cpu.model_copy(update={key: getattr(self, key) for key in same})


# What reading YAML raises besides its own errors: a date with a 13th month is a ValueError.
_NO_YAML = (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError)

AnyModel = TypeVar("AnyModel", bound=BaseModel)


def parse(model: type[AnyModel], values: Any, source: str) -> AnyModel:
    """`values` as a `model`. Raises ConfigError in one line, naming `source`, key and value."""
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
            place = ""  # what is wrong with keys together names them and their values itself
        raise ConfigError(f"{source}: {place}{reason}") from None


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file that holds one mapping. Raises ConfigError if it does not."""
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
