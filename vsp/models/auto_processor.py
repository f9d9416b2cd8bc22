"""The processor of the family `auto`: images and prompts as the checkpoint's own processor makes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vsp.config import Frozen, ModelConfig, parse
from vsp.errors import InputError, ModelError
from vsp.models.contract import (
    Picture,
    Processor,
    TokenizedPrompt,
)
from vsp.models.patch_grid import PatchGrid
from vsp.models.pixels import PIXELS, BytePictures, byte_pictures
from vsp.models.prompt_tokens import (
    RecordingTokenizer,
    match_any,
    option_tokens,
    processing_errors,
    reserved_tokens,
    span_tokens,
)
from vsp.models.supported import check_part, check_type

IMAGE = "<image>"  # the image in a template, whatever the model calls it
INSTRUCTION = "{instruction}"  # a row's prompt in a template
_MAX_ASPECT_RATIO = 200
_MAX_SIZES = 256  # sizes of pictures whose tokens are kept
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

        checkpoint = read_checkpoint_config(config, self.model_types)
        chosen = parse(self.options, config.options, f"model {config.family}: options")
        limits = {key: value for key, value in chosen if value is not None}
        self._processor = read_processor(config, checkpoint, limits)
        self._tokenizer = self._processor.tokenizer
        self._tokenizer.model_max_length = 10**9  # long prompts are refused by `row`, so no warning
        self._processor.tokenizer = self._last_text = RecordingTokenizer(self._tokenizer)
        self._image = checkpoint.image_token_id
        self._grid = PatchGrid(checkpoint, self._processor.image_processor)
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
    def _image_text(self) -> str:
        """The image token, put before a prompt: some tokenizers treat the start of a text specially."""
        with processing_errors():
            return str(self._tokenizer.convert_ids_to_tokens(self._image))

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
        ahead, _, behind = self._last_text.text.rpartition(self._image_text)[2].partition(_PROMPT)
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
        text = self._image_text + prompt.join(picture.around)
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

    def option_tokens(
        self, picture: Picture, row: TokenizedPrompt, prompt: str, options: Sequence[str]
    ) -> tuple[tuple[int, ...], ...]:
        text = self._image_text + prompt.join(picture.around)
        texts = [text + option for option in options]
        with processing_errors():
            seen = self._tokenizer(texts, add_special_tokens=False)["input_ids"]
        wholes = [(*picture.tokens, *tokens[1:]) for tokens in seen]
        limits = (self._vocabulary, self._context)
        return option_tokens(row, options, wholes, limits, self.reserved)

    def name_tokens(
        self, picture: Picture, row: TokenizedPrompt, prompt: str, start: int, stop: int
    ) -> tuple[int, ...]:
        ahead = self._image_text + picture.around[0]
        text = ahead + prompt + picture.around[1]
        span = (len(ahead) + start, len(ahead) + stop)
        places = span_tokens(self._tokenizer, text, *span, add_special_tokens=False)
        return tuple(len(picture.tokens) - 1 + place for place in places)

    def image_places(self, picture: Picture) -> tuple[int, ...]:
        return tuple(i for i, token in enumerate(picture.tokens) if token == self._image)

    def patch_centres(self, picture: Picture, size: tuple[int, int]) -> NDArray[np.float64]:
        return self._grid.centres(picture.arrays, size, len(self.image_places(picture)))

    def tower_centres(self, picture: Picture, size: tuple[int, int]) -> NDArray[np.float64]:
        return self._grid.tower_centres(picture.arrays, size)

    def decode(self, tokens: Sequence[int]) -> str:
        with processing_errors():
            return str(self._tokenizer.decode(list(tokens), skip_special_tokens=True))

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


def read_checkpoint_config(config: ModelConfig, model_types: Sequence[str]) -> Any:
    """The checkpoint's configuration. Raises ModelError for a model type that is refused."""
    from vsp.models.loading import read_config

    checkpoint = read_config(config, *model_types)
    check_type(checkpoint.model_type)
    for part in checkpoint.sub_configs:
        check_part(getattr(checkpoint, part, None))
    return checkpoint
