"""The table of model types: every claim in it, and its copy in docs/models.md."""

import json
import re

import numpy as np
import pytest
import transformers
from helpers.paths import ROOT
from helpers.reference import MORE_WRITERS, PROMPTS, WRITERS, Family, make_images
from PIL import Image
from transformers import CONFIG_MAPPING
from transformers.models.auto import image_processing_auto, modeling_auto, processing_auto

from vsp import models
from vsp.errors import ModelError
from vsp.models import supported
from vsp.models.contract import prompt_group
from vsp.models.outline import decoder_path, empty_model

TYPES = modeling_auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES
ALL_WRITERS = {**WRITERS, **MORE_WRITERS}
# Families whose image processors resize, crop, rescale and normalise.
AS_BYTES = ("chameleon", "gemma3", "llava", "paligemma", "qwen2_5_vl", "qwen2_vl", "qwen3_5",
            "qwen3_vl", "qwen3_vl_moe", "vipllava")  # fmt: skip
# Configurations whose defaults do not make a model.
FIELDS = {
    "emu3": {"vocabulary_map": {"<image>": 3}},
    "hunyuan_vl": {"text_config": {"head_dim": 32}},
    "deepseek_ocr2": {"text_config": {"mlp_layer_types": ["dense"] * 12, "num_hidden_layers": 12}},
    "granite4_vision": {"deepstack_layer_map": [[-1, 2]], "downsample_rate": "4/8"},
    "cohere_compass": {"text_config": {"rope_parameters": {
        "full_attention": {"rope_type": "default", "rope_theta": 10000.0},
    }}},
}  # fmt: skip


@pytest.fixture(scope="module", params=ALL_WRITERS)
def family(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("supported") / request.param
    return Family(request.param, ALL_WRITERS[request.param](folder))


def test_every_tested_type_has_a_checkpoint_here():
    assert {*ALL_WRITERS} - {"narrow", "pixtral"} == {*supported.TESTED}


def test_tokens_and_states_are_those_of_transformers_one_sample_at_a_time(family):
    loaded = models.load(family.config())
    states = loaded.last_token_states(make_images(), PROMPTS)
    for column, (image, prompt) in enumerate(zip(make_images(), PROMPTS, strict=True)):
        ids, expected = family.reference(image, prompt)
        assert list(loaded.processor.row(loaded.processor.picture(image), prompt).tokens) == ids
        assert np.abs(expected).max() > 1  # so that 1e-4 is a meaningful tolerance
        assert np.abs(states[:, column] - expected).max() < 1e-4


def test_pictures_as_bytes_give_the_states_of_whole_processors_to_the_last_bit(family):
    processor = models.read_processor(family.config())
    pictures = [processor.picture(image) for image in make_images()]
    assert (pictures[0].rule is not None) == (family.name in AS_BYTES)
    if family.name not in AS_BYTES:
        return
    whole = [processor._whole_picture(image) for image in make_images()]
    n_bytes = [sum(array.nbytes for array in p[0].arrays.values()) for p in (pictures, whole)]
    assert n_bytes[1] > 3.9 * n_bytes[0]
    for dtype in ("float32", "bfloat16"):
        model = models.read_model(family.config(dtype=dtype))
        states = []
        for some in (pictures, whole):
            assert [picture.tokens for picture in some] == [picture.tokens for picture in whole]
            rows = [[processor.row(p, text)] for p, text in zip(some, PROMPTS, strict=True)]
            states.append(model.forward(list(map(prompt_group, some, rows)))())
        assert states[0].tobytes() == states[1].tobytes()


def test_states_depend_on_the_image(family):
    loaded = models.load(family.config())
    image = make_images()[0]
    images = [image, Image.new("RGB", image.size, (200, 30, 30))]
    states = loaded.last_token_states(images, PROMPTS[:1] * 2)
    assert (states[0, 0] == states[0, 1]).all()  # the embedding of a token of the text
    assert np.abs(states[-1, 0] - states[-1, 1]).max() > 1e-2


def test_prompts_that_share_an_image_have_the_states_of_transformers(family):
    loaded = models.load(family.config())
    image = make_images()[0]
    picture = loaded.processor.picture(image)
    rows = [loaded.processor.row(picture, prompt) for prompt in PROMPTS]
    states = loaded.model.forward([prompt_group(picture, rows)])()
    for column, prompt in enumerate(PROMPTS):
        assert np.abs(states[:, column] - family.reference(image, prompt)[1]).max() < 1e-4


def test_the_table_has_every_type_of_transformers_once():
    lists = (supported.TESTED, supported.UNTESTED, supported.UNTESTED_WITH_TORCHVISION)
    names = [name for names in (*lists, supported.REFUSED) for name in names]
    assert sorted(names) == sorted(TYPES)


def test_the_documentation_has_the_same_table():
    text = (ROOT / "docs/models.md").read_text()
    rows = re.findall(r"^\| (parity|loads|refused)(.*?) \| (.*) \|$", text, re.MULTILINE)
    told = {
        name: start + rest for start, rest, names in rows for name in re.findall(r"`(.*?)`", names)
    }
    assert told == supported.supported()


@pytest.mark.parametrize("kind", supported.UNTESTED + supported.UNTESTED_WITH_TORCHVISION)
def test_a_type_that_loads_has_a_decoder_and_a_processor(kind):
    config = CONFIG_MAPPING[kind](**FIELDS.get(kind, {}))
    assert decoder_path(empty_model(config)) and hasattr(config, "image_token_id")
    backends = image_processing_auto.IMAGE_PROCESSOR_MAPPING_NAMES.get(kind)
    name = processing_auto.PROCESSOR_MAPPING_NAMES.get(kind)
    if backends and name:  # otherwise the checkpoint's files name them
        # vsp has its own PixtralProcessor.
        dummy = name != "PixtralProcessor" and hasattr(getattr(transformers, name), "is_dummy")
        in_pillow = "pil" in backends and not dummy
        assert in_pillow == (kind in supported.UNTESTED)


@pytest.mark.parametrize("kind", ["instructblip", "mllama", "gemma3n"])
def test_a_refused_type_is_refused_with_its_reason(tmp_path, kind):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": kind}))
    config = models.resolve("auto", checkpoint=str(tmp_path))
    for use in (models.shape, models.read_processor, models.read_model):
        with pytest.raises(ModelError, match=re.escape(supported.REFUSED[kind])) as caught:
            use(config)
        assert "\n" not in str(caught.value) and repr(kind) in str(caught.value)


def test_the_command_lists_the_same_table(vsp):
    assert json.loads(vsp("models", "--supported", "--json").stdout) == supported.supported()
    page = vsp("models", "--supported").stdout
    assert page.startswith("parity tested\n") and max(map(len, page.splitlines())) <= 80
    assert all(name in page for name in supported.supported())
