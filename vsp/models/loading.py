"""Loads checkpoints: dtype of the computation, 4 or 8 bits by bitsandbytes, device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from numpy.typing import NDArray
from torch import nn
from transformers import CONFIG_MAPPING, BitsAndBytesConfig, PretrainedConfig
from transformers.utils import logging as transformers_logging

from vsp.config import ComputeDtype, ModelConfig
from vsp.errors import ModelError
from vsp.models.checkpoints import other_family
from vsp.models.config_limits import read_model_config, require_sizes
from vsp.models.contract import ModelShape, Outline
from vsp.models.device_copies import copy_to_device
from vsp.models.hub import local_folder
from vsp.models.library_notes import leave_out_notes
from vsp.models.outline import (
    GIVEN,
    decoder_path,
    empty_model,
    load_config,
    modules_outside_decoder,
)
from vsp.models.placement import device_map
from vsp.models.weights import (
    Match,
    Needed,
    match_of,
    needed_by_states,
    outside_head,
    quiet_transformers,
    require_finite,
    require_match,
)


def decoder_shape(text: PretrainedConfig, asked: ComputeDtype, saved: Any) -> ModelShape:
    """Shape of a decoder; the dtype `auto` is the one that the checkpoint was saved in."""
    dtype = str(saved or torch.float32).removeprefix("torch.") if asked == "auto" else asked
    if dtype not in ("bfloat16", "float16"):
        dtype = "float32"
    return ModelShape(text.num_hidden_layers + 1, text.hidden_size, cast(Any, dtype))


def read_config(config: ModelConfig, *model_types: str) -> Any:
    """The checkpoint's configuration.

    Raises ModelError if it cannot be read, or if `model_types` are given and it has another type.
    """
    folder = local_folder(config)
    kind = read_model_config(folder / "config.json").get("model_type")
    if isinstance(kind, str) and kind and kind not in CONFIG_MAPPING:
        raise other_family(config, kind, model_types)
    checkpoint = load_config(config, folder)
    if model_types and checkpoint.model_type not in model_types:
        raise other_family(config, checkpoint.model_type, model_types)
    if hasattr(checkpoint, "mm_vision_tower"):
        raise ModelError(
            f"checkpoint {config.checkpoint!r} has the layout of the original LLaVA repository; use the "
            "converted one, for example llava-hf/llava-1.5-7b-hf for liuhaotian/llava-v1.5-7b"
        )
    text = checkpoint.get_text_config()
    require_sizes(text, str(config.checkpoint))
    pad, vocabulary = getattr(text, "pad_token_id", None), getattr(text, "vocab_size", None)
    if isinstance(pad, int) and isinstance(vocabulary, int) and pad >= vocabulary:
        raise ModelError(
            f"checkpoint {config.checkpoint!r}: pad_token_id {pad} is beyond the vocabulary of "
            f"{vocabulary} tokens; correct it in config.json"
        )
    return checkpoint


def outline(config: ModelConfig, *model_types: str) -> Outline:
    """The outline of the checkpoint's model."""
    checkpoint = read_config(config, *model_types)
    model = empty_model(checkpoint)
    shape = decoder_shape(checkpoint.get_text_config(), config.dtype, checkpoint.dtype)
    return Outline(model, decoder_path(model), shape.dtype)


