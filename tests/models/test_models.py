"""The contract of a model family, and LLaVA against transformers' own hidden states."""

import json
import shutil
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import tiny, tiny_vlms
from PIL import Image
from transformers import (
    AutoImageProcessor,
    AutoTokenizer,
    LlavaForConditionalGeneration,
    LlavaProcessor,
)

from vsp import models
from vsp.errors import ConfigError, InputError, ModelError
from vsp.models.contract import ModelShape, Outline, Processor, VisionLanguageModel, prompt_group

PROMPTS = ["Where is the red circle?", "Up?", "{braces} and a rather longer question, is it above?"]


def _images(n=3):
    rng = np.random.default_rng(0)
    sizes = [(448, 448), (60, 200), (300, 130)]
    return [Image.fromarray(rng.integers(0, 256, (h, w, 3), np.uint8)) for w, h in sizes[:n]]


def _llava(checkpoint, **changes):
    return models.resolve(
        "llava15", checkpoint=str(checkpoint), **{"quantization": "none", **changes}
    )


@cache
def _qwen(checkpoint):
    return tiny.write_qwen(checkpoint.parent / "qwen", "2")


@cache
def _gemma(checkpoint):
    return tiny_vlms.write_gemma3(checkpoint.parent / "gemma3")


def _configs(checkpoint):
    """A configuration of every family; a new one needs a line here."""
    rgpt = Path(__file__).parent / "spatialrgpt/ckpt"
    full = {"quantization": "none", "dtype": "float32"}
    return {
        "fake": models.resolve("fake"),
        "llava15": _llava(checkpoint),
        "qwen2": models.resolve("qwen2", checkpoint=str(_qwen(checkpoint)), **full),
        "spatialrgpt": models.resolve("spatialrgpt", checkpoint=str(rgpt), **full),
        "auto": models.resolve("auto", checkpoint=str(_gemma(checkpoint)), **full),
    }


@pytest.mark.parametrize("family", models.FAMILIES.names())
def test_every_family_keeps_the_contract(checkpoint, family):
    config = _configs(checkpoint)[family]
    shape = models.shape(config)
    states = models.load(config).last_token_states(_images(), PROMPTS)
    assert states.shape == (shape.n_layers, 3, shape.hidden_size)
    assert np.isfinite(states).all() and states.dtype in (np.float32, np.float64)
    # Layer 0 is the embedding of a token; later layers depend on the picture.
    blank = models.load(config).last_token_states([Image.new("RGB", (64, 64))] * 3, PROMPTS)
    assert (states[0] == blank[0]).all() and (states[-1] != blank[-1]).any()


@pytest.mark.parametrize("family", models.FAMILIES.names())
def test_every_family_gives_a_row_the_states_it_has_alone(checkpoint, family):
    model = models.load(_configs(checkpoint)[family])
    together = model.last_token_states(_images(), PROMPTS)
    alone = [model.last_token_states([i], [p]) for i, p in zip(_images(), PROMPTS, strict=True)]
    assert np.abs(together - np.concatenate(alone, axis=1)).max() < 1e-4


@pytest.mark.parametrize("family", models.FAMILIES.names())
def test_every_family_finishes_its_own_defaults(family):
    assert models.resolve(family).family == family
    assert models.resolve(family, dtype=None, quantization="8bit").quantization == "8bit"
    with pytest.raises(ConfigError, match="quantization '2bit'"):
        models.resolve(family, quantization="2bit")


def _reference(checkpoint, image, prompt):
    """States [layer, hidden] of the last token by transformers alone, one sample at a time."""
    model = LlavaForConditionalGeneration.from_pretrained(checkpoint, dtype=torch.float32)
    processor = LlavaProcessor(
        AutoImageProcessor.from_pretrained(checkpoint, backend="pil"),
        AutoTokenizer.from_pretrained(checkpoint),
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
    )
    text = "USER: <image>\n" + prompt + "\nASSISTANT:"
    inputs = processor(images=image, text=text, return_tensors="pt")
    assert int(inputs["input_ids"][0, 0]) == processor.tokenizer.bos_token_id
    assert int((inputs["input_ids"] == model.config.image_token_id).sum()) == 64
    with torch.inference_mode():
        hidden = model(**inputs, output_hidden_states=True).hidden_states
    return torch.stack([layer[0, -1] for layer in hidden]).numpy()


