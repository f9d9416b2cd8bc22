"""LoRA adapters in the format of PEFT, read beside their base checkpoint.

`peft` is an optional dependency. The weights have to be safetensors: the older files are pickles.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vsp.config import ModelConfig
from vsp.errors import ModelError
from vsp.models.checkpoints import is_whole
from vsp.models.outline import empty_model
from vsp.models.weights import Match, read_shapes, require_match

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


def check_adapter(config: ModelConfig, checkpoint: Any) -> None:
    """Raise ModelError unless the adapter can be read and fits the checkpoint's model.

    Only headers of weights are read.
    """
    from peft import get_peft_model, get_peft_model_state_dict

    folder = Path(str(config.adapter))
    options = _read_options(folder)
    try:
        model = get_peft_model(empty_model(checkpoint), options)
    except ValueError as error:
        reason = " ".join(str(error).split())
        raise ModelError(
            f"adapter {str(folder)!r} does not fit the model ({reason[:200]}); name the checkpoint "
            "that it was trained on"
        ) from None
    wanted = {name: tuple(v.shape) for name, v in get_peft_model_state_dict(model).items()}
    shapes = read_shapes([folder / WEIGHTS])
    mismatched = [
        (n, shapes[n], wanted[n]) for n in wanted if shapes.get(n, wanted[n]) != wanted[n]
    ]
    unused = sorted(shapes.keys() - wanted.keys())
    missing = sorted(wanted.keys() - shapes.keys())
    require_match(Match(len(wanted), missing, mismatched, ()), folder, lambda _: True)
    if unused:
        raise ModelError(
            f"adapter {str(folder)!r}: {len(unused)} of its {len(shapes)} tensors do not belong to the "
            f"model, for example {unused[0]}; name the checkpoint that it was trained on"
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
    if values.get("megatron_config"):
        raise ModelError(f"adapter {str(folder)!r}: is for Megatron; merge it into its base model")
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
    options = LoraConfig.from_pretrained(str(folder))
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
