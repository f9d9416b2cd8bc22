"""Splits a model over the GPUs of one machine: which device holds which module.

The decoder's layers are cut into consecutive blocks of about equal memory, one block per device.
All other modules, such as the vision tower, the embeddings and `lm_head`, are on the first device,
except the final norm, which is on the last. accelerate's hooks move the hidden states from block
to block. Every layer is computed whole on one device, so a split changes no arithmetic.
"""

from __future__ import annotations

from collections.abc import Sequence

from vsp.config import Devices
from vsp.errors import ModelError
from vsp.models.contract import Outline
from vsp.models.memory import weights


def visible_devices(asked: Devices) -> tuple[str, ...]:
    """Names of the GPUs to split a model over; empty: the model stays on one device.

    Raises ModelError if this machine has fewer GPUs than `asked`.
    """
    if asked == 1:
        return ()  # do not import torch, which not every model needs
    import torch

    n_gpus = torch.cuda.device_count()
    if asked != "auto" and asked > n_gpus:
        raise ModelError(
            f"devices {asked}: this machine has {n_gpus} GPU{'s' * (n_gpus != 1)}; ask the batch system for {asked} "
            f"(`gres: gpu:{asked}` in the profile), or plan again with another --devices"
        )
    n_used = n_gpus if asked == "auto" else asked
    return tuple(f"cuda:{i}" for i in range(n_used)) if n_used > 1 else ()


def device_map(outline: Outline, quantization: str, devices: Sequence[str]) -> dict[str, str]:
    """The device of each module or single tensor, by its name, as `from_pretrained` takes it.

    It depends on shapes only, so every task places the model as the plan says. Devices beyond the
    number of layers stay empty.
    """
    rest, layers = _units(outline)
    sizes = weights(outline, quantization, [*rest, *layers])
    counts = split_layers(
        sum(sizes[name] for name in rest), [sizes[name] for name in layers], len(devices)
    )
    blocks = [device for device, n in zip(devices, counts, strict=True) for _ in range(n)]
    norm = f"{outline.decoder}.norm"
    return {
        **dict.fromkeys(rest, devices[0]),
        **dict(zip(layers, blocks, strict=True)),
        norm: blocks[-1],
    }


def device_weights(outline: Outline, quantization: str, n_devices: int) -> tuple[int, ...]:
    """Bytes of weights on each device. Raises ModelError if a device would have no layer."""
    rest, layers = _units(outline)
    if n_devices > len(layers):
        raise ModelError(
            f"devices {n_devices}: the language model has {len(layers)} layers; use --devices "
            f"{len(layers)} or fewer"
        )
    names = [str(i) for i in range(n_devices)]
    placed = device_map(outline, quantization, names)
    sizes = weights(outline, quantization, [*rest, *layers])
    return tuple(sum(sizes[unit] for unit in placed if placed[unit] == name) for name in names)


def split_layers(first: int, layers: Sequence[int], n_devices: int) -> list[int]:
    """Number of layers on each device, given the bytes of each layer.

    `first` bytes are on the first device anyway; it may get no layer. The others get at least one
    as long as there are enough.
    """
    counts: list[int] = []
    left = first + sum(layers)
    for n_left in range(n_devices, 0, -1):
        start = sum(counts)
        n = 0 if n_left == n_devices else 1
        load = sum(layers[start : start + n]) + (first if n_left == n_devices else 0)
        # A layer belongs where its middle lies. Later devices keep one layer each.
        while start + n <= len(layers) - n_left and load + layers[start + n] / 2 <= left / n_left:
            load += layers[start + n]
            n += 1
        counts.append(min(n, len(layers) - start))
        left -= load
    return counts


def _units(outline: Outline) -> tuple[list[str], list[str]]:
    """Names of what is placed as a whole: modules and tensors outside the layers, and the layers."""
    rest, path = [], [*outline.decoder.split("."), "layers"]
    for depth, inner in enumerate(path):
        parent = ".".join(path[:depth])
        module = outline.model.get_submodule(parent)
        own = (
            *module.named_children(),
            *module.named_parameters(recurse=False),
            *module.named_buffers(recurse=False),
        )
        rest += [f"{parent}.{name}" if parent else name for name, _ in own if name != inner]
    layers = ".".join(path)
    names = [name for name, _ in outline.model.get_submodule(layers).named_children()]
    return rest, [f"{layers}.{name}" for name in names]
