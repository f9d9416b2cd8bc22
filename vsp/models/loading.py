"""Loading a checkpoint: the dtype it computes in, bitsandbytes' 4 or 8 bits, its device."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import torch
from transformers import AutoConfig, BitsAndBytesConfig, PretrainedConfig
from transformers.utils import logging as transformers_logging

from vsp.config import ComputeDtype, ModelConfig
from vsp.errors import ModelError


def compute_dtype(asked: ComputeDtype, checkpoint: PretrainedConfig) -> Any:
    """The dtype's name; `auto` is what the checkpoint was saved in."""
    if asked != "auto":
        return asked
    saved = str(checkpoint.dtype or torch.float32).removeprefix("torch.")
    return saved if saved in ("bfloat16", "float16") else "float32"


def read_config(config: ModelConfig, *model_types: str) -> Any:
    """The checkpoint's configuration. Raises ModelError unless it is of one of `model_types`."""
    try:
        found = AutoConfig.from_pretrained(
            str(config.checkpoint), revision=config.revision, trust_remote_code=False
        )
    except (OSError, ValueError) as error:
        raise unreadable(config, error) from None
    if found.model_type not in model_types:
        raise ModelError(
            f"checkpoint {config.checkpoint!r} is a {found.model_type}, not a "
            f"{' or '.join(model_types)}; name another with --checkpoint"
        )
    return found


def unreadable(config: ModelConfig, error: Exception) -> ModelError:
    """What to tell of a checkpoint that is neither on this disk nor to be had from the hub."""
    reason = " ".join(str(error).split())
    return ModelError(
        f"checkpoint {config.checkpoint!r} cannot be read; fetch it where there is a network "
        f"(hf download NAME --local-dir DIR) and use --checkpoint DIR ({reason[:200]})"
    )


def load_arguments(config: ModelConfig, dtype: str, unquantized: Sequence[str]) -> dict[str, Any]:
    """Arguments of `from_pretrained`; modules named `unquantized` keep their full precision.

    transformers matches these names from their beginning or their end: "model.vision_tower" keeps
    the tower, "vision_tower" alone would keep nothing in it.
    """
    _calm_libraries()
    _settle_vector_math()
    compute = getattr(torch, dtype)
    arguments: dict[str, Any] = {
        "dtype": compute,
        "device_map": {"": "cuda:0" if torch.cuda.is_available() else "cpu"},
        "use_safetensors": True,
        "trust_remote_code": False,
        "revision": config.revision,
    }
    if config.quantization == "4bit":
        arguments["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=compute,
            llm_int8_skip_modules=list(unquantized),
        )
    elif config.quantization == "8bit":
        arguments["quantization_config"] = BitsAndBytesConfig(
            load_in_8bit=True, llm_int8_skip_modules=list(unquantized)
        )
    return arguments


def _settle_vector_math() -> None:
    """Make the first cosine of the process in one thread.

    On a CPU torch hands cos and sin to a math library that sets itself up in its first call. When
    two threads make that call at once, one of them may get other roundings than ever after (7 of
    60 processes with torch 2.13.0), and the first batch's rotary embeddings, so its states, differ
    from a later run's.
    """
    torch.zeros(1).cos()


class _Once(logging.Filter):
    """Lets each message through once: 8-bit layers on a CPU repeat theirs in every batch."""

    def __init__(self) -> None:
        super().__init__()
        self._seen: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        message = record.getMessage()
        new = message not in self._seen
        self._seen.add(message)
        return new


_once = _Once()


def _calm_libraries() -> None:
    """Keep weight-loading bars and repeated warnings out of the tasks' logs."""
    transformers_logging.disable_progress_bar()
    logging.getLogger("bitsandbytes.autograd._functions").addFilter(_once)
