"""Qwen2-VL and Qwen2.5-VL against transformers' own hidden states, one sample at a time."""

import json

import numpy as np
import pytest
import torch
from helpers import tiny
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoTokenizer
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from vsp import models
from vsp.errors import ConfigError, InputError, ModelError
from vsp.models.contract import ModelShape

PROMPTS = ["Where is the red circle?", "Up?", "{braces} and a rather longer question: is it above?"]


def _images():
    rng = np.random.default_rng(0)
    sizes = [(448, 448), (60, 200), (300, 130)]
    return [Image.fromarray(rng.integers(0, 256, (h, w, 3), np.uint8)) for w, h in sizes]


def _config(checkpoint, **changes):
    full = {"quantization": "none", "dtype": "float32"}
    return models.resolve("qwen2", checkpoint=str(checkpoint), **{**full, **changes})


@pytest.fixture(scope="module", params=["2", "2.5"])
def checkpoint(request, tmp_path_factory):
    return tiny.write_qwen(tmp_path_factory.mktemp("qwen") / "checkpoint", request.param)


def _reference(checkpoint, image, prompt):
    """States [layer, hidden] of the last token by transformers alone, with inputs built by hand."""
    model = AutoModelForImageTextToText.from_pretrained(checkpoint, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    seen = Qwen2VLImageProcessorPil.from_pretrained(checkpoint)(images=image, return_tensors="pt")
    _, height, width = seen["image_grid_thw"][0].tolist()
    pads = "<|image_pad|>" * (height // 2 * (width // 2))
    text = (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
        f"<|vision_start|>{pads}<|vision_end|>{prompt}<|im_end|>\n<|im_start|>assistant\n"
    )
    ids = tokenizer(text, return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        hidden = model(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            mm_token_type_ids=(ids == model.config.image_token_id).int(),
            output_hidden_states=True,
            **seen,
        ).hidden_states
    return torch.stack([layer[0, -1] for layer in hidden]).numpy()


def test_states_are_those_of_transformers_one_sample_at_a_time(checkpoint):
    states = models.load(_config(checkpoint)).last_token_states(_images(), PROMPTS)
    assert states.shape == (5, 3, 64)
    for column, (image, prompt) in enumerate(zip(_images(), PROMPTS, strict=True)):
        expected = _reference(checkpoint, image, prompt)
        assert np.abs(expected).max() > 1
        assert np.abs(states[:, column] - expected).max() < 1e-4


def test_the_shape_is_known_without_the_weights(checkpoint):
    assert models.shape(_config(checkpoint)) == ModelShape(5, 64, "float32")


def test_limits_of_the_image_size_change_what_is_seen_and_are_checked(checkpoint):
    states = models.load(_config(checkpoint)).last_token_states(_images(), PROMPTS)
    limited = _config(checkpoint, options={"max_pixels": 28 * 28 * 4})
    assert np.abs(models.load(limited).last_token_states(_images(), PROMPTS) - states).max() > 1e-3
    with pytest.raises(ConfigError, match="max_pixels 0"):
        models.shape(_config(checkpoint, options={"max_pixels": 0}))
    with pytest.raises(
        ConfigError, match="key 'pixels' is not known; did you mean min_pixels or max"
    ):
        models.shape(_config(checkpoint, options={"pixels": 3}))


def test_only_the_language_layers_are_quantized(checkpoint):
    model = models.load(_config(checkpoint, quantization="4bit"))
    for name, module in model.model._base.named_modules():
        if isinstance(module, torch.nn.Linear):
            wanted = "Linear4bit" if name.startswith("language_model.") else "Linear"
            assert type(module).__name__ == wanted, name


def test_a_template_in_a_file_of_its_own_is_found(checkpoint, tmp_path):
    import shutil

    folder = shutil.copytree(checkpoint, tmp_path / "old")
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(ModelError, match="has no chat template"):
        models.load(_config(folder))
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": tiny.QWEN_CHAT}))
    states = models.load(_config(folder)).last_token_states(_images(), PROMPTS)
    expected = models.load(_config(checkpoint)).last_token_states(_images(), PROMPTS)
    assert (states == expected).all()


def test_an_image_that_is_a_thread_is_no_bug(checkpoint):
    model = models.load(_config(checkpoint))
    with pytest.raises(
        InputError, match="image of 4000 × 10 has an aspect ratio over 200:1; crop or pad it"
    ):
        model.last_token_states([Image.new("RGB", (4000, 10))], ["?"])


def test_a_checkpoint_of_another_family_is_refused(checkpoint, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llava"}))
    with pytest.raises(ModelError, match="has model type llava, not qwen2_vl or qwen2_5_vl"):
        models.shape(_config(tmp_path))
