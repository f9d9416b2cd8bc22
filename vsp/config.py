"""Configurations: immutable, validated models of YAML files and options."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
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
from vsp.utils.spelling import nearest_names, unknown_name
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


def _with_home(text: str) -> str:
    """The text with the home folder for a `~` at its beginning, as a shell writes it."""
    return os.path.expanduser(text) if text == "~" or text.startswith("~/") else text  # noqa: PTH111


def _folder(value: Any) -> Any:
    folder = _with_home(value) if isinstance(value, str) else value
    if isinstance(folder, str) and folder.startswith("~"):
        raise ValueError("begins with the name of a user; write the full path, or ./~ for a folder")
    return folder


def _plain_text(value: Any) -> str:
    """A text; whole numbers may be written without quotes."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        raise ValueError("write text or a whole number")
    return value


def _value_of_variable(value: Any) -> str:
    return _with_home(_plain_text(value))


def _printable(value: str) -> str:
    if not value.isprintable():
        raise ValueError("write one line of printable text")
    return value


def _module(value: str) -> str:
    # The script quotes the name, so any letter is safe in it. A name that begins with ./ or ../
    # would be a file in the folder that the job is sent from.
    if not re.fullmatch(r"(?!-|\.\.?/)\S+", value) or not value.isprintable():
        raise ValueError("write the name of a module, such as cuda/12.4")
    return value


PrintableText = Annotated[str, AfterValidator(_printable)]
Folder = Annotated[PrintableText, BeforeValidator(_folder)]
Variable = Annotated[PrintableText, BeforeValidator(_value_of_variable)]
Module = Annotated[str, BeforeValidator(_plain_text), AfterValidator(_module)]
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
    "requeue": "it is a key of the extraction tasks; write it above `cpu`",
    "signal": "write signal_seconds",
    "test_only": "use `vsp submit --dry-run`",
    "wait": "`vsp status --watch` waits for the jobs",
    "wrap": "vsp writes the script",
}
_MEMORY = ("mem", "mem_per_cpu", "mem_per_gpu")

