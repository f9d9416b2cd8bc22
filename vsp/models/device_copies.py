"""Copies between host and device that the host does not wait for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from numpy.typing import NDArray


def input_device(decoder: Any) -> torch.device:
    """The device of a decoder's embeddings; its layers may be on others."""
    device: torch.device = decoder.get_input_embeddings().weight.device
    return device


def copy_to_device(array: NDArray[Any], device: torch.device) -> torch.Tensor:
    """Start copying an array to the device; the host does not wait."""
    tensor = torch.from_numpy(array)
    if device.type == "cuda":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


def copy_to_host(values: torch.Tensor) -> Callable[[], NDArray[Any]]:
    """Start copying to the host; the device continues meanwhile. The result waits for the copy."""
    if values.device.type != "cuda":
        return lambda: _to_numpy(values.cpu())
    host = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
    host.copy_(values, non_blocking=True)
    copied = torch.cuda.Event()
    copied.record(torch.cuda.current_stream(values.device))

    def wait() -> NDArray[Any]:
        copied.synchronize()
        return _to_numpy(host)

    return wait


def _to_numpy(values: torch.Tensor) -> NDArray[Any]:
    # numpy has no bfloat16; float32 represents all of its values.
    return (values.float() if values.dtype == torch.bfloat16 else values).numpy()