def load_arguments(config: ModelConfig, dtype: str, unquantized: Sequence[str]) -> dict[str, Any]:
    """Arguments of `from_pretrained`; the modules `unquantized` keep their precision.

    transformers matches these names at the start or the end of a module's name:
    "model.vision_tower" excludes the whole tower, "vision_tower" alone would exclude nothing in it.
    """
    leave_out_notes()
    transformers_logging.disable_progress_bar()
    _initialise_vector_math()
    compute = getattr(torch, dtype)
    arguments: dict[str, Any] = {
        "dtype": compute,
        "device_map": {"": "cuda:0" if on_gpu() else "cpu"},
        "use_safetensors": True,
        "trust_remote_code": False,
        **GIVEN,
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
    """Whether this machine loads models onto a GPU."""
    return torch.cuda.is_available()


def load_model(
    config: ModelConfig, checkpoint: Any, dtype: str, devices: Sequence[str] = ()
) -> tuple[Any, Any]:
    """A model for image and text, and its decoder. Only the decoder's layers are quantised.

    The layers are split over `devices` if there are several.
    """
    from transformers import AutoModelForImageTextToText

    empty = empty_model(checkpoint)
    path = decoder_path(empty)
    arguments = load_arguments(config, dtype, unquantized=modules_outside_decoder(empty, path))
    if len(devices) > 1:
        whole = Outline(empty, path, dtype)
        arguments["device_map"] = device_map(whole, config.quantized_as, devices)
    if config.weights == "random":
        model = random_model(AutoModelForImageTextToText, checkpoint, arguments, path)
    else:
        needed = needed_by_states(checkpoint)
        folder = str(local_folder(config))
        model = load_whole(AutoModelForImageTextToText, folder, checkpoint, arguments, needed)
    model = model.eval()
    return model, model.get_submodule(path)


def load_whole(
    kind: Any,
    folder: str,
    checkpoint: Any,
    arguments: Mapping[str, Any],
    needed: Needed = outside_head,
) -> Any:
    """A model of transformers whose weights all come from the files in `folder`.

    Its configuration is `checkpoint`: transformers would read the file again and follow what it
    says about kernels. Raises ModelError if a needed weight is missing, has another shape, or is not finite.
    """
    with quiet_transformers():
        model, info = kind.from_pretrained(
            folder,
            config=checkpoint,
            **arguments,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
    match = match_of(model, info)
    require_match(match, folder, needed)
    require_finite(model, folder, needed)
    _mark_missing(model, match)
    return model


def _mark_missing(model: Any, match: Match) -> None:
    """Replace the random values of a missing head by NaN, so that nobody reads words from them."""
    lost = {*match.missing, *(name for name, _, _ in match.mismatched)}
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name in lost and not outside_head(name):
                weight.fill_(torch.nan)


def random_model(auto: Any, checkpoint: Any, arguments: Mapping[str, Any], path: str) -> Any:
    """A model with random weights, quantised as `arguments` say.

    It is the untrained control of a probe, and measures speed before the weights are downloaded.
    The numbers are drawn on the CPU, so they are the same on every machine and for any split.
    """
    from accelerate import dispatch_model

    placed: Mapping[str, str] = arguments["device_map"]
    torch.manual_seed(0)
    with torch.device("cpu"):
        model = auto.from_config(checkpoint, dtype=arguments["dtype"], **GIVEN)
    quantization = arguments.get("quantization_config")
    if quantization is not None:
        for i, layer in enumerate(model.get_submodule(path).layers):
            device = placed.get(f"{path}.layers.{i}") or placed[""]
            for name, module in list(layer.named_modules()):
                if isinstance(module, nn.Linear):
                    layer.set_submodule(name, _quantized(module, quantization, device))
    return dispatch_model(model, dict(placed))


def _quantized(linear: nn.Linear, quantization: BitsAndBytesConfig, device: str) -> nn.Module:
    from bitsandbytes.nn.modules import Linear4bit, Linear8bitLt

    size, bias = (linear.in_features, linear.out_features), linear.bias is not None
    quantized: Any
    if quantization.load_in_4bit:
        quantized = Linear4bit(
            *size,
            bias=bias,
            compute_dtype=quantization.bnb_4bit_compute_dtype,
            compress_statistics=quantization.bnb_4bit_use_double_quant,
            quant_type=quantization.bnb_4bit_quant_type,
        )
    else:
        quantized = Linear8bitLt(*size, bias=bias, has_fp16_weights=False)
    # Load on the CPU first: moving to the device quantises the weights.
    quantized.load_state_dict({k: v.cpu() for k, v in linear.state_dict().items()})
    on_device: nn.Module = quantized.to(device)
    return on_device


def to_device(array: NDArray[Any], device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    """Start copying an array to the device; floating-point values get the model's dtype."""
    tensor = copy_to_device(array, device)
    return tensor.to(dtype) if tensor.is_floating_point() else tensor


def _initialise_vector_math() -> None:
    """Compute the first cosine of the process in one thread.

    On a CPU, torch calls a math library that initialises itself in its first call. If two threads
    make this call at once, one of them may round differently (7 of 60 processes with torch 2.13.0).
    The rotary embeddings of the first batch, and its states, would then differ between runs.
    """
    torch.zeros(1).cos()
