"""Vision-language models: a family is one file and one line of the table."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vsp.config import ModelConfig, parse
from vsp.registry import Registry

FAMILIES = Registry(
    "model",
    {
        "llava15": "vsp.models.llava:Llava15",
        "qwen2": "vsp.models.qwen:Qwen2VL",
        "spatialrgpt": "vsp.models.spatialrgpt:SpatialRGPT",
        "fake": "vsp.models.fake:Fake",
    },
)


@dataclass(frozen=True, slots=True)
class ModelShape:
    """What a run must know of a model before its weights are loaded."""

    n_layers: int  # the embedding output and each decoder layer
    hidden_size: int
    dtype: Literal["bfloat16", "float16", "float32"]  # what it will compute in


class VisionLanguageModel(Protocol):
    """The contract of a family. `config` is complete; weights are loaded by the constructor."""

    defaults: ClassVar[ModelConfig]
    reserved: ClassVar[re.Pattern[str]]  # text that the family would read as tokens of its own

    def __init__(self, config: ModelConfig) -> None: ...

    @classmethod
    def shape(cls, config: ModelConfig) -> ModelShape:
        """Read the checkpoint's configuration only. Raises ModelError if it cannot be used."""
        ...

    @classmethod
    def check(cls, config: ModelConfig) -> None:
        """Raise ModelError if a part that loading needs is missing or cannot be read.

        Reads tokenizer and image processor, and sees that weight files are there, not what is in
        them.
        """
        ...

    def last_token_states(
        self, images: Sequence[Image.Image], prompts: Sequence[str]
    ) -> NDArray[np.floating]:
        """The hidden state of each prompt's last token at every layer `[layer, batch, hidden]`.

        Layer 0 is the embedding output, the last one comes after the final norm. Raises
        MemoryError if the batch does not fit the device, InputError if a row of it cannot be used.
        """
        ...


def resolve(family: str, **changes: Any) -> ModelConfig:
    """The family's own configuration with every change that is not None; options are merged."""
    defaults: ModelConfig = FAMILIES.load(family).defaults
    given = {key: value for key, value in changes.items() if value is not None}
    given["options"] = {**defaults.options, **given.get("options", {})}
    return parse(ModelConfig, {**defaults.model_dump(), **given}, f"model {family}")


def reserved_text(config: ModelConfig, prompt: str) -> str | None:
    """The part of a prompt that would not reach the model as text, if there is one."""
    found: re.Match[str] | None = FAMILIES.load(config.family).reserved.search(prompt)
    return found[0] if found else None


def shape(config: ModelConfig) -> ModelShape:
    found: ModelShape = FAMILIES.load(config.family).shape(config)
    return found


def check(config: ModelConfig) -> None:
    FAMILIES.load(config.family).check(config)


def load(config: ModelConfig) -> VisionLanguageModel:
    model: VisionLanguageModel = FAMILIES.load(config.family)(config)
    return model
