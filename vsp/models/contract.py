"""The contract of a model family, and the values that its two halves exchange.

The processor turns an image and a prompt into tokens and arrays. It needs no weights, so the plan
uses it to count tokens, and worker processes use it ahead of the device. The model takes prompt
groups: one image and all prompts about it.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vsp.choices import LAST
from vsp.config import ModelConfig
from vsp.errors import InputError, ModelError
from vsp.models.edits import Edit
from vsp.utils.prefixes import proper_prefixes

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, slots=True)
class ModelShape:
    """What a plan needs to know about a model; read from its configuration, without weights."""

    n_layers: int  # the embedding output and each decoder layer
    hidden_size: int
    dtype: Literal["bfloat16", "float16", "float32"]  # of the computation


@dataclass(frozen=True, slots=True)
class TowerShape:
    """The states of a vision tower up to the layer that the projector reads."""

    n_layers: int  # the input of the first block and the output of each block
    width: int


@dataclass(frozen=True, slots=True)
class Outline:
    """A model on torch's meta device: modules and shapes as loaded, without memory for weights."""

    model: nn.Module
    decoder: str  # name of the module with the decoder's layers; only these are quantised
    dtype: str


@dataclass(frozen=True, slots=True)
class Patches:
    """The squares of pixels into which the input of Qwen's vision tower is cut."""

    side: int  # pixels
    merged: int  # patches a side of a block of neighbours; they follow each other
    copies: int  # of each patch: a tower for videos gets a picture as several equal frames


@dataclass(frozen=True, eq=False, slots=True)
class PixelRule:
    """How pictures [height, width, channel] of bytes become the input of a vision tower."""

    table: NDArray[np.float32]  # [channel, byte]
    patches: Patches | None  # None: the input is [picture, channel, height, width]

    @property
    def copies(self) -> int:
        """How often the input holds each pixel."""
        return self.patches.copies if self.patches else 1


@dataclass(frozen=True, slots=True)
class Picture:
    """One image as a processor prepares it, for any prompt about it."""

    # Inputs of the vision tower. Those of several pictures are concatenated along the first axis.
    arrays: Mapping[str, NDArray[Any]]
    tokens: tuple[int, ...]  # every prompt about it begins with these; the last is an image token
    kinds: Mapping[str, tuple[int, ...]]  # other inputs with one value per token of `tokens`
    around: tuple[str, str]  # text between the image and the prompt, and text after the prompt
    # How `arrays` of bytes [height, width, channel] become inputs; None: all arrays are inputs.
    rule: PixelRule | None = None


@dataclass(frozen=True, slots=True)
class TokenizedPrompt:
    """One prompt about one image, as tokens, and what to record about it."""

    tokens: tuple[int, ...]
    n_common: int  # number of first tokens that other prompts about the image may share
    regions: NDArray[np.bool_] | None = None  # [region, height, width], at the tower's resolution
    options: tuple[tuple[int, ...], ...] = ()  # tokens of each answer option, behind `tokens`
    # Position → indices of the tokens whose states are averaged; at a position of the vision tower,
    # of its patches. The last token needs no entry.
    places: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    @property
    def n_option_tokens(self) -> int:
        """Tokens that the options add to the sequence; options that begin alike share them."""
        return len(proper_prefixes(self.options))


@dataclass(frozen=True, slots=True)
class PromptGroup:
    """One image and prompts about it, all of which begin with the same `n_shared` tokens."""

    picture: Picture
    rows: tuple[TokenizedPrompt, ...]
    n_shared: int  # 0 in a group of one prompt

    @property
    def n_tokens(self) -> int:
        """Tokens to compute; shared tokens count once."""
        own = sum(len(row.tokens) - self.n_shared + row.n_option_tokens for row in self.rows)
        return self.n_shared + own

    def halves(self) -> tuple[PromptGroup, PromptGroup]:
        """Two groups with half of the prompts each."""
        middle = len(self.rows) // 2
        first, second = self.rows[:middle], self.rows[middle:]
        return prompt_group(self.picture, first), prompt_group(self.picture, second)


@dataclass(frozen=True, slots=True)
class Recorded:
    """What a forward pass records. The rows say where, and give the options' tokens."""

    positions: tuple[str, ...] = (LAST,)
    n_options: int = 0  # most options of any row; 0: no answers
    lens: bool = False  # also read the options' log-likelihoods from every layer


