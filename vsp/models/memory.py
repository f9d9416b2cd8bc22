"""Estimates the memory of a model on its device from shapes alone, without reading weights.

The weights are counted. The memory of a batch is estimated from the largest activations of each part.
Not included: CUDA's own memory (about half a gigabyte), fragmentation of its allocator, and recorded
states of the vision tower and the projector.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

from vsp.config import ModelConfig
from vsp.models import load_family
from vsp.models.contract import Outline
from vsp.models.outline import modules_outside_decoder

if TYPE_CHECKING:
    from torch import nn

_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
_BLOCK = 64  # weights per scale in 4 bits
_NESTED = 256  # scales per second-level scale
_TABLES = 4 * (16 + 256 + 1)  # two code books and an offset per matrix in 4 bits


@dataclass(frozen=True, slots=True)
class Load:
    """The size of a batch, as far as memory depends on it."""

    n_sequences: int
    n_tokens: int  # per sequence, padding included
    n_rows: int
    n_values: int  # input values of the vision tower, of all pictures
    branched: bool  # a sequence has branches, so attention needs an explicit mask
    n_positions: int = 1  # at which the state of one token is recorded
    # Tokens of all rows, padding included, at each position whose states are averaged.
    averaged: tuple[int, ...] = ()
    n_queries: int = 0  # states from which tokens of answer options are predicted
    lens: bool = False  # the queries of every layer go through the head


@dataclass(frozen=True, slots=True)
class Memory:
    """Memory of a model on its device, in bytes."""

    weights: int
    unquantized: Mapping[str, int]  # the part of `weights` that is not quantised, by module
    batch: int  # estimate


def outline(config: ModelConfig) -> Outline | None:
    """The outline of a model; None if its family gives none.

    Raises ModelError if the model cannot be used.
    """
    return load_family(config.family).outline(config)


def estimate(outline: Outline, quantization: str, load: Load) -> Memory:
    sizes = weights(outline, quantization)
    unquantized = {
        name: sizes[name] for name in modules_outside_decoder(outline.model, outline.decoder)
    }
    return Memory(sum(sizes.values()), unquantized, activations(outline, quantization, load))


def weights(
    outline: Outline, quantization: str, parts: Sequence[str] | None = None
) -> Counter[str]:
    """Bytes of parameters and buffers, by the module in `parts` that holds them.

    The default parts are the decoder and each module outside it. A tensor in no part has its own
    entry.
    """
    linear, sizes = _quantized(outline), Counter[str]()
    if parts is None:
        parts = [*modules_outside_decoder(outline.model, outline.decoder), outline.decoder]
    for name, tensor in outline.model.named_parameters():  # tied parameters once
        size = tensor.numel() * _BYTES[outline.dtype]
        if name in linear:
            size = _quantized_bytes(tensor, quantization, size)
        sizes[_part(name, parts)] += size
    for name, buffer in outline.model.named_buffers():
        sizes[_part(name, parts)] += buffer.numel() * buffer.element_size()
    return sizes


def activations(outline: Outline, quantization: str, load: Load) -> int:
    """Estimated bytes of a batch without the weights: the maximum over tower and decoder."""
    size = _BYTES[outline.dtype]
    decoder = _decoder_bytes(outline, quantization, load)
    n_layers = len(_decoder(outline).layers) + 1
    # Means are float32. States are stacked when all layers are computed.
    of_row = size * load.n_positions + 4 * len(load.averaged)
    captured = 2 * n_layers * load.n_rows * _width(outline) * of_row
    captured += n_layers * load.n_queries * _width(outline) * size
    pixels = load.n_values * (size + 4)  # at most: they are copied as float32, or as bytes
    return pixels + max(_tower_bytes(outline, load), decoder + captured)


def _decoder_bytes(outline: Outline, quantization: str, load: Load) -> int:
    """Peak of decoder and head: that of a layer, of a mean behind a layer, or of the logits."""
    decoder, size = _decoder(outline), _BYTES[outline.dtype]
    layer = decoder.layers[-1]
    n_tokens = load.n_sequences * load.n_tokens
    of_width = n_tokens * size * _width(outline)
    inner = size * _widest(layer)
    if quantization == "8bit":  # 32-bit products, and their conversion
        inner += (4 + size) * max(linear.out_features for linear in _linears(layer))
    # Embeddings, those of the images, the residual stream and its norm.
    in_layer = 4 * of_width + max(n_tokens * inner, _mean_bytes(outline, load))
    n_bytes = max(in_layer, 2 * of_width + _head_bytes(outline, load))
    if quantization == "4bit":  # one matrix at a time is dequantised
        n_bytes += size * max(linear.weight.numel() for linear in _linears(layer))
    pairs = load.n_sequences * load.n_tokens**2
    if decoder.config._attn_implementation == "eager":
        n_bytes += pairs * decoder.config.num_attention_heads * (2 * size + 4)
    if load.branched:
        n_bytes += pairs * (1 + size)  # the mask, and its values that are added
    return n_bytes


def _mean_bytes(outline: Outline, load: Load) -> int:
    """The states of the tokens of a mean, in float32 as well, and their products with the weights."""
    size = _BYTES[outline.dtype]
    return max(load.averaged, default=0) * _width(outline) * (size + 4 + (4 if size < 4 else 0))


def _head_bytes(outline: Outline, load: Load) -> int:
    """The queries and their logits, and the exponentials of one layer's logits in float32."""
    if not load.n_queries:
        return 0
    from vsp.models.option_scores import VALUES_AT_ONCE

    n_states = load.n_queries * (len(_decoder(outline).layers) + 1 if load.lens else 1)
    size, vocabulary = _BYTES[outline.dtype], int(_decoder(outline).config.vocab_size)
    copies = 1 if size == 4 else 2  # float32 logits are not converted
    converted = min(load.n_queries * vocabulary, max(VALUES_AT_ONCE, vocabulary))
    return n_states * (2 * _width(outline) + vocabulary) * size + converted * 4 * copies


