"""The family `auto` on small checkpoints of many families, against transformers alone.

The reference uses no code of vsp: prompts are written out in full. If the checkpoint's
processor cannot be made without torchvision, the image's tokens are too.
"""

import shutil
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from helpers import tiny, tiny_vlms
from PIL import Image
from transformers import (
    AutoImageProcessor,
    AutoModelForImageTextToText,
    AutoProcessor,
    AutoTokenizer,
    BlipConfig,
    Kosmos2Config,
)

from vsp import models
from vsp.errors import ModelError
from vsp.models.contract import ModelShape

WRITERS = {
    **tiny_vlms.WRITERS,
    "qwen2_5_vl": partial(tiny.write_qwen, generation="2.5"),
    "narrow": partial(tiny_vlms.write_narrow, window=16),
}
CHATML = "<|im_start|>user\n{vision}{prompt}<|im_end|>\n<|im_start|>assistant\n"
QWEN = CHATML.replace("{vision}", "<|vision_start|>{image}<|vision_end|>")
SYSTEM = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
# Whole prompts; {image} marks the image tokens.
TEXTS = {
    "llava_next": "[INST] <image>\n{prompt} [/INST]",
    "llava_onevision": "<|im_start|>user {image}\n{prompt}<|im_end|>\n<|im_start|>assistant\n",
    "paligemma": "<image>{prompt}",
    "gemma3": "<start_of_turn>user\n<start_of_image>{prompt}<end_of_turn>\n<start_of_turn>model\n",
    "internvl": CHATML.replace("{vision}", "<img>{image}</img>\n"),
    "idefics3": "User:<image> {prompt}<end_of_utterance>\nAssistant:",
    "qwen3_vl": SYSTEM + QWEN,
    "qwen3_5": SYSTEM + QWEN,
    "qwen2_5_vl": SYSTEM + QWEN,
}
TEXTS["narrow"] = TEXTS["llava_next"]
STARTS = {"llava_next": "<s>", "narrow": "<s>", "paligemma": "<bos>", "gemma3": "<bos>",
          "idefics3": "<|begin_of_text|>"}  # fmt: skip
PROMPTS = ["Where is the red circle?", "{braces} and\n{instruction} in a longer question", "Up?"]


def _images():
    rng = np.random.default_rng(0)
    sizes = [(448, 448), (60, 200), (300, 130)]
    return [Image.fromarray(rng.integers(0, 256, (h, w, 3), np.uint8)) for w, h in sizes]


@dataclass
class Family:
    name: str
    folder: Any
    alone: Any  # transformers' model

    def config(self, **changes):
        template = "<image>{instruction}" if self.name == "paligemma" else None
        own = {"checkpoint": str(self.folder), "template": template}
        full = {"quantization": "none", "dtype": "float32"}
        return models.resolve("auto", **{**own, **full, **changes})

    def reference(self, image, prompt):
        """Token ids, and [layer, hidden] of the last one."""
        inputs = self._inputs(image, prompt)
        with torch.inference_mode():
            hidden = self.alone(**inputs, output_hidden_states=True).hidden_states
        states = torch.stack([layer[0, -1] for layer in hidden]).numpy()
        return inputs["input_ids"][0].tolist(), states

    def _inputs(self, image, prompt):
        text = TEXTS[self.name]
        if "{image}" not in text:
            processor = AutoProcessor.from_pretrained(self.folder)
            text = text.replace("{prompt}", prompt)  # each puts one token before the text
            return processor(images=[[image]], text=[text], return_tensors="pt")
        tiles = {"crop_to_patches": True} if self.name == "internvl" else {}
        images = AutoImageProcessor.from_pretrained(self.folder, backend="pil")
        seen = images(images=[image], return_tensors="pt", **tiles)
        seen.pop("num_patches", None)
        with torch.inference_mode():
            features = self.alone.model.get_image_features(**seen).pooler_output
        image_id = self.alone.config.image_token_id
        tokenizer = AutoTokenizer.from_pretrained(self.folder)
        marks = tokenizer.decode([image_id]) * int(np.prod(torch.cat(list(features)).shape[:-1]))
        text = text.replace("{image}", marks).replace("{prompt}", prompt)
        ids = tokenizer(text, return_tensors="pt")["input_ids"]
        inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), **seen}
        if self.name.startswith("qwen"):
            inputs["mm_token_type_ids"] = (ids == image_id).int()
        return inputs


@pytest.fixture(scope="module", params=WRITERS)
def family(request, tmp_path_factory):
    folder = WRITERS[request.param](tmp_path_factory.mktemp("auto") / request.param)
    alone = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32)
    return Family(request.param, folder, alone.eval())


