"""The table of model types: every claim in it, and its copy in docs/models.md."""

import copy
import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
import transformers
from helpers.painted import reacting_tokens, without_attention
from helpers.paths import ROOT
from helpers.reference import MORE_WRITERS, PROMPTS, WRITERS, Family, make_images
from PIL import Image
from transformers import CONFIG_MAPPING, AutoTokenizer
from transformers.models.auto import image_processing_auto, modeling_auto, processing_auto

from vsp import models
from vsp.errors import InputError, ModelError
from vsp.models import patch_grid, supported
from vsp.models.contract import Recorded, prompt_group
from vsp.models.outline import decoder_path, empty_model
from vsp.models.pixels import picture_inputs

CPU = torch.device("cpu")
TYPES = modeling_auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES
ALL_WRITERS = {**WRITERS, **MORE_WRITERS}
# Chameleon's model excludes image tokens behind its head, for every layer of the lens as well; the
# reference does so for the last layer only.
NO_LENS_REFERENCE = ("chameleon",)
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
    loaded = family.loaded
    states = loaded.last_token_states(make_images(), PROMPTS)
    for column, (image, prompt) in enumerate(zip(make_images(), PROMPTS, strict=True)):
        ids, expected = family.reference(image, prompt)
        assert list(loaded.processor.row(loaded.processor.picture(image), prompt).tokens) == ids
        assert np.abs(expected).max() > 1  # so that 1e-4 is a meaningful tolerance
        assert np.abs(states[:, column] - expected).max() < 1e-4


# One to six tokens; options that begin alike, one that begins with another, and a repeated token.
OPTIONS = ((5,), (7, 8), (7, 9), (7, 9, 6), (5, 5, 5, 5, 5, 5), (11, 12, 13))


def _answered(loaded, image, prompts, options=OPTIONS, positions=("last",), lens=False):
    picture = loaded.processor.picture(image)
    rows = []
    for number, prompt in enumerate(prompts):
        row = loaded.processor.row(picture, prompt)
        places = {"subject": (len(row.tokens) - 2,), "image": (1, 2, 4)[: 3 - number]}
        mine = options[: len(options) - number]  # rows with fewer options
        rows.append(replace(row, options=mine, places=places))
    recorded = Recorded(positions, len(options), lens)
    return loaded.model.forward([prompt_group(picture, rows)], recorded)()


def test_answers_and_positions_are_those_of_transformers_one_row_and_option_at_a_time(family):
    loaded = family.loaded
    image, prompts = make_images()[0], PROMPTS[:2]
    out = _answered(loaded, image, prompts, positions=("last", "subject", "image"), lens=True)
    n_tokens = [len(family.reference(image, prompt)[0]) for prompt in prompts]
    assert np.isnan(out.answers).sum() == 1 and np.isnan(out.answers[1, -1])
    for row, prompt in enumerate(prompts):
        assert np.abs(out.states["last"][:, row] - family.reference(image, prompt)[1]).max() < 1e-4
        for position, at in (("subject", (n_tokens[row] - 2,)), ("image", (1, 2, 4)[: 3 - row])):
            expected = family.mean_states(image, prompt, at)
            assert np.abs(out.states[position][:, row] - expected).max() < 1e-4
        for number, option in enumerate(OPTIONS[: len(OPTIONS) - row]):
            expected = family.option_score(image, prompt, option)
            assert expected[-1] < -1  # so that 1e-4 is a meaningful tolerance
            assert np.abs(out.answers[row, number] - expected[-1]) < 1e-4
            if family.name not in NO_LENS_REFERENCE:
                assert np.abs(out.lens[:, row, number] - expected).max() < 1e-4
    assert (out.lens[-1] == out.answers)[~np.isnan(out.answers)].all()


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
            states.append(model.forward(list(map(prompt_group, some, rows)))().states["last"])
        assert states[0].tobytes() == states[1].tobytes()


def test_states_depend_on_the_image(family):
    loaded = family.loaded
    image = make_images()[0]
    images = [image, Image.new("RGB", image.size, (200, 30, 30))]
    states = loaded.last_token_states(images, PROMPTS[:1] * 2)
    assert (states[0, 0] == states[0, 1]).all()  # the embedding of a token of the text
    assert np.abs(states[-1, 0] - states[-1, 1]).max() > 1e-2