@dataclass(frozen=True, slots=True)
class Outputs:
    """What a forward pass recorded of each row, in the order of the rows."""

    states: Mapping[str, NDArray[np.floating]]  # position → [layer, row, hidden]
    # Log-likelihood [row, option] of each option; NaN where a row has fewer options. None: no answers.
    answers: NDArray[np.float32] | None = None
    lens: NDArray[np.float32] | None = (
        None  # as `answers`, read from each layer: [layer, row, option]
    )


STATES_ONLY = Recorded()
# Waits for the device.
Pending = Callable[[], Outputs]


class Processor(Protocol):
    """The half of a family that needs no weights.

    Its methods raise InputError for an image or prompt that the model cannot take.
    """

    # Values of `model_type` that the family's checkpoints may have; empty: any, or no checkpoint.
    model_types: ClassVar[tuple[str, ...]] = ()

    def __init__(self, config: ModelConfig) -> None: ...

    @property
    def crops(self) -> bool:
        """Whether the edges of an image that is not square are cut off."""
        return False

    @property
    def frame(self) -> str:
        """The rendered chat template, with `{instruction}` for a row's prompt; "" without one."""
        return ""

    @abstractmethod
    def reserved(self, prompt: str) -> str | None:
        """The first part of a prompt that the tokenizer reads as a special token, if any."""
        ...

    @abstractmethod
    def picture(self, image: Image.Image, depth: Image.Image | None = None) -> Picture:
        """Prepare an image; `depth` is its depth picture, for families that take one."""
        ...

    @abstractmethod
    def row(
        self, picture: Picture, prompt: str, regions: NDArray[np.bool_] | None = None
    ) -> TokenizedPrompt:
        """Tokenize a prompt; `regions` [region, height, width] for families that take them."""
        ...

    def option_tokens(
        self, picture: Picture, row: TokenizedPrompt, prompt: str, options: Sequence[str]
    ) -> tuple[tuple[int, ...], ...]:
        """The tokens of each option behind those of a prompt; `row` is the result of `row`.

        Raises InputError if the tokens of prompt and option together do not begin with those of the
        prompt, or if an option has no token.
        """
        raise InputError("this model's family records no answers; use --no-answers")

    def name_tokens(
        self, picture: Picture, row: TokenizedPrompt, prompt: str, start: int, stop: int
    ) -> tuple[int, ...]:
        """Indices in `row.tokens` of the tokens of the characters `prompt[start:stop]`.

        Raises InputError if a token also has other characters, except spaces or marks ahead of them.
        """
        raise InputError("this model's family does not say which tokens a name has")

    def image_places(self, picture: Picture) -> tuple[int, ...]:
        """Indices in `picture.tokens` of the tokens that stand for parts of the image."""
        raise InputError("this model's family does not say which tokens the image has")

    def patch_centres(self, picture: Picture, size: tuple[int, int]) -> NDArray[np.float64]:
        """Centres [image token, (x, y)] of the patches of `image_places`, as shares of the image.

        `size` is the image's width and height. Centres may lie outside 0 … 1 where an image is
        padded, and are NaN for tokens without a place. Raises InputError if the image tokens of the
        family have no grid.
        """
        raise InputError("this model's image tokens have no grid; use positions without a box")

    def tower_centres(self, picture: Picture, size: tuple[int, int]) -> NDArray[np.float64]:
        """As `patch_centres`, of the patches that the blocks of the vision tower pass on.

        The model finds a patch in the states of a block by its index here. The class token counts, and
        has no place.
        """
        raise InputError("this model's family does not say where the patches of its tower are")

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of generated tokens, without special tokens."""
        raise ModelError("this model's family generates no text")


class VisionLanguageModel(Protocol):
    """A family. `config` is complete; the constructor loads the weights.

    It gets names of `devices` to split the layers over only if the family says that it `splits`.

    Optional parts have defaults here, which a family that derives from this class inherits. A
    family without a required part raises TypeError when it is constructed.
    """

    defaults: ClassVar[ModelConfig]
    processor: ClassVar[type[Processor]]
    has_forward_only: ClassVar[bool] = False  # whether `forward_only` is implemented
    has_reference: ClassVar[bool] = False  # whether `reference_states` is implemented
    takes_edits: ClassVar[bool] = False  # whether `forward` changes states
    takes_adapter: ClassVar[bool] = False  # whether the constructor reads `config.adapter`
    splits: ClassVar[bool] = False  # whether the constructor takes `devices`
    has_untrained: ClassVar[bool] = False  # whether the constructor reads `config.weights`

    def __init__(self, config: ModelConfig, devices: Sequence[str] = ()) -> None: ...

    @classmethod
    @abstractmethod
    def shape(cls, config: ModelConfig) -> ModelShape:
        """Read the checkpoint's configuration only. Raises ModelError if it cannot be used."""
        ...

    @classmethod
    def tower_shape(cls, config: ModelConfig) -> TowerShape:
        """The shape of the vision tower's states. Raises ModelError if they cannot be recorded."""
        raise ModelError(
            f"model {config.family}: the states of its vision tower are not recorded; leave vision out "
            "of --modules"
        )

    @classmethod
    @abstractmethod
    def check(cls, config: ModelConfig) -> None:
        """Raise ModelError if weight files are missing or incomplete. Reads no weights."""
        ...

    @classmethod
    def has_head(cls, config: ModelConfig) -> bool:
        """Whether the checkpoint has the head that predicts tokens. Reads no weights.

        The weights of a checkpoint without it are whole, since no state depends on the head.
        """
        return True

    @classmethod
    def outline(cls, config: ModelConfig) -> Outline | None:
        """The model without weights, to estimate memory; None: the family cannot say."""
        return None

    @classmethod
    def region_marker(cls, config: ModelConfig) -> str:
        """The text that stands for a region in a prompt; empty if the model is asked by names."""
        return ""

    @abstractmethod
    def forward(
        self,
        groups: Sequence[PromptGroup],
        recorded: Recorded = STATES_ONLY,
        edits: Sequence[Edit] = (),
    ) -> Pending:
        """Start computing the hidden states of each prompt at every layer, and the answers.

        Rows are the prompts of all groups, in order. Layer 0 is the embedding output; the last
        layer is taken after the final norm. `edits` change states before they are recorded and
        before later layers read them. Raises MemoryError if the batch does not fit, ModelError for
        an edit that the batch cannot have, or if the family changes no states.
        """
        ...

    def generate(self, groups: Sequence[PromptGroup], n_tokens: int) -> list[tuple[int, ...]]:
        """The tokens that greedy decoding puts behind each prompt: at most `n_tokens`.

        Each prompt is computed alone. A text ends before the checkpoint's end token. Settings for
        sampling in a checkpoint are ignored. Raises MemoryError if a prompt does not fit.
        """
        raise ModelError("this model's family generates no text")

    def forward_only(self, groups: Sequence[PromptGroup]) -> Callable[[], None]:
        """The forward pass on tensors that are already on the device.

        `vsp bench` measures it; no stage uses it.
        """
        raise NotImplementedError

    def reference_states(
        self, processor: Processor, images: Sequence[Image.Image], prompts: Sequence[str]
    ) -> NDArray[np.floating]:
        """States [layer, row, hidden] as a short script with transformers gets them.

        `vsp bench` compares with it; no stage uses it.
        """
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Loaded:
    """Both halves of a family, ready to use."""

    processor: Processor
    model: VisionLanguageModel

    def last_token_states(
        self, images: Sequence[Image.Image], prompts: Sequence[str]
    ) -> NDArray[np.floating]:
        """Hidden states [layer, row, hidden] of each prompt's last token; nothing is shared."""
        groups = []
        for image, prompt in zip(images, prompts, strict=True):
            picture = self.processor.picture(image)
            groups.append(prompt_group(picture, [self.processor.row(picture, prompt)]))
        return self.model.forward(groups)().states[LAST]


def prompt_group(picture: Picture, rows: Sequence[TokenizedPrompt]) -> PromptGroup:
    """Prompts about one image, to be computed as one sequence."""
    return PromptGroup(picture, tuple(rows), count_shared(rows) if len(rows) > 1 else 0)


def rows_alone(groups: Sequence[PromptGroup]) -> Iterator[PromptGroup]:
    """A group for each prompt, without answer options."""
    for group in groups:
        for row in group.rows:
            yield prompt_group(group.picture, [replace(row, options=())])


def n_padded_tokens(groups: Sequence[PromptGroup]) -> int:
    """Tokens of a batch of groups, padding included."""
    return len(groups) * max(group.n_tokens for group in groups)


def count_shared(rows: Sequence[TokenizedPrompt]) -> int:
    """Number of tokens with which all prompts begin; each keeps at least its last token."""
    most = min(min(row.n_common, len(row.tokens) - 1) for row in rows)
    # A prefix of the first and the last prompt in sorted order is a prefix of all between them.
    first, last = min(row.tokens for row in rows), max(row.tokens for row in rows)
    pairs = zip(first[:most], last[:most], strict=True)
    return next((i for i, (one, other) in enumerate(pairs) if one != other), most)
