"""A model without weights, for tests of the stages: its states are plain sums over the picture.

Layer 0 knows the prompt alone, as an embedding output does; every later layer also sees an 8 × 8
copy of the picture, so that a probe has something to find. The same row gives the same bytes in
any batch.
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

from vsp.config import Frozen, ModelConfig, parse
from vsp.models import Group, ModelShape, Picture, Row, States

_PIXELS, _WORDS = 8 * 8 * 3, 32
_IMAGE, _END = 256, 257  # tokens; bytes are below


class FakeOptions(Frozen):
    n_layers: Annotated[int, Field(ge=2)] = 5
    hidden_size: Annotated[int, Field(ge=1)] = 64
    gain: float = 1.0  # what the pictures' share is multiplied by
    pause: Annotated[float, Field(ge=0)] = 0.0  # seconds that each batch takes at least
    memory: Annotated[int, Field(ge=1)] | None = None  # pixels of pictures that fit at once


class FakeProcessor:
    """A token for each byte of the prompt, behind one for the picture."""

    def __init__(self, config: ModelConfig) -> None:
        _options(config)

    def reserved(self, prompt: str) -> str | None:
        return "<image>" if "<image>" in prompt else None

    def picture(self, image: Image.Image) -> Picture:
        small = np.asarray(image.resize((8, 8), Image.Resampling.BOX), dtype=np.float64)
        size = np.array([image.width * image.height])
        arrays = {"pixels": small.ravel() / 127.5 - 1, "size": size}
        return Picture(arrays, (_IMAGE,), {}, ("", ""))

    def row(self, picture: Picture, prompt: str) -> Row:
        tokens = (*picture.tokens, *prompt.encode(), _END)
        return Row(tokens, len(tokens))


class Fake:
    """See the module."""

    defaults: ClassVar = ModelConfig(family="fake")
    processor: ClassVar = FakeProcessor

    def __init__(self, config: ModelConfig) -> None:
        self._options = _options(config)
        shape = (self._options.n_layers, _WORDS + _PIXELS, self._options.hidden_size)
        self._weights = np.random.default_rng(0).normal(size=shape) / np.sqrt(_PIXELS)

    @classmethod
    def shape(cls, config: ModelConfig) -> ModelShape:
        options = _options(config)
        dtype = "float32" if config.dtype == "auto" else config.dtype
        return ModelShape(options.n_layers, options.hidden_size, dtype)

    @classmethod
    def check(cls, config: ModelConfig) -> None:
        _options(config)

    def forward(self, groups: Sequence[Group]) -> States:
        memory = self._options.memory
        sizes = [int(group.picture.arrays["size"][0]) * len(group.rows) for group in groups]
        if memory is not None and sum(sizes) > memory:
            raise MemoryError(f"{len(groups)} pictures hold more than {memory} pixels")
        time.sleep(self._options.pause)
        rows = [self._row(group.picture, row) for group in groups for row in group.rows]
        return lambda: np.stack(rows, axis=1)

    def _row(self, picture: Picture, row: Row) -> NDArray[np.floating]:
        prompt = bytes(row.tokens[1:-1])
        words = np.frombuffer(hashlib.sha256(prompt).digest(), np.uint8)[:_WORDS] / 127.5 - 1
        seen = np.concatenate([words, self._options.gain * picture.arrays["pixels"]])
        states: NDArray[np.floating] = np.einsum("f,lfh->lh", seen, self._weights)
        states[0] = words @ self._weights[0, :_WORDS]
        return states


def _options(config: ModelConfig) -> FakeOptions:
    return parse(FakeOptions, config.options, "model fake: options")