def _tower_bytes(outline: Outline, load: Load) -> int:
    """Peak of the vision tower; its memory is freed before the decoder runs."""
    from torch import nn

    model, size = outline.model, _BYTES[outline.dtype]
    patchers = [
        (name, module)
        for part in modules_outside_decoder(outline.model, outline.decoder)
        for name, module in model.get_submodule(part).named_modules(prefix=part)
        if isinstance(module, nn.Conv2d | nn.Conv3d)
    ]
    if not patchers:
        return 0
    name, patcher = patchers[0]
    width = patcher.out_channels
    n_patches = -(-load.n_values // (patcher.in_channels * prod(patcher.kernel_size)))
    tower = model.get_submodule(
        _part(name, modules_outside_decoder(outline.model, outline.decoder))
    )
    lists = [module for module in tower.modules() if isinstance(module, nn.ModuleList)]
    layers = max(lists, key=len, default=nn.ModuleList())
    seen = n_patches * size * (4 * width + (_widest(layers[-1]) if len(layers) else 0))
    finer = [module for module in model.modules() if isinstance(module, nn.ConvTranspose2d)]
    if not finer:
        return seen
    # SpatialRGPT's refinement: more positions, before and after its last activation.
    fine = n_patches * size * width * prod(prod(module.stride) for module in finer)
    return max(seen, 2 * fine)


def _widest(layer: nn.Module) -> int:
    """Largest number of values per token inside a layer, without the residual stream."""
    out = [linear.out_features for linear in _linears(layer)]
    if not out:
        return 0
    widest = max(out)
    # Gate, its activation and their product; without a gate, before and after the activation.
    inner = (3 if out.count(widest) > 1 else 2) * widest
    # Queries and keys before and after the rotary embedding.
    return max(inner, 2 * sum(n for n in out if n < widest))


def _quantized(outline: Outline) -> set[str]:
    """Names of the weights that quantization applies to."""
    linears = _named_linears(_decoder(outline), outline.decoder)
    return {f"{name}.weight" for name, _ in linears}


def fused_experts(outline: Outline) -> tuple[int, float]:
    """Number of tensors with all experts of a layer, and their share of the decoder's weights.

    bitsandbytes quantises matrices of linear layers only.
    """
    weights = list(_decoder(outline).parameters())
    fused = [weight.numel() for weight in weights if weight.dim() > 2]
    return len(fused), sum(fused) / sum(weight.numel() for weight in weights)


def _quantized_bytes(weight: Any, quantization: str, full: int) -> int:
    n = weight.numel()
    if quantization == "8bit":
        return int(n + 4 * weight.shape[0])  # one scale per row
    if quantization == "4bit":
        blocks = -(-n // _BLOCK)
        return int(-(-n // 2) + blocks + 4 * -(-blocks // _NESTED) + _TABLES)
    return full


def _part(name: str, parts: Sequence[str]) -> str:
    """The module in `parts` that contains `name`; `name` itself if none does."""
    return next((part for part in parts if name.startswith(f"{part}.")), name)


def _decoder(outline: Outline) -> Any:
    return outline.model.get_submodule(outline.decoder)


def _width(outline: Outline) -> int:
    return int(_decoder(outline).config.hidden_size)


def _linears(module: nn.Module) -> list[nn.Linear]:
    return [linear for _, linear in _named_linears(module, "")]


def _named_linears(module: nn.Module, prefix: str) -> Iterator[tuple[str, nn.Linear]]:
    from torch import nn

    for name, child in module.named_modules(prefix=prefix):
        if isinstance(child, nn.Linear):
            yield name, child