def test_llava_states_are_those_of_transformers_one_sample_at_a_time(checkpoint):
    states = models.load(_llava(checkpoint)).last_token_states(_images(), PROMPTS)
    for column, (image, prompt) in enumerate(zip(_images(), PROMPTS, strict=True)):
        expected = _reference(checkpoint, image, prompt)
        assert np.abs(expected).max() > 1  # so that 1e-4 is a meaningful tolerance
        assert np.abs(states[:, column] - expected).max() < 1e-4


def test_the_shape_is_known_without_the_weights(checkpoint, tmp_path):
    bare = tmp_path / "bare"
    shutil.copytree(checkpoint, bare, ignore=shutil.ignore_patterns("*.safetensors"))
    assert models.shape(_llava(bare)) == ModelShape(7, 128, "float32")
    assert models.shape(_llava(bare, dtype="float16")).dtype == "float16"


@pytest.mark.parametrize("quantization", ["4bit", "8bit"])
def test_only_the_language_layers_are_quantized(checkpoint, quantization):
    model = models.load(_llava(checkpoint, quantization=quantization))
    linear = {
        name: type(module).__name__
        for name, module in model.model._base.named_modules()
        if isinstance(module, torch.nn.Linear)
    }
    short = {"4bit": "Linear4bit", "8bit": "Linear8bitLt"}[quantization]
    for name, kind in linear.items():
        assert kind == (short if name.startswith("language_model.layers.") else "Linear"), name
    assert sum(kind == short for kind in linear.values()) == 6 * 7  # layers × projections


def test_four_bits_are_double_quantized_nf4(checkpoint):
    model = models.load(_llava(checkpoint, quantization="4bit"))
    weight = model.model._base.language_model.layers[0].self_attn.q_proj.weight
    assert weight.quant_state.quant_type == "nf4" and weight.quant_state.nested


@pytest.mark.parametrize(("quantization", "least"), [("4bit", 0.8), ("8bit", 0.999)])
def test_quantized_states_stay_near_the_full_ones(checkpoint, quantization, least):
    full = models.load(_llava(checkpoint)).last_token_states(_images(), PROMPTS)[-1]
    config = _llava(checkpoint, quantization=quantization)
    quantized = models.load(config).last_token_states(_images(), PROMPTS)[-1]
    cosine = (full * quantized).sum(1) / np.linalg.norm(full, axis=1)
    cosine /= np.linalg.norm(quantized, axis=1)
    assert least < cosine.min() < 1 - 1e-7


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_computes_in_it(checkpoint, dtype):
    model = models.load(_llava(checkpoint, dtype=dtype))
    assert model.model._base.dtype == getattr(torch, dtype)
    states = model.last_token_states(_images(), PROMPTS)
    full = models.load(_llava(checkpoint)).last_token_states(_images(), PROMPTS)
    assert 1e-5 < np.abs(states - full).max() < 0.1


def test_a_checkpoint_that_is_not_there_says_what_to_do(tmp_path):
    with pytest.raises(
        ModelError, match=r"none' is no folder here .*download one there.* --checkpoint"
    ):
        models.shape(_llava(tmp_path / "none"))


def test_a_checkpoint_of_another_family_is_refused(checkpoint, tmp_path):
    config = json.loads((checkpoint / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config["text_config"]))
    with pytest.raises(ModelError, match="has model type llama, not llava"):
        models.shape(_llava(tmp_path))


@pytest.mark.parametrize("family", models.FAMILIES.names())
def test_every_family_finds_its_checkpoint_whole(checkpoint, family):
    models.check(_configs(checkpoint)[family])


