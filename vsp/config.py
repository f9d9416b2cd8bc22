"""Configurations: immutable, validated models of YAML files and options."""

from __future__ import annotations

import re
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    field_validator,
    model_validator,
)

from vsp.errors import ConfigError
from vsp.utils.reading import MAX_YAML, read_bounded, unreadable
from vsp.utils.text import shorten
from vsp.utils.yaml_text import parse_yaml

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
    adapter: str | None = None  # a folder with a LoRA adapter of the checkpoint
    weights: Weights = "checkpoint"  # random: untrained weights of the same shapes
    template: str = "{instruction}"  # text around a row's prompt
    frame: str = ""  # the checkpoint's chat template as the plan rendered it; "": not rendered
    quantization: Quantization = "none"  # of the language model when it is loaded
    stored_quantization: str = ""  # of the checkpoint's files, used as stored; "": none
    dtype: ComputeDtype = "auto"  # of the computation; auto: the checkpoint's dtype
    options: dict[str, Any] = {}  # further options of the family

    @property
    def quantized_as(self) -> str:
        """The quantization of the weights in memory, whether it is stored or made when loading."""
        return self.stored_quantization or self.quantization

    @field_validator("template")
    @classmethod
    def _check_template(cls, template: str) -> str:
        n_places = template.count("{instruction}")
        if n_places != 1:
            instead = " instead of {prompt}" if not n_places and "{prompt}" in template else ""
            raise ValueError(f"write {{instruction}} once{instead}, where the row's prompt belongs")
        return template


def _option_text(value: Any) -> Any:
    """The text of an option of a batch system; whole numbers may be written without quotes."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        raise ValueError("write text or a whole number")
    if not value.strip() or "\\" in value or not value.isprintable():
        raise ValueError("write one line of text without a backslash")
    if value.startswith("-") and not value[1:].isdecimal():
        raise ValueError("write a value that does not begin with '-'")
    return value


def _option_value(value: Any) -> Any:
    return value if value is None or isinstance(value, bool) else _option_text(value)


OptionText = Annotated[str, BeforeValidator(_option_text)]
OptionValue = Annotated[bool | str | None, BeforeValidator(_option_value)]


def _printable(value: str) -> str:
    if not value.isprintable():
        raise ValueError("write one line of printable text")
    return value


def _module(value: str) -> str:
    if not re.fullmatch(r"/?\w[\w.+:@=/-]*", value, re.ASCII):
        raise ValueError("write the name of a module, such as cuda/12.4")
    return value


PrintableText = Annotated[str, AfterValidator(_printable)]
Module = Annotated[str, AfterValidator(_module)]
# Slurm and bash hold these numbers in 32 bits.
Count = Annotated[int, Field(ge=1, lt=2**31)]

# Options of sbatch that vsp sets itself or relies on, and what to do instead.
_NOT_IN_A_PROFILE: Mapping[str, str] = {
    "array": "vsp sets it; use `vsp plan --shards` and `throttle`",
    "chdir": "tasks run in the folder of `vsp submit`",
    "clusters": "vsp asks one cluster only; submit on a machine of that cluster",
    "comment": "vsp finds its jobs by it",
    "cpus_per_gpu": "write cpus_per_task, which is also the number of threads",
    "dependency": "vsp sets it",
    "error": "write `logs`, the folder of the logs",
    "export_file": "write the variables under `environment`",
    "job_name": "vsp finds its jobs by it",
    "kill_on_invalid_dep": "vsp sets it",
    "ntasks": "vsp starts one process per task; write cpus_per_task",
    "open_mode": "vsp sets it",
    "output": "write `logs`, the folder of the logs",
    "parsable": "vsp sets it",
    "requeue": "vsp sets it; write `no_requeue: true` to turn it off",
    "signal": "write signal_seconds",
    "test_only": "use `vsp submit --dry-run`",
    "wait": "`vsp status --watch` waits for the jobs",
    "wrap": "vsp writes the script",
}
_MEMORY = ("mem", "mem_per_cpu", "mem_per_gpu")

# Variables that bash sets itself or does not let a script set. A task would run without them.
_OF_BASH = {
    *("BASHOPTS", "BASHPID", "DIRSTACK", "EUID", "FUNCNAME", "GROUPS", "IFS", "LINENO", "PPID"),
    *("RANDOM", "SECONDS", "SHELLOPTS", "SHLVL", "SRANDOM", "UID", "_"),
}
# Variables that decide which code a task runs. Clusters need them (PATH and LD_LIBRARY_PATH lead to
# compilers and drivers, PYTHONPATH to a site's packages), so they are allowed, and vsp names them,
# because a profile may come from a stranger. PYTHONSAFEPATH is without effect: tasks run `python -P`.
_CODE_VARIABLE = re.compile(
    r"PATH|ENV|BASH_ENV|HF_MODULES_CACHE|(TORCHINDUCTOR|TRITON)_CACHE_DIR|(LD_|PYTHON)\w+"
)


def sbatch_options() -> set[str]:
    """The names of sbatch's options, with `_` for `-`, as simple-slurm lists them."""
    from simple_slurm.core import read_simple_txt

    return {names[0] for names in read_simple_txt("arguments.txt")}


