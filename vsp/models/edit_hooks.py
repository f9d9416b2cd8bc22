"""Forward hooks that change the states of some tokens, as edits say.

All edits of a layer are joined before the pass, so that a layer needs a few operations on the
device for thousands of edits.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from vsp.models.device_copies import copy_to_device, input_device
from vsp.models.edits import Add, Copy, Edit, Project
from vsp.models.layer_states import given, left, require_tokens, with_given, with_left
from vsp.models.prompt_tree import Bundle, RowPlace

_VALUES_AT_ONCE = 1 << 26  # of states that are converted to float32 together
# Reads the states of a layer [sequence, token, hidden] and writes into a copy of them.
_Write = Callable[[torch.Tensor, torch.Tensor], None]
_Places = Mapping[int, Sequence[RowPlace]]  # row of the batch → every place of it
_Change = TypeVar("_Change", Add, Copy, Project)


@contextmanager
def edit_states(decoder: Any, bundle: Bundle, edits: Sequence[Edit]) -> Iterator[None]:
    """Change states of a decoder with `layers` and a final `norm` during one forward pass.

    Hooks that are registered inside see the changed states. A row that stands in several sequences
    is changed in each.
    """
    places: dict[int, list[RowPlace]] = defaultdict(list)
    for place in bundle.places:
        places[place.number].append(place)
    of_layer: dict[int, list[Edit]] = defaultdict(list)
    for edit in edits:
        of_layer[edit.layer].append(edit)
    hooks = []
    try:
        for layer, some in of_layer.items():
            hooks.append(_register(decoder, layer, some, places))
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _register(decoder: Any, layer: int, edits: Sequence[Edit], places: _Places) -> Any:
    """The hook of one layer, as states are counted in stores."""
    if layer == 0:
        change = _joined(edits, places, input_device(decoder))

        def before(_module: nn.Module, args: Any, kwargs: Any) -> Any:
            return with_given(args, kwargs, change(given(args, kwargs)))

        return decoder.layers[0].register_forward_pre_hook(before, with_kwargs=True)
    module = decoder.norm if layer == len(decoder.layers) else decoder.layers[layer - 1]
    own = next(module.parameters(), None)  # some norms have none
    change = _joined(edits, places, input_device(decoder) if own is None else own.device)

    def after(_module: nn.Module, _args: Any, output: Any) -> Any:
        return with_left(output, change(left(output)))

    return module.register_forward_hook(after)


def _joined(
    edits: Sequence[Edit], places: _Places, device: torch.device
) -> Callable[[torch.Tensor], torch.Tensor]:
    """All edits of a layer as a function of its states [sequence, token, hidden].

    Every change is computed from the given states. Arrays are copied to `device` here, before the
    pass starts.
    """
    writes: list[_Write] = []
    if adds := _of_kind(edits, Add):
        writes.append(_adding(adds, places, device))
    if copies := _of_kind(edits, Copy):
        writes.append(_copying(copies, places, device))
    projections = _of_kind(edits, Project)
    for project in {id(project): project for _, project in projections}.values():
        same = [edit for edit, one in projections if one is project]
        writes.append(_projecting(same, project, places, device))

    def change(states: torch.Tensor) -> torch.Tensor:
        require_tokens(states)
        changed = states.clone()
        for write in writes:
            write(states, changed)
        return changed

    return change


def _of_kind(edits: Sequence[Edit], kind: type[_Change]) -> list[tuple[Edit, _Change]]:
    return [(edit, edit.change) for edit in edits if isinstance(edit.change, kind)]


def _adding(adds: Sequence[tuple[Edit, Add]], places: _Places, device: torch.device) -> _Write:
    numbers: dict[int, int] = {}  # identity of a vector → its number
    vectors: list[NDArray[np.float32]] = []
    which: list[int] = []
    for edit, add in adds:
        number = numbers.setdefault(id(add.vector), len(numbers))
        if number == len(vectors):
            vectors.append(add.vector)
        which += [number] * (len(places[edit.row]) * len(edit.tokens))
    stacked = np.stack(vectors).astype(np.float32)
    # x + -0.0 is x for every x; -0.0 + 0.0 would be 0.0, which has other bytes.
    stacked[stacked == 0] = -0.0
    added = copy_to_device(stacked, device)
    at = copy_to_device(_tokens([edit for edit, _ in adds], places), device)
    chosen = copy_to_device(np.array(which, np.int64), device)

    def write(states: torch.Tensor, changed: torch.Tensor) -> None:
        vectors = added.to(states.device)
        n_tokens = _tokens_at_once(states)
        for (first, second), number in zip(
            at.to(states.device).split(n_tokens, dim=1),
            chosen.to(states.device).split(n_tokens),
            strict=True,
        ):
            sums = states[first, second].float() + vectors[number]
            changed[first, second] = sums.to(states.dtype)

    return write


def _copying(copies: Sequence[tuple[Edit, Copy]], places: _Places, device: torch.device) -> _Write:
    source = []
    for edit, copy in copies:
        # A prompt has the same states in each of its sequences.
        donors = [places[copy.row][0].token(token) for token in copy.tokens]
        source += donors * len(places[edit.row])
    taken = copy_to_device(np.array(source, np.int64).T.copy(), device)
    at = copy_to_device(_tokens([edit for edit, _ in copies], places), device)

    def write(states: torch.Tensor, changed: torch.Tensor) -> None:
        first, second = at.to(states.device)
        from_first, from_second = taken.to(states.device)
        changed[first, second] = states[from_first, from_second]

    return write


def _projecting(
    edits: Sequence[Edit], project: Project, places: _Places, device: torch.device
) -> _Write:
    arrays = (project.mean, project.right, project.left)
    parts = [copy_to_device(np.array(one, np.float32, order="C"), device) for one in arrays]
    at = copy_to_device(_tokens(edits, places), device)

    def write(states: torch.Tensor, changed: torch.Tensor) -> None:
        mean, right, left = (part.to(states.device) for part in parts)
        for first, second in at.to(states.device).split(_tokens_at_once(states), dim=1):
            values = states[first, second].float()
            values = values - (values - mean) @ right @ left
            changed[first, second] = values.to(states.dtype)

    return write


def _tokens(edits: Sequence[Edit], places: _Places) -> NDArray[np.int64]:
    """Sequence and position [2, token] of the tokens of each edit, at every place of its row."""
    at = [place.token(i) for edit in edits for place in places[edit.row] for i in edit.tokens]
    return np.array(at, np.int64).T.copy()


def _tokens_at_once(states: torch.Tensor) -> int:
    return max(1, _VALUES_AT_ONCE // states.shape[-1])
