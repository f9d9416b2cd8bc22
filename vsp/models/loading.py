"""Loading a checkpoint: the dtype it computes in, bitsandbytes' 4 or 8 bits, its device."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from numpy.typing import NDArray
from torch import nn
from transformers import CONFIG_MAPPING, AutoConfig, BitsAndBytesConfig, PretrainedConfig
from transformers.utils import logging as transformers_logging

from vsp.config import ComputeDtype, ModelConfig
from vsp.errors import ModelError
from vsp.models import ModelShape
from vsp.models.checkpoints import on_disk, other_family, unreadable
from vsp.models.outline import Outline, decoder_path, modules_outside_decoder, skeleton
from vsp.models.prefix_sharing import moved


def decoder_shape(text: PretrainedConfig, asked: ComputeDtype, saved: Any) -> ModelShape:
    """Layers and width of a decoder; a dtype of `auto` is the one the checkpoint was saved in."""
    dtype = str(saved or torch.float32).removeprefix("torch.") if asked == "auto" else asked
    if dtype not in ("bfloat16", "float16"):
        dtype = "float32"
    return ModelShape(text.num_hidden_layers + 1, text.hidden_size, cast(Any, dtype))


def read_config(config: ModelConfig, *model_types: str) -> Any:
    """The checkpoint's configuration. Raises ModelError unless it is of one of `model_types`, if
    there are any."""
    if config.checkpoint is None:
        raise ModelError(f"model {config.family}: names no checkpoint; give one with --checkpoint")
    try:
        found = AutoConfig.from_pretrained(
            config.checkpoint, revision=config.revision, trust_remote_code=False
        )
    except (OSError, ValueError) as error:
        unknown = _unknown_type(config)
        if unknown is not None:
            raise other_family(config, unknown, model_types) from None
        raise unreadable(config, error) from None
    if model_types and found.model_type not in model_types:
        raise other_family(config, found.model_type, model_types)
    return found


def _unknown_type(config: ModelConfig) -> str | None:
    """The type that the configuration names, if transformers knows none of that name."""
    folder = on_disk(config)
    try:
        kind = json.loads((folder / "config.json").read_bytes()).get("model_type") if folder else ""
    except (OSError, ValueError, AttributeError):
        return None
    return kind if isinstance(kind, str) and kind and kind not in CONFIG_MAPPING else None


def outline(config: ModelConfig, *model_types: str) -> Outline:
    """The whole model, its weights without memory."""
    checkpoint = read_config(config, *model_types)
    model = skeleton(checkpoint)
    shape = decoder_shape(checkpoint.get_text_config(), config.dtype, checkpoint.dtype)
    return Outline(model, decoder_path(model), shape.dtype)


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
        "device_map": {"": "cuda:0" if on_gpu() else "cpu"},
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


def on_gpu() -> bool:
    """Whether models are put on a GPU here."""
    return torch.cuda.is_available()


def load_model(config: ModelConfig, checkpoint: Any, dtype: str) -> tuple[Any, Any]:
    """A model of image and text with its language decoder, ready to run.

    Nothing but the decoder's layers is quantised.
    """
    from transformers import AutoModelForImageTextToText

    bones = skeleton(checkpoint)
    path = decoder_path(bones)
    arguments = load_arguments(config, dtype, unquantized=modules_outside_decoder(bones, path))
    if config.weights == "random":
        model = random_model(AutoModelForImageTextToText, checkpoint, arguments, path)
    else:
        model = AutoModelForImageTextToText.from_pretrained(str(config.checkpoint), **arguments)
    model = model.eval()
    return model, model.get_submodule(path)


def random_model(auto: Any, checkpoint: Any, arguments: Mapping[str, Any], path: str) -> Any:
    """A model of the configuration's shape with random weights, quantised as asked for.

    For measuring a model before its weights are there, and as the untrained control of a probe.
    """
    device = arguments["device_map"][""]
    torch.manual_seed(0)
    with torch.device(device):
        model = auto.from_config(checkpoint, dtype=arguments["dtype"])
    quantization = arguments.get("quantization_config")
    if quantization is not None:
        for layer in model.get_submodule(path).layers:
            for name, module in list(layer.named_modules()):
                if isinstance(module, nn.Linear):
                    layer.set_submodule(name, _quantized(module, quantization, device))
    return model


def _quantized(linear: nn.Linear, quantization: BitsAndBytesConfig, device: str) -> nn.Module:
    from bitsandbytes.nn.modules import Linear4bit, Linear8bitLt

    size, bias = (linear.in_features, linear.out_features), linear.bias is not None
    short: Any
    if quantization.load_in_4bit:
        short = Linear4bit(
            *size,
            bias=bias,
            compute_dtype=quantization.bnb_4bit_compute_dtype,
            compress_statistics=quantization.bnb_4bit_use_double_quant,
            quant_type=quantization.bnb_4bit_quant_type,
        )
    else:
        short = Linear8bitLt(*size, bias=bias, has_fp16_weights=False)
    # On a CPU first: the move to the device is what quantises.
    short.load_state_dict({k: v.cpu() for k, v in linear.state_dict().items()})
    moved: nn.Module = short.to(device)
    return moved


def to_device(array: NDArray[Any], device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    """Start moving an array to the device, numbers with a fraction in the model's dtype."""
    tensor = moved(array, device)
    return tensor.to(dtype) if tensor.is_floating_point() else tensor


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