# Variables that bash sets itself or does not let a script set. A task would run without them.
_OF_BASH = {
    *("BASHOPTS", "BASHPID", "BASH_ALIASES", "BASH_ARGC", "BASH_ARGV", "BASH_CMDS"),
    *("BASH_COMMAND", "BASH_LINENO", "BASH_SOURCE", "BASH_SUBSHELL", "BASH_VERSINFO", "DIRSTACK"),
    *("EPOCHREALTIME", "EPOCHSECONDS", "EUID", "FUNCNAME", "GROUPS", "HISTCMD", "IFS", "LINENO"),
    *("OPTIND", "PPID", "RANDOM", "SECONDS", "SHELLOPTS", "SHLVL", "SRANDOM", "UID", "_"),
}
# Variables by which vsp knows its task. Others of Slurm, such as SLURM_CPU_BIND, are a site's choice.
_OF_A_TASK = re.compile(r"SLURM_JOB_?ID|SLURM_RESTART_COUNT|SLURMD_NODENAME|SLURM_ARRAY_\w+")
# Search paths. The script leaves all folders out of them that are not full paths.
_SEARCH_PATHS = ("PATH", "LD_LIBRARY_PATH", "PYTHONPATH")
# Variables that cannot decide which code a task runs. There is no complete list of those that can:
# they name programs, libraries, plug-ins, caches of compiled code and files of settings.
_HARMLESS = {
    *("OMP_NUM_THREADS", "OMP_DYNAMIC", "OMP_PLACES", "OMP_PROC_BIND", "OMP_WAIT_POLICY"),
    *("MKL_NUM_THREADS", "MKL_DYNAMIC", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS"),
    *("KMP_AFFINITY", "KMP_BLOCKTIME", "TOKENIZERS_PARALLELISM", "RAYON_NUM_THREADS"),
    *("HF_HUB_OFFLINE", "HF_HUB_DISABLE_TELEMETRY", "HF_HUB_DISABLE_PROGRESS_BARS"),
    *("TRANSFORMERS_OFFLINE", "TRANSFORMERS_VERBOSITY", "PYTHONUNBUFFERED", "PYTHONHASHSEED"),
    *("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "CUDA_LAUNCH_BLOCKING", "CUDA_MODULE_LOADING"),
    *("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF", "CUBLAS_WORKSPACE_CONFIG"),
    *("NCCL_DEBUG", "NCCL_SOCKET_IFNAME", "NCCL_IB_HCA", "NCCL_IB_DISABLE", "NCCL_P2P_DISABLE"),
    *("SLURM_CPU_BIND", "SLURM_EXPORT_ENV", "SLURM_CPUS_PER_TASK"),
}


def sbatch_options() -> set[str]:
    """The names of sbatch's options, with `_` for `-`, as simple-slurm lists them."""
    from simple_slurm.core import read_simple_txt

    return {names[0] for names in read_simple_txt("arguments.txt")}


_MAX_REQUEUES = 10  # by default


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
        nearest = nearest_names(name, keys, 1)
        advice = f"write {nearest[0]}" if nearest else "remove it"
        return f"{name!a} is neither a key of a profile nor an option of sbatch; {advice}"


def _search_path(name: str, value: str) -> str:
    """The search path with the home folder for `~`. Raises ValueError if a folder is no full path."""
    folders = [_with_home(folder) for folder in value.split(":")]
    for folder in folders:
        if folder.startswith("/"):
            continue  # a `$` in it is a letter of a folder's name
        if "$" in folder:
            raise ValueError(
                f"variable {name} {value!a}: {folder!a} is taken as it stands, variables are not expanded; "
                "write all folders of the path in full, or load a module that adds to it"
            )
        raise ValueError(
            f"variable {name} {value!a}: {folder!a} is no full path, and tasks leave it out; write the "
            "full path or remove it"
        )
    return ":".join(folders)


class Profile(Resources):
    """Where and how tasks run; never changes a result. The resources are for extraction."""

    scheduler: str = "slurm"
    cpu: Resources = Resources()  # for stages without a model: verify, probe, report
    throttle: Count | None = None  # array tasks running at once
    signal_seconds: Annotated[int, Field(ge=1, le=65535)] = (
        120  # send SIGUSR1 this long before `time`
    )
    requeue: bool = False  # at that signal, a task goes back into the queue
    max_requeues: Count = _MAX_REQUEUES  # of each task
    # Folder of the tasks' logs; default: logs/ in the run's folder.
    logs: Folder | None = None
    modules: tuple[Module, ...] = ()  # `module load` before the worker starts
    environment: dict[str, Variable] = {}  # exported before the worker starts

    @model_validator(mode="after")
    def _check_requeue(self) -> Profile:
        if self.max_requeues != _MAX_REQUEUES and not self.requeue:
            raise ValueError("max_requeues has no effect without requeue: true; add it")
        if self.requeue and self.further_options.get("no_requeue"):
            raise ValueError("requeue and no_requeue exclude each other; keep one of them")
        if self.requeue and self.scheduler == "slurm" and self.time is None:
            raise ValueError(
                "requeue needs `time`: a task is told signal_seconds before that limit; write it"
            )
        return self

    @field_validator("environment")
    @classmethod
    def _check_environment(cls, environment: dict[str, str]) -> dict[str, str]:
        for name in environment:
            if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
                raise ValueError(f"{name!a} is no name of a variable; use letters, digits and _")
            if name in _OF_BASH or _OF_A_TASK.fullmatch(name):
                setter = "the batch system" if name.startswith("SLURM") else "bash"
                raise ValueError(f"variable {name} is set by {setter}; remove it")
        paths = {name: environment[name] for name in _SEARCH_PATHS if environment.get(name)}
        full = {name: _search_path(name, value) for name, value in paths.items()}
        return {**environment, **full}

    @property
    def code_note(self) -> str:
        """The settings that can decide which code a task runs, in one line; empty if there are none.

        Clusters need them: PATH and LD_LIBRARY_PATH lead to compilers and drivers, PYTHONPATH to a
        site's packages. They are allowed, and named, because a profile may come from a stranger.
        """
        names = [name for name in self.environment if name not in _HARMLESS]
        parts = [f"sets {', '.join(names)}"] if names else []
        parts += [f"loads {', '.join(self.modules)}"] if self.modules else []
        what = " and ".join(parts)
        return f"the profile {what}: this can decide which code the tasks run" if what else ""

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
        if first["type"] == "extra_forbidden" and len(first["loc"]) == 1:
            place, reason = "", unknown_name("key", key, list(model.model_fields))
        elif first["type"] == "missing":
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
