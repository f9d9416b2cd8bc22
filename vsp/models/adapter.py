"""LoRA adapters in the format of PEFT, read beside their base checkpoint.

`peft` is an optional dependency. The weights have to be safetensors: the older files are pickles.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from vsp.config import ModelConfig
from vsp.errors import ModelError
from vsp.models.library_errors import library_errors, short
from vsp.models.outline import empty_model
from vsp.models.safetensors_header import is_whole, read_headers
from vsp.utils.limits import FailedError, LimitError, run_limited
from vsp.utils.reading import read_json, unreadable

# Kinds of LoRA that need more than the weights, such as a place in the prompt or other layers.
_SPECIAL = (
    "alora_invocation_tokens", "arrow_config", "layer_replication", "megatron_config", "use_bdlora",
    "use_kasa",
)  # fmt: skip
CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


def check_adapter(config: ModelConfig, checkpoint: Any) -> None:
    """Raise ModelError unless the adapter can be read and fits the checkpoint's model.

    The adapter's weights are read; those of the checkpoint are not.
    """
    folder = Path(str(config.adapter))
    options = _read_options(folder)
    n_read = len(read_headers([folder / WEIGHTS]))
    from peft import get_peft_model, get_peft_model_state_dict

    empty = empty_model(checkpoint)
    _require_quick_patterns(folder, options, [name for name, _ in empty.named_modules()])
    with _fitting(folder):
        model = get_peft_model(empty, options)
        # Otherwise PEFT asks the hub for the base model's configuration.
        n_wanted = len(get_peft_model_state_dict(model, save_embedding_layers=False))
        # PEFT knows older names of layers, so it compares the names itself.
        found = model.load_adapter(
            str(folder), "default", torch_device="cpu", low_cpu_mem_usage=True
        )
    missing = [name for name in found.missing_keys if ".lora_" in name]
    unused = sorted(found.unexpected_keys)
    if missing or unused or n_read < n_wanted:
        example = (unused or missing or ["some"])[0]
        raise ModelError(
            f"adapter {str(folder)!r}: its {n_read} tensors are not the {n_wanted} that its "
            f"{CONFIG} describes for this model, for example {example}; name the checkpoint that it was "
            "trained on"
        )


def attach(model: Any, folder: str) -> None:
    """Insert the adapter into the layers of a loaded model; it is not merged."""
    from peft import PeftModel

    options = _read_options(Path(folder))
    PeftModel.from_pretrained(model, folder, is_trainable=False, config=options)


def _require_quick_patterns(folder: Path, options: Any, names: Sequence[str]) -> None:
    """Raise ModelError if the adapter's regular expressions take too long on names of modules.

    An expression such as (a+)+b may try 2^n ways for a name of n letters.
    """
    from peft.tuners.tuners_utils import check_target_module_exists
    from peft.utils.other import get_pattern_key

    patterns = (*options.rank_pattern, *options.alpha_pattern)

    def match() -> None:
        for name in names:
            check_target_module_exists(options, name)
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
            f"adapter {str(folder)!r} is of type {kind!r}, not LORA; merge it into its base model"
        )
    special = [key for key in _SPECIAL if values.get(key)]
    if special:
        raise ModelError(
            f"adapter {str(folder)!r}: has {special[0]}, which vsp does not apply; merge it into its base "
            "model"
        )
    if not is_whole(folder / WEIGHTS):
        raise ModelError(
            f"adapter {str(folder)!r}: {WEIGHTS} is missing or cut short; save it again with "
            "`model.save_pretrained(DIR, safe_serialization=True)`"
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
