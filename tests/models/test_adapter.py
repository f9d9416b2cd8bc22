"""LoRA adapters: applied exactly, checked at plan time, refused where they lie in a checkpoint."""

from __future__ import annotations

import json
import os
import resource
import shutil

import numpy as np
import peft
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText

from vsp import models
from vsp.errors import ModelError
from vsp.models import catalog
from vsp.models.fingerprint import fingerprint

TARGETS = ["q_proj", "v_proj", "up_proj"]


def _adapter(checkpoint, folder, fill):
    """Write an adapter of the language model; `fill` gives its second matrices."""
    model = AutoModelForImageTextToText.from_pretrained(checkpoint, dtype=torch.float32)
    options = peft.LoraConfig(r=4, target_modules=r".*language_model.*(q_proj|v_proj|up_proj)")
    wrapped = peft.get_peft_model(model, options)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, value in wrapped.named_parameters():
            if "lora_B" in name:
                value.copy_(fill(value, generator))
    wrapped.save_pretrained(folder)
    return wrapped


def _zeros(value, _):
    return torch.zeros_like(value)


def _random(value, generator):
    return torch.randn(value.shape, generator=generator) * 0.3


def _states(config):
    loaded = models.load(config)
    rng = np.random.default_rng(0)
    pictures = [Image.fromarray(rng.integers(0, 256, (112, 112, 3), np.uint8)) for _ in range(3)]
    return loaded.last_token_states(pictures, ["where?", "what colour is it?", "left or right?"])


@pytest.fixture(scope="module")
def adapter(checkpoint, tmp_path_factory):
    """The folder of an adapter that fits; tests change copies of it."""
    folder = tmp_path_factory.mktemp("adapter") / "mine"
    _adapter(checkpoint, folder, _random)
    return folder


def _config(checkpoint, adapter=None, quantization="none"):
    return models.resolve(
        "llava15", checkpoint=str(checkpoint), quantization=quantization,
        adapter=None if adapter is None else str(adapter),
    )  # fmt: skip


@pytest.mark.parametrize("quantization", ["none", "4bit"])
def test_an_adapter_of_zeros_gives_the_bytes_of_the_base(checkpoint, tmp_path, quantization):
    _adapter(checkpoint, tmp_path / "zeros", _zeros)
    config = _config(checkpoint, tmp_path / "zeros", quantization)
    models.check(config)
    assert np.array_equal(_states(config), _states(_config(checkpoint, None, quantization)))


def test_an_adapter_equals_the_merged_model(checkpoint, tmp_path):
    merged = _adapter(checkpoint, tmp_path / "random", _random).merge_and_unload()
    merged.save_pretrained(tmp_path / "merged")
    for path in checkpoint.glob("*.json"):
        if not (tmp_path / "merged" / path.name).exists():
            shutil.copy(path, tmp_path / "merged")
    config = _config(checkpoint, tmp_path / "random")
    models.check(config)
    got, wanted = _states(config), _states(_config(tmp_path / "merged"))
    np.testing.assert_allclose(got, wanted, atol=1e-5 * np.abs(wanted).max())
    assert np.abs(got - _states(_config(checkpoint))).max() > 0.1


def test_an_adapter_is_in_plan_report_and_fingerprint(
    checkpoint, adapter, tmp_path, vsp, spatial, work
):
    shutil.copytree(adapter, work / "mine")
    asked = ("plan", "--model", "llava15", "--checkpoint", checkpoint, "--quantization", "none")
    answer = vsp(*asked, "--adapter", "mine", "--dataset", spatial, "--limit", 40, "--run", "r")
    assert "with adapter mine, quantization none" in answer.stdout, answer.stderr
    # Libraries print nothing of their own.
    assert "Warning" not in answer.stderr and "kernels" not in answer.stderr
    plan = json.loads((work / "scratch/r/plan.json").read_text())
    assert plan["model"]["adapter"] == str(work / "mine")
    assert "adapter/adapter_model.safetensors" in plan["checkpoint_files"]
    assert "40 rows done" in vsp("extract", "--workers", 0).stdout
    weights = load_file(work / "mine/adapter_model.safetensors")
    save_file({n: v * 2 for n, v in weights.items()}, work / "mine/adapter_model.safetensors")
    changed = fingerprint(catalog.find("llava15", work, checkpoint=str(checkpoint), adapter="mine"))
    assert changed != plan["checkpoint_files"]
    again = vsp(*asked, "--adapter", "mine", "--dataset", spatial, "--limit", 8, "--run", "s")
    assert again.returncode == 0, again.stderr
    save_file(weights, work / "mine/adapter_model.safetensors")
    answer = vsp("extract", "--workers", 0, "--run", "s")
    assert answer.returncode == 1
    assert "adapter/adapter_model.safetensors of checkpoint" in answer.stderr
    assert "was changed since the plan" in answer.stderr


