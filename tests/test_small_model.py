"""The small trained model through vsp: what it knows must be found, and at the right layer.

A fault that moves rows, tokens, layers, pictures or labels by one leaves files and shapes in order.
Here it changes figures whose right value is known.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.answers import Answerer, label_of, text_of
from helpers.paths import ROOT
from PIL import Image

from vsp import models
from vsp.datasets.apply_variant import VariantRequest, apply_variant
from vsp.datasets.relations import INVERSE
from vsp.datasets.synthetic.generate import generate
from vsp.datasets.synthetic.shapes import COLORS
from vsp.datasets.synthetic.spatial import SpatialConfig
from vsp.demo_training.scenes import training_scenes
from vsp.evaluation.probe_run import probe_run
from vsp.evaluation.probe_settings import ProbeSettings
from vsp.extraction.extract import extract
from vsp.extraction.plan import PlanRequest, plan_run
from vsp.models import catalog
from vsp.storage.results import Results
from vsp.storage.run import Run

CHECKPOINT = ROOT / "data/models/small-llava"
STYLES = ("statement", "cloze", "question", "instruction")
N_LAYERS = 7
N_FEW = 100  # rows, where no probe is trained
SEED = 2024  # of the dataset; no training has it
QUICK = ProbeSettings(permutations=20, controls=3, resamples=200, curve=False, random=False,
                      strengths=(0.01, 1.0))  # fmt: skip


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """200 scenes, each with two questions in two of the four styles.

    All pairs of styles occur, so that the sequences of a batch differ in length.
    """
    folder = tmp_path_factory.mktemp("known") / "spatial"
    splits = str(folder.parent / "splits")
    config = SpatialConfig(
        task="spatial", n_samples=200, seed=SEED, output=str(folder), splits=splits
    )
    generate(config, n_jobs=1)
    path = folder / "metadata.json"
    rows = []
    for i, record in enumerate(json.loads(path.read_text())):
        for turned in (False, True):
            asked = _turned(record) if turned else record
            style = STYLES[(i + turned * (1 + i // 4 % 3)) % len(STYLES)]
            prompt = (
                text_of(asked, style).removeprefix("USER: <image>\n").removesuffix("\nASSISTANT:")
            )
            rows.append(asked | {"prompt": prompt, "style": style})
    path.write_text(json.dumps(rows))
    return folder


def _turned(record: dict) -> dict:
    """The same picture, with subject and reference exchanged."""
    new = dict(record)
    for key, value in record.items():
        for one, other in (("subject", "reference"), ("reference", "subject")):
            if key.startswith(f"{one}_"):
                new[key.replace(one, other, 1)] = value
    return new | {
        "relation": INVERSE[record["relation"]],
        "image_id": f"{record['image_id']}-turned",
    }


def _extracted(
    dataset: Path,
    work: Path,
    name: str,
    prompt: str = "dataset",
    limit: int | None = None,
    **changes: object,
) -> Run:
    model = catalog.find("small", ROOT, **changes)
    run = plan_run(PlanRequest(dataset, model, prompt=prompt, name=name, limit=limit), work).run
    extract(run, run.shards, workers=0)
    return run


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("work")


@pytest.fixture(scope="module")
def run(dataset: Path, work: Path) -> Run:
    return _extracted(dataset, work, "spatial")


@pytest.fixture(scope="module")
def rows(dataset: Path) -> list[dict]:
    return json.loads((dataset / "metadata.json").read_text())


@pytest.fixture(scope="module")
def results(run: Run) -> Results:
    return probe_run(run, QUICK, n_jobs=1)


def _states(run: Run) -> np.ndarray:
    """[layer, sample, hidden]"""
    return np.load(run.folder / "states.npy", mmap_mode="r")[:, : run.plan.n_samples]


@cache
def _asker() -> Answerer:
    return Answerer(CHECKPOINT)


def _said(run: Run) -> list[str]:
    """The word that the language model's head gives for each row's last state."""
    asker = _asker()
    with torch.inference_mode():
        scores = asker.model.lm_head(torch.from_numpy(_states(run)[-1].astype(np.float32)))
    return [asker.processor.tokenizer.decode(token).strip() for token in scores.argmax(-1)]


def _share_first_words(run: Run, rows: list[dict]) -> float:
    words = [label_of(row).split(" ")[0] for row in rows[: run.plan.n_samples]]
    return float(np.mean([a == b for a, b in zip(_said(run), words, strict=True)]))


# Pictures, prompts, rows and tokens are where they belong.


def test_the_state_of_the_last_layer_gives_the_answer_of_its_own_row(run, rows):
    assert _share_first_words(run, rows) >= 0.98


def test_the_states_are_those_of_transformers_for_each_row_alone(run, rows, dataset):
    asker, states = _asker(), _states(run)
    for i in range(0, len(rows), 17):
        picture = Image.open(dataset / "images" / rows[i]["image_filename"]).convert("RGB")
        inputs = asker.processor(
            images=picture, text=text_of(rows[i], rows[i]["style"]), return_tensors="pt"
        )
        with torch.inference_mode():
            expected = asker.model(**inputs, output_hidden_states=True).hidden_states
        for layer in range(N_LAYERS):
            np.testing.assert_allclose(states[layer, i], expected[layer][0, -1], atol=1e-4)


def test_a_style_of_prompts_asks_in_that_style(dataset, work, rows):
    styled = _extracted(dataset, work, "styled", prompt="question", limit=N_FEW)
    lines = (styled.folder / "manifest.jsonl").read_text().splitlines()
    wanted = [text_of(row, "question") for row in rows[:N_FEW]]
    assert [f"USER: <image>\n{json.loads(one)['prompt']}\nASSISTANT:" for one in lines] == wanted
    assert _share_first_words(styled, rows) >= 0.98


# The curve.


def test_layer_0_has_not_seen_the_picture(run):
    """It is the embedding of the last token of the prompt, which all rows have in common."""
    states = _states(run)
    assert (states[0] == states[0, 0]).all() and np.ptp(states[1:], axis=1).min() > 0


def test_the_curve_begins_at_chance_and_rises_to_the_answer(results):
    summary, scores = results.read()
    assert scores[0].low <= summary["chance"] <= scores[0].high
    curve = [score.score for score in scores]
    assert max(curve) >= 0.95
    rises = np.flatnonzero(np.diff(curve) > 0.02)
    assert len(rises) >= 3 and curve[-1] >= 0.93
    assert [score.layer for score in scores if score.p_corrected < 0.05][-3:] == [4, 5, 6]
    cells = [score.controls["cell"]["control"]["difference"] for score in scores]
    assert max(cells) <= 0.25  # normalised scores of random labels for places


def test_test_rows_are_those_of_val(results, rows):
    judged = (results.arrays("predictions")["outer"] >= 0).any(axis=0)
    assert judged.tolist() == [row["split"] == "val" for row in rows]


def test_a_grey_picture_leaves_the_probe_at_chance(dataset, work):
    grey = work / "data" / "blank"
    apply_variant(VariantRequest(dataset, "blank", grey), n_jobs=1)
    _, scores = probe_run(_extracted(grey, work, "blank"), QUICK, n_jobs=1).read()
    curve = [score.score for score in scores]
    assert abs(np.mean(curve) - 0.25) < 0.1 and max(curve) < 0.5


# Precision.


@pytest.mark.parametrize("quantization", ["4bit", "8bit"])
def test_quantization_spares_the_tower_and_keeps_the_answer(dataset, work, rows, quantization):
    quantized = _extracted(dataset, work, quantization, limit=N_FEW, quantization=quantization)
    assert _share_first_words(quantized, rows) >= 0.96
    inner = models.read_model(quantized.plan.model)._model.model
    stored = _asker().model.model
    for part in ("vision_tower", "multi_modal_projector"):
        weights = dict(getattr(stored, part).named_parameters())
        for name, parameter in getattr(inner, part).named_parameters():
            assert torch.equal(parameter, weights.pop(name)), name
        assert not weights
    language = {type(one).__name__ for one in inner.language_model.modules()}
    assert language & {"Linear4bit", "Linear8bitLt"}


# Nothing that is asked here was shown in the training.


@pytest.mark.parametrize("training", [0, 1])
def test_no_picture_of_a_dataset_is_a_training_picture(training):
    """Picture i depends on a seed and i: if seeds met, they would meet at the first pictures too."""
    recipe = json.loads((CHECKPOINT / "training.json").read_text())["recipe"]
    n_pictures = min(recipe["n_pictures"], 4000)  # a dataset has 3000 at most
    shown = {
        _contents((s.kind, s.color, s.x, s.y) for s in scene.shapes)
        for scene in training_scenes(0, n_pictures, training)
    }
    assert len(shown) > 0.9 * n_pictures
    for name in ("spatial", "color", "demo"):
        for scene in _scenes_of_the_shipped_dataset(name):
            assert _contents((s.kind, s.color, s.x, s.y) for s in scene) not in shown


def _contents(shapes) -> frozenset:
    return frozenset(shapes)


@cache
def _scenes_of_the_shipped_dataset(name: str) -> list:
    from vsp.datasets import WORLDS
    from vsp.datasets.synthetic.generate import balanced_labels, read_config

    config = read_config(ROOT / f"configs/{name}_dataset.yaml")
    world = WORLDS.load(config.task)(config)
    labels = balanced_labels(world.labels, config.n_samples, config.seed)
    return [
        world.scene(label, np.random.default_rng([config.seed, i])).shapes
        for i, label in enumerate(labels)
    ]


def test_the_colors_that_the_model_knows_are_those_of_the_worlds():
    tokenizer = _asker().processor.tokenizer
    for word in (*COLORS, "left", "above"):
        assert len(tokenizer(f" {word}", add_special_tokens=False)["input_ids"]) == 1