def test_prompts_that_share_an_image_have_the_states_of_transformers(family):
    loaded = family.loaded
    image = make_images()[0]
    picture = loaded.processor.picture(image)
    rows = [loaded.processor.row(picture, prompt) for prompt in PROMPTS]
    states = loaded.model.forward([prompt_group(picture, rows)])().states["last"]
    for column, prompt in enumerate(PROMPTS):
        assert np.abs(states[:, column] - family.reference(image, prompt)[1]).max() < 1e-4


def test_options_have_the_tokens_of_the_checkpoints_tokenizer_on_the_whole_text(family):
    processor, image = family.processor, make_images()[1]
    picture, prompt = processor.picture(image), PROMPTS[1]
    row = processor.row(picture, prompt)
    options = [" above", "ab", "abc"]
    found = processor.option_tokens(picture, row, prompt, options)
    for option, tokens in zip(options, found, strict=True):
        assert [*row.tokens, *tokens] == family.tokens(image, prompt, option)
    with pytest.raises(InputError, match="answer option '' has no token; use another"):
        processor.option_tokens(picture, row, prompt, ["above", ""])


def test_the_tokens_of_a_name_are_the_name(family):
    processor, prompt = family.processor, "¿Está 'círculo rojo' junto a 红圆?"
    picture = processor.picture(make_images()[1])
    row = processor.row(picture, prompt)
    decode = AutoTokenizer.from_pretrained(family.folder).decode
    for name in ("círculo rojo", "红圆"):
        start = prompt.index(name)
        places = processor.name_tokens(picture, row, prompt, start, start + len(name))
        assert decode([row.tokens[place] for place in places]) == name


def test_image_tokens_are_where_the_text_has_them(family):
    processor, image = family.processor, make_images()[2]
    ids = np.array(family.tokens(image, PROMPTS[0]))
    places = processor.image_places(processor.picture(image))
    assert list(places) == np.flatnonzero(ids == family.alone.config.image_token_id).tolist()


def test_the_image_token_of_a_place_is_the_only_one_that_reads_a_point_there(family):
    processor = family.processor
    sizes = [(120, 200), (300, 130)]
    if family.name not in patch_grid.GRIDS:
        picture = processor.picture(Image.new("RGB", sizes[0]))
        with pytest.raises(InputError, match=r"have no grid here: .*; use positions without a box"):
            processor.patch_centres(picture, sizes[0])
        return
    model = without_attention(copy.deepcopy(family.alone)).model

    def features(image):
        inputs = picture_inputs([processor.picture(image)], CPU, torch.float32)
        with torch.inference_mode():
            output = model.get_image_features(**inputs).pooler_output
        return (output if torch.is_tensor(output) else torch.cat(list(output))).flatten(0, -2)

    for size in sizes:
        picture = processor.picture(Image.new("RGB", size))
        centres = processor.patch_centres(picture, size)
        assert (centres == processor.patch_centres(replace(picture, arrays={}), size)).all()
        inside = np.flatnonzero(((centres > 0) & (centres < 1)).all(axis=1))
        for token in inside[[0, 1, len(inside) // 2, -2]]:
            point = tuple((centres[token] * size).astype(int).tolist())
            assert reacting_tokens(features, size, point) == [token]


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


def test_every_tested_type_has_a_grid_or_a_reason_and_the_documentation_has_the_same():
    grids = {*patch_grid.GRIDS} - {"pixtral"}
    assert grids | patch_grid.NO_GRID.keys() == {*supported.TESTED}
    text = (ROOT / "docs/models.md").read_text()
    boxes = re.search(r"^\| `subject-box`, `reference-box` \| .*for the types (.*) \|$", text, re.M)
    assert {*re.findall(r"`(.*?)`", boxes[1])} == grids
    rows = re.findall(r"^\| no boxes: (.*) \| (.*) \|$", text, re.MULTILINE)
    told = {name: reason for reason, names in rows for name in re.findall(r"`(.*?)`", names)}
    assert told == patch_grid.NO_GRID


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
