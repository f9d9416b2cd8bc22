"""Forward hooks that keep the states of one token per row at every layer, and nothing else."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from operator import attrgetter
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from vsp.errors import ModelError
from vsp.models.contract import PromptGroup, States, prompt_group
from vsp.models.prefix_sharing import (
    Bundle,
    CannotShareError,
    branch_hook,
    bundle_groups,
    copy_to_device,
)

_log = logging.getLogger(__name__)

# Runs the decoder on the embedded trunks of a bundle.
Forward = Callable[[Sequence[PromptGroup], Bundle], object]
# Prepares the inputs of a forward pass and returns the pass.
PreparePass = Callable[[Sequence[PromptGroup], Bundle], Callable[[], object]]
# Overwrites some of the embeddings [sequence, token, hidden] of a bundle, branches included.
Replace = Callable[[Bundle, torch.Tensor], None]


class Capture:
    """Records states of a decoder that has `layers` and a final `norm`."""

    def __init__(self, decoder: Any, pad: int) -> None:
        self._decoder = decoder
        self._pad = pad
        self._shares = True

    def last_tokens(
        self, groups: Sequence[PromptGroup], forward: Forward, replace: Replace | None = None
    ) -> States:
        """Start one forward pass; the states of each row's last token, [layer, row, hidden].

        `forward` calls the decoder on the embedded trunks; a hook appends the branches. Raises
        MemoryError if the device has too little memory.
        """
        if self._shares:
            try:
                return self._run(groups, forward, replace)
            except CannotShareError as reason:
                _log.warning("rows about one image share no work in this model: %s", reason)
                self._shares = False
        alone = [prompt_group(one.picture, [row]) for one in groups for row in one.rows]
        return self._run(alone, forward, replace)

    def _run(
        self, groups: Sequence[PromptGroup], forward: Forward, replace: Replace | None
    ) -> States:
        bundle = bundle_groups(groups, self._pad)
        decoder = self._decoder
        append = branch_hook(decoder, bundle, replace)
        hook = decoder.register_forward_pre_hook(append, with_kwargs=True)
        try:
            with (
                memory_errors(),
                torch.inference_mode(),
                capture_tokens(decoder, bundle.places) as kept,
            ):
                forward(groups, bundle)
                return _gather(kept)
        finally:
            hook.remove()

    def forward_only(
        self, groups: Sequence[PromptGroup], prepare: PreparePass
    ) -> Callable[[], None]:
        """The same pass on prepared tensors, without recording: a lower bound of its time."""
        bundle = bundle_groups(groups, self._pad)
        forward = prepare(groups, bundle)
        decoder = self._decoder

        def run() -> None:
            hook = decoder.register_forward_pre_hook(branch_hook(decoder, bundle), with_kwargs=True)
            try:
                with torch.inference_mode():
                    forward()
                for device in _devices(decoder):
                    if device.type == "cuda":
                        torch.cuda.synchronize(device)
            finally:
                hook.remove()

        return run


@contextmanager
def capture_tokens(decoder: Any, places: NDArray[np.int64]) -> Iterator[list[torch.Tensor]]:
    """Collect states of the tokens at `places` [row, (sequence, position)] during one forward pass.

    The list receives arrays [row, hidden]: the first layer's input (the embedding output), the
    output of every layer except the last, and the output of the final norm, in the order of
    `hidden_states` of transformers. Each is on the device where the layer left its output.
    """
    kept: list[torch.Tensor] = []
    pairs = np.ascontiguousarray(places.T)
    # Copied before the pass starts, so that no layer waits for it.
    places_on = {device: copy_to_device(pairs, device) for device in _devices(decoder)}

    def keep(states: torch.Tensor) -> None:
        # [sequence, token, hidden]; with more axes, the index below would mean others.
        if states.dim() != 3:
            raise ModelError(
                f"its decoder layers pass on states with {states.dim()} axes instead of 3; this "
                "model is not supported"
            )
        sequences, positions = places_on[states.device]
        kept.append(states[sequences, positions])

    def keep_input(_module: nn.Module, args: Any, kwargs: Any) -> None:
        keep(args[0] if args else kwargs["hidden_states"])

    def keep_output(_module: nn.Module, _args: Any, output: Any) -> None:
        keep(output[0] if isinstance(output, tuple) else output)

    hooks = [decoder.layers[0].register_forward_pre_hook(keep_input, with_kwargs=True)]
    hooks += [layer.register_forward_hook(keep_output) for layer in decoder.layers[:-1]]
    hooks.append(decoder.norm.register_forward_hook(keep_output))
    try:
        yield kept
    finally:
        for hook in hooks:
            hook.remove()


def _devices(decoder: nn.Module) -> set[torch.device]:
    """The devices that hold parts of a decoder: several if its layers are split."""
    return {parameter.device for parameter in decoder.parameters()}


def _gather(kept: Sequence[torch.Tensor]) -> States:
    """Start copying states [row, hidden] of each layer to the host, from the devices they are on."""
    parts = [
        _copy_to_host(torch.stack(tuple(states)))
        for _, states in groupby(kept, key=attrgetter("device"))
    ]
    return parts[0] if len(parts) == 1 else lambda: np.concatenate([wait() for wait in parts])


def _copy_to_host(states: torch.Tensor) -> States:
    """Start copying to the host; the device continues meanwhile."""
    if states.device.type != "cuda":
        return lambda: _to_numpy(states.cpu())
    host = torch.empty(states.shape, dtype=states.dtype, pin_memory=True)
    host.copy_(states, non_blocking=True)
    copied = torch.cuda.Event()
    copied.record(torch.cuda.current_stream(states.device))

    def wait() -> NDArray[np.floating]:
        copied.synchronize()
        return _to_numpy(host)

    return wait


def _to_numpy(states: torch.Tensor) -> NDArray[np.floating]:
    # numpy has no bfloat16; float32 represents all of its values.
    return (states.float() if states.dtype == torch.bfloat16 else states).numpy()


@contextmanager
def memory_errors() -> Iterator[None]:
    """Turn torch's out-of-memory errors, of GPU and CPU, into MemoryError."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise MemoryError(str(error).partition(". ")[0]) from None
    except RuntimeError as error:
        if "DefaultCPUAllocator" not in str(error):
            raise
        raise MemoryError(str(error).rpartition("DefaultCPUAllocator: ")[2]) from None
