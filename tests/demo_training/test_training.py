"""The training of the small model: its examples are right, and an interruption changes nothing."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest
import torch
from helpers.answers import text_of
from helpers.commands import run_here
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import AutoProcessor

from vsp.datasets.relations import ON_AXIS
from vsp.datasets.synthetic.shapes import COLORS, SHAPES, Shape
from vsp.demo_checkpoint import make_tokenizer
from vsp.demo_training import train as training
from vsp.demo_training.answers import _forward
from vsp.demo_training.command import main
from vsp.demo_training.curriculum import Recipe, Stage
from vsp.demo_training.learner import Learner
from vsp.demo_training.packing import NO_TARGET, Encoder, pack
from vsp.demo_training.scenes import Question, make_training_set, training_scenes
from vsp.demo_training.tower import patch_targets
from vsp.errors import RunError

TINY = Recipe(n_pictures=40, tower_steps=3, relation_steps=1, name_steps=1, style_steps=2)
STYLES = ("statement", "cloze", "question", "instruction")


def _files(folder):
    """Content of every file but the times in training.json."""
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    summary = json.loads(files.pop("training.json"))
    del summary["cpu_seconds"]
    return files, summary


@pytest.fixture(scope="module", autouse=True)
def _small_steps():
    """A step takes a few pictures, so that tests are fast."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vsp.demo_training.tower.N_IMAGES", 6)
        patch.setattr("vsp.demo_training.answers.N_IMAGES", 3)
        yield


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained") / "small"
    training.train(folder, TINY, n_jobs=1)
    return folder


# Running and resuming.


# Before a state is written, between two stages, and within one.
@pytest.mark.parametrize("stop_at", [1, 3, 6])
def test_an_interrupted_training_gives_the_same_bytes(finished, tmp_path, monkeypatch, stop_at):
    monkeypatch.setattr(training, "_EVERY", 2)
    step, calls = training._step, []

    def stopping(*given):
        calls.append(given)
        if len(calls) == stop_at + 1:
            raise KeyboardInterrupt
        return step(*given)

    monkeypatch.setattr(training, "_step", stopping)
    with pytest.raises(KeyboardInterrupt):
        training.train(tmp_path / "a", TINY, n_jobs=1)
    monkeypatch.setattr(training, "_step", step)
    training.train(tmp_path / "a", TINY, n_jobs=1)
    files, summary = _files(tmp_path / "a")
    wanted, _ = _files(finished)
    assert files == wanted
    assert [(one["stage"], one["step"]) for one in summary["history"]] == [
        ("tower", 2), ("tower", 3), ("relation", 1), ("words", 2), ("words", 3),
    ]  # fmt: skip


def test_another_seed_gives_other_weights(finished, tmp_path):
    training.train(tmp_path / "b", Recipe(**{**_options(TINY), "seed": 1}), n_jobs=1)
    name = "model.safetensors"
    assert (tmp_path / "b" / name).read_bytes() != (finished / name).read_bytes()
    weights = load_file(finished / name)
    assert all(weight.isfinite().all() for weight in weights.values())


def _options(recipe):
    return {name: getattr(recipe, name) for name in recipe.__slots__}


@pytest.mark.parametrize("part", ["model.safetensors", "training.json"])
def test_an_interruption_while_the_checkpoint_is_written_is_continued(
    finished, tmp_path, monkeypatch, part
):
    if part == "training.json":
        monkeypatch.setattr(training, "write_json", _interrupt)
    else:
        monkeypatch.setattr("transformers.modeling_utils.safe_save_file", _interrupt)
    with pytest.raises(KeyboardInterrupt):
        training.train(tmp_path / "a", TINY, n_jobs=1)
    assert (tmp_path / "a/config.json").exists()
    monkeypatch.undo()
    training.train(tmp_path / "a", TINY, n_jobs=1)
    assert _files(tmp_path / "a")[0] == _files(finished)[0]


