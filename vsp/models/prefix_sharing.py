"""Computes the prompts about one image as one sequence, as `vsp.models.prompt_tree` lays them out.

A token gets the position that it would have alone, and attends to the pieces on its own path only.
So each prompt has the same states as alone, and keys and values of the prefix are computed once and
never copied. This is tree attention (Miao et al. 2024, SpecInfer, arXiv:2305.09781) applied to
prompts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from vsp.models.device_copies import copy_to_device, input_device
from vsp.models.prompt_tree import Bundle

# Inputs of a decoder with a value per token that depends on the token's position in the trunk, or is
# overwritten.
_PER_TOKEN = ("inputs_embeds", "visual_pos_masks")


class CannotShareError(Exception):
    """The model's attention does not allow sharing; each path has to be its own sequence."""


def branch_hook(
    decoder: Any, bundle: Bundle, replace: Callable[[Bundle, torch.Tensor], None] | None = None
) -> Callable[[Any, Any, Any], Any]:
    """A forward pre-hook of a decoder: it appends the branches to the trunks.

    `replace` may overwrite some of the embeddings [sequence, token, hidden] in place.
    """
    is_tree = bundle.has_branches or bundle.has_options
    places = _Places.of(bundle, input_device(decoder)) if is_tree else None

    def append(_module: Any, args: Any, kwargs: Any) -> Any:
        kwargs = dict(kwargs)
        mask = kwargs.get("attention_mask")
        if isinstance(mask, torch.Tensor) and mask.dim() == 2:
            # It only hides padding on the right, which the causal mask hides anyway.
            mask = kwargs["attention_mask"] = None
        if places is not None:
            _check_causal(mask, places)
        if places is not None and bundle.has_branches:
            _check_layers(decoder.config, mask, int(bundle.trunk_lengths.max()))
            _append_branches(decoder, places, mask, kwargs)
        if replace is not None:
            kwargs["inputs_embeds"] = kwargs["inputs_embeds"].clone()
            replace(bundle, kwargs["inputs_embeds"])
        return args, kwargs

    return append


@dataclass(frozen=True, slots=True)
class _Places:
    """A bundle's arrays, copied to the device before the forward pass starts."""

    sources: torch.Tensor  # [sequence, token]
    pieces: torch.Tensor  # [sequence, token]
    visible: torch.Tensor  # [sequence, piece, piece]
    added: tuple[torch.Tensor, torch.Tensor]  # sequence and position of each token of a branch
    tokens: torch.Tensor  # the tokens at `added`

    @classmethod
    def of(cls, bundle: Bundle, device: torch.device) -> _Places:
        sequences, positions = np.nonzero(bundle.in_branch)
        tokens = bundle.tokens[sequences, positions]
        arrays = (bundle.sources, bundle.pieces, bundle.visible, sequences, positions, tokens)
        sources, pieces, visible, first, second, added = (
            copy_to_device(array, device) for array in arrays
        )
        return cls(sources, pieces, visible, (first, second), added)

    def on_path(self, n_tokens: int) -> torch.Tensor:
        """[sequence, token, token] whether the second of the first tokens is on the first's path."""
        pieces = self.pieces[:, :n_tokens]
        at = torch.arange(len(pieces), device=pieces.device)[:, None, None]
        return self.visible[at, pieces[:, :, None], pieces[:, None, :]]


def _append_branches(decoder: Any, places: _Places, mask: Any, kwargs: dict[str, Any]) -> None:
    trunk = kwargs.get("inputs_embeds")
    if trunk is None:
        raise CannotShareError("its decoder embeds the tokens itself")
    device, shape = trunk.device, trunk.shape[:2]
    sources = places.sources
    if kwargs.get("position_ids") is None:
        kwargs["position_ids"] = torch.arange(shape[1], device=device).expand(shape)
    for name, value in kwargs.items():
        if isinstance(value, torch.Tensor):
            if name == "position_ids":  # [sequence, token], with leading axes for M-RoPE
                leading = value.shape[:-2]
                value = value.expand(*leading, *shape)
                kwargs[name] = value.gather(-1, sources.expand(*leading, *sources.shape))
            elif name != "attention_mask" and value.shape[:2] == shape:
                if name not in _PER_TOKEN:  # Gemma 4: an embedding of each token for every layer
                    raise CannotShareError(f"its input {name} depends on each token")
                kwargs[name] = value[torch.arange(len(value), device=device)[:, None], sources]
    embedded = decoder.get_input_embeddings()(places.tokens)
    kwargs["inputs_embeds"][places.added] = embedded.to(trunk.dtype)
    eager = decoder.config._attn_implementation == "eager"
    masks = _masks_by_kind(mask)
    made = {kind: _mask(one, places, trunk.dtype, eager) for kind, one in masks.items()}
    kwargs["attention_mask"] = made if isinstance(mask, dict) else made[""]


def _mask(
    given: torch.Tensor | None, places: _Places, dtype: torch.dtype, eager: bool
) -> torch.Tensor:
    """Attention mask [sequence, 1, token, token]: the mask at each token's position in the trunk,
    limited to the token's own path.
    """
    sources = places.sources
    # Softmax over no visible token gives NaN; padding attends to padding, which is a piece as well.
    visible = places.on_path(sources.shape[1])
    if given is None:
        allowed = sources[:, :, None] >= sources[:, None, :]
    else:
        seen = _seen(given)
        at = torch.arange(len(seen), device=seen.device)[:, None, None]
        allowed = seen[at, sources[:, :, None], sources[:, None, :]]
    allowed = (allowed & visible)[:, None]
    if eager or (given is not None and given.dtype != torch.bool):
        hidden = torch.tensor(torch.finfo(dtype).min, dtype=dtype, device=allowed.device)
        return torch.where(allowed, torch.zeros_like(hidden), hidden)
    if allowed.device.type == "cpu":  # torch would do the same in every layer
        return torch.zeros(allowed.shape, dtype=dtype).masked_fill_(~allowed, -torch.inf)
    return allowed


def _masks_by_kind(mask: Any) -> dict[str, torch.Tensor | None]:
    """The masks of each kind of layer; some models pass one mask for all."""
    return mask if isinstance(mask, dict) else {"": mask}


def _seen(mask: torch.Tensor) -> torch.Tensor:
    """[sequence, token, token] whether the first token attends to the second."""
    return (mask if mask.dtype == torch.bool else mask == 0)[:, 0]


def _check_causal(mask: Any, places: _Places) -> None:
    """Raise CannotShareError if a piece of the trunk attends to a later one, as in a prefix-LM."""
    for one in _masks_by_kind(mask).values():
        if one is not None:
            seen = _seen(one)
            if bool((seen & ~places.on_path(seen.shape[1])).triu(1).any()):
                raise CannotShareError("its image tokens attend to the prompt")


def _check_layers(config: Any, mask: Any, longest: int) -> None:
    """Raise CannotShareError for layers that do not follow the mask.

    A recurrent layer would run through the trunk and all branches. A sliding window matters only if
    the given mask does not contain it.
    """
    kinds = set(getattr(config, "layer_types", None) or ())
    if others := kinds - {"full_attention", "sliding_attention"}:
        raise CannotShareError(f"its layers of type {', '.join(sorted(others))} need whole rows")
    window = getattr(config, "sliding_window", None)
    slides = not kinds or "sliding_attention" in kinds
    if mask is None and window and window < longest and slides:
        raise CannotShareError(
            f"its attention window of {window} tokens is shorter than the prompts"
        )
