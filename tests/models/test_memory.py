"""The memory estimate of a plan, compared with the memory of the loaded model."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import tiny_vlms
from helpers.paths import ROOT
from transformers import (
    AutoConfig,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
)

from vsp import models
from vsp.extraction.plan import PlanRequest, plan_run
from vsp.models.contract import Outline
from vsp.models.loading import load_model
from vsp.models.memory import Load, activations, estimate, outline, weights
from vsp.models.outline import empty_model
from vsp.models.spatialrgpt import SpatialRGPT
from vsp.reporting.plan_summary import plan_lines

RGPT = Path(__file__).parent / "spatialrgpt/ckpt"


@pytest.fixture(scope="module")
def llava(tmp_path_factory):
    """A LLaVA of eight million parameters, without tokenizer and processor."""
    folder = tmp_path_factory.mktemp("llava")
    tower = CLIPVisionConfig(
        hidden_size=192, intermediate_size=768, num_hidden_layers=4, num_attention_heads=4,
        image_size=112, patch_size=14, projection_dim=64,
    )  # fmt: skip
    text = LlamaConfig(
        vocab_size=2000, hidden_size=256, intermediate_size=768, num_hidden_layers=6,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=2048,
    )  # fmt: skip
    model = LlavaForConditionalGeneration(
        LlavaConfig(vision_config=tower, text_config=text, image_token_index=5)
    )
    assert 5e6 < sum(p.numel() for p in model.parameters()) < 1e7
    model.save_pretrained(folder)
    return folder


def _held(*modules):
    """Bytes of all parameters and buffers, including those that quantisation adds."""
    held = {}
    for module in modules:
        for tensor in (*module.parameters(), *module.buffers()):
            parts, state = [tensor.data], getattr(tensor, "quant_state", None)
            if state is not None:
                parts += [state.absmax, state.code, state.offset]
                parts += [state.state2.absmax, state.state2.code]
            if getattr(tensor, "SCB", None) is not None:
                parts.append(tensor.SCB)
            held |= {part.data_ptr(): part.numel() * part.element_size() for part in parts}
    return sum(held.values())


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("quantization", ["none", "4bit", "8bit"])
def test_the_weights_of_a_llava_take_what_was_said(llava, quantization, dtype):
    changes = {"checkpoint": str(llava), "quantization": quantization, "dtype": dtype}
    config = models.resolve("llava15", **changes)
    model, _ = load_model(config, AutoConfig.from_pretrained(llava), dtype)
    said = sum(weights(outline(config), quantization).values())
    assert said == pytest.approx(_held(model), rel=0.001)


@pytest.mark.parametrize("kind", ["gemma3", "llava_next", "qwen3_vl"])
def test_the_weights_of_other_models_take_what_was_said(tmp_path, kind):
    folder = tiny_vlms.WRITERS[kind](tmp_path / kind)
    config = models.resolve("auto", checkpoint=str(folder), dtype="bfloat16")
    model, _ = load_model(config, AutoConfig.from_pretrained(folder), "bfloat16")
    said = sum(weights(outline(config), "4bit").values())
    assert said == pytest.approx(_held(model), rel=0.001)


@pytest.mark.parametrize("quantization", ["none", "4bit"])
def test_the_weights_of_spatialrgpt_take_what_was_said(quantization):
    changes = {"quantization": quantization, "dtype": "float32"}
    config = models.resolve("spatialrgpt", checkpoint=str(RGPT), **changes)
    model, said = SpatialRGPT(config), weights(outline(config), quantization)
    held = _held(model._whole_llm, model._tower, model._projector, model._regions)
    assert sum(said.values()) == pytest.approx(held, rel=0.001)
    assert set(said) == {
        "vision_tower", "mm_projector", "region_extractor", "llm.lm_head", "llm.model",
    }  # fmt: skip


def _llava_7b():
    tower = CLIPVisionConfig(
        hidden_size=1024, intermediate_size=4096, num_hidden_layers=24, num_attention_heads=16,
        image_size=336, patch_size=14, projection_dim=768,
    )  # fmt: skip
    text = LlamaConfig(
        vocab_size=32064, hidden_size=4096, intermediate_size=11008, num_hidden_layers=32,
        num_attention_heads=32, max_position_embeddings=4096,
    )  # fmt: skip
    config = LlavaConfig(vision_config=tower, text_config=text)
    return Outline(empty_model(config), "model.language_model", "float16")


def test_llava_7b_is_as_large_as_it_is_known_to_be():
    model = _llava_7b()
    assert sum(p.numel() for p in model.model.parameters()) == 7_063_427_072
    load = Load(16, 640, 16, 16 * 3 * 336 * 336, False)
    full, eight, four = (estimate(model, q, load) for q in ("none", "8bit", "4bit"))
    assert [round(e.weights / 1e9, 1) for e in (full, eight, four)] == [14.1, 7.7, 4.5]
    assert set(four.unquantized) == {
        "model.vision_tower", "model.multi_modal_projector", "lm_head",
    }  # fmt: skip
    assert full.unquantized == four.unquantized
    assert 0.5e9 < full.batch < 2e9


def test_a_batch_takes_more_the_larger_it_is():
    model, pixels = _llava_7b(), 3 * 336 * 336

    def needed(n, n_tokens=640, branched=False, **recorded):
        load = Load(n, n_tokens, n, n * pixels, branched, **recorded)
        return activations(model, "none", load)

    assert needed(32) == pytest.approx(2 * needed(16), rel=0.01)
    assert needed(16, n_tokens=1280) > 1.8 * needed(16)
    assert needed(16, branched=True) - needed(16) == 16 * 640**2 * 3
    # Of float16 states: themselves, in float32, and times their shares.
    means = [needed(16, averaged=(n * 80 * 576,)) for n in (1, 2)]
    assert means[1] - means[0] == 80 * 576 * 4096 * (2 + 4 + 4)
    # 33 layers of 16 states more, which are stacked.
    assert needed(16, n_positions=2) - needed(16) == 2 * 33 * 16 * 4096 * 2
    logits = [needed(16, n_queries=n * 1600, lens=True) for n in (1, 2)]
    kept = 33 * 1600 * 4096 * 2  # states, from which the head's are copied twice
    assert logits[1] - logits[0] == 33 * 1600 * 32064 * 2 + 3 * kept + 8 * (2**26 - 1600 * 32064)


MEASURE = """
import gc, re, sys, torch
from dataclasses import replace
from PIL import Image
from transformers import LlavaForConditionalGeneration
from vsp import demo_checkpoint
from vsp import models
from vsp.models.contract import STATES_ONLY, Recorded, prompt_group
from vsp.models.memory import Load, activations, outline

