"""Greedy decoding against transformers' own, one row at a time in float32."""

import json
import logging
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from helpers.reference import MORE_WRITERS, PROMPTS, WRITERS, Family, make_images
from safetensors.torch import load_file, save_file
from transformers import GenerationConfig

from vsp import models
from vsp.errors import ModelError
from vsp.models.contract import Processor, Recorded, VisionLanguageModel, prompt_group
from vsp.models.greedy import GreedyDecoder, ignored_settings

N = 12
SAMPLING = {
    "do_sample": True, "temperature": 1.7, "top_k": 3, "repetition_penalty": 5.0, "num_beams": 3,
    "no_repeat_ngram_size": 1, "min_new_tokens": N, "max_length": 7,
}  # fmt: skip


@pytest.fixture(scope="module", params=["llava", "qwen2_vl", "idefics3"])
def family(request, tmp_path_factory):
    """A small checkpoint that asks for sampling, and whose end token is in its first text."""
    folder = tmp_path_factory.mktemp("generate") / request.param
    family = Family(request.param, {**WRITERS, **MORE_WRITERS}[request.param](folder))
    family.alone.generation_config = GenerationConfig()
    family.texts = [_reference(family, *one) for one in zip(make_images(), PROMPTS, strict=True)]
    family.end = family.texts[1][N // 2]
    config = {**SAMPLING, "suppress_tokens": family.texts[0][:1], "eos_token_id": [5, family.end]}
    (folder / "generation_config.json").write_text(json.dumps(config))
    return family


def _reference(family, image, prompt):
    inputs = family._inputs(image, prompt)
    with torch.inference_mode():
        whole = family.alone.generate(**inputs, do_sample=False, max_new_tokens=N)[0].tolist()
    return whole[inputs["input_ids"].shape[1] :]


def _groups(processor):
    groups = []
    for image, prompt in zip(make_images(), PROMPTS, strict=True):
        picture = processor.picture(image)
        groups.append(prompt_group(picture, [processor.row(picture, prompt)]))
    return groups


def _until(end, text):
    return tuple(text[: text.index(end)] if end in text else text)


@pytest.fixture(scope="module")
def loaded(family):
    return models.load(family.config())


def test_texts_are_those_of_transformers_without_its_sampling(family, loaded, caplog):
    caplog.set_level(logging.INFO, logger="vsp")
    groups = _groups(loaded.processor)
    before = loaded.model.forward(groups)().states["last"]
    found = loaded.model.generate(groups, N)
    assert found == [_until(family.end, text) for text in family.texts]
    assert len(found[1]) <= N // 2 and max(map(len, found)) > 2
    (note,) = [one for one in caplog.messages if "greedy decoding ignores" in one]
    assert "repetition_penalty 5.0" in note and "do_sample True" in note and "eos" not in note
    tokens = loaded.processor.row(groups[0].picture, "Über?").tokens
    assert "Über?" in loaded.processor.decode(tokens)
    assert loaded.processor.decode(groups[0].picture.tokens[-1:]) == ""  # special tokens
    assert (loaded.model.forward(groups)().states["last"] == before).all()


def test_rows_about_one_image_are_continued_each_alone(family, loaded):
    picture = loaded.processor.picture(make_images()[0])
    rows = [loaded.processor.row(picture, prompt) for prompt in PROMPTS]
    rows[0] = replace(rows[0], options=((7, 8, 9), (7, 9)))  # are not part of the prompt
    expected = [_until(family.end, _reference(family, make_images()[0], one)) for one in PROMPTS]
    assert loaded.model.generate([prompt_group(picture, rows)], N) == expected


def test_four_bits_agree_with_themselves(tmp_path):
    folder = MORE_WRITERS["qwen2_vl"](tmp_path / "qwen2_vl")
    loaded = models.load(Family("qwen2_vl", folder).config(quantization="4bit"))
    groups = _groups(loaded.processor)
    found = loaded.model.generate(groups, 3)
    assert found == [loaded.model.generate([group], 3)[0] for group in groups]
    head = loaded.model._model.get_output_embeddings().weight.float()
    last = loaded.model.forward(groups)().states["last"][-1]
    first = (torch.from_numpy(last) @ head.T).argmax(1).tolist()
    assert [text[0] for text in found] == first


def test_a_missing_head_writes_no_text_and_gives_no_answer(tmp_path):
    folder = MORE_WRITERS["llava"](tmp_path / "llava")
    tensors = load_file(folder / "model.safetensors")
    (head,) = [name for name in tensors if "lm_head" in name]
    del tensors[head]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    loaded = models.load(Family("llava", folder).config())
    groups = _groups(loaded.processor)
    assert np.isfinite(loaded.model.forward(groups)().states["last"]).all()
    with pytest.raises(ModelError, match=r"head of the model \(lm_head\): 1 weights hold values"):
        loaded.model.generate(groups, 2)
    with pytest.raises(
        ModelError, match=r"weights of its head .* plan the run again with --no-answ"
    ):
        loaded.model.forward(groups, Recorded(n_options=1))


@pytest.mark.parametrize(("end", "said"), [("x" * 999, "'xxx"), (True, "True"), ([[1]], r"\[1\]")])
def test_an_end_token_that_is_no_number_is_named(tmp_path, end, said):
    loaded = models.load(Family("llava", MORE_WRITERS["llava"](tmp_path / "llava")).config())
    loaded.model._model.generation_config.eos_token_id = end
    with pytest.raises(ModelError, match=f"^eos_token_id {said}.* is not a number") as caught:
        loaded.model.generate(_groups(loaded.processor), 2)
    assert len(str(caught.value)) < 200


def test_numbers_that_are_no_tokens_end_no_text(family):
    given = GenerationConfig(eos_token_id=[2**70, -1, family.end])
    family.alone.generation_config = given
    inputs = family._inputs(make_images()[1], PROMPTS[1])
    found = GreedyDecoder(family.alone).tokens(N, **inputs)
    assert found == _until(family.end, family.texts[1])


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, ""),
        ({"eos_token_id": 2, "pad_token_id": 0, "max_length": 99, "use_cache": False}, ""),
        ({"do_sample": False, "temperature": 1.0, "num_beams": 1, "no_repeat_ngram_size": 0}, ""),
        ({"do_sample": True, "top_p": 0.9}, "do_sample True, top_p 0.9"),
        ({"bad_words_ids": [[7]]}, "bad_words_ids [[7]]"),
    ],
)
def test_ignored_settings_are_those_that_could_change_a_token(settings, said):
    assert ignored_settings(GenerationConfig(**settings)) == said


def test_a_family_without_it_says_so():
    for generate in (partial(VisionLanguageModel.generate, None, (), 1),
                     partial(Processor.decode, None, ())):  # fmt: skip
        with pytest.raises(ModelError, match="family generates no text"):
            generate()
