"""Every weight comes from the checkpoint, as it is stored, or the run is refused at plan time."""

from __future__ import annotations

import json
import logging
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText, BitsAndBytesConfig

from vsp import models
from vsp.errors import ConfigError, ModelError
from vsp.models import catalog

RGPT = Path(__file__).parent / "spatialrgpt/ckpt"
TEXTS = ("tokenizer.json", "tokenizer_config.json", "preprocessor_config.json", "processor_config.json")  # fmt: skip


def _without(part):
    return lambda weights: {name: value for name, value in weights.items() if part not in name}


def _prefixed(prefix):
    return lambda weights: {f"{prefix}{name}": value for name, value in weights.items()}


def _changed(part, change):
    return lambda weights: {n: change(v) if part in n else v for n, v in weights.items()}


def _empty(value):
    return torch.zeros(0, dtype=value.dtype)


def _rewritten(source: Path, folder: Path, change, name: str = "model.safetensors") -> Path:
    """A copy of a checkpoint with other weights."""
    shutil.copytree(source, folder)
    weights = change(load_file(folder / name))
    save_file({n: v.contiguous() for n, v in weights.items()}, folder / name, {"format": "pt"})
    return folder


def _config(folder: Path, family: str = "llava15", quantization: str = "none"):
    return models.resolve(family, checkpoint=str(folder), quantization=quantization)


SAVE_WHOLE = "save the whole model, frozen parts too, or use the checkpoint that it was made from"
BROKEN = {
    "without the tower": (
        _without("vision_tower"),
        r"\d+ of \d+ weights are missing, the first: model\.vision_tower\..*, .*, .*; " + SAVE_WHOLE,
    ),
    "without the projector": (
        _without("multi_modal_projector"),
        r"4 of \d+ weights are missing, the first: model\.multi_modal_projector\.linear_1\.bias, ",
    ),
    "without a layer": (
        _without("layers.3."),
        r"\d+ of \d+ weights are missing, the first: model\.language_model\.layers\.3\.",
    ),
    "saved by PEFT": (
        _prefixed("base_model.model."),
        r"names of its weights begin with 'base_model\.model\.', which PEFT adds; save the model "
        r"itself, `model\.merge_and_unload\(\)\.save_pretrained\(DIR\)`, and use that folder",
    ),
    "saved by DataParallel": (
        _prefixed("module."), r"begin with 'module\.', which DataParallel or DeepSpeed adds",
    ),
    "saved by torch.compile": (
        _prefixed("_orig_mod."), r"begin with '_orig_mod\.', which torch\.compile adds",
    ),
    "with unknown names": (_prefixed("x."), rf"\d+ of \d+ weights are missing, .*; {SAVE_WHOLE}"),
    "empty": (
        _changed("layers.2.", _empty),
        r"\d+ of \d+ weights are empty, the first: .*layers\.2\..*; DeepSpeed ZeRO-3 saves such files",
    ),
    "of another shape": (
        _changed("embed_tokens", lambda value: value[:-1]),
        r"1 of \d+ weights have another shape than its configuration says, for example "
        r"model\.language_model\.embed_tokens\.weight: \[\d+, 128\], not \[\d+, 128\]; use the config",
    ),
}  # fmt: skip


@pytest.mark.parametrize("quantization", ["none", "4bit"])
@pytest.mark.parametrize("broken", BROKEN)
def test_a_checkpoint_that_lacks_weights_is_refused_by_the_plan(
    checkpoint, tmp_path, broken, quantization
):
    change, message = BROKEN[broken]
    folder = _rewritten(checkpoint, tmp_path / "broken", change)
    with pytest.raises(ModelError, match=f"^{folder}: .*{message}"):
        models.check(_config(folder, quantization=quantization))


@pytest.mark.parametrize("broken", ["without a layer", "of another shape"])
def test_a_task_refuses_it_too(checkpoint, tmp_path, broken):
    change, message = BROKEN[broken]
    folder = _rewritten(checkpoint, tmp_path / "broken", change)
    with pytest.raises(ModelError, match=message):
        models.read_model(_config(folder))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("quantization", ["none", "4bit", "8bit"])
def test_weights_that_are_not_finite_are_refused_when_they_are_loaded(
    checkpoint, tmp_path, quantization, value
):
    def spoil(weight):
        weight[0, 0] = value
        return weight

    folder = _rewritten(checkpoint, tmp_path / "nan", _changed("layers.1.mlp.up_proj", spoil))
    with pytest.raises(ModelError, match=r"1 weights hold values .* not a number, .*up_proj"):
        models.read_model(_config(folder, quantization=quantization))