def test_adapter_files_in_a_checkpoint_are_refused_with_both_ways_out(
    checkpoint, adapter, tmp_path
):
    shutil.copytree(adapter, tmp_path / "mine")
    shutil.copytree(checkpoint, tmp_path / "mixed")
    shutil.copy(tmp_path / "mine/adapter_config.json", tmp_path / "mixed")
    for folder in ("mixed", "mine"):  # beside base weights, and alone
        with pytest.raises(ModelError) as refused:
            models.check(_config(tmp_path / folder))
        assert "holds an adapter (adapter_config.json)" in str(refused.value)
        assert "with --adapter, or merge them" in str(refused.value)


BROKEN = {
    "another type": ({"peft_type": "IA3"}, r"is of type 'IA3', not LORA; merge it into its base"),
    "for Megatron": ({"megatron_config": {"a": 1}}, "has megatron_config, which vsp does not apply"),
    "by a place": ({"alora_invocation_tokens": [1, 2]}, "has alora_invocation_tokens, which vsp"),
    "other layers": ({"target_modules": "nothing"}, "does not fit the model .*Target modules"),
    "a bad pattern": ({"target_modules": "(["}, "does not fit the model"),
    "a bad task": ({"task_type": "NOPE"}, "adapter_config.json cannot be used .*; save it again"),
    "a pattern that never ends": (
        {"target_modules": "(.*.*)*q_proj|(([a-z._0-9])+)+!"},
        r"patterns of its adapter_config.json .* takes over 5 s of CPU time; write simpler patterns",
    ),
    "layers in another order": ({"layer_replication": [[0, 2], [1, 2]]}, "has layer_replication, w"),
    "nested": (b'{"a":' * 10_000, r"adapter_config\.json is not JSON"),
    "a pipe": (None, r"adapter_config\.json cannot be read \(is a named pipe, not a regular file\)"),
    "another rank": ({"r": 8}, "says r = 8, but its tensors have at most rank 4; use the adapter_conf"),
    "a lower rank": ({"r": 2}, "does not fit the model .*size mismatch"),
    "a huge rank": ({"r": 20_000_000}, "says r = 20000000, but its tensors have at most rank 4; use"),
    "a rank of 300 digits": ({"r": 10**300}, "says r = a number of 301 digits, but its tensors"),
    "a huge rank of a layer": (
        {"rank_pattern": {"q_proj": 50_000_000}},
        "says rank_pattern q_proj = 50000000, but its tensors have at most rank 4; use",
    ),
    "a rank in words": ({"r": "many"}, "has the rank 'many', not a whole number from 1 on; save it"),
    "a rank of nothing": ({"r": 0}, "has the rank 0, not a whole number from 1 on"),
    "a list of ranks": ({"rank_pattern": [4]}, "has a rank_pattern that is no mapping; save it again"),
    "300,000 ranks": (
        {"rank_pattern": {f"l{i}": 4 for i in range(300_000)}},
        "has 300,000 entries of rank_pattern, more than 10,000; write fewer patterns",
    ),
    "fewer layers": ({"target_modules": ".*language_model.*q_proj"}, "its 36 tensors are not the 12"),
    "more layers": ({"target_modules": [*TARGETS, "o_proj"]}, r"its 36 tensors are not the \d+ that"),
}  # fmt: skip


@pytest.mark.parametrize("broken", BROKEN)
def test_an_adapter_that_does_not_fit_is_refused_by_the_plan(checkpoint, adapter, tmp_path, broken):
    change, message = BROKEN[broken]
    shutil.copytree(adapter, tmp_path / "mine")
    path = tmp_path / "mine/adapter_config.json"
    if change is None:
        path.unlink()
        os.mkfifo(path)
    elif isinstance(change, bytes):
        path.write_bytes(change)
    else:
        path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ModelError, match=message):
        models.check(_config(checkpoint, tmp_path / "mine"))