def read(name):
    return int(re.search(name + r":\\s+(\\d+)", open("/proc/self/status").read())[1]) * 1024

tokenizer = demo_checkpoint.make_tokenizer()
size = demo_checkpoint.Size(hidden=512, vision_hidden=256)
made = demo_checkpoint.make_config(tokenizer, size)
made.text_config.vocab_size = 32_000
torch.manual_seed(0)
demo_checkpoint.save_checkpoint(sys.argv[1], LlavaForConditionalGeneration(made), tokenizer)
config = models.resolve("llava15", checkpoint=sys.argv[1], quantization="none")
loaded, model = models.load(config), outline(config)
OPTIONS = ((7,), (8, 9), (10, 11, 12), (10, 13, 14))  # four tokens are added
image = Recorded(("last", "image"))
for recorded in (STATES_ONLY, image, Recorded(n_options=4), Recorded(n_options=4, lens=True)):
    for n in (2, 8):
        groups = []
        for i in range(n):
            picture = loaded.processor.picture(Image.new("RGB", (112, 112)))
            row = loaded.processor.row(picture, "left or right? " * 9)
            places = loaded.processor.image_places(picture)
            options = OPTIONS if recorded.n_options else ()
            row = replace(row, options=options, places={"image": places})
            groups.append(prompt_group(picture, [row]))
        n_values = n * sum(array.size for array in picture.arrays.values())
        if n == 2:  # the first pass makes what later ones keep
            loaded.model.forward(groups, recorded)()
        gc.collect()
        before = read("VmRSS")
        open("/proc/self/clear_refs", "w").write("5")  # the peak starts anew
        out = loaded.model.forward(groups, recorded)()
        load = Load(
            n, groups[0].n_tokens, n, n_values, bool(recorded.n_options), averaged=(n * len(places),)
            if "image" in recorded.positions else (), n_queries=5 * n * (recorded.n_options > 0),
            lens=recorded.lens,
        )
        print(activations(model, "none", load), read("VmHWM") - before)