@pytest.mark.parametrize("content", [b"", b"no tensors", None])
def test_a_damaged_state_is_named(tmp_path, content):
    path = tmp_path / "training.safetensors"
    if content is None:
        save_file({"x": torch.zeros(1)}, path)
    else:
        path.write_bytes(content)
    with pytest.raises(RunError, match=r"training\.safetensors: (cannot be read|is not the state)"):
        training.train(tmp_path, TINY, n_jobs=1)


def test_a_stage_without_steps_and_a_negative_seed_are_refused(tmp_path):
    for wrong in (("--relation-steps", "0"), ("--seed", "-1"), ("--n-pictures", "0")):
        answer = run_here((tmp_path / "x", *wrong), tmp_path, main)
        assert answer.returncode == 2 and "must be an integer" in answer.stderr


def test_a_state_of_other_options_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "save_checkpoint", _interrupt)
    with pytest.raises(KeyboardInterrupt):
        training.train(tmp_path, TINY, n_jobs=1)
    before = (tmp_path / "training.safetensors").read_bytes()
    with pytest.raises(RunError, match=r"training with other options, \{.*\"tower_steps\": 3"):
        training.train(tmp_path, Recipe(**{**_options(TINY), "tower_steps": 5}), n_jobs=1)
    assert (tmp_path / "training.safetensors").read_bytes() == before


def _interrupt(*_, **__):
    raise KeyboardInterrupt


def test_a_finished_checkpoint_is_not_replaced(finished):
    answer = run_here((finished,), finished.parent, main)
    assert answer.returncode == 1 and answer.stdout == ""
    assert answer.stderr == f"vsp: {finished}: has a checkpoint already; give another folder\n"


def test_the_rate_rises_and_falls_to_its_least():
    stage = Stage("x", 1000, torch.nn.ModuleList(), _interrupt, 100, 0.02)
    rates = [stage.rate(step) for step in range(1000)]
    assert rates[0] == pytest.approx(0.01) and max(rates) == pytest.approx(0.98, abs=0.02)
    assert rates[-1] == pytest.approx(0.02, abs=0.001) and np.argmax(rates) in range(98, 101)


# Pictures and questions.


def test_pictures_do_not_depend_on_the_number_of_processes(monkeypatch):
    monkeypatch.setattr("vsp.demo_training.scenes._CHUNK", 20)  # three calls
    one, two = (make_training_set(44, 28, 3, n_jobs) for n_jobs in (1, 2))
    assert np.array_equal(one.pixels, two.pixels) and list(one.scenes) == list(two.scenes)
    other = make_training_set(20, 28, 4, 1)
    assert not np.array_equal(one.pixels[:20], other.pixels)


def test_every_question_has_the_answer_that_the_places_give():
    tasks, grey = Counter(), []
    for i, scene in enumerate(training_scenes(0, 600, 5)):
        kinds = Counter(shape.kind for shape in scene.shapes)
        if not scene.shapes:
            grey.append(i)
        for question in scene.questions:
            tasks[question.task] += bool(question.shapes)
            if len(question.shapes) == 2:
                a, b = question.shapes
                axis, first = ON_AXIS[question.label]
                assert ((a.x, a.y)[axis] < (b.x, b.y)[axis]) is first
                assert question.names == tuple(f"{s.color} {s.kind}" for s in (a, b))
            elif question.shapes:
                (shape,) = question.shapes
                assert (question.names, question.label) == ((shape.kind,), shape.color)
                assert kinds[shape.kind] == 1
    assert 6 <= len(grey) <= 36  # 3 % of 600: 18
    assert tasks["spatial"] > 600 and tasks["color"] > 600


def test_grey_pictures_have_every_answer():
    scenes = [s for s in training_scenes(0, 1500, 6) if not s.shapes]
    labels = Counter(question.label for scene in scenes for question in scene.questions)
    assert set(labels) == {*ON_AXIS, *COLORS}
    assert (
        make_training_set(60, 28, 6, 1)
        .pixels[[not s.shapes for s in training_scenes(0, 60, 6)]]
        .std()
        == 0
    )


