"""LoRA adapters in the format of PEFT, read beside their base checkpoint.

`peft` is an optional dependency. The weights have to be safetensors: the older files are pickles.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from vsp.config import ModelConfig
from vsp.errors import ModelError
from vsp.models.library_errors import library_errors, short
from vsp.models.library_notes import leave_out_notes
from vsp.models.outline import empty_model
from vsp.models.safetensors_header import Header, read_headers
from vsp.utils.limits import FailedError, LimitError, run_limited
from vsp.utils.reading import read_json, unreadable
from vsp.utils.text import shorten

# Kinds of LoRA that need more than the weights, such as a place in the prompt or other layers.
_SPECIAL = (
    "alora_invocation_tokens", "arrow_config", "layer_replication", "megatron_config", "use_bdlora",
    "use_kasa",
)  # fmt: skip
_FIRST = re.compile(r"\.lora_(embedding_)?A(\.|$)")  # matrices of rank × inputs
_MAX_ENTRIES = 10_000  # of a list or mapping; an entry for each layer makes about 600
_SHOWN = 100  # characters of a name in a message
CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep known notes of bitsandbytes off the terminal, and warnings for developers."""
    leave_out_notes()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        yield


@_quiet()
def check_adapter(config: ModelConfig, checkpoint: Any) -> None:
    """Raise ModelError unless the adapter can be read and fits the checkpoint's model.

    The adapter's weights are read; those of the checkpoint are not.
    """
    folder = Path(str(config.adapter))
    options, headers = _read_options(folder), _read_headers(folder)
    _require_ranks(folder, options, headers)
    import torch
    from peft import get_peft_model, get_peft_model_state_dict

    empty = empty_model(checkpoint)
    _require_quick_patterns(folder, options, [name for name, _ in empty.named_modules()])
    with _fitting(folder):
        with torch.device("meta"):
            model = get_peft_model(empty, options)
        # Otherwise PEFT asks the hub for the base model's configuration.
        n_wanted = len(get_peft_model_state_dict(model, save_embedding_layers=False))
        # PEFT knows older names of layers, so it compares the names itself.
        found = model.load_adapter(
            str(folder), "default", torch_device="cpu", low_cpu_mem_usage=True
        )
    missing = [name for name in found.missing_keys if ".lora_" in name]
    unused = sorted(found.unexpected_keys)
    if missing or unused or len(headers) < n_wanted:
        example = (unused or missing or ["some"])[0]
        raise ModelError(
            f"adapter {str(folder)!r}: its {len(headers)} tensors are not the {n_wanted} that its "
            f"{CONFIG} describes for this model, for example {shorten(example, _SHOWN)}; name the "
            "checkpoint that it was trained on"
        )


@_quiet()
def attach(model: Any, folder: str) -> None:
    """Insert the adapter into the layers of a loaded model; it is not merged."""
    from peft import PeftModel

    options = _read_options(Path(folder))
    PeftModel.from_pretrained(model, folder, is_trainable=False, config=options)


def _read_headers(folder: Path) -> dict[str, Header]:
    """The tensors of the adapter, by name. Raises ModelError if its file is not whole."""
    path = folder / WEIGHTS
    headers = read_headers([path])
    if path not in headers:
        raise ModelError(
            f"adapter {str(folder)!r}: {WEIGHTS} is missing or cut short; save it again with "
            "`model.save_pretrained(DIR, safe_serialization=True)`"
        )
    return headers[path]


def _require_ranks(folder: Path, options: Any, headers: Mapping[str, Header]) -> None:
    """Raise ModelError if the configuration has a larger rank than the stored matrices.

    A layer is built for each rank, before the stored matrices are compared with it. `r` may be larger
    where `rank_pattern` gives all layers others.
    """
    ranks = {f"rank_pattern {shorten(k, _SHOWN)}": n for k, n in options.rank_pattern.items()}
    stored = [h.shape[0] for name, h in headers.items() if _FIRST.search(name) and h.shape]
    most = max(stored, default=0)
    for name, rank in (ranks or {"r": options.r}).items():
        if rank > most:
            shown = rank if rank < 1 << 64 else f"a number of {len(str(rank))} digits"
            raise ModelError(
                f"adapter {str(folder)!r}: its {CONFIG} says {name} = {shown}, but its tensors have at "
                f"most rank {most}; use the {CONFIG} that belongs to these tensors"
            )


