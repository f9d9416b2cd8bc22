"""LoRA adapters in the format of PEFT, read beside their base checkpoint.

`peft` is an optional dependency. The weights have to be safetensors: the older files are pickles.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vsp.config import ModelConfig
from vsp.errors import ModelError
from vsp.models.checkpoints import CANNOT_BUILD, is_whole
from vsp.models.outline import empty_model
from vsp.models.weights import read_headers

# Kinds of LoRA that need more than the weights, such as a place in the prompt.
_SPECIAL = ("alora_invocation_tokens", "arrow_config", "megatron_config", "use_bdlora", "use_kasa")
CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


def check_adapter(config: ModelConfig, checkpoint: Any) -> None:
    """Raise ModelError unless the adapter can be read and fits the checkpoint's model.

    The adapter's weights are read; those of the checkpoint are not.
    """
    folder = Path(str(config.adapter))
    options = _read_options(folder)
    from peft import get_peft_model, get_peft_model_state_dict

    try:
        model = get_peft_model(empty_model(checkpoint), options)
        n_wanted = len(get_peft_model_state_dict(model))
        found = model.load_adapter(
            str(folder), "default", torch_device="cpu", low_cpu_mem_usage=True
        )
    except (*CANNOT_BUILD, RuntimeError, re.error) as error:
        reason = " ".join(str(error).split())
        raise ModelError(
            f"adapter {str(folder)!r} does not fit the model ({reason[:200]}); name the checkpoint "
            "that it was trained on"
        ) from None
    # PEFT knows older names of layers, so it compares the names itself.
    n_read = len(read_headers([folder / WEIGHTS]))
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

    _read_options(Path(folder))
    PeftModel.from_pretrained(model, folder, is_trainable=False)


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
    try:
        options = LoraConfig.from_pretrained(str(folder))
    except (*CANNOT_BUILD, re.error) as error:
        reason = " ".join(str(error).split())
        raise ModelError(
            f"adapter {str(folder)!r}: {CONFIG} cannot be used ({reason[:200]}); save it again"
        ) from None
    options.inference_mode = True
    options.init_lora_weights = False
    return options


def _read_json(folder: Path) -> Mapping[str, Any]:
    try:
        values = json.loads((folder / CONFIG).read_bytes())
    except OSError:
        raise ModelError(
            f"adapter {str(folder)!r}: has no {CONFIG}; name a folder that PEFT has saved"
        ) from None
    except (ValueError, RecursionError) as error:
        raise ModelError(f"adapter {str(folder)!r}: {CONFIG} is not JSON ({error})") from None
    if not isinstance(values, dict):
        raise ModelError(f"adapter {str(folder)!r}: {CONFIG} holds a {type(values).__name__}")
    return values
