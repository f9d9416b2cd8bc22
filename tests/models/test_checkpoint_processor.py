"""How the checkpoint's processor is built from its files."""

import json

import numpy as np
import pytest
from helpers import more_tiny_vlms, tiny_vlms
from helpers.reference import make_images
from transformers import AutoImageProcessor, Cohere2VisionConfig, LlavaConfig
from transformers.models.smolvlm import processing_smolvlm
from transformers.utils.import_utils import is_torchvision_available

from vsp import models
from vsp.errors import ModelError


def _config(folder):
    full = {"quantization": "none", "dtype": "float32"}
    return models.resolve("auto", checkpoint=str(folder), **full)


def _change(folder, file, **values):
    path = folder / file
    kept = {**json.loads(path.read_text()), **values}
    path.write_text(json.dumps({k: v for k, v in kept.items() if v is not None}))


def _n_image_tokens(folder):
    processor = models.read_processor(_config(folder))
    token = LlavaConfig.from_pretrained(folder).image_token_id
    return processor.picture(make_images()[0]).tokens.count(token)


@pytest.mark.parametrize(
    ("write", "n_tokens"), [("llava", 64), ("vipllava", 16)], ids=["no class token", "class token"]
)
@pytest.mark.parametrize("saved", ["none", "of another tower"])
def test_llava_counts_image_tokens_as_its_model_does_whatever_its_processor_says(
    tmp_path, write, n_tokens, saved
):
    folder = more_tiny_vlms.WRITERS[write](tmp_path / "checkpoint")
    strategy = "full" if write == "vipllava" else "default"
    others = {
        "none": dict.fromkeys(
            ("patch_size", "num_additional_image_tokens", "vision_feature_select_strategy")
        ),
        "of another tower": {
            "patch_size": 7, "num_additional_image_tokens": 3,
            "vision_feature_select_strategy": strategy,
        },
    }  # fmt: skip
    _change(folder, "processor_config.json", **others[saved])
    assert _n_image_tokens(folder) == n_tokens
    states = models.load(_config(folder)).last_token_states(make_images()[:1], ["Up?"])
    assert np.isfinite(states).all()


def test_the_class_that_the_files_name_comes_before_that_of_the_model_type(tmp_path):
    folder = more_tiny_vlms.write_pixtral(tmp_path / "checkpoint")
    _change(folder, "processor_config.json", processor_class=None)
    assert (
        "Pixtral"
        in json.loads((folder / "preprocessor_config.json").read_text())["processor_class"]
    )
    assert _n_image_tokens(folder) == 49  # of patches of 16 in 112 × 112, with marks between rows
    _change(folder, "preprocessor_config.json", processor_class="NoSuchProcessor")
    # LLaVA's class does not know the image token of the template.
    with pytest.raises(ModelError, match="chat template prints the image 0 times"):
        _n_image_tokens(folder)


def test_smolvlm_needs_no_num2words_and_leaves_transformers_as_it_was(tmp_path):
    before = processing_smolvlm.num2words
    models.read_processor(_config(tiny_vlms.write_smolvlm(tmp_path / "checkpoint")))
    assert processing_smolvlm.num2words is before


@pytest.mark.skipif(is_torchvision_available(), reason="torchvision is installed")
@pytest.mark.parametrize("ending", ["", "Fast"])
def test_a_missing_torchvision_is_named_and_nothing_else_is_advised(tmp_path, ending):
    folder = more_tiny_vlms.write_llava_siglip(tmp_path / "checkpoint")
    Cohere2VisionConfig().save_pretrained(folder)
    names = {"processor_class": "Cohere2VisionProcessor"}
    _change(folder, "processor_config.json", **names)
    _change(
        folder,
        "preprocessor_config.json",
        **names,
        image_processor_type=f"Cohere2VisionImageProcessor{ending}",
    )
    with pytest.raises(ModelError) as caught:
        models.read_processor(_config(folder))
    assert str(caught.value) == (
        "the image processor of model type 'cohere2_vision' needs torchvision; install torchvision"
    )


def test_an_error_that_is_not_about_torchvision_keeps_its_own_message(tmp_path, monkeypatch):
    folder = more_tiny_vlms.write_llava_siglip(tmp_path / "checkpoint")

    def fail(*_args, **_settings):
        raise ImportError("no module named sentencepiece")

    monkeypatch.setattr(AutoImageProcessor, "from_pretrained", fail)
    with pytest.raises(ModelError, match="sentencepiece"):
        models.read_processor(_config(folder))
