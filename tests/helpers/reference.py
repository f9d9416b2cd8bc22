"""Small checkpoints and what transformers alone makes of them.

No code of vsp is used: prompts are written out in full. If the checkpoint's processor cannot be made
without torchvision, the image's tokens are too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from helpers import more_tiny_vlms, tiny, tiny_vlms
from PIL import Image
from transformers import (
    AutoImageProcessor,
    AutoModelForImageTextToText,
    AutoProcessor,
    AutoTokenizer,
    Idefics3Processor,
    LlavaNextProcessor,
)

from vsp import models

# The names are model types; `narrow` is a LLaVA-NeXT whose attention window is short, `pixtral` is
# saved as LLaVA.
WRITERS: dict[str, Callable[[Path], Path]] = {
    **tiny_vlms.WRITERS,
    "qwen2_5_vl": partial(tiny.write_qwen, generation="2.5"),
    "narrow": partial(tiny_vlms.write_narrow, window=16),
}
MORE_WRITERS: dict[str, Callable[[Path], Path]] = {
    **more_tiny_vlms.WRITERS,
    "qwen2_vl": partial(tiny.write_qwen, generation="2"),
    "smolvlm": tiny_vlms.write_smolvlm,
}
CHATML = "<|im_start|>user\n{vision}{prompt}<|im_end|>\n<|im_start|>assistant\n"
QWEN = CHATML.replace("{vision}", "<|vision_start|>{image}<|vision_end|>")
SYSTEM = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
ONEVISION = "<|im_start|>user {image}\n{prompt}<|im_end|>\n<|im_start|>assistant\n"
IDEFICS = "User:<image> {prompt}<end_of_utterance>\nAssistant:"
VICUNA = "USER: <image>\n{prompt} ASSISTANT:"
DEEPSEEK = "User: <image_placeholder>\n{prompt}\n\nAssistant:"
AYA_USER = "<|START_OF_TURN_TOKEN|><|USER_TOKEN|><image>{prompt}<|END_OF_TURN_TOKEN|>"
# Whole prompts; {image} marks the image tokens.
TEXTS = {
    "llava_next": "[INST] <image>\n{prompt} [/INST]",
    "llava_onevision": ONEVISION,
    "paligemma": "<image>{prompt}",
    "gemma3": "<start_of_turn>user\n<start_of_image>{prompt}<end_of_turn>\n<start_of_turn>model\n",
    "internvl": CHATML.replace("{vision}", "<img>{image}</img>\n"),
    "idefics3": IDEFICS,
    "qwen3_vl": SYSTEM + QWEN,
    "qwen3_5": SYSTEM + QWEN,
    "qwen2_5_vl": SYSTEM + QWEN,
    "qwen2_vl": SYSTEM + QWEN,
    "qwen3_vl_moe": SYSTEM + QWEN,
    "llava": ONEVISION.replace("{image}", "<image>"),
    "vipllava": VICUNA,
    "llava_next_video": VICUNA,
    "idefics2": IDEFICS,
    "smolvlm": IDEFICS,
    "aria": CHATML.replace("{vision}", "<image>\n"),
    "ovis2": CHATML.replace("{vision}", "<image>\n"),
    "video_llama_3": CHATML.replace("{vision}", "{image}\n"),
    "aya_vision": AYA_USER + "<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>",
    "deepseek_vl": DEEPSEEK,
    "janus": DEEPSEEK,
    "glm4v": "[gMASK]<sop>\n<|user|>\n<|begin_of_image|>{image}<|end_of_image|>{prompt}"
             "<|assistant|>\n",
    "chameleon": "<image>{prompt}",
    "pixtral": "[INST]{image}{prompt}[/INST]",
    "mistral3": "[INST]{image}{prompt}[/INST]",
    "gemma4": "<|turn>user\n\n\n<|image>{image}<image|>\n\n{prompt}<turn|>\n<|turn>model\n",
}  # fmt: skip
# Tokens that a family's processor puts behind every text.
ENDS = {"paligemma": "\n", "chameleon": "<reserved08706>"}
TEXTS["narrow"] = TEXTS["llava_next"]
_SQUARES = {"pixtral": 16, "mistral3": 28}  # pixels a side of an image token
PROMPTS = ["Where is the red circle?", "{braces} and\n{instruction} in a longer question", "Up?"]


def make_images() -> list[Image.Image]:
    rng = np.random.default_rng(0)
    sizes = [(448, 448), (60, 200), (300, 130)]
    return [Image.fromarray(rng.integers(0, 256, (h, w, 3), np.uint8)) for w, h in sizes]


@dataclass
class Family:
    """A small checkpoint, with a name of TEXTS."""

    name: str
    folder: Path
    _loaded: dict[Any, Any] = field(default_factory=dict)
    # Many tests ask for the same text about the same picture.
    _inputs_of: dict[Any, Any] = field(default_factory=dict)
    _references: dict[Any, Any] = field(default_factory=dict)

    @cached_property
    def alone(self) -> Any:
        """transformers' model."""
        model = AutoModelForImageTextToText.from_pretrained(self.folder, dtype=torch.float32)
        return model.eval()

    @cached_property
    def loaded(self) -> Any:
        """vsp's model and processor."""
        return self.load()

    def load(self, **changes: Any) -> Any:
        """vsp's model and processor with other settings, loaded once."""
        key = tuple(sorted(changes.items()))
        if key not in self._loaded:
            self._loaded[key] = models.load(self.config(**changes))
        return self._loaded[key]

    @property
    def processor(self) -> Any:
        """vsp's processor."""
        return self.loaded.processor

    def config(self, **changes: Any) -> Any:
        template = "<image>{instruction}" if self.name == "paligemma" else None
        own = {"checkpoint": str(self.folder), "template": template}
        full = {"quantization": "none", "dtype": "float32"}
        return models.resolve("auto", **{**own, **full, **changes})

    def reference(self, image: Image.Image, prompt: str) -> tuple[list[int], Any]:
        """Token ids, and [layer, hidden] of the last one."""
        key = (image.size, image.tobytes(), prompt)
        if key not in self._references:
            inputs = self._inputs(image, prompt)
            with torch.inference_mode():
                hidden = self.alone(**inputs, output_hidden_states=True).hidden_states
            states = torch.stack([layer[0, -1] for layer in hidden]).numpy()
            states.flags.writeable = False
            self._references[key] = inputs["input_ids"][0].tolist(), states
        ids, states = self._references[key]
        return list(ids), states

    def option_score(self, image: Image.Image, prompt: str, option: tuple[int, ...]) -> Any:
        """Log-likelihood of an option behind the prompt, by layer of a logit lens; the last is exact.

        The option's tokens are appended to the prompt's, and one forward pass is made for them.
        """
        inputs = self.inputs(image, prompt, option)
        n_before = inputs["input_ids"].shape[1] - len(option)
        more = torch.tensor([option])
        with torch.inference_mode():
            out = self.alone(**inputs, output_hidden_states=True)
            norm = self.decoder.norm
            head = self.alone.get_output_embeddings()
            of_layer = [head(norm(one)) for one in out.hidden_states[:-1]] + [out.logits]
        places = slice(n_before - 1, n_before - 1 + len(option))
        chosen = [one[0, places].log_softmax(-1).gather(1, more.T).sum() for one in of_layer]
        return torch.stack(chosen).numpy()

    def inputs(self, image: Image.Image, prompt: str, option: tuple[int, ...]) -> dict[str, Any]:
        """The model's inputs for a prompt, and the tokens of an option behind it."""
        inputs = dict(self._inputs(image, prompt))
        n_before = inputs["input_ids"].shape[1]
        more = torch.tensor([option], dtype=torch.long)
        for name, value in list(inputs.items()):
            if name == "input_ids":
                inputs[name] = torch.cat([value, more], dim=1)
            elif tuple(value.shape) == (1, n_before):
                # PaliGemma: 1 is a token that sees the tokens before it only.
                kind = int(name == "attention_mask" or self.name == "paligemma")
                inputs[name] = torch.cat([value, torch.full_like(more, kind)], dim=1)
        return inputs

    @property
    def decoder(self) -> Any:
        """transformers' decoder, with `layers` and `norm`."""
        base = self.alone.model
        return getattr(base, "language_model", None) or getattr(base, "text_model", base)

    def mean_states(self, image: Image.Image, prompt: str, places: tuple[int, ...]) -> Any:
        """[layer, hidden], the mean over the tokens at `places`."""
        with torch.inference_mode():
            out = self.alone(**self._inputs(image, prompt), output_hidden_states=True)
        return torch.stack([one[0, list(places)].mean(0) for one in out.hidden_states]).numpy()

    def tokens(self, image: Image.Image, prompt: str, behind: str = "") -> list[int]:
        """Token ids of the whole prompt, and of a text behind it."""
        end = ENDS.get(self.name, "") if behind else ""
        ids: list[int] = self._inputs(image, prompt, end + behind)["input_ids"][0].tolist()
        return ids[:-1] if end else ids

    def _inputs(self, image: Image.Image, prompt: str, behind: str = "") -> dict[str, Any]:
        key = (image.size, image.tobytes(), prompt, behind)
        if key not in self._inputs_of:
            self._inputs_of[key] = dict(self._new_inputs(image, prompt, behind))
        return dict(self._inputs_of[key])

    def _new_inputs(self, image: Image.Image, prompt: str, behind: str) -> Any:
        text = TEXTS[self.name] + behind
        if "{image}" not in text:
            text = text.replace("{prompt}", prompt)  # each puts one token before the text
            return self._processor(images=[[image]], text=[text], return_tensors="pt")
        options: dict[str, Any] = {"crop_to_patches": True} if self.name == "internvl" else {}
        if self.name in _SQUARES:
            options["patch_size"] = _SQUARES[self.name]
        seen = self._images(images=[image], return_tensors="pt", **options)
        seen.pop("num_patches", None)
        tokenizer = self._tokenizer
        image_id = self.alone.config.image_token_id
        marks = self._marks(tokenizer.decode([image_id]), seen)
        text = text.replace("{image}", marks).replace("{prompt}", prompt)
        ids = tokenizer(text, return_tensors="pt")["input_ids"]
        inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), **seen}
        if self.name.startswith(("qwen", "glm", "gemma4")):
            inputs["mm_token_type_ids"] = (ids == image_id).int()
        return inputs

    def _marks(self, token: str, seen: Any) -> str:
        """The text of an image's tokens, as many as the model has features."""
        if self.name in _SQUARES:
            height, width = (int(side) // _SQUARES[self.name] for side in seen["image_sizes"][0])
            text = (token * width + "[IMG_BREAK]") * height
            return text.removesuffix("[IMG_BREAK]") + "[IMG_END]"
        if "num_soft_tokens_per_image" in seen:
            return token * int(seen.pop("num_soft_tokens_per_image")[0])
        with torch.inference_mode():
            features = self.alone.model.get_image_features(**seen).pooler_output
        return token * int(np.prod(torch.cat(list(features)).shape[:-1]))

    @cached_property
    def _images(self) -> Any:
        return AutoImageProcessor.from_pretrained(self.folder, backend="pil")

    @cached_property
    def _tokenizer(self) -> Any:
        return AutoTokenizer.from_pretrained(self.folder)

    @cached_property
    def _processor(self) -> Any:
        """The checkpoint's own, or one that makes the same input if that needs torchvision."""
        parts = (self._images, self._tokenizer)
        if self.name == "smolvlm":
            return Idefics3Processor(*parts, image_seq_len=4)
        if self.name == "llava_next_video":
            return LlavaNextProcessor(
                *parts,
                patch_size=tiny_vlms.PATCH,
                vision_feature_select_strategy="default",
                num_additional_image_tokens=1,
            )
        return AutoProcessor.from_pretrained(self.folder)
