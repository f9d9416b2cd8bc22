"""The states that a decoder layer or a block of a vision tower gets and passes on."""

from __future__ import annotations

from typing import Any

import torch

from vsp.errors import ModelError


def given(args: Any, kwargs: Any) -> torch.Tensor:
    """The states that a layer gets."""
    states: torch.Tensor = args[0] if args else kwargs["hidden_states"]
    return states


def left(output: Any) -> torch.Tensor:
    """The states that a layer passes on."""
    states: torch.Tensor = output[0] if isinstance(output, tuple) else output
    return states


def with_given(args: Any, kwargs: Any, states: torch.Tensor) -> tuple[Any, Any]:
    """A layer's arguments with other states."""
    if args:
        return (states, *args[1:]), kwargs
    return args, {**kwargs, "hidden_states": states}


def with_left(output: Any, states: torch.Tensor) -> Any:
    """A layer's output with other states."""
    return (states, *output[1:]) if isinstance(output, tuple) else states


def require_tokens(states: torch.Tensor) -> None:
    """Raise ModelError unless states are [sequence, token, hidden].

    With more axes, an index of a token would mean others.
    """
    if states.dim() != 3:
        raise ModelError(
            f"its decoder layers pass on states with {states.dim()} axes instead of 3; this model is "
            "not supported"
        )
