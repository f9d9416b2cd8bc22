"""Checkpoints as people really have them: one line that says what is wrong, and what to do."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from vsp import models
from vsp.errors import InputError, ModelError


@pytest.fixture
def copy(checkpoint, tmp_path):
    """A copy of the small checkpoint, with changes to its config.json."""

    def make(**changes):
        folder = tmp_path / "odd"
        shutil.copytree(checkpoint, folder)
        values = json.loads((folder / "config.json").read_text())
        for key, value in changes.items():
            part, _, name = key.rpartition("__")
            (values[part] if part else values)[name] = value
        (folder / "config.json").write_text(json.dumps(values))
        return folder

    return make


def _config(folder):
    return models.resolve("llava15", checkpoint=str(folder), quantization="none")


def _refusal(folder):
    with pytest.raises(ModelError) as refused:
        models.check(_config(folder))
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_the_layout_of_the_original_repository_is_named(copy):
    said = _refusal(copy(mm_vision_tower="openai/clip-vit-large-patch14-336"))
    assert "has the layout of the original LLaVA repository; use the converted one" in said


def test_a_padding_token_beyond_the_vocabulary_is_named(copy):
    said = _refusal(copy(text_config__pad_token_id=32001))
    assert "pad_token_id 32001 is beyond the vocabulary of" in said
    assert said.endswith("correct it in config.json")


def test_a_prompt_token_beyond_the_embeddings_fails_its_row_only(copy):
    folder = copy()
    path = folder / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    n = len(tokenizer["model"]["vocab"])
    added = dict(tokenizer["added_tokens"][0], id=n + 50, content="purple-new", special=False)
    tokenizer["added_tokens"].append(added)
    path.write_text(json.dumps(tokenizer))
    from PIL import Image

    processor = models.check(_config(folder))
    picture = processor.picture(Image.new("RGB", (112, 112)))
    assert processor.row(picture, "where is the red circle?").tokens
    with pytest.raises(InputError, match=r"token 'purple-new' of number \d+, beyond the model's"):
        processor.row(picture, "where is the purple-new circle?")


def test_a_cut_file_beside_an_index_is_the_one_that_would_be_loaded(copy):
    folder = copy()
    weights = load_file(folder / "model.safetensors")
    save_file(weights, folder / "model-00001-of-00001.safetensors", {"format": "pt"})
    index = {
        "metadata": {},
        "weight_map": dict.fromkeys(weights, "model-00001-of-00001.safetensors"),
    }
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    models.check(_config(folder))
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    assert "1 of 1 weight files are missing or cut short, for example model.saf" in _refusal(folder)
    (folder / "model.safetensors").unlink()
    models.check(_config(folder))


def test_pickled_weights_alone_are_to_be_converted(copy):
    folder = copy()
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    said = _refusal(folder)
    assert "has its weights as pickles only (pytorch_model.bin), which vsp does not read" in said
    assert "save_pretrained('NEW')" in said and "download" not in said
