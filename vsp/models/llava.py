"""LLaVA-1.5 (Liu et al. 2024, arXiv:2310.03744) through transformers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vsp.config import ModelConfig
from vsp.models import ModelShape


class Llava15:
    """Batches are padded on the right: under a causal mask no real token ever sees the padding,
    so positions and attention are those of each prompt alone."""

    defaults: ClassVar = ModelConfig(
        family="llava15",
        checkpoint="llava-hf/llava-1.5-7b-hf",
        template="USER: <image>\n{instruction}\nASSISTANT:",
        quantization="4bit",
    )
    reserved: ClassVar = re.compile(r"<image>|<s>|</s>|<pad>|<unk>")

    def __init__(self, config: ModelConfig) -> None:
        from transformers import LlavaForConditionalGeneration

        from vsp.models.loading import load_arguments, read_config

        self._template = config.template
        checkpoint = read_config(config, "llava")
        self._processor = _read_processor(config, checkpoint)
        arguments = load_arguments(
            config,
            self.shape(config).dtype,
            unquantized=("model.vision_tower", "model.multi_modal_projector", "lm_head"),
        )
        model = LlavaForConditionalGeneration.from_pretrained(config.checkpoint, **arguments)
        self._model = model.eval().model  # without lm_head: nothing here needs logits

    @classmethod
    def shape(cls, config: ModelConfig) -> ModelShape:
        from vsp.models.loading import decoder_shape, read_config

        checkpoint = read_config(config, "llava")
        return decoder_shape(checkpoint.text_config, config.dtype, checkpoint.dtype)

    @classmethod
    def check(cls, config: ModelConfig) -> None:
        from vsp.models.loading import check_weights, read_config, reading

        check_weights(Path(str(config.checkpoint)))
        with reading(config, "tokenizer or image processor"):
            _read_processor(config, read_config(config, "llava"))

    def last_token_states(
        self, images: Sequence[Image.Image], prompts: Sequence[str]
    ) -> NDArray[np.floating]:
        from vsp.models.capture import last_tokens

        inputs = self._processor(
            images=list(images),
            text=[self._template.format(instruction=prompt) for prompt in prompts],
            padding=True,
            padding_side="right",
            return_tensors="pt",
        ).to(self._model.device)
        last = inputs.pop("attention_mask").sum(dim=1) - 1
        inputs["pixel_values"] = inputs["pixel_values"].to(self._model.dtype)
        return last_tokens(
            self._model.language_model, last, lambda: self._model(**inputs, use_cache=False)
        )


def _read_processor(config: ModelConfig, checkpoint: Any) -> Any:
    from transformers import AutoImageProcessor, AutoTokenizer, LlavaProcessor

    where = {"revision": config.revision, "trust_remote_code": False}
    return LlavaProcessor(
        # With torchvision about, the default would be another processor with other pixels.
        image_processor=AutoImageProcessor.from_pretrained(
            config.checkpoint, backend="pil", **where
        ),
        tokenizer=AutoTokenizer.from_pretrained(config.checkpoint, **where),
        patch_size=checkpoint.vision_config.patch_size,
        vision_feature_select_strategy=checkpoint.vision_feature_select_strategy,
        num_additional_image_tokens=1,  # CLIP's class token
    )
