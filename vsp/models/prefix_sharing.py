"""The rows about one image as one sequence, so that what they have in common is computed once.

The longest row of a group is its trunk and runs whole. Of every other row only the tokens behind
the common prefix are appended to the trunk, as a branch: they take the positions that the trunk's
tokens have there, and see the prefix and their own branch, nothing else. So each row has the
states it has alone, and the keys and values of the prefix are neither computed twice nor copied.
This is tree attention (Miao et al. 2024, SpecInfer, arXiv:2305.09781) on prompts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vsp.models import Group

_PREFIX, _TRUNK, _PADDING = 0, 1, -1  # branches are counted on from the trunk's own tokens


class CannotShareError(Exception):
    """The model's attention does not allow it; each row has to be a sequence of its own."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """A batch of groups: a sequence for each, padded on the right.

    Under a causal mask no real token ever sees the padding.
    """

    trunks: NDArray[np.int64]  # tokens [sequence, token] of the trunks alone
    trunk_lengths: NDArray[np.int64]  # [sequence]
    tokens: NDArray[np.int64]  # [sequence, token] with the branches
    sources: NDArray[np.int64]  # [sequence, token] token of the trunk in whose place each stands
    branches: NDArray[np.int64]  # [sequence, token] prefix, trunk, branches, padding
    places: NDArray[np.int64]  # [row, 2] sequence and position of each row's last token
    starts: tuple[tuple[int, int, int], ...]  # row: sequence, prefix, where the row's own begin

    @property
    def has_branches(self) -> bool:
        return bool(self.branches.max() > _TRUNK)

    def place(self, row: int, token: int) -> tuple[int, int]:
        """Sequence and position at which a token of a row stands."""
        sequence, prefix, start = self.starts[row]
        return sequence, token if token < prefix else start + token - prefix


def bundle(groups: Sequence[Group], pad: int) -> Bundle:
    """Lay out groups as sequences; `pad` is a token that stands for nothing."""
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
        _padded(trunks, pad),
        np.array([len(trunk) for trunk in trunks]),
        _padded(tokens, pad),
        # Padding stands in the place of a text token, as some models count their image's.
        _padded(sources, [len(trunk) - 1 for trunk in trunks]),
        _padded(branches, _PADDING),
        np.array(places),
        tuple(starts),
    )


def _padded(rows: Sequence[Sequence[int]], value: int | Sequence[int]) -> NDArray[np.int64]:
    """Rows of one length [row, longest]; `value` fills up all of them, or one each."""
    padded = np.empty((len(rows), max(map(len, rows))), dtype=np.int64)
    padded[:] = np.reshape(value, (-1, 1))
    for i, row in enumerate(rows):
        padded[i, : len(row)] = row
    return padded


def grafting(
    language: Any, bundled: Bundle, replaced: Callable[[Bundle, torch.Tensor], None] | None = None
) -> Callable[[Any, Any, Any], Any]:
    """A forward pre-hook of a decoder that is called with trunks: it adds their branches.

    `replaced` may overwrite some of the embeddings [sequence, token, hidden] in place.
    """

    places = _Places.of(bundled, language.device) if bundled.has_branches else None

    def graft(_module: Any, args: Any, kwargs: Any) -> Any:
        kwargs = dict(kwargs)
        mask = kwargs.get("attention_mask")
        if isinstance(mask, torch.Tensor) and mask.dim() == 2:
            # It only hides padding on the right, which a causal mask hides already.
            mask = kwargs["attention_mask"] = None
        if places is not None:
            _check_layers(language.config, mask, int(bundled.trunk_lengths.max()))
            _graft(language, places, mask, kwargs)
        if replaced is not None:
            kwargs["inputs_embeds"] = kwargs["inputs_embeds"].clone()
            replaced(bundled, kwargs["inputs_embeds"])
        return args, kwargs

    return graft


@dataclass(frozen=True, slots=True)
class _Places:
    """A bundle's arrays on the device, brought there before it starts: later it would wait."""

    sources: torch.Tensor  # [sequence, token]
    branches: torch.Tensor  # [sequence, token]
    added: tuple[torch.Tensor, torch.Tensor]  # sequence and position of each branches' token
    tokens: torch.Tensor  # of these

    @classmethod
    def of(cls, bundled: Bundle, device: torch.device) -> _Places:
        sequences, positions = np.nonzero(bundled.branches > _TRUNK)
        tokens = bundled.tokens[sequences, positions]
        arrays = (bundled.sources, bundled.branches, sequences, positions, tokens)
        sources, branches, first, second, added = (moved(array, device) for array in arrays)
        return cls(sources, branches, (first, second), added)


def moved(array: NDArray[Any], device: torch.device) -> torch.Tensor:
    """Start moving an array to the device; the host does not wait for it."""
    tensor = torch.from_numpy(array)
    if device.type == "cuda":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


def _graft(language: Any, places: _Places, mask: Any, kwargs: dict[str, Any]) -> None:
    trunk = kwargs["inputs_embeds"]
    device, shape = trunk.device, trunk.shape[:2]
    sources, branches = places.sources, places.branches
    if kwargs.get("position_ids") is None:
        kwargs["position_ids"] = torch.arange(shape[1], device=device).expand(shape)
    for name, value in kwargs.items():
        if isinstance(value, torch.Tensor):
            if name == "position_ids":  # [sequence, token], with axes before them for M-RoPE
                leading = value.shape[:-2]
                value = value.expand(*leading, *shape)
                kwargs[name] = value.gather(-1, sources.expand(*leading, *sources.shape))
            elif name != "attention_mask" and value.shape[:2] == shape:
                kwargs[name] = value[torch.arange(len(value), device=device)[:, None], sources]
    embedded = language.get_input_embeddings()(places.tokens)
    kwargs["inputs_embeds"][places.added] = embedded.to(trunk.dtype)
    # A prefix of padding alone would be no number after softmax, so padding sees padding.
    visible = (branches[:, None, :] == _PREFIX) | (branches[:, :, None] == branches[:, None, :])
    eager = language.config._attn_implementation == "eager"
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
    """What each token may see [sequence, 1, token, token]: what its source sees, in its branch."""
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
    return allowed


def _check_prefix(seen: torch.Tensor, branches: torch.Tensor) -> None:
    """Raise CannotShareError if the prefix sees what comes after it, as in a prefix-LM."""
    ahead = (branches[:, :, None] == _PREFIX) & (branches[:, None, :] == _TRUNK)
    if bool((seen & ahead).any()):
        raise CannotShareError("its attention looks from the image ahead at the prompt")


def _check_layers(config: Any, mask: Any, longest: int) -> None:
    """Raise CannotShareError for layers that do not see what a mask says, and no more.

    A recurrent layer runs through trunk and branches alike; a sliding window matters where no
    given mask spells it out.
    """
    kinds = set(getattr(config, "layer_types", None) or ())
    if others := kinds - {"full_attention", "sliding_attention"}:
        raise CannotShareError(f"its layers of type {', '.join(sorted(others))} need whole rows")
    window = getattr(config, "sliding_window", None)
    slides = not kinds or "sliding_attention" in kinds
    if mask is None and window and window < longest and slides:
        raise CannotShareError(f"its attention window of {window} is shorter than the prompts")
