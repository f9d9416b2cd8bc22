"""Edits by plain forward hooks on a model of transformers: one prompt and one option at a time.

No code of vsp computes here; its dataclasses say what to change.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from vsp.models.edits import Add, Copy, Edit


def edited_pass(
    decoder: Any, forward: Callable[[], Any], edits: Sequence[Edit], donor: Any = None
) -> tuple[Any, Any]:
    """States [layer, token, hidden] and logits [token, word] of one sequence.

    `edits` are those of its row; `donor` are the states that a `Copy` takes, of such a pass.
    """
    kept = []

    def change(states: Any) -> Any:
        states, layer = states.clone(), len(kept)
        for edit in edits:
            if edit.layer != layer:
                continue
            for number, token in enumerate(edit.tokens):
                x, how = states[0, token].clone(), edit.change
                if isinstance(how, Add):
                    states[0, token] = x + torch.from_numpy(how.vector)
                elif isinstance(how, Copy):
                    states[0, token] = donor[layer, how.tokens[number]]
                else:
                    mean, right, left = map(torch.from_numpy, (how.mean, how.right, how.left))
                    states[0, token] = x - (x - mean) @ right @ left
        kept.append(states[0].clone())
        return states

    def before(_module: Any, args: Any, kwargs: Any) -> Any:
        if args:
            return (change(args[0]), *args[1:]), kwargs
        return args, {**kwargs, "hidden_states": change(kwargs["hidden_states"])}

    def after(_module: Any, _args: Any, output: Any) -> Any:
        if isinstance(output, tuple):
            return change(output[0]), *output[1:]
        return change(output)

    hooks = [decoder.layers[0].register_forward_pre_hook(before, with_kwargs=True)]
    hooks += [layer.register_forward_hook(after) for layer in decoder.layers[:-1]]
    hooks.append(decoder.norm.register_forward_hook(after))
    try:
        with torch.inference_mode():
            logits = forward().logits[0]
    finally:
        for hook in hooks:
            hook.remove()
    return torch.stack(kept), logits


def option_score(logits: Any, option: Sequence[int]) -> float:
    """Log-likelihood of the tokens of an option at the end of a sequence."""
    places = logits[-len(option) - 1 : -1].log_softmax(-1)
    return float(places.gather(1, torch.tensor(option)[:, None]).sum())