def _states(config):
    loaded = models.load(config)
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (112, 112, 3), np.uint8))
    return loaded.last_token_states([picture], ["where is it?"])


def test_a_missing_head_changes_no_state(checkpoint, tmp_path):
    folder = _rewritten(checkpoint, tmp_path / "no head", _without("lm_head"))
    models.check(_config(folder))
    assert np.array_equal(_states(_config(folder)), _states(_config(checkpoint)))


def test_tensors_that_are_not_used_are_counted_and_change_no_state(checkpoint, tmp_path, caplog):
    def more(weights):
        return {**weights, "rotary.inv_freq": torch.ones(3), "value_head.weight": torch.ones(2)}

    folder = _rewritten(checkpoint, tmp_path / "more", more)
    with caplog.at_level(logging.INFO, "vsp"):
        models.check(_config(folder))
    assert "does not use: 2, rotary.inv_freq, value_head.weight" in caplog.text
    assert np.array_equal(_states(_config(folder)), _states(_config(checkpoint)))


def test_layers_of_a_tower_after_the_used_one_may_be_missing_or_spoiled(checkpoint, tmp_path):
    config = json.loads((checkpoint / "config.json").read_text())
    last = config["vision_config"]["num_hidden_layers"] - 1
    assert config["vision_feature_layer"] == -2
    names = (f"encoder.layers.{last}.", "post_layernorm")
    folder = _rewritten(
        checkpoint, tmp_path / "short", lambda w: _without(names[0])(_without(names[1])(w))
    )
    models.check(_config(folder))
    assert np.array_equal(_states(_config(folder)), _states(_config(checkpoint)))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "model.language_model.layers.0.mlp.up_proj.lora_A.weight",
            "holds weights of a LoRA adapter",
        ),
        ("module.x", "begin with 'module.', which DataParallel"),
    ],
)
def test_leftovers_of_wrappers_are_recognised(checkpoint, tmp_path, name, message):
    def change(weights):
        inside = _prefixed("module.")(weights) if name == "module.x" else weights
        return {**inside, name: torch.zeros(4, 4), "other": torch.zeros(1)}

    folder = _rewritten(checkpoint, tmp_path / "mixed", change)
    with pytest.raises(ModelError, match=message):
        models.check(_config(folder))


# SpatialRGPT: a folder of parts.


_OPENED: list[str] = []