def test_a_patch_belongs_to_the_nearest_shape():
    shapes = (Shape("star", "red", 100, 60, 30), Shape("square", "blue", 300, 400, 40))
    kind, color, place = patch_targets(shapes)
    for patch in range(64):
        x, y = 56 * (patch % 8) + 28, 56 * (patch // 8) + 28
        distance = [max(abs(x - s.x), abs(y - s.y)) - s.size for s in shapes]
        near = shapes[int(np.argmin(distance))]
        on = min(distance) < 14
        assert color[patch] == (list(COLORS).index(near.color) if on else len(COLORS))
        assert SHAPES[kind[patch]] == near.kind
        assert place[patch].tolist() == pytest.approx([near.x / 224 - 1, near.y / 224 - 1])
    assert (patch_targets(())[1] == len(COLORS)).all()


# Texts.


@pytest.mark.parametrize("style", STYLES)
def test_a_question_is_encoded_as_the_finished_processor_does(finished, style):
    tokenizer = make_tokenizer()
    encoder = Encoder(tokenizer)
    shapes = (Shape("circle", "red", 1, 2, 3), Shape("star", "blue", 4, 5, 6))
    question = Question("spatial", ("red circle", "blue star"), "left_of", shapes)
    one = encoder.encode(question, style)
    assert tokenizer.decode(one.tokens[one.n_prompt :]) == " left of</s>"
    for words, name in zip(one.words, question.names, strict=True):
        assert [tokenizer.decode(one.tokens[i]).strip(" '") for i in words] == name.split()
    record = {"relation": "left_of", "subject_color": "red", "subject_shape": "circle",
              "reference_color": "blue", "reference_shape": "star"}  # fmt: skip
    processor = AutoProcessor.from_pretrained(finished, backend="pil")
    picture = Image.new("RGB", (112, 112))
    tokens = processor(images=picture, text=text_of(record, style))["input_ids"][0]
    image = tokenizer.convert_tokens_to_ids("<image>")
    assert list(tokens) == [*encoder.before_image, *[image] * 64, *one.tokens[: one.n_prompt]]


@pytest.mark.parametrize("every_word", [True, False])
def test_packed_questions_do_not_see_each_other(every_word):
    torch.manual_seed(0)
    tokenizer = make_tokenizer()
    learner, encoder = Learner(tokenizer), Encoder(tokenizer)
    scenes = [s for s in training_scenes(0, 40, 2) if len(s.questions) > 2][:3]
    rows = [scene.questions[: 2 + i] for i, scene in enumerate(scenes[:2])]
    patches = torch.randn(2, 64, 128)
    together = pack(rows, "cloze", encoder, every_word=every_word)
    states, words = _forward(learner, encoder, patches, together)
    for i, row in enumerate(rows):
        for number, question in enumerate(row, start=1):
            alone = pack([[question]], "cloze", encoder, every_word=every_word)
            expected, at_words = _forward(learner, encoder, patches[i : i + 1], alone)
            here = together.branch[i] == number
            assert together.tokens[i][here].tolist() == alone.tokens[0].tolist()
            asked = alone.target[0] != NO_TARGET
            got = states[i][here][asked]
            # The products are in bfloat16: its last bit is 0.8 % of a value.
            assert torch.allclose(got, expected[0][asked], atol=0.1, rtol=0.05)
            assert torch.allclose(words[i][here], at_words[0], atol=0.1, rtol=0.05)
    named = [shape for row in rows for question in row for shape in question.shapes]
    n_words = [
        2 if q.task == "spatial" and every_word else 1 for r in rows for q in r for _ in q.shapes
    ]
    assert len(together.words) == sum(n_words) and {s for *_, s in together.words} == set(named)
