"""Any vision-language model that transformers loads for image and text.

The checkpoint's own processor and chat template make the input; hooks on the decoder record the
states. The families `llava15` and `qwen2` derive from this one, with their own defaults and checks.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vsp.config import Frozen, ModelConfig, parse
from vsp.errors import InputError, ModelError
from vsp.models.contract import (
    ModelShape,
    Picture,
    Processor,
    PromptGroup,
    States,
    TokenizedPrompt,
    VisionLanguageModel,
)
from vsp.models.library_errors import library_errors, short
from vsp.models.pixels import PIXELS, BytePictures, byte_pictures, picture_inputs
from vsp.models.supported import check_part, check_type
from vsp.utils.reading import read_json

if TYPE_CHECKING:
    import torch

    from vsp.models.contract import Outline
    from vsp.models.prefix_sharing import Bundle

IMAGE = "<image>"  # the image in a template, whatever the model calls it
INSTRUCTION = "{instruction}"  # a row's prompt in a template
_MAX_ASPECT_RATIO = 200
_MAX_SIZES = 256  # sizes of pictures whose tokens are kept
_HALF = ("bfloat16", "float16")  # other dtypes are computed in float32
_BRACKETS = re.compile(r"<[^<>\s]+>|\[[^\[\]\s]+\]")
_PROMPT = "Qzx"  # placeholder of a row's prompt, to find the text around it


class NoOptions(Frozen):
    """Options of a family that has none."""


class AutoProcessor(Processor):
    """The checkpoint's processor for one image and text.

    Its video part is left out, because it needs torchvision. Images are always resized by Pillow, so
    that every machine gets the same pixels.
    """

    options: ClassVar[type[Frozen]] = NoOptions  # passed to the image processor

    def __init__(self, config: ModelConfig) -> None:
        from vsp.models.checkpoint_processor import read_processor

        checkpoint = _read_config(config, self.model_types)
        chosen = parse(self.options, config.options, f"model {config.family}: options")
        limits = {key: value for key, value in chosen if value is not None}
        self._processor = read_processor(config, checkpoint, limits)
        self._tokenizer = self._processor.tokenizer
        self._tokenizer.model_max_length = 10**9  # long prompts are refused by `row`, so no warning
        self._processor.tokenizer = self._last_text = _RecordingTokenizer(self._tokenizer)
        self._image = checkpoint.image_token_id
        self._template = config.template
        self._text = self._whole_prompt(config)
        bos = self._tokenizer.bos_token  # some chat templates begin with it; it must occur once
        self._adds_special = bos is None or not self._text.startswith(bos)
        self._reserved = match_any(reserved_tokens(self._tokenizer))
        self._vocabulary = getattr(checkpoint.get_text_config(), "vocab_size", 10**9)
        context = getattr(checkpoint.get_text_config(), "max_position_embeddings", None)
        self._context = context or 10**9
        # The first picture of each shape of pixels, without these: tokens depend on the shape only.
        self._first_pictures: dict[tuple[int, ...], Picture] = {}

    @property
    def crops(self) -> bool:
        return bool(getattr(self._processor.image_processor, "do_center_crop", False))

    def reserved(self, prompt: str) -> str | None:
        match = self._reserved.search(prompt)
        return match[0] if match else None

    def picture(self, image: Image.Image, depth: Image.Image | None = None) -> Picture:
        if depth is not None:
            raise InputError("this model takes no depth picture")
        if max(image.size) > _MAX_ASPECT_RATIO * min(image.size):
            raise InputError(
                f"image of {image.width} × {image.height} has an aspect ratio over "
                f"{_MAX_ASPECT_RATIO}:1; crop or pad it"
            )
        if self._byte_pictures is None:
            return self._whole_picture(image)
        with processing_errors():
            pixels = self._byte_pictures(image)
        first = self._first_pictures.get(pixels.shape)
        if first is None:
            first = self._whole_picture(image)
            others = {name: array for name, array in first.arrays.items() if name != PIXELS}
            first = replace(first, arrays=others, rule=self._byte_pictures.rule)
            if len(self._first_pictures) == _MAX_SIZES:
                self._first_pictures.clear()
            self._first_pictures[pixels.shape] = first
        return replace(first, arrays={**first.arrays, PIXELS: pixels})

    @cached_property
    def _byte_pictures(self) -> BytePictures | None:
        """Prepares pictures as bytes; None for an image processor that does not allow it.

        Made with the first picture, because a hostile checkpoint's processor must not run before it
        is tried within limits.
        """
        return byte_pictures(
            self._processor.image_processor, lambda image: self._whole_picture(image).arrays
        )

    def _whole_picture(self, image: Image.Image) -> Picture:
        """A picture as the checkpoint's processor prepares it."""
        with processing_errors():
            try:
                seen = self._processor(
                    images=[[image]],
                    text=[self._text],
                    add_special_tokens=self._adds_special,
                    return_tensors="np",
                )
            except ValueError as error:  # for example an aspect ratio over 200:1
                raise InputError(f"image cannot be used: {error}") from None
        tokens = np.asarray(seen.pop("input_ids"))
        places = np.flatnonzero(tokens[0] == self._image)
        if not len(places):
            raise ModelError(
                f"the prompt {self._text!r} gives no image token of number {self._image}; the "
                "template does not print the image, or the checkpoint's image token is another one"
            )
        stop = int(places[-1]) + 1
        image_text = self._tokenizer.convert_ids_to_tokens(self._image)
        ahead, _, behind = self._last_text.text.rpartition(image_text)[2].partition(_PROMPT)
        per_token = {k: v for k, v in seen.items() if np.shape(v) == tokens.shape}
        for name, array in seen.items():
            if np.ndim(array) > 2 and np.shape(array)[:2] == tokens.shape:
                raise ModelError(f"its input {name} has a vector per token; this is not supported")
        picture = Picture(
            {k: np.asarray(v) for k, v in seen.items() if k not in per_token},
            tuple(tokens[0, :stop].tolist()),
            {k: tuple(v[0, :stop].tolist()) for k, v in per_token.items() if k.endswith("_ids")},
            (ahead, behind),
        )
        if self.row(picture, _PROMPT).tokens != tuple(tokens[0].tolist()):
            raise ModelError(
                f"its {type(self._processor).__name__} places text around the image in an unknown "
                "way; this checkpoint is not supported"
            )
        return picture

    def row(
        self, picture: Picture, prompt: str, regions: NDArray[np.bool_] | None = None
    ) -> TokenizedPrompt:
        if regions is not None:
            raise InputError("this model takes no regions")
        # The last image token is put in front, because some tokenizers treat the start of a text specially.
        text = self._tokenizer.convert_ids_to_tokens(self._image) + prompt.join(picture.around)
        with processing_errors():
            after = self._tokenizer(text, add_special_tokens=False)["input_ids"][1:]
        if not after:
            raise InputError("the prompt is empty, and no text follows the image")
        if max(after) >= self._vocabulary:
            word = self._tokenizer.convert_ids_to_tokens(max(after))
            raise InputError(
                f"the prompt has the token {word!r} of number {max(after)}, beyond the model's "
                f"{self._vocabulary} embeddings"
            )
        tokens = (*picture.tokens, *after)
        if len(tokens) > self._context:
            raise InputError(
                f"prompt and image make {len(tokens)} tokens, over the context of {self._context}"
            )
        return TokenizedPrompt(tokens, len(tokens))

    def reference_inputs(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> Any:
        """Inputs as transformers' own processor makes them, padded on the right."""
        return self._processor(
            images=[[image] for image in images],
            text=[self._text.replace(_PROMPT, prompt) for prompt in prompts],
            add_special_tokens=self._adds_special,
            padding=True,
            padding_side="right",
            return_tensors="pt",
        )

    @property
    def frame(self) -> str:
        return "" if IMAGE in self._template else self._text.replace(_PROMPT, INSTRUCTION)

    def _whole_prompt(self, config: ModelConfig) -> str:
        """The whole prompt as the processor takes it, with _PROMPT in place of the row's prompt."""
        text = config.template.replace(INSTRUCTION, _PROMPT)
        if IMAGE in text:
            names = (getattr(self._processor, "image_token", None), IMAGE)
            return text.replace(IMAGE, next(str(name) for name in names if name))
        if config.frame:
            return config.frame.replace(INSTRUCTION, _PROMPT)
        from vsp.models.chat_template import render_prompt

        return render_prompt(config, self._processor, text)


class _RecordingTokenizer:
    """A tokenizer that keeps its last input text, in which image tokens are already expanded."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self.text = ""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)

    def __call__(self, text: Any = None, **arguments: Any) -> Any:
        self.text = text[-1]
        return self._tokenizer(text, **arguments)


class AutoVLM(VisionLanguageModel):
    """A model of transformers for image and text, with hooks on its decoder."""

    defaults: ClassVar = ModelConfig(family="auto", quantization="4bit")
    processor: ClassVar[type[AutoProcessor]] = AutoProcessor
    has_forward_only: ClassVar = True
    has_reference: ClassVar = True
    takes_adapter: ClassVar = True
    splits: ClassVar = True
    has_untrained: ClassVar = True

    def __init__(self, config: ModelConfig, devices: Sequence[str] = ()) -> None:
        from vsp.models.adapter import attach
        from vsp.models.capture import Capture
        from vsp.models.loading import load_model
        from vsp.models.weights import require_finite

        checkpoint = _read_config(config, self.processor.model_types)
        dtype = self.shape(config).dtype
        self._model, self._decoder = load_model(config, checkpoint, dtype, devices)
        if config.adapter is not None:
            attach(self._model, config.adapter)
            require_finite(self._model, config.adapter)
        # The base model, without lm_head: no logits are computed.
        self._base = getattr(self._model, "model", self._model)
        self._capture = Capture(self._decoder, _pad_token(checkpoint))

    @classmethod
    def shape(cls, config: ModelConfig) -> ModelShape:
        parse(cls.processor.options, config.options, f"model {config.family}: options")
        written = _written_shape(config, cls.processor.model_types)
        if written is not None:
            return written
        from vsp.models.loading import decoder_shape

        checkpoint = _read_config(config, cls.processor.model_types)
        return decoder_shape(checkpoint.get_text_config(), config.dtype, checkpoint.dtype)

    @classmethod
    def check(cls, config: ModelConfig) -> None:
        from vsp.models.adapter import check_adapter
        from vsp.models.added_tokens import require_few_added
        from vsp.models.hub import local_folder
        from vsp.models.stored_quantization import require_loadable
        from vsp.models.weights import require_whole

        checkpoint = _read_config(config, cls.processor.model_types)
        if config.weights == "checkpoint":
            require_loadable(config, checkpoint)
            require_whole(config, checkpoint)
        require_few_added(local_folder(config))
        if config.adapter is not None:
            check_adapter(config, checkpoint)

    @classmethod
    def outline(cls, config: ModelConfig) -> Outline:
        from vsp.models.loading import outline

        return outline(config, *cls.processor.model_types)

    def forward(self, groups: Sequence[PromptGroup]) -> States:
        return self._capture.last_tokens(groups, lambda *given: self._prepare_pass(*given)())

    def forward_only(self, groups: Sequence[PromptGroup]) -> Callable[[], None]:
        return self._capture.forward_only(groups, self._prepare_pass)

    def _prepare_pass(self, groups: Sequence[PromptGroup], bundle: Bundle) -> Callable[[], object]:
        inputs = self._inputs(groups, bundle)
        return lambda: self._base(**inputs, use_cache=False)

    def reference_states(
        self, processor: Processor, images: Sequence[Image.Image], prompts: Sequence[str]
    ) -> NDArray[np.floating]:
        """One forward pass that returns all hidden states, then the last token of each row."""
        import torch

        assert isinstance(processor, AutoProcessor)
        inputs = processor.reference_inputs(images, prompts).to(
            self._model.device, self._model.dtype
        )
        with torch.inference_mode():
            hidden = self._model(**inputs, output_hidden_states=True, use_cache=False).hidden_states
        last = inputs["attention_mask"].sum(dim=1) - 1
        rows = torch.arange(len(last), device=last.device)
        states = torch.stack([layer[rows, last] for layer in hidden])
        return np.asarray(states.float().cpu().numpy())

    def _inputs(self, groups: Sequence[PromptGroup], bundle: Bundle) -> dict[str, torch.Tensor]:
        """Inputs of the whole model: tokens of the trunks, their kinds, and pictures."""
        from vsp.models.prefix_sharing import copy_to_device, input_device

        device, dtype = input_device(self._decoder), self._base.dtype
        shape = bundle.trunks.shape
        real = np.arange(shape[1]) < bundle.trunk_lengths[:, None]
        inputs: dict[str, torch.Tensor] = {
            "input_ids": copy_to_device(bundle.trunks, device),
            "attention_mask": copy_to_device(real.astype(np.int64), device),
        }
        for name in groups[0].picture.kinds:
            kinds = np.zeros(shape, np.int64)
            for i, group in enumerate(groups):
                kinds[i, : len(group.picture.tokens)] = group.picture.kinds[name]
            inputs[name] = copy_to_device(kinds, device)
        pictures = [group.picture for group in groups]
        return inputs | picture_inputs(pictures, device, dtype)


def _written_shape(config: ModelConfig, model_types: Sequence[str]) -> ModelShape | None:
    """The shape if config.json says all of it; else None, and transformers has to add defaults.

    Listing models would otherwise take seconds to import transformers.
    """
    from vsp.models.checkpoints import on_disk

    folder = on_disk(config)
    try:
        values = read_json(folder / "config.json") if folder else {}
        text = values["text_config"]
        dtype = values["dtype"] if config.dtype == "auto" else config.dtype
        layers, hidden = text["num_hidden_layers"], text["hidden_size"]
        known = values["model_type"] in model_types
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None
    if not known or not (isinstance(layers, int) and isinstance(hidden, int)):
        return None
    return ModelShape(layers + 1, hidden, dtype if dtype in _HALF else "float32")


def _read_config(config: ModelConfig, model_types: Sequence[str]) -> Any:
    """The checkpoint's configuration. Raises ModelError for a model type that is refused."""
    from vsp.models.loading import read_config

    checkpoint = read_config(config, *model_types)
    check_type(checkpoint.model_type)
    for part in checkpoint.sub_configs:
        check_part(getattr(checkpoint, part, None))
    return checkpoint


def processing_errors() -> AbstractContextManager[None]:
    """Turn errors of a checkpoint's tokenizer or image processor at work into a ModelError."""
    return library_errors(
        lambda error: ModelError(f"its tokenizer or image processor fails ({short(error)})")
    )


def reserved_tokens(tokenizer: Any) -> list[str]:
    """Texts that a tokenizer reads as special tokens: declared ones, and added ones in brackets."""
    added = tokenizer.added_tokens_decoder.values()
    return [t.content for t in added if t.special or _BRACKETS.fullmatch(t.content)]


def match_any(texts: Sequence[str]) -> re.Pattern[str]:
    """A pattern that matches any of the texts, the longest first."""
    return re.compile("|".join(map(re.escape, sorted(texts, key=len, reverse=True))) or r"(?!)")


def _pad_token(checkpoint: Any) -> int:
    """The token that fills sequences; 0 if the checkpoint names none."""
    pad = getattr(checkpoint.get_text_config(), "pad_token_id", None)
    return pad if isinstance(pad, int) and pad >= 0 else 0
