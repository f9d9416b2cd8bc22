"""Vision-language models: a family is one file and one line of the table.

A family has two halves. Its processor turns an image and a prompt into what the model reads; it
knows no weights, so it works anywhere: in the plan, to count tokens, and in worker processes that
run ahead of the device. The model itself takes groups: one image and all rows that ask about it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vsp.config import ModelConfig, parse
from vsp.utils.registry import Registry

FAMILIES = Registry(
    "model",
    "vsp.models",
    {
        "llava15": "vsp.models.llava:Llava15",
        "qwen2": "vsp.models.qwen:Qwen2VL",
        "spatialrgpt": "vsp.models.spatialrgpt:SpatialRGPT",
        "auto": "vsp.models.auto:AutoVLM",
        "fake": "vsp.models.fake:Fake",
    },
)


@dataclass(frozen=True, slots=True)
class ModelShape:
    """What a run must know of a model before its weights are loaded."""

    n_layers: int  # the embedding output and each decoder layer
    hidden_size: int
    dtype: Literal["bfloat16", "float16", "float32"]  # what it will compute in


@dataclass(frozen=True, slots=True)
class Picture:
    """What a processor makes of one image, whatever is asked about it."""

    # As the vision tower takes them; those of several pictures are joined along the first axis.
    arrays: Mapping[str, NDArray[Any]]
    tokens: tuple[int, ...]  # with which every prompt about it begins, to the image's last one
    kinds: Mapping[str, tuple[int, ...]]  # the same tokens as other inputs of the model mark them
    around: tuple[str, str]  # text between the image and the prompt, and behind the prompt


@dataclass(frozen=True, slots=True)
class Row:
    """One prompt about one image, as tokens."""

    tokens: tuple[int, ...]
    n_common: int  # of these, as many from the first may be shared with an equal row
    regions: NDArray[np.bool_] | None = None  # [region, height, width], at the tower's resolution


@dataclass(frozen=True, slots=True)
class Group:
    """One image and rows that ask about it; all of them begin with the same `n_shared` tokens."""

    picture: Picture
    rows: tuple[Row, ...]
    n_shared: int  # through the image and on; 0 in a group of one row

    @property
    def n_tokens(self) -> int:
        """Tokens to compute: what is shared counts once."""
        return self.n_shared + sum(len(row.tokens) - self.n_shared for row in self.rows)

    def halves(self) -> tuple[Group, Group]:
        """Two groups with half of the rows each."""
        middle = len(self.rows) // 2
        first, second = self.rows[:middle], self.rows[middle:]
        return group(self.picture, first), group(self.picture, second)


class Processor(Protocol):
    """The half of a family that knows no weights. Raises InputError for what it cannot take."""

    def __init__(self, config: ModelConfig) -> None: ...

    def reserved(self, prompt: str) -> str | None:
        """The part of a prompt that would not reach the model as text, if there is one."""
        ...

    def picture(self, image: Image.Image) -> Picture: ...

    def row(self, picture: Picture, prompt: str) -> Row: ...


# Waits for the device and gives hidden states [layer, row, hidden].
States = Callable[[], NDArray[np.floating]]


class VisionLanguageModel(Protocol):
    """The contract of a family. `config` is complete; weights are loaded by the constructor."""

    defaults: ClassVar[ModelConfig]
    processor: ClassVar[type[Processor]]

    def __init__(self, config: ModelConfig) -> None: ...

    @classmethod
    def shape(cls, config: ModelConfig) -> ModelShape:
        """Read the checkpoint's configuration only. Raises ModelError if it cannot be used."""
        ...

    @classmethod
    def check(cls, config: ModelConfig) -> None:
        """Raise ModelError if weight files that loading needs are missing. Reads none of them."""
        ...

    def forward(self, groups: Sequence[Group]) -> States:
        """Start computing the hidden state of each row's last token at every layer.

        Rows are counted through the groups. Layer 0 is the embedding output, the last one comes
        after the final norm. Raises MemoryError if the batch does not fit the device.
        """
        ...


@dataclass(frozen=True, slots=True)
class Loaded:
    """Both halves of a family."""

    processor: Processor
    model: VisionLanguageModel

    def last_token_states(
        self, images: Sequence[Image.Image], prompts: Sequence[str]
    ) -> NDArray[np.floating]:
        """Hidden states of each prompt's last token `[layer, row, hidden]`, no work shared."""
        groups = []
        for image, prompt in zip(images, prompts, strict=True):
            picture = self.processor.picture(image)
            groups.append(group(picture, [self.processor.row(picture, prompt)]))
        return self.model.forward(groups)()


def group(picture: Picture, rows: Sequence[Row]) -> Group:
    """The rows about one image, to be worked as one sequence."""
    return Group(picture, tuple(rows), n_shared(rows) if len(rows) > 1 else 0)


def n_padded_tokens(groups: Sequence[Group]) -> int:
    """Tokens that a batch of groups takes, padding included."""
    return len(groups) * max(group.n_tokens for group in groups)


def n_shared(rows: Sequence[Row]) -> int:
    """Tokens with which all rows begin; each keeps at least its last to itself."""
    most = min(min(row.n_common, len(row.tokens) - 1) for row in rows)
    # What the first and the last in order have in common, all in between have too.
    first, last = min(row.tokens for row in rows), max(row.tokens for row in rows)
    pairs = zip(first[:most], last[:most], strict=True)
    return next((i for i, (one, other) in enumerate(pairs) if one != other), most)


def resolve(family: str, **changes: Any) -> ModelConfig:
    """The family's own configuration with every change that is not None; options are merged."""
    return changed(FAMILIES.load(family).defaults, family, changes)


def changed(base: ModelConfig, name: str, changes: Mapping[str, Any]) -> ModelConfig:
    """A configuration with every change that is not None; options are merged."""
    given = {key: value for key, value in changes.items() if value is not None}
    given["options"] = {**base.options, **given.get("options", {})}
    return parse(ModelConfig, {**base.model_dump(), **given}, f"model {name}")


def region_marker(config: ModelConfig) -> str:
    """What stands for a region in a prompt, if the model is to be asked about regions."""
    marker: Callable[[ModelConfig], str] | None
    marker = getattr(FAMILIES.load(config.family), "region_marker", None)
    return marker(config) if marker else ""


def shape(config: ModelConfig) -> ModelShape:
    found: ModelShape = FAMILIES.load(config.family).shape(config)
    return found


def check(config: ModelConfig) -> Processor:
    """Raise ModelError if a part that loading needs is missing or cannot be read."""
    FAMILIES.load(config.family).check(config)
    return read_processor(config)


def read_processor(config: ModelConfig) -> Processor:
    """The family's processor. Raises ModelError if the checkpoint's cannot be read."""
    processor: Processor = FAMILIES.load(config.family).processor(config)
    return processor


def read_model(config: ModelConfig) -> VisionLanguageModel:
    """The family's model with its weights. Raises ModelError if they cannot be used."""
    model: VisionLanguageModel = FAMILIES.load(config.family)(config)
    return model


def load(config: ModelConfig) -> Loaded:
    """Processor and model, ready to be asked."""
    return Loaded(read_processor(config), read_model(config))
