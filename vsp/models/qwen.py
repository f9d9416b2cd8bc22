"""Qwen2-VL (Wang et al. 2024, arXiv:2409.12191) and Qwen2.5-VL through transformers."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field

from vsp.config import Frozen, ModelConfig, parse
from vsp.errors import InputError, ModelError
from vsp.models import ModelShape

IMAGE_PAD = "<|image_pad|>"


class QwenOptions(Frozen):
    """Limits of an image's size in pixels; None: the checkpoint's own."""

    min_pixels: Annotated[int, Field(ge=1)] | None = None
    max_pixels: Annotated[int, Field(ge=1)] | None = None


class Qwen2VL:
    """One image and the instruction in the checkpoint's own chat template.

    The image processor and the tokenizer are joined here: transformers' processor of this family
    cannot be built without torchvision.
    """

    defaults: ClassVar = ModelConfig(
        family="qwen2", checkpoint="Qwen/Qwen2-VL-7B-Instruct", quantization="4bit"
    )
    reserved: ClassVar = re.compile(r"<\|[^|<>]*\|>")

    def __init__(self, config: ModelConfig) -> None:
        from transformers import AutoModelForImageTextToText

        from vsp.models.loading import load_arguments

        self._image_processor, self._tokenizer = _read_processors(config)
        self._template = config.template
        arguments = load_arguments(
            config, self.shape(config).dtype, unquantized=("model.visual", "lm_head")
        )
        model = AutoModelForImageTextToText.from_pretrained(str(config.checkpoint), **arguments)
        self._model = model.eval().model  # without lm_head: nothing here needs logits

    @classmethod
    def shape(cls, config: ModelConfig) -> ModelShape:
        from vsp.models.loading import decoder_shape, read_config

        parse(QwenOptions, config.options, "model qwen2: options")
        checkpoint = read_config(config, "qwen2_vl", "qwen2_5_vl")
        return decoder_shape(checkpoint.text_config, config.dtype, checkpoint.dtype)

    @classmethod
    def check(cls, config: ModelConfig) -> None:
        from vsp.models.loading import check_weights, reading

        check_weights(Path(str(config.checkpoint)))
        with reading(config, "tokenizer or image processor"):
            _read_processors(config)

    def last_token_states(
        self, images: Sequence[Image.Image], prompts: Sequence[str]
    ) -> NDArray[np.floating]:
        from vsp.models.capture import last_tokens

        device = self._model.device
        try:
            seen = self._image_processor(images=list(images), return_tensors="pt").to(device)
        except ValueError as error:  # sides in a ratio of more than 200
            raise InputError(f"image cannot be used: {error}") from None
        # One pad token becomes as many as the image has after patches are merged.
        n_tokens = seen["image_grid_thw"].prod(dim=1) // self._image_processor.merge_size**2
        texts = [
            self._chat(prompt).replace(IMAGE_PAD, IMAGE_PAD * int(n))
            for prompt, n in zip(prompts, n_tokens, strict=True)
        ]
        # Padded on the right: under a causal mask no real token sees the padding, and the
        # positions that follow it disturb none before it.
        tokens = self._tokenizer(texts, padding=True, padding_side="right", return_tensors="pt").to(
            device
        )
        is_image = tokens["input_ids"] == self._tokenizer.convert_tokens_to_ids(IMAGE_PAD)
        return last_tokens(
            self._model.language_model,
            tokens["attention_mask"].sum(dim=1) - 1,
            lambda: self._model(
                input_ids=tokens["input_ids"],
                pixel_values=seen["pixel_values"].to(self._model.dtype),
                image_grid_thw=seen["image_grid_thw"],
                mm_token_type_ids=is_image.int(),
                use_cache=False,
            ),
        )

    def _chat(self, prompt: str) -> str:
        text = {"type": "text", "text": self._template.format(instruction=prompt)}
        turn = {"role": "user", "content": [{"type": "image"}, text]}
        chat: str = self._tokenizer.apply_chat_template(
            [turn], add_generation_prompt=True, tokenize=False
        )
        if chat.count(IMAGE_PAD) != 1:
            raise ModelError(f"the chat template puts {chat.count(IMAGE_PAD)} images where 1 is")
        return chat


def _read_processors(config: ModelConfig) -> tuple[Any, Any]:
    """The image processor, with the limits that are asked for, and the tokenizer."""
    from transformers import AutoImageProcessor, AutoTokenizer

    where = {"revision": config.revision, "trust_remote_code": False}
    options = parse(QwenOptions, config.options, "model qwen2: options")
    limits = {key: value for key, value in options if value is not None}
    images = AutoImageProcessor.from_pretrained(config.checkpoint, backend="pil", **where, **limits)
    tokenizer: Any = AutoTokenizer.from_pretrained(config.checkpoint, **where)
    tokenizer.chat_template = _chat_template(config, tokenizer)
    return images, tokenizer


def _chat_template(config: ModelConfig, tokenizer: Any) -> str:
    """The tokenizer's template, or the one that older checkpoints keep in a file of its own."""
    if tokenizer.chat_template is not None:
        return str(tokenizer.chat_template)
    from transformers.utils.hub import cached_file

    name = "chat_template.json"
    path = cached_file(
        str(config.checkpoint),
        name,
        revision=config.revision,
        _raise_exceptions_for_missing_entries=False,
    )
    if path is None:
        raise ModelError(f"checkpoint {config.checkpoint!r} has no chat template; fetch it again")
    return str(json.loads(Path(path).read_bytes())["chat_template"])
