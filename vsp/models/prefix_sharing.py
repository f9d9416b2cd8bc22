"""Computes the prompts about one image as one sequence, so that their common prefix is shared.

The longest prompt of a group is the trunk; the whole of it is in the sequence. Every other prompt is
a branch: its tokens after the common prefix are appended to the trunk. They get the positions that
they would have alone, and attend to the prefix and to their own branch only. So each prompt has the
same states as alone, and keys and values of the prefix are computed once and never copied. This is
tree attention (Miao et al. 2024, SpecInfer, arXiv:2305.09781) applied to prompts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vsp.models.contract import PromptGroup

_PREFIX, _TRUNK, _PADDING = 0, 1, -1  # branches have the numbers after _TRUNK
# Inputs of a decoder with a value per token that depends on the token's position in the trunk, or is
# overwritten.
_PER_TOKEN = ("inputs_embeds", "visual_pos_masks")


class CannotShareError(Exception):
    """The model's attention does not allow sharing; each row has to be its own sequence."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """A batch of groups: one sequence each, padded on the right.

    The mask is causal, so no token attends to the padding after it.
    """

    trunks: NDArray[np.int64]  # tokens [sequence, token] of the trunks, without branches
    trunk_lengths: NDArray[np.int64]  # [sequence]
    tokens: NDArray[np.int64]  # [sequence, token] with the branches
    sources: NDArray[np.int64]  # [sequence, token] index of the trunk token with the same position
    # [sequence, token] _PREFIX, _TRUNK, number of the branch, or _PADDING
    branches: NDArray[np.int64]
    places: NDArray[np.int64]  # [row, 2] sequence and position of each row's last token
    # per row: sequence, length of the prefix, position of its first own token
    starts: tuple[tuple[int, int, int], ...]

    @property
    def has_branches(self) -> bool:
        return bool(self.branches.max() > _TRUNK)

    def place(self, row: int, token: int) -> tuple[int, int]:
        """Sequence and position of a row's token."""
        sequence, prefix, start = self.starts[row]
        return sequence, token if token < prefix else start + token - prefix


def bundle_groups(groups: Sequence[PromptGroup], pad: int) -> Bundle:
    """Lay out groups as sequences; `pad` is the padding token."""
    tokens: list[list[int]] = []
    sources: list[list[int]] = []
    branches: list[list[int]] = []
    trunks, starts, places = [], [], []
    for sequence, group in enumerate(groups):
        trunk = max(group.rows, key=lambda row: len(row.tokens)).tokens
        own = next(i for i, row in enumerate(group.rows) if row.tokens is trunk)
        shared, length = group.n_shared, len(trunk)
        trunks.append(trunk)
        tokens.append(list(trunk))
        sources.append(list(range(length)))
        branches.append([_PREFIX] * shared + [_TRUNK] * (length - shared))
        for i, row in enumerate(group.rows):
            start = shared if i == own else len(tokens[-1])
            if i != own:
                rest = row.tokens[shared:]
                tokens[-1] += rest
                sources[-1] += range(shared, len(row.tokens))
                branches[-1] += [_TRUNK + 1 + i] * len(rest)
            starts.append((sequence, shared, start))
            places.append((sequence, start + len(row.tokens) - shared - 1))
    return Bundle(
        _pad_rows(trunks, pad),
        np.array([len(trunk) for trunk in trunks]),
        _pad_rows(tokens, pad),
        # Padding gets the position of a text token, because some models count image tokens.
        _pad_rows(sources, [len(trunk) - 1 for trunk in trunks]),
        _pad_rows(branches, _PADDING),
        np.array(places),
        tuple(starts),
    )


def _pad_rows(rows: Sequence[Sequence[int]], value: int | Sequence[int]) -> NDArray[np.int64]:
    """Rows padded to one length [row, longest] with `value`: one for all rows, or one per row."""
    padded = np.empty((len(rows), max(map(len, rows))), dtype=np.int64)
    padded[:] = np.reshape(value, (-1, 1))
    for i, row in enumerate(rows):
        padded[i, : len(row)] = row
    return padded