def test_a_rank_that_some_layers_do_not_have_takes_no_memory(checkpoint, adapter, tmp_path):
    shutil.copytree(adapter, tmp_path / "mine")
    path = tmp_path / "mine/adapter_config.json"
    changes = {"r": 2_000_000, "rank_pattern": {"q_proj": 4}}
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ModelError, match=r"does not fit the model .*size mismatch"):
        models.check(_config(checkpoint, tmp_path / "mine"))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1 << 19  # kB


def test_an_adapter_with_a_rank_for_each_layer_is_read(checkpoint, adapter, tmp_path):
    """As EVA writes them: `r` may be larger than the ranks of all layers."""
    shutil.copytree(adapter, tmp_path / "mine")
    path = tmp_path / "mine/adapter_config.json"
    names = load_file(tmp_path / "mine/adapter_model.safetensors")
    layers = {name[len("base_model.model.") :].partition(".lora_")[0] for name in names}
    changes = {"r": 8, "rank_pattern": dict.fromkeys(sorted(layers), 4)}
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    models.check(_config(checkpoint, tmp_path / "mine"))


def test_what_an_adapter_names_besides_its_layers_is_not_followed(
    checkpoint, adapter, tmp_path, monkeypatch
):
    """PEFT would ask the hub for the base model, and make first weights as the file says."""
    shutil.copytree(adapter, tmp_path / "mine")
    plain = _states(_config(checkpoint, tmp_path / "mine"))
    path = tmp_path / "mine/adapter_config.json"
    changes = {
        "base_model_name_or_path": "evil/model",
        "auto_mapping": {"base_model_class": "Evil", "parent_library": "evil.module"},
        "init_lora_weights": "eva",
        "eva_config": {"rho": 2.0},
    }
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    monkeypatch.setattr(
        peft.utils.save_and_load, "check_file_exists_on_hf_hub", lambda *_: pytest.fail("asked")
    )
    config = _config(checkpoint, tmp_path / "mine")
    models.check(config)
    assert np.array_equal(_states(config), plain)


def test_an_adapter_with_the_older_names_of_layers_is_read(checkpoint, adapter, tmp_path):
    shutil.copytree(adapter, tmp_path / "new")
    shutil.copytree(tmp_path / "new", tmp_path / "old")
    weights = load_file(tmp_path / "new/adapter_model.safetensors")
    older = {
        n.replace("model.language_model.", "language_model.model."): v for n, v in weights.items()
    }
    assert older.keys() != weights.keys()
    save_file(older, tmp_path / "old/adapter_model.safetensors")
    new, old = (_config(checkpoint, tmp_path / name) for name in ("new", "old"))
    models.check(old)
    assert np.array_equal(_states(new), _states(old))


def test_an_adapter_that_is_not_finite_is_refused(checkpoint, tmp_path):
    _adapter(checkpoint, tmp_path / "nan", lambda value, _: value * float("nan"))
    with pytest.raises(ModelError, match=r"nan: 18 weights hold values .* not a number"):
        models.read_model(_config(checkpoint, tmp_path / "nan"))


def test_other_files_that_begin_with_adapter_are_no_adapter(checkpoint, tmp_path):
    shutil.copytree(checkpoint, tmp_path / "copy")
    (tmp_path / "copy/adapter_notes.md").write_text("none")
    (tmp_path / "copy/adapter_lora").mkdir()
    models.check(_config(tmp_path / "copy"))


def test_an_adapter_without_its_files_says_which(checkpoint, adapter, tmp_path):
    with pytest.raises(ModelError, match=r"has no adapter_config\.json; name a folder that PEFT"):
        models.check(_config(checkpoint, tmp_path))
    shutil.copytree(adapter, tmp_path / "mine")
    (tmp_path / "mine/adapter_model.safetensors").rename(tmp_path / "mine/adapter_model.bin")
    with pytest.raises(ModelError, match=r"adapter_model\.safetensors is missing or cut short"):
        models.check(_config(checkpoint, tmp_path / "mine"))


def test_a_family_that_reads_no_adapter_refuses_it(tmp_path):
    config = models.resolve("fake", adapter=str(tmp_path))
    with pytest.raises(ModelError, match="model fake: takes no --adapter; merge the adapter"):
        models.check(config)
