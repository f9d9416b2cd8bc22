"""The family `auto` on small checkpoints of many families: quantization, weights and refusals.

`test_supported.py` compares states with those of transformers.
"""

import shutil

import numpy as np
import pytest
import torch
from helpers import tiny
from helpers.reference import PROMPTS, WRITERS, Family, make_images
from transformers import AutoTokenizer, BlipConfig, Kosmos2Config

from vsp import models
from vsp.errors import ModelError
from vsp.models.contract import ModelShape
from vsp.models.outline import decoder_path, empty_model

STARTS = {"llava_next": "<s>", "narrow": "<s>", "paligemma": "<bos>", "gemma3": "<bos>",
          "idefics3": "<|begin_of_text|>"}  # fmt: skip


@pytest.fixture(scope="module", params=WRITERS)
def family(request, tmp_path_factory):
    folder = WRITERS[request.param](tmp_path_factory.mktemp("auto") / request.param)
    return Family(request.param, folder)


def test_a_text_starts_once(family):
    processor = models.read_processor(family.config())
    row = processor.row(processor.picture(make_images()[2]), "Up?")
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
    loaded = family.load(quantization="4bit", weights=weights)
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
    full = family.loaded.last_token_states(make_images(), PROMPTS)[-1]
    short = family.load(quantization="4bit", weights="checkpoint")
    quantized = short.last_token_states(make_images(), PROMPTS)[-1]
    norms = np.linalg.norm(full, axis=1) * np.linalg.norm(quantized, axis=1)
    assert 0.6 < ((full * quantized).sum(1) / norms).min() < 1 - 1e-7


@pytest.mark.parametrize("quantization", ["none", "4bit"])
def test_random_weights_have_the_shape_and_none_of_the_states(family, quantization):
    trained = family.load(quantization=quantization, weights="checkpoint")
    config = family.config(quantization=quantization, weights="random")
    twice = family.load(quantization=quantization, weights="random"), models.load(config)
    states, again = (one.last_token_states(make_images(), PROMPTS) for one in twice)
    expected = trained.last_token_states(make_images(), PROMPTS)
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
    assert models.load(random).last_token_states(make_images(), PROMPTS).shape == (5, 3, 64)


def _bare(folder, config):
    """A checkpoint's configuration alone, with a tokenizer and an image processor."""
    config.save_pretrained(folder)
    tiny.byte_tokenizer(("<pad>", "<image>")).save_pretrained(folder)
    tiny.Qwen2VLImageProcessorPil().save_pretrained(folder)
    return models.resolve("auto", checkpoint=str(folder), template="<image>{instruction}")


@pytest.mark.parametrize("kind", [BlipConfig, Kosmos2Config])
def test_a_model_without_a_decoder_of_a_known_kind_is_refused_with_its_modules(kind):
    with pytest.raises(ModelError, match="has 0 modules with decoder layers and a final") as caught:
        decoder_path(empty_model(kind()))
    assert "\n" not in str(caught.value)
    seen = {"BlipConfig": "module text_decoder", "Kosmos2Config": "module text_model.model.layers"}
    assert seen[kind.__name__] in caught.value.details
