"""Forward hooks that keep one token of each row and layer as it passes, and nothing else."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from vsp.models import Group, States, group
from vsp.models.prefix_sharing import Bundle, CannotShareError, bundle, grafting, moved

_log = logging.getLogger(__name__)

# Calls the decoder with the embedded trunks of a bundle.
Forward = Callable[[Sequence[Group], Bundle], object]
# Makes what a forward pass takes, and gives the pass.
Inputs = Callable[[Sequence[Group], Bundle], Callable[[], object]]
# Overwrites some of the embeddings [sequence, token, hidden] of a bundle, branches included.
Replace = Callable[[Bundle, torch.Tensor], None]


class Capture:
    """A decoder with `layers` and a final `norm`, watched while it runs."""

    def __init__(self, language: Any, pad: int) -> None:
        self._language = language
        self._pad = pad
        self._shares = True

    def last_tokens(
        self, groups: Sequence[Group], forward: Forward, replace: Replace | None = None
    ) -> States:
        """Start one forward pass and keep each row's last token: [layer, row, hidden].

        `forward` has to call the decoder with the embedded trunks, on which the branches are then
        grafted. Raises MemoryError if memory is out.
        """
        if self._shares:
            try:
                return self._run(groups, forward, replace)
            except CannotShareError as reason:
                _log.warning("rows about one image share no work in this model: %s", reason)
                self._shares = False
        alone = [group(one.picture, [row]) for one in groups for row in one.rows]
        return self._run(alone, forward, replace)

    def _run(self, groups: Sequence[Group], forward: Forward, replace: Replace | None) -> States:
        laid = bundle(groups, self._pad)
        language = self._language
        graft = grafting(language, laid, replace)
        hook = language.register_forward_pre_hook(graft, with_kwargs=True)
        try:
            with (
                memory_errors(),
                torch.inference_mode(),
                capture_tokens(language, laid.places) as kept,
            ):
                forward(groups, laid)
                return _on_the_way(torch.stack(kept))
        finally:
            hook.remove()

    def bare(self, groups: Sequence[Group], inputs: Inputs) -> Callable[[], None]:
        """The same pass on tensors made before, keeping nothing: the least it could take."""
        laid = bundle(groups, self._pad)
        forward = inputs(groups, laid)
        language = self._language

        def run() -> None:
            hook = language.register_forward_pre_hook(grafting(language, laid), with_kwargs=True)
            try:
                with torch.inference_mode():
                    forward()
                if language.device.type == "cuda":
                    torch.cuda.synchronize()
            finally:
                hook.remove()

        return run


@contextmanager
def capture_tokens(language: Any, places: NDArray[np.int64]) -> Iterator[list[torch.Tensor]]:
    """Collect the tokens at `places` [row, (sequence, position)] at every layer of one forward.

    The list fills up with [row, hidden]: the first layer's input (the embedding output), the
    output of every layer but the last, and the final norm's output, as transformers counts its
    `hidden_states`.
    """
    kept: list[torch.Tensor] = []
    sequences, positions = moved(np.ascontiguousarray(places.T), language.device)

    def keep(states: torch.Tensor) -> None:
        kept.append(states[sequences, positions])

    def keep_input(_module: nn.Module, args: Any, kwargs: Any) -> None:
        keep(args[0] if args else kwargs["hidden_states"])

    def keep_output(_module: nn.Module, _args: Any, output: Any) -> None:
        keep(output[0] if isinstance(output, tuple) else output)

    hooks = [language.layers[0].register_forward_pre_hook(keep_input, with_kwargs=True)]
    hooks += [layer.register_forward_hook(keep_output) for layer in language.layers[:-1]]
    hooks.append(language.norm.register_forward_hook(keep_output))
    try:
        yield kept
    finally:
        for hook in hooks:
            hook.remove()


def _on_the_way(states: torch.Tensor) -> States:
    """Start copying to the host; the device goes on meanwhile."""
    if states.device.type != "cuda":
        return lambda: _array(states)
    host = torch.empty(states.shape, dtype=states.dtype, pin_memory=True)
    host.copy_(states, non_blocking=True)
    copied = torch.cuda.Event()
    copied.record()

    def wait() -> NDArray[np.floating]:
        copied.synchronize()
        return _array(host)

    return wait


def _array(states: torch.Tensor) -> NDArray[np.floating]:
    # numpy has no bfloat16; float32 holds each of its values.
    return (states.float() if states.dtype == torch.bfloat16 else states).numpy()


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