def test_tokens_and_states_are_those_of_transformers_one_sample_at_a_time(family):
    loaded = models.load(family.config())
    states = loaded.last_token_states(_images(), PROMPTS)
    for column, (image, prompt) in enumerate(zip(_images(), PROMPTS, strict=True)):
        ids, expected = family.reference(image, prompt)
        assert list(loaded.processor.row(loaded.processor.picture(image), prompt).tokens) == ids
        assert np.abs(expected).max() > 1  # so that 1e-4 is a meaningful tolerance
        assert np.abs(states[:, column] - expected).max() < 1e-4


def test_a_text_starts_once(family):
    processor = models.read_processor(family.config())
    row = processor.row(processor.picture(_images()[2]), "Up?")
    start = STARTS.get(family.name, "<|im_start|>")
    texts = AutoTokenizer.from_pretrained(family.folder).convert_ids_to_tokens(row.tokens)
    if family.name == "paligemma":  # its text starts after the image
        texts = [text for text in texts if text != "<image>"]
    assert texts[0] == start and texts[1] != start
    assert texts.count(start) == (1 if family.name in STARTS else texts.count("<|im_end|>") + 1)


@pytest.mark.parametrize("weights", ["checkpoint", "random"])
def test_only_the_decoder_layers_are_quantized(family, weights):
    layers = family.alone.get_decoder().layers
    inside = {id(module) for module in layers.modules()}
    names = dict(family.alone.model.named_modules())
    loaded = models.load(family.config(quantization="4bit", weights=weights))
    found = {
        name: type(module).__name__
        for name, module in loaded.model._base.named_modules()
        if isinstance(module, torch.nn.Linear)
    }
    assert found == {
        name: "Linear4bit" if id(module) in inside else "Linear"
        for name, module in names.items()
        if isinstance(module, torch.nn.Linear)
    }
    assert sum(kind == "Linear4bit" for kind in found.values()) >= 4 * 7  # layers × projections


def test_quantized_states_stay_near_the_full_ones(family):
    full = models.load(family.config()).last_token_states(_images(), PROMPTS)[-1]
    short = models.load(family.config(quantization="4bit"))
    quantized = short.last_token_states(_images(), PROMPTS)[-1]
    norms = np.linalg.norm(full, axis=1) * np.linalg.norm(quantized, axis=1)
    assert 0.6 < ((full * quantized).sum(1) / norms).min() < 1 - 1e-7


@pytest.mark.parametrize("quantization", ["none", "4bit"])
def test_random_weights_have_the_shape_and_none_of_the_states(family, quantization):
    trained = models.load(family.config(quantization=quantization))
    config = family.config(quantization=quantization, weights="random")
    states, again = (models.load(config).last_token_states(_images(), PROMPTS) for _ in range(2))
    expected = trained.last_token_states(_images(), PROMPTS)
    shape = models.shape(config)
    assert states.shape == expected.shape == (shape.n_layers, 3, shape.hidden_size)
    assert (states == again).all() and np.isfinite(states).all()
    assert (np.abs(states - expected).max(axis=2) > 1e-2).all()


def test_the_shape_is_known_and_random_weights_run_without_weight_files(family, tmp_path):
    bare = tmp_path / "bare"
    shutil.copytree(family.folder, bare, ignore=shutil.ignore_patterns("*.safetensors"))
    config = family.config(checkpoint=str(bare))
    assert models.shape(config) == ModelShape(5, 64, "float32")
    assert models.shape(family.config(checkpoint=str(bare), dtype="bfloat16")).dtype == "bfloat16"
    with pytest.raises(ModelError, match="1 of 1 weight files are missing"):
        models.check(config)
    random = config.model_copy(update={"weights": "random"})
    models.check(random)
    assert models.load(random).last_token_states(_images(), PROMPTS).shape == (5, 3, 64)


def _bare(folder, config):
    """A checkpoint's configuration alone, with a tokenizer and an image processor."""
    config.save_pretrained(folder)
    tiny.byte_tokenizer(("<pad>", "<image>")).save_pretrained(folder)
    tiny.Qwen2VLImageProcessorPil().save_pretrained(folder)
    return models.resolve("auto", checkpoint=str(folder), template="<image>{instruction}")


@pytest.mark.parametrize("kind", [BlipConfig, Kosmos2Config])
def test_a_model_without_a_decoder_of_a_known_kind_is_refused_with_its_modules(tmp_path, kind):
    config = _bare(tmp_path, kind())
    with pytest.raises(ModelError, match="has 0 modules with decoder layers and a final") as caught:
        models.FAMILIES.load("auto")(config)
    assert "\n" not in str(caught.value)
    seen = {"BlipConfig": "module text_decoder", "Kosmos2Config": "module text_model.model.layers"}
    assert seen[kind.__name__] in caught.value.details


def test_a_processor_without_an_image_token_is_refused_before_weights_are_looked_for(tmp_path):
    with pytest.raises(ModelError, match="no processor of images and text for model type 'blip'"):
        models.read_processor(_bare(tmp_path, BlipConfig()))
