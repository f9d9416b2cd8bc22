"""How much memory a model will take on its device, from shapes alone: no weight is read.

The weights are counted; what a batch adds is estimated from the widest moment of each part. Not in
either: what CUDA itself keeps (about half a gigabyte) and what its allocator cannot fill.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

from vsp.config import ModelConfig
from vsp.models import FAMILIES
from vsp.models.outline import Outline, modules_outside_decoder

if TYPE_CHECKING:
    from torch import nn

_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
_BLOCK = 64  # weights that share a scale in 4 bits
_NESTED = 256  # scales that share a scale of their own
_TABLES = 4 * (16 + 256 + 1)  # the two code books of a matrix in 4 bits, and an offset


@dataclass(frozen=True, slots=True)
class Load:
    """What goes through a model at once, as far as its memory depends on it."""

    n_sequences: int
    n_tokens: int  # of each, padding included
    n_rows: int
    n_values: int  # of all pictures, as the vision tower takes them
    branched: bool  # rows about one image share a sequence, so attention needs a mask


@dataclass(frozen=True, slots=True)
class Memory:
    """What a model takes of its device, in bytes."""

    weights: int
    unquantized: Mapping[str, int]  # of these: modules that keep their precision, by name
    batch: int  # about


def outline(config: ModelConfig) -> Outline | None:
    """None for a family that does not say. Raises ModelError for a model that cannot be used."""
    family = FAMILIES.load(config.family)
    found: Outline | None = family.outline(config) if hasattr(family, "outline") else None
    return found


def estimate(outline: Outline, quantization: str, load: Load) -> Memory:
    sizes = weights(outline, quantization)
    beside = {name: sizes[name] for name in modules_outside_decoder(outline.model, outline.decoder)}
    return Memory(sum(sizes.values()), beside, activations(outline, quantization, load))


def weights(outline: Outline, quantization: str) -> Counter[str]:
    """Bytes of parameters and buffers, by module: those beside the decoder, and the decoder."""
    linear, sizes = _quantized(outline), Counter[str]()
    parts = [*modules_outside_decoder(outline.model, outline.decoder), outline.decoder]
    for name, tensor in outline.model.named_parameters():  # names what is tied once
        size = tensor.numel() * _BYTES[outline.dtype]
        if name in linear:
            size = _quantized_bytes(tensor, quantization, size)
        sizes[_part(name, parts)] += size
    for name, buffer in outline.model.named_buffers():
        sizes[_part(name, parts)] += buffer.numel() * buffer.element_size()
    return sizes


def activations(outline: Outline, quantization: str, load: Load) -> int:
    """Bytes that a batch needs beside the weights, about: the greatest of what is needed in turn."""
    size = _BYTES[outline.dtype]
    decoder = _decoder_bytes(outline, quantization, load)
    n_layers = len(_decoder(outline).layers) + 1
    captured = 2 * n_layers * load.n_rows * _width(outline) * size
    pixels = load.n_values * (size + 4)  # they come as float32
    return pixels + max(_tower_bytes(outline, load), decoder + captured)


def _decoder_bytes(outline: Outline, quantization: str, load: Load) -> int:
    decoder, size = _decoder(outline), _BYTES[outline.dtype]
    layer = decoder.layers[-1]
    # Alive besides: the embedded input, the images' share of it, the residual and its norm.
    per_token = size * (4 * _width(outline) + _widest(layer))
    if quantization == "8bit":  # sums of products in 32 bits, and a copy on their way back
        per_token += (4 + size) * max(linear.out_features for linear in _linears(layer))
    n_bytes = load.n_sequences * load.n_tokens * per_token
    if quantization == "4bit":  # one matrix at a time is unpacked
        n_bytes += size * max(linear.weight.numel() for linear in _linears(layer))
    pairs = load.n_sequences * load.n_tokens**2
    if decoder.config._attn_implementation == "eager":
        n_bytes += pairs * decoder.config.num_attention_heads * (2 * size + 4)
    if load.branched:
        n_bytes += pairs * (1 + size)  # the mask, and as numbers that are added
    return n_bytes


def _tower_bytes(outline: Outline, load: Load) -> int:
    """The most while images are seen; nothing of it is kept while the decoder runs."""
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
    # SpatialRGPT's refinement: so many more places, in and out of its last activation.
    fine = n_patches * size * width * prod(prod(module.stride) for module in finer)
    return max(seen, 2 * fine)


def _widest(layer: nn.Module) -> int:
    """Values a token has in the widest moment of a layer, beside those that go around it."""
    out = [linear.out_features for linear in _linears(layer)]
    if not out:
        return 0
    widest = max(out)
    # Gate, its activation and their product; without a gate, before and after the activation.
    inner = (3 if out.count(widest) > 1 else 2) * widest
    # Queries and keys before and after their rotation.
    return max(inner, 2 * sum(n for n in out if n < widest))


def _quantized(outline: Outline) -> set[str]:
    """Names of the weights that are quantised when it is asked for."""
    found = _named_linears(_decoder(outline), outline.decoder)
    return {f"{name}.weight" for name, _ in found}


def _quantized_bytes(weight: Any, quantization: str, full: int) -> int:
    n = weight.numel()
    if quantization == "8bit":
        return int(n + 4 * weight.shape[0])  # a scale for each row
    if quantization == "4bit":
        blocks = -(-n // _BLOCK)
        return int(-(-n // 2) + blocks + 4 * -(-blocks // _NESTED) + _TABLES)
    return full


def _part(name: str, parts: Sequence[str]) -> str:
    """The module of `parts` that holds what is called `name`, or else that itself."""
    return next((part for part in parts if name.startswith(f"{part}.")), name)


def _decoder(outline: Outline) -> Any:
    return outline.model.get_submodule(outline.decoder)


def _width(outline: Outline) -> int:
    return int(_decoder(outline).config.hidden_size)


def _linears(module: nn.Module) -> list[nn.Linear]:
    return [linear for _, linear in _named_linears(module, "")]


def _named_linears(module: nn.Module, prefix: str) -> Iterator[tuple[str, nn.Linear]]:
    from torch import nn

    for name, found in module.named_modules(prefix=prefix):
        if isinstance(found, nn.Linear):
            yield name, found