"""


def test_what_a_batch_was_said_to_take_is_of_the_order_of_what_it_takes(tmp_path, monkeypatch):
    """Of states alone, with means over the image, with answers, and with the lens."""
    # Freed memory returns to the system at once, so that the peak counts live memory only.
    monkeypatch.setenv("MALLOC_MMAP_THRESHOLD_", "65536")
    command = [sys.executable, "-c", MEASURE, str(tmp_path / "checkpoint")]
    answer = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert answer.returncode == 0, answer.stderr
    lines = [line.split() for line in answer.stdout.splitlines()]
    said, taken = np.array(lines, dtype=float).reshape(4, 2, 2).transpose(2, 0, 1)
    assert ((said / taken > 0.6) & (said / taken < 1.8)).all(), said / taken
    growth = np.diff(said) / np.diff(taken)
    assert ((growth > 0.6) & (growth < 1.8)).all(), growth
    by_lens = (said[3, 1] - said[2, 1]) / (taken[3, 1] - taken[2, 1])
    assert 0.6 < by_lens < 1.8


def test_the_plan_says_what_the_largest_batch_takes(work, checkpoint, spatial):
    model = models.resolve("llava15", checkpoint=str(checkpoint))
    few, many = (
        plan_run(PlanRequest(spatial, model, batch_size=size), work).memory for size in (1, 32)
    )
    assert few.weights == many.weights and few.unquantized == many.unquantized
    assert 10 * few.batch < many.batch
    assert sum(few.unquantized.values()) < few.weights


def test_the_plan_counts_pictures_where_they_take_the_most(work, spatial):
    config = models.resolve("spatialrgpt", checkpoint=str(RGPT), dtype="float32")
    memory = plan_run(PlanRequest(spatial, config, batch_size=16, limit=16), work).memory
    # SpatialRGPT refines each of the 27² patches into 16 places of 48 numbers.
    assert memory.batch > 16 * 27**2 * 16 * 48 * 4


def test_the_plan_prints_memory_and_what_keeps_its_precision(work, checkpoint, spatial):
    def lines(family, **changes):
        model = models.resolve(family, **changes)
        return plan_lines(plan_run(PlanRequest(spatial, model, limit=8), work), ["plan"])

    four = lines("llava15", checkpoint=str(checkpoint))
    (at,) = (i for i, line in enumerate(four) if line.startswith("memory "))
    first, second = four[at : at + 2]
    assert "B weights + about " in first and first.endswith("B per batch")
    assert second.endswith(
        "of the weights are not quantized: lm_head, vision_tower, multi_modal_projector"
    )
    full = lines("llava15", checkpoint=str(checkpoint), quantization="none")
    assert [line.endswith("B per batch") for line in full if line.startswith("memory")] == [True]
    assert not [line for line in lines("fake") if line.startswith("memory")]


def test_the_plan_prints_the_memory_of_each_device(work, checkpoint, spatial):
    def memory(devices):
        model = models.resolve("llava15", checkpoint=str(checkpoint), quantization="none")
        planned = plan_run(PlanRequest(spatial, model, limit=8, devices=devices), work)
        (line,) = (line for line in plan_lines(planned, ["plan"]) if line.startswith("memory "))
        return planned, line.removeprefix("memory").strip()

    planned, line = memory(2)
    assert len(planned.device_weights) == 2
    assert sum(planned.device_weights) == planned.memory.weights
    first, second = (f"{n / 1e6:.3g} MB" for n in planned.device_weights)
    assert line.startswith(f"{first} + {second} weights on 2 GPUs + about ")
    assert line.endswith("B per batch on each")
    planned, line = memory("auto")
    assert not planned.device_weights
    assert " weights, divided among a task's GPUs, + about " in line


def test_no_memory_is_taken_to_say_it():
    assert all(p.device == torch.device("meta") for p in _llava_7b().model.parameters())
    assert outline(models.resolve("fake")) is None
