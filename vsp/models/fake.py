"""A model without weights, to test the stages. Its states are linear in the picture.

Layer 0 depends on the tokens only, like an embedding output. Every later layer also depends on an
8 × 8 copy of the picture, so that a probe can find something. A row has the same bytes in any batch.
The answers are linear in the last token's state, with weights for each option, and mean nothing; so
do the texts. Edits are carried on to later layers and tokens as `vsp.models.fake_edits` says.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from typing import Annotated, ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field

from vsp.choices import LAST, split_position
from vsp.config import Frozen, ModelConfig, parse
from vsp.errors import InputError
from vsp.models.contract import (
    STATES_ONLY,
    ModelShape,
    Outputs,
    Pending,
    Picture,
    Processor,
    PromptGroup,
    Recorded,
    TokenizedPrompt,
    TowerShape,
    VisionLanguageModel,
)
from vsp.models.edit_checks import check_edits
from vsp.models.edits import Edit
from vsp.models.fake_edits import FakeEdits

_PIXELS, _WORDS = 8 * 8 * 3, 32
_TOWER = TowerShape(n_layers=3, width=32)
_IMAGE, _END = 256, 257  # token ids; ids below 256 are bytes
_SURPRISE = 100  # of every option, so that log-likelihoods are negative
_SENTENCES = ("{}", "{}, I think.", "It is {}.", "I do not know.")


class FakeOptions(Frozen):
    n_layers: Annotated[int, Field(ge=2)] = 5
    hidden_size: Annotated[int, Field(ge=1)] = 64
    gain: float = 1.0  # multiplies the part of the states that depends on the picture
    pause: Annotated[float, Field(ge=0)] = 0.0  # minimum seconds per batch
    # Pixels of all pictures that fit in one batch; None: no limit.
    memory: Annotated[int, Field(ge=1)] | None = None


class FakeProcessor(Processor):
    """One token for the picture, then one per byte of the prompt."""

    def __init__(self, config: ModelConfig) -> None:
        _options(config)

    def reserved(self, prompt: str) -> str | None:
        return "<image>" if "<image>" in prompt else None

    def picture(self, image: Image.Image, depth: Image.Image | None = None) -> Picture:
        if depth is not None:
            raise InputError("this model takes no depth picture")
        small = np.asarray(image.resize((8, 8), Image.Resampling.BOX), dtype=np.float64)
        size = np.array([image.width * image.height])
        arrays = {"pixels": small.ravel() / 127.5 - 1, "size": size}
        return Picture(arrays, (_IMAGE,), {}, ("", ""))

    def row(
        self, picture: Picture, prompt: str, regions: NDArray[np.bool_] | None = None
    ) -> TokenizedPrompt:
        if regions is not None:
            raise InputError("this model takes no regions")
        tokens = (*picture.tokens, *prompt.encode(), _END)
        return TokenizedPrompt(tokens, len(tokens))

    def decode(self, tokens: Sequence[int]) -> str:
        return bytes(tokens).decode(errors="replace")

    def option_tokens(
        self, picture: Picture, row: TokenizedPrompt, prompt: str, options: Sequence[str]
    ) -> tuple[tuple[int, ...], ...]:
        return tuple(tuple(option.encode()) for option in options)

    def name_tokens(
        self, picture: Picture, row: TokenizedPrompt, prompt: str, start: int, stop: int
    ) -> tuple[int, ...]:
        before = len(picture.tokens)
        return tuple(
            range(before + len(prompt[:start].encode()), before + len(prompt[:stop].encode()))
        )

    def image_places(self, picture: Picture) -> tuple[int, ...]:
        return (0,)

    def patch_centres(self, picture: Picture, size: tuple[int, int]) -> NDArray[np.float64]:
        return np.array([[0.5, 0.5]])

    def tower_centres(self, picture: Picture, size: tuple[int, int]) -> NDArray[np.float64]:
        return np.array([[0.5, 0.5]])


class Fake(VisionLanguageModel):
    """A model without weights."""

    defaults: ClassVar = ModelConfig(family="fake")
    processor: ClassVar = FakeProcessor
    takes_edits: ClassVar = True

    def __init__(self, config: ModelConfig) -> None:
        self._options = _options(config)
        shape = (self._options.n_layers, _WORDS + _PIXELS, self._options.hidden_size)
        self._weights = np.random.default_rng(0).normal(size=shape) / np.sqrt(_PIXELS)
        of_tower = (_TOWER.n_layers, _TOWER.width, _PIXELS)
        self._tower = np.random.default_rng(1).normal(size=of_tower) / np.sqrt(_PIXELS)

    @classmethod
    def shape(cls, config: ModelConfig) -> ModelShape:
        options = _options(config)
        dtype = "float32" if config.dtype == "auto" else config.dtype
        return ModelShape(options.n_layers, options.hidden_size, dtype)

    @classmethod
    def tower_shape(cls, config: ModelConfig) -> TowerShape:
        return _TOWER

    @classmethod
    def check(cls, config: ModelConfig) -> None:
        _options(config)

    def forward(
        self,
        groups: Sequence[PromptGroup],
        recorded: Recorded = STATES_ONLY,
        edits: Sequence[Edit] = (),
    ) -> Pending:
        check_edits(edits, groups, self._options.n_layers, self._options.hidden_size)
        memory = self._options.memory
        sizes = [int(group.picture.arrays["size"][0]) * len(group.rows) for group in groups]
        if memory is not None and sum(sizes) > memory:
            raise MemoryError(f"{len(groups)} pictures have more than {memory} pixels")
        time.sleep(self._options.pause)
        rows = [(group.picture, row) for group in groups for row in group.rows]
        return lambda: self._outputs(rows, recorded, edits)

    def generate(self, groups: Sequence[PromptGroup], n_tokens: int) -> list[tuple[int, ...]]:
        rows = [(group.picture, row) for group in groups for row in group.rows]
        return [tuple(_text(picture, row).encode()[:n_tokens]) for picture, row in rows]

    def _outputs(
        self,
        rows: Sequence[tuple[Picture, TokenizedPrompt]],
        recorded: Recorded,
        edits: Sequence[Edit],
    ) -> Outputs:
        def plain(number: int, token: int) -> NDArray[np.floating]:
            picture, row = rows[number]
            return self._token_states(picture, row.tokens[1 : token + 1])

        edited = FakeEdits(edits, plain)
        states = {}
        for position in recorded.positions:
            of_rows = [self._at(position, edited, i, *row) for i, row in enumerate(rows)]
            states[position] = np.stack(of_rows, axis=1)
        if not recorded.n_options:
            return Outputs(states)
        n_layers = self._options.n_layers
        lens = np.full((n_layers, len(rows), recorded.n_options), np.nan, np.float32)
        for i, (picture, row) in enumerate(rows):
            last = self._at(LAST, edited, i, picture, row)
            for number, option in enumerate(row.options):
                lens[:, i, number] = last @ self.option_weights(option) - _SURPRISE - len(option)
        return Outputs(states, lens[-1], lens if recorded.lens else None)

    def option_weights(self, option: Sequence[int]) -> NDArray[np.float64]:
        """The vector [hidden] whose product with the last token's state makes an option likely."""
        weights: NDArray[np.float64] = np.random.default_rng(option).normal(
            size=self._options.hidden_size
        )
        return weights

    def _at(
        self, position: str, edited: FakeEdits, number: int, picture: Picture, row: TokenizedPrompt
    ) -> NDArray[np.floating]:
        """States [layer, hidden] of one row at a position, the mean over its tokens."""
        module, _ = split_position(position)
        if module == "vision":
            seen: NDArray[np.floating] = self._tower @ picture.arrays["pixels"]
            return seen
        places = row.places.get(position, (len(row.tokens) - 1,))
        of_tokens = [edited.at(number, place) for place in places]
        states = np.mean(of_tokens, axis=0) if len(of_tokens) > 1 else of_tokens[0]
        return states[:1] if module == "projector" else states

    def _token_states(self, picture: Picture, tokens: tuple[int, ...]) -> NDArray[np.floating]:
        """States [layer, hidden] of the last of these tokens; the image token has none before it."""
        prompt = bytes(token for token in tokens if token < _IMAGE)
        words = np.frombuffer(hashlib.sha256(prompt).digest(), np.uint8)[:_WORDS] / 127.5 - 1
        seen = np.concatenate([words, self._options.gain * picture.arrays["pixels"]])
        states: NDArray[np.floating] = np.einsum("f,lfh->lh", seen, self._weights)
        states[0] = words @ self._weights[0, :_WORDS]
        return states


def _text(picture: Picture, row: TokenizedPrompt) -> str:
    """A sentence with a word of the prompt's list in brackets, or with the prompt's last word."""
    prompt = bytes(token for token in row.tokens if token < _IMAGE)
    seen = hashlib.sha256(prompt + picture.arrays["pixels"].tobytes()).digest()
    text = prompt.decode()
    _, found, listed = text.rpartition("[")
    words = listed.partition("]")[0].split(", ") if found else text.split()[-1:] or [""]
    return _SENTENCES[seen[0] % len(_SENTENCES)].format(words[seen[1] % len(words)])


def _options(config: ModelConfig) -> FakeOptions:
    return parse(FakeOptions, config.options, "model fake: options")
