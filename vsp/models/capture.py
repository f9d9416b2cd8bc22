"""Forward hooks that keep one token of each layer as it passes, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from vsp.errors import InputError


def last_tokens(
    language: Any, positions: torch.Tensor, forward: Callable[[], object]
) -> NDArray[np.floating]:
    """Run `forward` once and keep token `positions[i]` of sequence i: [layer, batch, hidden].

    `language` is a decoder with `layers` and a final `norm`. Raises MemoryError if memory is out,
    InputError if a sequence is longer than the model's context.
    """
    longest, context = int(positions.max()) + 1, language.config.max_position_embeddings
    if longest > context:
        raise InputError(f"prompt and image make {longest} tokens, over the context of {context}")
    with (
        memory_errors(),
        torch.inference_mode(),
        capture_tokens(language.layers, language.norm, positions) as kept,
    ):
        forward()
    states = torch.stack(kept).cpu()
    # numpy has no bfloat16; float32 holds each of its values.
    return (states.float() if states.dtype == torch.bfloat16 else states).numpy()


@contextmanager
def capture_tokens(
    layers: Sequence[nn.Module], final_norm: nn.Module, positions: torch.Tensor
) -> Iterator[list[torch.Tensor]]:
    """Collect token `positions[i]` of sequence i at every layer while the model runs once.

    The list fills up with [batch, hidden]: the first layer's input (the embedding output), the
    output of every layer but the last, and the final norm's output, as transformers counts its
    `hidden_states`.
    """
    kept: list[torch.Tensor] = []
    rows = torch.arange(len(positions), device=positions.device)

    def keep(states: torch.Tensor) -> None:
        kept.append(states[rows.to(states.device), positions.to(states.device)])

    def keep_input(_module: nn.Module, args: Any, kwargs: Any) -> None:
        keep(args[0] if args else kwargs["hidden_states"])

    def keep_output(_module: nn.Module, _args: Any, output: Any) -> None:
        keep(output[0] if isinstance(output, tuple) else output)

    hooks = [layers[0].register_forward_pre_hook(keep_input, with_kwargs=True)]
    hooks += [layer.register_forward_hook(keep_output) for layer in layers[:-1]]
    hooks.append(final_norm.register_forward_hook(keep_output))
    try:
        yield kept
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def memory_errors() -> Iterator[None]:
    """Turn torch's two ways of saying that memory is out, on a GPU and on a CPU, into one."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise MemoryError(str(error).partition(". ")[0]) from None
    except RuntimeError as error:
        if "DefaultCPUAllocator" not in str(error):
            raise
        raise MemoryError(str(error).rpartition("DefaultCPUAllocator: ")[2]) from None