@pytest.mark.parametrize(
    ("family", "lost", "message"),
    [
        ("llava15", "model.safetensors", "1 of 1 weight files are missing"),
        ("llava15", "tokenizer*", "its tokenizer or image processor cannot be read"),
        ("llava15", "*processor_config.json", "its tokenizer or image processor cannot be read"),
        ("qwen2", "model.safetensors", "1 of 1 weight files are missing"),
        ("qwen2", "preprocessor_config.json", "its tokenizer or image processor cannot be read"),
        ("spatialrgpt", "llm/model.safetensors", "1 of 1 weight files are missing"),
        ("spatialrgpt", "mm_projector/model.safetensors", "1 of 1 weight files are missing"),
        ("spatialrgpt", "region_extractor/model.safetensors", "1 of 1 weight files are missing"),
        ("spatialrgpt", "llm/tokenizer*", "its tokenizer or image processor cannot be read"),
    ],
)
def test_a_checkpoint_that_lacks_a_part_is_refused_before_anything_is_queued(
    checkpoint, tmp_path, family, lost, message
):
    whole = _configs(checkpoint)[family]
    folder = tmp_path / "half"
    shutil.copytree(whole.checkpoint, folder)
    paths = list(folder.glob(lost))
    assert paths
    for path in paths:
        path.unlink()
    with pytest.raises(ModelError, match=message):
        models.check(whole.model_copy(update={"checkpoint": str(folder)}))


def test_a_weight_file_that_the_index_names_must_be_there(checkpoint, tmp_path):
    folder = tmp_path / "several"
    shutil.copytree(checkpoint, folder)
    model = LlavaForConditionalGeneration.from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="1MB")
    models.check(_llava(folder))
    files = sorted(folder.glob("model-*.safetensors"))
    index = folder / "model.safetensors.index.json"
    whole = index.read_text()
    for damaged in (whole[:100], "[]", "{}"):
        index.write_text(damaged)
        with pytest.raises(ModelError, match=r"index\.json: lists no weight files"):
            models.check(_llava(folder))
    index.write_text(whole)
    files[1].write_bytes(b"")
    with pytest.raises(ModelError, match=f"1 of {len(files)} weight files .* {files[1].name}"):
        models.check(_llava(folder))


def test_images_and_prompts_come_in_pairs():
    loaded = models.load(models.resolve("fake"))
    for images, prompts in ((_images(2), ["?"]), (_images(1), ["?", "!"])):
        with pytest.raises(ValueError, match="zip"):
            loaded.last_token_states(images, prompts)


@pytest.mark.parametrize("family", models.FAMILIES.names())
def test_every_family_declares_its_optional_parts(checkpoint, family):
    config = _configs(checkpoint)[family]
    loaded = models.load(config)
    assert VisionLanguageModel in type(loaded.model).__mro__  # derived: no part is missing
    assert Processor in type(loaded.processor).__mro__
    assert all(isinstance(name, str) for name in type(loaded.processor).model_types)
    assert loaded.processor.crops in (True, False)
    assert isinstance(models.region_marker(config), str)
    outline = type(loaded.model).outline(config)
    assert outline is None or isinstance(outline, Outline)
    (image, *_) = _images()
    group = prompt_group(
        picture := loaded.processor.picture(image), [loaded.processor.row(picture, PROMPTS[0])]
    )
    if loaded.model.has_forward_only:
        assert loaded.model.forward_only([group])() is None
    if loaded.model.has_reference:
        expected = loaded.model.reference_states(loaded.processor, [image], PROMPTS[:1])
        states = loaded.model.forward([group])().states["last"]
        assert np.abs(states - expected).max() < 1e-4


@pytest.mark.parametrize(("base", "part"), [
    (VisionLanguageModel, "shape"), (VisionLanguageModel, "check"), (VisionLanguageModel, "forward"),
    (Processor, "reserved"), (Processor, "picture"), (Processor, "row"),
])  # fmt: skip
def test_a_family_without_a_required_part_cannot_be_constructed(base, part):
    whole = (
        models.load_family("fake")
        if base is VisionLanguageModel
        else models.load_family("fake").processor
    )
    parts = {k: v for k, v in vars(whole).items() if callable(v) or isinstance(v, classmethod)}
    config = models.resolve("fake")
    assert type("Whole", (base,), dict(parts))(config)
    del parts[part]
    with pytest.raises(TypeError, match=part):
        type("Partial", (base,), parts)(config)


@pytest.mark.parametrize(
    "family", [name for name in models.FAMILIES.names() if name != "spatialrgpt"]
)
def test_what_a_family_does_not_take_is_refused_not_ignored(checkpoint, family):
    processor = models.read_processor(_configs(checkpoint)[family])
    (image, *_) = _images()
    with pytest.raises(InputError, match="takes no depth picture"):
        processor.picture(image, depth=image)
    with pytest.raises(InputError, match="takes no regions"):
        processor.row(processor.picture(image), "?", np.ones((1, 4, 4), bool))
