"""A model split over devices: where its modules are, and the same states as on one device."""

import json
import os
import subprocess
import sys
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import tiny, tiny_vlms
from helpers.paths import ROOT
from helpers.split_states import run
from transformers import AutoConfig

from vsp import models
from vsp.errors import ModelError
from vsp.models.loading import load_model
from vsp.models.memory import outline, weights
from vsp.models.placement import device_map, device_weights, split_layers, visible_devices

SPATIALRGPT = Path(__file__).parent / "spatialrgpt/ckpt"
TWO = ("cuda:0", "cuda:1")
THREE = (*TWO, "cuda:2")
# torch.vmap, with which PaliGemma and Gemma 3 make masks, does not work on pretended devices.
WRITERS = {
    "qwen2.5": partial(tiny.write_qwen, generation="2.5"),
    **{
        name: write
        for name, write in tiny_vlms.WRITERS.items()
        if name not in ("paligemma", "gemma3")
    },
}
KINDS = ("llava15", "spatialrgpt", *WRITERS)


@pytest.fixture(scope="module")
def config(checkpoint, tmp_path_factory):
    """The configuration of a small model by its kind: `config("llava15")`."""
    base = tmp_path_factory.mktemp("split")

    def config(kind, **changes):
        own = {"llava15": checkpoint, "spatialrgpt": SPATIALRGPT}
        folder = own.get(kind, base / kind)
        if not folder.exists():
            WRITERS[kind](folder)
        family = kind if kind in own else "auto"
        full = {"quantization": "none", "dtype": "float32"}
        return models.resolve(family, checkpoint=str(folder), **{**full, **changes})

    return config


@pytest.fixture(scope="module")
def seen(config):
    """What the program `split_states` saw: kind → number of devices → facts."""
    kinds = {
        kind: (one.family, one.checkpoint) for kind, one in ((kind, config(kind)) for kind in KINDS)
    }
    # transformers loads weights in the thread that pretends.
    environment = {**os.environ, "HF_DEACTIVATE_ASYNC_LOAD": "1", "PYTHONPATH": f"{ROOT}/tests"}
    program = [sys.executable, "-m", "helpers.split_states", json.dumps(kinds)]
    done = subprocess.run(
        program, capture_output=True, text=True, cwd=ROOT, env=environment, timeout=240
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("kind", KINDS)
def test_a_split_model_gives_the_same_bytes(seen, kind):
    for n, facts in seen[kind].items():
        assert facts["equal"], n


@pytest.mark.parametrize("kind", KINDS)
def test_every_weight_is_on_the_device_of_the_map(seen, kind):
    for n, facts in seen[kind].items():
        assert facts["misplaced"] == [], n


@pytest.mark.parametrize("kind", KINDS)
def test_each_device_sends_the_states_of_its_layers_at_once(seen, kind):
    for n, facts in seen[kind].items():
        to_host = {move: count for move, count in facts["moves"].items() if move.endswith(" cpu")}
        assert to_host == {f"pretend:{i} cpu": 1 for i in range(int(n))}
        assert facts["moves"]["pretend:0 pretend:1"] > 0


def _checkpoint(config):
    return AutoConfig.from_pretrained(config.checkpoint)


def test_modules_outside_the_layers_are_on_the_first_device_and_the_norm_on_the_last(config):
    placed = device_map(outline(config("llava15")), "none", THREE)
    text = "model.language_model."
    layers = [placed.pop(f"{text}layers.{i}") for i in range(6)]
    assert layers == sorted(layers) and set(layers) == set(THREE)
    assert placed.pop(f"{text}norm") == layers[-1]
    assert set(placed.values()) == {"cuda:0"}
    assert {"lm_head", "model.vision_tower", f"{text}embed_tokens"} <= placed.keys()


@pytest.mark.parametrize("kind", ["llava15", "spatialrgpt", "llava_next", "qwen3_vl"])
@pytest.mark.parametrize("quantization", ["none", "4bit"])
def test_the_devices_together_hold_all_weights(config, kind, quantization):
    model = outline(config(kind))
    for n in (2, 3, 4):
        each = device_weights(model, quantization, n)
        assert len(each) == n and sum(each) == sum(weights(model, quantization).values())


def test_every_tensor_has_a_device(config):
    """llava_next has a tensor of its own beside its modules, `image_newline`."""
    for kind in ("llava_next", "qwen3_vl"):
        model = outline(config(kind)).model
        placed = device_map(outline(config(kind)), "none", TWO)
        for name, _ in (*model.named_parameters(), *model.named_buffers()):
            units = [one for one in placed if name == one or name.startswith(f"{one}.")]
            assert len(units) == 1, name


@pytest.mark.parametrize(
    ("first", "layers", "n_devices", "expected"),
    [
        (0, [1] * 12, 3, [4, 4, 4]),
        (0, [1] * 10, 3, [3, 4, 3]),
        (3, [1] * 9, 3, [1, 4, 4]),
        (50, [1] * 4, 3, [0, 2, 2]),  # a large vision tower fills the first device
        (0, [1, 9, 1, 1], 3, [1, 1, 2]),
        (50, [1] * 2, 3, [0, 1, 1]),
        (0, [1] * 3, 1, [3]),
    ],
)
def test_devices_get_blocks_of_about_equal_size(first, layers, n_devices, expected):
    assert split_layers(first, layers, n_devices) == expected


def test_blocks_cover_all_layers_and_are_balanced_within_a_layer():
    rng = np.random.default_rng(0)
    for _ in range(200):
        n_layers, n_devices = int(rng.integers(4, 60)), int(rng.integers(1, 5))
        layers = rng.integers(80, 120, n_layers).tolist()
        counts = split_layers(0, layers, n_devices)
        assert sum(counts) == n_layers and len(counts) == n_devices and min(counts) > 0
        ends = np.cumsum([0, *counts])
        loads = [sum(layers[a:b]) for a, b in pairwise(ends)]
        assert max(loads) - min(loads) <= 2 * max(layers)


def test_more_devices_than_layers_are_refused(config):
    with pytest.raises(ModelError, match=r"^devices 7: the language model has 6 layers; use"):
        device_weights(outline(config("llava15")), "none", 7)


def test_fewer_gpus_than_planned_are_refused():
    if torch.cuda.device_count() > 1:
        pytest.skip("this machine has several GPUs")
    n_gpus = torch.cuda.device_count()
    with pytest.raises(
        ModelError, match=rf"^devices 2: this machine has {n_gpus} GPUs?; ask .*gpu:2"
    ):
        visible_devices(2)
    assert visible_devices("auto") == visible_devices(1) == ()


@pytest.mark.parametrize("quantization", ["none", "4bit", "8bit"])
def test_random_weights_do_not_depend_on_the_split(config, quantization):
    one = config("llava15", weights="random", quantization=quantization)
    whole, _ = load_model(one, _checkpoint(one), "float32")
    split, _ = load_model(one, _checkpoint(one), "float32", ("cpu", "cpu"))
    for (name, a), (_, b) in zip(whole.named_parameters(), split.named_parameters(), strict=True):
        assert torch.equal(a, b), name
    assert set(split.hf_device_map) > {"lm_head", "model.language_model.layers.5"}


@pytest.mark.parametrize("quantization", ["4bit", "8bit"])
def test_quantized_weights_load_with_the_map(config, quantization):
    one = config("llava15", quantization=quantization)
    expected = run(models.load(one))
    assert (run(models.load(one, ("cpu", "cpu"))) == expected).all()
