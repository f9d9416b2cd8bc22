"""Loading a checkpoint: the dtype it computes in, bitsandbytes' 4 or 8 bits, its device."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from transformers import AutoConfig, BitsAndBytesConfig, PretrainedConfig
from transformers.utils import logging as transformers_logging

from vsp.config import ComputeDtype, ModelConfig
from vsp.errors import ModelError
from vsp.models import ModelShape


def decoder_shape(text: PretrainedConfig, asked: ComputeDtype, saved: Any) -> ModelShape:
    """Layers and width of a decoder; a dtype of `auto` is the one the checkpoint was saved in."""
    dtype = str(saved or torch.float32).removeprefix("torch.") if asked == "auto" else asked
    if dtype not in ("bfloat16", "float16"):
        dtype = "float32"
    return ModelShape(text.num_hidden_layers + 1, text.hidden_size, cast(Any, dtype))


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


@contextmanager
def reading(config: ModelConfig, what: str) -> Iterator[None]:
    """Turn what transformers raises for a damaged or missing part into one line."""
    try:
        yield
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ModelError(
            f"checkpoint {config.checkpoint!r}: its {what} cannot be read ({reason[:200]}); "
            "fetch it again"
        ) from None


def check_weights(folder: Path) -> None:
    """Raise ModelError unless every weight file that a checkpoint's folder should hold is there.

    A hub name is no folder: what is missing of it is fetched when it is loaded.
    """
    if not folder.is_dir():
        return
    names = _weight_files(folder)
    missing = sorted(name for name in names if not _holds_something(folder / name))
    if missing:
        raise ModelError(
            f"{folder}: {len(missing)} of {len(names)} weight files are missing or empty, "
            f"{missing[0]} among them; fetch the checkpoint again"
        )


def _weight_files(folder: Path) -> set[str]:
    index = folder / "model.safetensors.index.json"
    if not index.exists():
        return {"model.safetensors"}
    try:
        return set(json.loads(index.read_bytes())["weight_map"].values())
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ModelError(f"{index}: names no weight files; fetch the checkpoint again") from None


def _holds_something(path: Path) -> bool:
    return path.exists() and path.stat().st_size > 0


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