def branch_hook(
    decoder: Any, bundle: Bundle, replace: Callable[[Bundle, torch.Tensor], None] | None = None
) -> Callable[[Any, Any, Any], Any]:
    """A forward pre-hook of a decoder: it appends the branches to the trunks.

    `replace` may overwrite some of the embeddings [sequence, token, hidden] in place.
    """

    places = _Places.of(bundle, input_device(decoder)) if bundle.has_branches else None

    def append(_module: Any, args: Any, kwargs: Any) -> Any:
        kwargs = dict(kwargs)
        mask = kwargs.get("attention_mask")
        if isinstance(mask, torch.Tensor) and mask.dim() == 2:
            # It only hides padding on the right, which the causal mask hides anyway.
            mask = kwargs["attention_mask"] = None
        if places is not None:
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
    branches: torch.Tensor  # [sequence, token]
    added: tuple[torch.Tensor, torch.Tensor]  # sequence and position of each token of a branch
    tokens: torch.Tensor  # the tokens at `added`

    @classmethod
    def of(cls, bundle: Bundle, device: torch.device) -> _Places:
        sequences, positions = np.nonzero(bundle.branches > _TRUNK)
        tokens = bundle.tokens[sequences, positions]
        arrays = (bundle.sources, bundle.branches, sequences, positions, tokens)
        sources, branches, first, second, added = (
            copy_to_device(array, device) for array in arrays
        )
        return cls(sources, branches, (first, second), added)


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


def _append_branches(decoder: Any, places: _Places, mask: Any, kwargs: dict[str, Any]) -> None:
    trunk = kwargs.get("inputs_embeds")
    if trunk is None:
        raise CannotShareError("its decoder embeds the tokens itself")
    device, shape = trunk.device, trunk.shape[:2]
    sources, branches = places.sources, places.branches
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
    # Softmax over no visible token gives NaN, so padding attends to padding.
    visible = (branches[:, None, :] == _PREFIX) | (branches[:, :, None] == branches[:, None, :])
    eager = decoder.config._attn_implementation == "eager"
    masks = mask if isinstance(mask, dict) else {"": mask}
    made = {
        kind: _mask(one, sources, branches, visible, trunk.dtype, eager)
        for kind, one in masks.items()
    }
    kwargs["attention_mask"] = made if isinstance(mask, dict) else made[""]


def _mask(
    given: torch.Tensor | None,
    sources: torch.Tensor,
    branches: torch.Tensor,
    visible: torch.Tensor,
    dtype: torch.dtype,
    eager: bool,
) -> torch.Tensor:
    """Attention mask [sequence, 1, token, token]: the mask at each token's position in the trunk,
    limited to the prefix and its own branch.
    """
    if given is None:
        allowed = sources[:, :, None] >= sources[:, None, :]
    else:
        seen = given if given.dtype == torch.bool else given == 0
        seen = seen[:, 0]
        _check_prefix(seen, branches[:, : seen.shape[1]])
        at = torch.arange(len(seen), device=seen.device)[:, None, None]
        allowed = seen[at, sources[:, :, None], sources[:, None, :]]
    allowed = (allowed & visible)[:, None]
    if eager or (given is not None and given.dtype != torch.bool):
        hidden = torch.tensor(torch.finfo(dtype).min, dtype=dtype, device=allowed.device)
        return torch.where(allowed, torch.zeros_like(hidden), hidden)
    if allowed.device.type == "cpu":  # torch would do the same in every layer
        return torch.zeros(allowed.shape, dtype=dtype).masked_fill_(~allowed, -torch.inf)
    return allowed


def _check_prefix(seen: torch.Tensor, branches: torch.Tensor) -> None:
    """Raise CannotShareError if the prefix attends to later tokens, as in a prefix-LM."""
    ahead = (branches[:, :, None] == _PREFIX) & (branches[:, None, :] == _TRUNK)
    if bool((seen & ahead).any()):
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