def _require_quick_patterns(folder: Path, options: Any, names: Sequence[str]) -> None:
    """Raise ModelError if the adapter's regular expressions take too long on names of modules.

    An expression such as (a+)+b may try 2^n ways for a name of n letters.
    """
    from peft.tuners.tuners_utils import check_target_module_exists
    from peft.utils.other import get_pattern_key

    patterns = (*options.rank_pattern, *options.alpha_pattern)

    all_linear = str(options.target_modules).lower() == "all-linear"

    def match() -> None:
        for name in names:
            if check_target_module_exists(options, name) or all_linear:
                get_pattern_key(patterns, name)

    try:
        run_limited(match)
    except LimitError as error:
        raise ModelError(
            f"adapter {str(folder)!r}: matching the patterns of its {CONFIG} with the model's modules "
            f"{error}; write simpler patterns"
        ) from None
    except FailedError as error:
        raise _unfit(folder, str(error)) from None


def _fitting(folder: Path) -> AbstractContextManager[None]:
    return library_errors(lambda error: _unfit(folder, short(error)))


def _unfit(folder: Path, reason: str) -> ModelError:
    return ModelError(
        f"adapter {str(folder)!r} does not fit the model ({reason}); name the checkpoint that it was "
        "trained on"
    )


def _read_options(folder: Path) -> Any:
    """The adapter's configuration. Raises ModelError if it is no LoRA or not complete."""
    values = _read_json(folder)
    kind = values.get("peft_type")
    if kind != "LORA":
        raise ModelError(
            f"adapter {str(folder)!r} is of type {shorten(repr(kind), _SHOWN)}, not LORA; merge it into its base model"
        )
    _require_sizes(folder, values)
    special = [key for key in _SPECIAL if values.get(key)]
    if special:
        raise ModelError(
            f"adapter {str(folder)!r}: has {special[0]}, which vsp does not apply; merge it into its base "
            "model"
        )
    try:
        from peft import LoraConfig
    except ImportError:
        raise ModelError(
            "--adapter needs the package peft; install it with `pip install peft`"
        ) from None

    def describe(error: BaseException) -> ModelError:
        return ModelError(
            f"adapter {str(folder)!r}: {CONFIG} cannot be used ({short(error)}); save it again"
        )

    with library_errors(describe):
        options = LoraConfig.from_pretrained(str(folder))
    options.inference_mode = True
    # Not followed: ways to make first weights, and another base model than the one named.
    options.init_lora_weights = False
    options.base_model_name_or_path = None
    options.auto_mapping = None
    return options


def _require_sizes(folder: Path, values: Mapping[str, Any]) -> None:
    """Raise ModelError for too many entries, or for a rank that is not a whole number from 1 on."""
    where = f"adapter {str(folder)!r}: its {CONFIG}"
    for key, value in values.items():
        if isinstance(value, (list, dict)) and len(value) > _MAX_ENTRIES:
            raise ModelError(
                f"{where} has {len(value):,} entries of {shorten(key, _SHOWN)}, more than "
                f"{_MAX_ENTRIES:,}; write fewer patterns"
            )
    for key in ("rank_pattern", "alpha_pattern"):
        if not isinstance(values.get(key) or {}, dict):
            raise ModelError(f"{where} has a {key} that is no mapping; save it again")
    ranks = [values.get("r", 8), *(values.get("rank_pattern") or {}).values()]
    bad = [n for n in ranks if not isinstance(n, int) or isinstance(n, bool) or n < 1]
    if bad:
        raise ModelError(
            f"{where} has the rank {shorten(repr(bad[0]), _SHOWN)}, not a whole number from 1 on; save it "
            "again"
        )


def _read_json(folder: Path) -> Mapping[str, Any]:
    try:
        values = read_json(folder / CONFIG)
    except FileNotFoundError:
        raise ModelError(
            f"adapter {str(folder)!r}: has no {CONFIG}; name a folder that PEFT has saved"
        ) from None
    except OSError as error:
        raise ModelError(
            f"adapter {str(folder)!r}: {CONFIG} {unreadable(error)}; save it again"
        ) from None
    except (ValueError, RecursionError) as error:
        raise ModelError(f"adapter {str(folder)!r}: {CONFIG} is not JSON ({error})") from None
    if not isinstance(values, dict):
        raise ModelError(f"adapter {str(folder)!r}: {CONFIG} holds a {type(values).__name__}")
    return values
