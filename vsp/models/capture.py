"""Forward hooks that keep the states of a few tokens per row at every layer, and nothing else.

In the vision tower, they keep means over patches in the same way.
The answers come from the same pass: the model's head gets the states that predict a token of an
option, and no others.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from operator import attrgetter
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from vsp.choices import LAST, split_position
from vsp.errors import ModelError
from vsp.models.contract import Outputs, Pending, PromptGroup, Recorded
from vsp.models.device_copies import copy_to_device, copy_to_host
from vsp.models.edit_checks import check_edits
from vsp.models.edit_hooks import edit_states
from vsp.models.edits import Edit
from vsp.models.layer_states import given, left, require_tokens
from vsp.models.option_scores import OptionReader
from vsp.models.prefix_sharing import CannotShareError, branch_hook
from vsp.models.prompt_tree import Bundle, RowPlace, bundle_groups
from vsp.models.vision_tower import Tower
from vsp.models.weights import require_finite

_log = logging.getLogger(__name__)

# Runs the decoder on the embedded trunks of a bundle; with answers, the head behind it as well.
Forward = Callable[[Bundle], Any]
# Prepares the inputs of a forward pass and returns the pass.
PreparePass = Callable[[Bundle], Callable[[], object]]
# Overwrites some of the embeddings [sequence, token, hidden] of a bundle, branches included.
Replace = Callable[[Bundle, torch.Tensor], None]
# Waits for the device and returns an array.
_Copied = Callable[[], NDArray[Any]]
_QUERIES = "queries"  # the states from which tokens of options are predicted


class Capture:
    """Records states of a decoder that has `layers` and a final `norm`, and what `head` predicts.

    `tower` is the vision tower, if its states can be recorded.
    """

    def __init__(
        self,
        decoder: Any,
        pad: int,
        head: nn.Module | None = None,
        tower: Tower | None = None,
    ) -> None:
        self._decoder = decoder
        self._tower = tower
        self._pad = pad
        self._head = head
        self._shares = True
        self._has_whole_head = False  # not checked yet; states need no head

    def record(
        self,
        groups: Sequence[PromptGroup],
        forward: Forward,
        recorded: Recorded,
        replace: Replace | None = None,
        edits: Sequence[Edit] = (),
    ) -> Pending:
        """Start one forward pass.

        `forward` calls the decoder on the embedded trunks, and with answers the whole model; a hook
        appends the branches. `edits` change states before they are recorded. Raises MemoryError if
        the device has too little memory, ModelError if the model has no head, if weights of it
        are missing, a prompt attends to the answer, or the batch cannot have an edit.
        """
        if edits:
            layers = self._decoder.layers
            hidden_size = self._decoder.config.get_text_config().hidden_size
            check_edits(edits, groups, len(layers) + 1, hidden_size)
        if recorded.n_options and not self._has_whole_head:
            _check_head(self._head)
            self._has_whole_head = True
        run = partial(self._run, forward, recorded, replace, edits)
        if self._shares:
            try:
                return run(bundle_groups(groups, self._pad))
            except CannotShareError as reason:
                _log.warning("rows about one image share no work in this model: %s", reason)
                self._shares = False
        alone = bundle_groups(groups, self._pad, share=False)
        try:
            return run(alone)
        except CannotShareError:
            raise ModelError(
                "its prompt attends to the tokens of an answer, so that answers of several tokens "
                "cannot be read; use --no-answers"
            ) from None

    def _run(
        self,
        forward: Forward,
        recorded: Recorded,
        replace: Replace | None,
        edits: Sequence[Edit],
        bundle: Bundle,
    ) -> Pending:
        decoder = self._decoder
        reader = None
        if recorded.n_options:
            reader = OptionReader(bundle, recorded.n_options, decoder.norm, self._head)
        append = branch_hook(decoder, bundle, replace)
        with ExitStack() as stack:
            hook = decoder.register_forward_pre_hook(append, with_kwargs=True)
            stack.callback(hook.remove)
            stack.enter_context(memory_errors())
            stack.enter_context(torch.inference_mode())
            stack.enter_context(edit_states(decoder, bundle, edits))  # recorded after the edits
            kept = stack.enter_context(self._capturing(bundle, recorded, reader))
            if reader is None:
                forward(bundle)
                return _outputs(kept, None)
            with reader.asking(kept[_QUERIES], recorded.lens):
                scores = reader.scores(forward(bundle).logits)
            del kept[_QUERIES]
            return _outputs(kept, scores)

    @contextmanager
    def _capturing(
        self, bundle: Bundle, recorded: Recorded, reader: OptionReader | None
    ) -> Iterator[dict[str, list[torch.Tensor]]]:
        """Collect states of the decoder and of the tower: name of a readout → rows by layer."""
        of_module: dict[str, dict[str, Readout]] = {"": {}, "projector": {}, "vision": {}}
        for position in recorded.positions:
            module, _ = split_position(position)
            places = self._patches if module == "vision" else _tokens
            of_module[module][position] = Readout.of(places(bundle, position))
        tokens = of_module[""]
        if reader is not None:
            tokens[_QUERIES] = Readout.of([[place] for place in reader.places])
        with capture_tokens(self._decoder, tokens, of_module["projector"]) as kept:
            if self._tower is None or not of_module["vision"]:
                yield kept
                return
            with capture_patches(self._tower, of_module["vision"]) as of_patches:
                kept |= of_patches  # the lists are filled during the pass
                yield kept

    def _patches(self, bundle: Bundle, position: str) -> list[list[tuple[int, int]]]:
        """Where the patches of each row are in the states of the tower."""
        if self._tower is None:
            raise ModelError("the states of its vision tower are not recorded; plan without vision")
        pictures = [group.picture for group in bundle.groups]
        rows = [(place.sequence, place.row.places[position]) for place in bundle.rows]
        return self._tower.places(pictures, rows)

    def forward_only(
        self, groups: Sequence[PromptGroup], prepare: PreparePass
    ) -> Callable[[], None]:
        """The same pass on prepared tensors, without recording: a lower bound of its time."""
        bundle = bundle_groups(groups, self._pad)
        forward = prepare(bundle)
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


def _check_head(head: nn.Module | None) -> None:
    """Raise ModelError unless all weights of the head are finite; missing ones are not."""
    try:
        if head is not None:
            require_finite(head, "head")
    except ModelError:
        raise ModelError(
            "weights of its head (lm_head) are missing in the checkpoint or not finite, so that no "
            "answer can be read; plan the run again with --no-answers"
        ) from None


@dataclass(frozen=True, slots=True)
class Readout:
    """Takes the states [row, hidden] of one position: of a token, or the mean over several.

    In a vision tower, sequences are images and tokens are patches.
    """

    sequences: NDArray[np.int64]  # [row, token]
    positions: NDArray[np.int64]  # [row, token]
    share: NDArray[np.float32]  # [row, token]: 1 / number of tokens; 0 for padding

    @classmethod
    def of(cls, places: Sequence[Sequence[tuple[int, int]]]) -> Readout:
        """`places`: sequence and position of each token of each row."""
        longest = max(map(len, places))
        share = np.zeros((len(places), longest), np.float32)
        pairs = np.zeros((2, len(places), longest), np.int64)
        for i, tokens in enumerate(places):
            pairs[:, i, : len(tokens)] = np.array(tokens).T
            pairs[:, i, len(tokens) :] = pairs[:, i, :1]  # own states: 0 × inf of others is NaN
            share[i, : len(tokens)] = 1 / len(tokens)
        return cls(pairs[0], pairs[1], share)

    def on(self, device: torch.device) -> Callable[[torch.Tensor], torch.Tensor]:
        """Copy the indices to a device; a function from states [sequence, token, hidden] to rows."""
        first, second = (copy_to_device(one, device) for one in (self.sequences, self.positions))
        if self.share.shape[1] == 1:
            return lambda states: states[first[:, 0], second[:, 0]]
        share = copy_to_device(self.share, device)[..., None]
        # Sums of float32 in a fixed order: the same row has the same bytes every time.
        return lambda states: (states[first, second].float() * share).sum(1)


def _tokens(bundle: Bundle, position: str) -> list[list[tuple[int, int]]]:
    """Sequence and position of the tokens of each row."""
    return [_tokens_of(place, position) for place in bundle.rows]


def _tokens_of(place: RowPlace, position: str) -> list[tuple[int, int]]:
    if position == LAST or position not in place.row.places:
        return [place.last]  # of a row of another run, which does not store the position
    return list(map(place.token, place.row.places[position]))


class _Keeper:
    """Keeps the rows of readouts [row, hidden] from the states of one layer after another."""

    def __init__(self, readouts: Mapping[str, Readout], modules: Iterable[nn.Module]) -> None:
        self.kept: dict[str, list[torch.Tensor]] = {name: [] for name in readouts}
        # Copied before the pass starts, so that no layer waits for it.
        self._take = {
            device: {name: readout.on(device) for name, readout in readouts.items()}
            for device in set().union(*map(_devices, modules))
        }

    def keep(self, states: torch.Tensor) -> None:
        for name, rows in self._take[states.device].items():
            self.kept[name].append(rows(states))


@contextmanager
def capture_tokens(
    decoder: Any, readouts: Mapping[str, Readout], entering: Mapping[str, Readout] | None = None
) -> Iterator[dict[str, list[torch.Tensor]]]:
    """Collect states during one forward pass: name of a readout → its rows [row, hidden] by layer.

    The layers are the first layer's input (the embedding output), the output of every layer except
    the last, and the output of the final norm, in the order of `hidden_states` of transformers. Each
    is on the device where the layer left its output. Of readouts `entering`, only the first layer's
    input is kept: at an image, it is the projector's output.
    """
    every, first = _Keeper(readouts, [decoder]), _Keeper(entering or {}, [decoder])

    def keep(states: torch.Tensor, *keepers: _Keeper) -> None:
        require_tokens(states)
        for keeper in keepers:
            keeper.keep(states)

    def keep_input(_module: nn.Module, args: Any, kwargs: Any) -> None:
        keep(given(args, kwargs), every, first)

    def keep_output(_module: nn.Module, _args: Any, output: Any) -> None:
        keep(left(output), every)

    hooks = [decoder.layers[0].register_forward_pre_hook(keep_input, with_kwargs=True)]
    hooks += [layer.register_forward_hook(keep_output) for layer in decoder.layers[:-1]]
    hooks.append(decoder.norm.register_forward_hook(keep_output))
    try:
        yield every.kept | first.kept
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def capture_patches(
    tower: Tower, readouts: Mapping[str, Readout]
) -> Iterator[dict[str, list[torch.Tensor]]]:
    """As `capture_tokens`, of the input of a tower's first block and the output of each used block.

    If a pass encodes more pictures afterwards, such as depth, only the first pictures are kept.
    """
    keeper, n_kept = _Keeper(readouts, tower.blocks), 0

    def keep(states: torch.Tensor) -> None:
        nonlocal n_kept
        if n_kept <= tower.n_used:
            keeper.keep(states if states.dim() == 3 else states[None])
            n_kept += 1

    def keep_input(_module: nn.Module, args: Any, kwargs: Any) -> None:
        keep(given(args, kwargs))

    def keep_output(_module: nn.Module, _args: Any, output: Any) -> None:
        keep(left(output))

    hooks = [tower.blocks[0].register_forward_pre_hook(keep_input, with_kwargs=True)]
    hooks += [block.register_forward_hook(keep_output) for block in tower.blocks[: tower.n_used]]
    try:
        yield keeper.kept
    finally:
        for hook in hooks:
            hook.remove()


def _devices(decoder: nn.Module) -> set[torch.device]:
    """The devices that hold parts of a decoder: several if its layers are split."""
    return {parameter.device for parameter in decoder.parameters()}


def _outputs(
    kept: Mapping[str, Sequence[torch.Tensor]],
    scores: Callable[[], tuple[NDArray[np.float32], NDArray[np.float32] | None]] | None,
) -> Pending:
    """Start copying everything to the host."""
    states = {name: _gather(layers) for name, layers in kept.items()}

    def wait() -> Outputs:
        answers, lens = (None, None) if scores is None else scores()
        return Outputs({name: copied() for name, copied in states.items()}, answers, lens)

    return wait


def _gather(kept: Sequence[torch.Tensor]) -> _Copied:
    """Start copying states [row, hidden] of each layer to the host, from the devices they are on."""
    parts = [
        copy_to_host(torch.stack(tuple(states)))
        for _, states in groupby(kept, key=attrgetter("device"))
    ]
    return parts[0] if len(parts) == 1 else lambda: np.concatenate([wait() for wait in parts])


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