class Resources(Frozen):
    """Resources that a task requests from the batch system; None: the system's default.

    Any other option of sbatch may be set by its name with `_` for `-`. True stands for an option
    without a value; False and None leave it out.
    """

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, OptionValue] = Field(init=False)

    partition: OptionText | None = None
    account: OptionText | None = None
    qos: OptionText | None = None
    constraint: OptionText | None = None
    time: OptionText | None = None  # D-HH:MM:SS
    gres: OptionText | None = None  # gpu:1
    mem: OptionText | None = None  # 32G
    cpus_per_task: Count = 1

    @property
    def further_options(self) -> dict[str, bool | str]:
        """The options that are not fields of this class."""
        return {
            name: value for name, value in (self.model_extra or {}).items() if value is not None
        }

    @model_validator(mode="after")
    def _check_further_options(self) -> Resources:
        given = self.model_extra or {}
        known = sbatch_options() if given else set()
        for name in given:
            if name in _NOT_IN_A_PROFILE:
                raise ValueError(f"{name} cannot be set in a profile: {_NOT_IN_A_PROFILE[name]}")
            if name not in known:
                raise ValueError(self._unknown(name, known - set(_NOT_IN_A_PROFILE)))
        return self

    @model_validator(mode="after")
    def _check_export(self) -> Resources:
        if self.further_options.get("export", "ALL") not in ("ALL", "NIL", "NONE"):
            raise ValueError("export must be ALL, NIL or NONE; write variables under `environment`")
        return self

    @model_validator(mode="after")
    def _check_memory(self) -> Resources:
        options = {"mem": self.mem, **self.further_options}
        given = [name for name in _MEMORY if options.get(name)]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} exclude each other; keep one of them")
        return self

    def _unknown(self, name: str, options: set[str]) -> str:
        keys = {*type(self).model_fields, *options}
        nearest = get_close_matches(name.replace("-", "_").lower(), sorted(keys), 1, 0.5)
        advice = f"write {nearest[0]}" if nearest else "remove it"
        return f"{name!a} is neither a key of a profile nor an option of sbatch; {advice}"


class Profile(Resources):
    """Where and how tasks run; never changes a result. The resources are for extraction."""

    scheduler: str = "slurm"
    cpu: Resources = Resources()  # for stages without a model: verify, probe, report
    throttle: Count | None = None  # array tasks running at once
    signal_seconds: Annotated[int, Field(ge=1, le=65535)] = (
        120  # send SIGUSR1 this long before `time`
    )
    # Folder of the tasks' logs; default: logs/ in the run's folder.
    logs: PrintableText | None = None
    modules: tuple[Module, ...] = ()  # `module load` before the worker starts
    environment: dict[str, PrintableText] = {}  # exported before the worker starts

    @field_validator("environment")
    @classmethod
    def _check_names(cls, environment: dict[str, str]) -> dict[str, str]:
        for name in environment:
            if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
                raise ValueError(f"{name!a} is no name of a variable; use letters, digits and _")
            if name in _OF_BASH or name.startswith(("BASH_ARG", "EPOCH", "SLURM_", "SLURMD_")):
                setter = "the batch system" if name.startswith("SLURM") else "bash"
                raise ValueError(f"variable {name} is set by {setter}; remove it")
        return environment

    @property
    def code_variables(self) -> list[str]:
        """Names in `environment` of variables that decide which code a task runs."""
        return [name for name in self.environment if _CODE_VARIABLE.fullmatch(name)]

    def cpu_resources(self) -> Resources:
        """Resources of stages without a model; partition, account and qos default to extraction's."""
        named = self.cpu.model_fields_set
        same = {"partition", "account", "qos"} - named
        return self.cpu.model_copy(update={key: getattr(self, key) for key in same})


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
        place = f"{key} {_shown(first['input'])}: "
        if first["type"] == "missing":
            place = f"{key}: "
        elif first["type"] == "value_error" and isinstance(first["input"], dict):
            # A check of several keys names them in its message.
            place = f"{key}: " if first["loc"] else ""
        raise ConfigError(f"{source}: {place}{reason}") from None


def _shown(value: object) -> str:
    try:
        return shorten(repr(value), 200)
    except ValueError:  # Python converts no number of more than 4300 digits to text
        return "of thousands of digits"


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file with one mapping. Raises ConfigError if it holds anything else."""
    try:
        values = parse_yaml(read_bounded(path, MAX_YAML).decode())
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; name an existing YAML file") from None
    except OSError as error:
        raise ConfigError(f"{path}: {unreadable(error)}; name a readable YAML file") from None
    except ValueError as error:
        raise ConfigError(f"{path}: cannot be read as YAML: {error}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: holds a {type(values).__name__}; write `key: value` lines")
    return values