def test_a_plan_opens_each_weight_file_once(checkpoint, tmp_path):
    """Each opening costs a round trip on a network file system."""
    shutil.copytree(checkpoint, tmp_path / "c")
    tensors = load_file(tmp_path / "c/model.safetensors")
    (tmp_path / "c/model.safetensors").unlink()
    names, index = sorted(tensors), {}
    for file, part in (("a.safetensors", names[:9]), ("b.safetensors", names[9:])):
        save_file({name: tensors[name] for name in part}, tmp_path / "c" / file)
        index |= dict.fromkeys(part, file)
    (tmp_path / "c/model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    sys.addaudithook(lambda event, about: event == "open" and _OPENED.append(str(about[0])))
    config = models.resolve("llava15", checkpoint=str(tmp_path / "c"), quantization="none")
    models.load_family("llava15").check(config)
    opened = [name for name in _OPENED if name.startswith(str(tmp_path / "c"))]
    assert sorted(Path(name).name for name in opened if name.endswith(".safetensors")) == [
        "a.safetensors",
        "b.safetensors",
    ]


def test_an_adapter_or_a_quantised_tower_in_a_part_is_refused(tmp_path):
    config = models.resolve("spatialrgpt", checkpoint=str(tmp_path / "ckpt"), quantization="none")
    shutil.copytree(RGPT, tmp_path / "ckpt")
    (tmp_path / "ckpt/llm/adapter_config.json").write_text("{}")
    with pytest.raises(ModelError, match="llm: holds an adapter"):
        models.check(config)
    (tmp_path / "ckpt/llm/adapter_config.json").unlink()
    models.check(config)
    _rewrite_config(tmp_path / "ckpt/vision_tower", lambda v: v | {"quantization_config": {"a": 1}})
    with pytest.raises(ModelError, match="its vision tower is already quantised"):
        models.check(config)


PARTS = {
    "llm": ("model.layers.1.", "missing"),
    "vision_tower": ("encoder.layers.0.", "missing"),
    "mm_projector": ("layers.1.", "missing"),
    "region_extractor": ("rgb_projector.weight", "missing"),
}


@pytest.mark.parametrize("part", PARTS)
def test_every_part_of_a_checkpoint_in_parts_is_checked(tmp_path, part):
    shutil.copytree(RGPT, tmp_path / "ckpt")
    (file,) = (tmp_path / "ckpt" / part).glob("*.safetensors")
    weights = load_file(file)
    name = next(name for name in weights if PARTS[part][0] in name)
    save_file({n: v for n, v in weights.items() if n != name}, file, {"format": "pt"})
    config = models.resolve("spatialrgpt", checkpoint=str(tmp_path / "ckpt"), quantization="none")
    with pytest.raises(ModelError, match=rf"ckpt/{part}: 1 of \d+ weights are missing, "):
        models.check(config)


def test_layers_of_the_tower_that_are_cut_off_may_be_missing(tmp_path):
    shutil.copytree(RGPT, tmp_path / "ckpt")
    (file,) = (tmp_path / "ckpt/vision_tower").glob("*.safetensors")
    weights = load_file(file)
    last = max(int(n.split("layers.")[1].split(".")[0]) for n in weights if "layers." in n)
    kept = {n: v for n, v in weights.items() if f"layers.{last}." not in n}
    assert len(kept) < len(weights)
    save_file(kept, file, {"format": "pt"})
    models.check(
        models.resolve("spatialrgpt", checkpoint=str(tmp_path / "ckpt"), quantization="none")
    )


# Checkpoints that are stored quantised.


@pytest.fixture(scope="module", params=["4bit", "8bit"])
def stored(request, checkpoint, tmp_path_factory):
    """How a checkpoint is stored, and its folder."""
    options = BitsAndBytesConfig(**{f"load_in_{request.param}": True})
    model = AutoModelForImageTextToText.from_pretrained(
        checkpoint, dtype=torch.float32, quantization_config=options
    )
    folder = tmp_path_factory.mktemp("stored") / request.param
    model.save_pretrained(folder)
    for name in TEXTS:
        shutil.copy(checkpoint / name, folder / name)
    return request.param, folder


def test_a_stored_quantization_is_used_as_it_is_and_shown(stored, vsp, spatial, work):
    kind, folder = stored
    asked = (
        "plan",
        "--model",
        "llava15",
        "--checkpoint",
        folder,
        "--dataset",
        spatial,
        "--limit",
        8,
    )
    for said in ((), ("--quantization", kind)):
        answer = vsp(*asked, *said)
        assert answer.returncode == 0, answer.stderr
        assert f"quantization {kind}, as stored in the checkpoint" in answer.stdout
    answer = vsp("extract", "--workers", 0)
    assert "8 rows done, 0 failed" in answer.stdout, answer.stderr
    assert "UNEXPECTED" not in answer.stderr and "MISMATCH" not in answer.stderr


def test_the_states_of_a_stored_quantization_are_those_of_transformers(stored, checkpoint, work):
    kind, folder = stored
    config = catalog.find("llava15", work, checkpoint=str(folder))
    assert (config.quantization, config.stored_quantization) == ("none", kind)
    ours = models.load(config)
    picture = Image.new("RGB", (112, 112), "red")
    expected = ours.model.reference_states(ours.processor, [picture], ["where?"])
    got = ours.last_token_states([picture], ["where?"])
    np.testing.assert_allclose(got, expected, atol=1e-4)
    full = models.load(_config(checkpoint)).last_token_states([picture], ["where?"])
    assert not np.allclose(got, full, atol=1e-3)


def test_another_quantization_than_the_stored_one_is_refused(stored, work):
    kind, folder = stored
    for other in {"none", "4bit", "8bit"} - {kind}:
        with pytest.raises(
            ModelError, match=f"is stored in {kind}; leave out --quantization {other}, or name a"
        ):
            catalog.find("llava15", work, checkpoint=str(folder), quantization=other)
    with pytest.raises(
        ModelError, match=f"is stored in {kind}, but the model's configuration says"
    ):
        models.check(_config(folder))


def test_a_stored_checkpoint_without_a_layer_is_refused(stored, tmp_path, work):
    folder = _rewritten(stored[1], tmp_path / "broken", _without("layers.3."))
    with pytest.raises(ModelError, match=r"weights are missing, the first: .*layers\.3\."):
        models.check(catalog.find("llava15", work, checkpoint=str(folder)))


def _rewrite_config(folder, change):
    path = folder / "config.json"
    path.write_text(json.dumps(change(json.loads(path.read_text()))))


def test_quantised_weights_that_the_configuration_does_not_mention_are_refused(stored, tmp_path):
    """They would be converted to floating point without their scales."""
    shutil.copytree(stored[1], tmp_path / "lost")
    _rewrite_config(tmp_path / "lost", lambda v: {k: v[k] for k in v if "quantiz" not in k})
    with pytest.raises(
        ModelError, match=r"tensors are of a quantised checkpoint, .* but config\.json"
    ):
        models.check(_config(tmp_path / "lost"))


@pytest.mark.parametrize("dtype", [torch.int8, torch.int64, torch.float8_e4m3fn])
def test_weights_of_another_kind_of_number_are_refused(checkpoint, tmp_path, dtype):
    folder = _rewritten(
        checkpoint, tmp_path / "packed", _changed("mlp.up_proj", lambda w: w.to(dtype))
    )
    with pytest.raises(ModelError, match="tensors are of a quantised checkpoint"):
        models.check(_config(folder))


def test_a_configuration_that_calls_plain_weights_quantised_is_refused(
    checkpoint, stored, tmp_path, work
):
    shutil.copytree(checkpoint, tmp_path / "left over")
    config = json.loads((stored[1] / "config.json").read_text())["quantization_config"]
    _rewrite_config(tmp_path / "left over", lambda v: v | {"quantization_config": config})
    with pytest.raises(ModelError, match=f"are stored in {stored[0]}, but they are not; remove"):
        models.check(catalog.find("llava15", work, checkpoint=str(tmp_path / "left over")))


def test_a_quantization_inside_a_part_of_the_configuration_is_refused(stored, tmp_path, work):
    shutil.copytree(stored[1], tmp_path / "nested")

    def nest(values):
        values["text_config"]["quantization_config"] = values.pop("quantization_config")
        return values

    _rewrite_config(tmp_path / "nested", nest)
    with pytest.raises(ModelError, match="quantization_config stands inside text_config"):
        models.check(catalog.find("llava15", work, checkpoint=str(tmp_path / "nested")))


def test_missing_scales_are_refused(stored, tmp_path, work):
    kind, folder = stored
    for part in {"4bit": (".absmax", "quant_state"), "8bit": ("SCB",)}[kind]:
        broken = _rewritten(folder, tmp_path / part, _without(part))
        with pytest.raises(ModelError, match=r"the scales of \d+ quantised weights are missing"):
            models.check(catalog.find("llava15", work, checkpoint=str(broken)))


def test_another_dtype_than_that_of_a_stored_quantization_is_refused(stored, work):
    config = catalog.find("llava15", work, checkpoint=str(stored[1]), dtype="bfloat16")
    with pytest.raises(ModelError, match="for float32; leave out --dtype bfloat16"):
        models.check(config)


def test_what_the_plan_finds_cannot_be_set_in_a_file(work):
    for line in ("frame: x", "stored_quantization: 4bit"):
        (work / "own.yaml").write_text(f"family: llava15\n{line}\n")
        with pytest.raises(ConfigError, match=r"own\.yaml: \w+ is found by `vsp plan`; remove it"):
            catalog.find("own.yaml", work)


@pytest.mark.parametrize(
    ("method", "reason"),
    [
        ("awq", "pip install gptqmodel"),
        ("gptq", "optimum"),
        ("compressed-tensors", "pip install compressed-tensors"),
        ("squeeze", "Unknown quantization type, got squeeze"),
        ("fp8", "vsp was not tested with"),
    ],
)
def test_a_method_that_cannot_be_loaded_is_refused_with_what_is_missing(
    checkpoint, tmp_path, work, method, reason
):
    shutil.copytree(checkpoint, tmp_path / "ckpt")
    path = tmp_path / "ckpt/config.json"
    values = json.loads(path.read_text())
    path.write_text(
        json.dumps(values | {"quantization_config": {"quant_method": method, "bits": 4}})
    )
    config = catalog.find("llava15", work, checkpoint=str(tmp_path / "ckpt"))
    with pytest.raises(ModelError, match=f"is stored in {method}, which .*{reason}"):
        models.check(config)
