"""The contract of a synthetic world, checked for every world in the table."""

import json
from collections import Counter

import numpy as np
import pytest
from helpers.paths import ROOT
from PIL import Image

from vsp import models
from vsp.datasets import WORLDS, prompts, questions
from vsp.datasets.metadata import read_samples
from vsp.datasets.synthetic.clutter import WORDS, clutter_marks
from vsp.datasets.synthetic.generate import generate, read_config
from vsp.datasets.synthetic.shapes import (
    BACKGROUND,
    COLORS,
    PALE,
    SHAPES,
    Scene,
    bounding_box,
    draw_scene,
)
from vsp.extraction.plan import PlanRequest, plan_run

N = 96
LANGUAGES = ("en", "de", "fr", "es")
EVERY_WORLD = pytest.mark.parametrize("task", WORLDS.names())


def _config(task, **changes):
    config = read_config(ROOT / f"configs/{task}_dataset.yaml")
    if "distractors" in type(config).model_fields:
        changes = {"distractors": (2, 5), **changes}
    return config.model_copy(update={"n_samples": N, **changes})


def _scenes(task, n=N, **changes):
    """The label and the scene of each sample, as `vsp generate` makes them."""
    world = WORLDS.load(task)(_config(task, **changes))
    for i in range(n):
        label = world.labels[i % len(world.labels)]
        yield label, world.scene(label, np.random.default_rng([5, i]))


def _named(scene):
    """(part, shapes with the name of this part) for each part that the record names."""
    for part in ("subject", "reference", "second"):
        look = (scene.record.get(f"{part}_shape"), scene.record.get(f"{part}_color"))
        if all(look):
            yield part, [shape for shape in scene.shapes if (shape.kind, shape.color) == look]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A function task → dataset with clutter, words and all languages."""
    base, folders = tmp_path_factory.mktemp("worlds"), {}

    def dataset(task):
        if task not in folders:
            folders[task] = base / task
            noise = {"clutter": 6, "words": 2, "languages": LANGUAGES}
            config = _config(task, output=str(base / task), splits=str(base / "splits"), **noise)
            generate(config, n_jobs=1)
        return folders[task]

    return dataset


def _records(folder):
    return json.loads((folder / "metadata.json").read_text())


@EVERY_WORLD
def test_labels_are_balanced_and_languages_are_within_each_label(made, task):
    samples, labels, _ = read_samples(made(task), "dataset")
    counts = Counter(sample.label for sample in samples)
    assert set(counts) == set(WORLDS.load(task)(_config(task)).labels) == set(labels)
    assert max(counts.values()) - min(counts.values()) <= 1
    languages = [record["language"] for record in _records(made(task))]
    both = Counter(zip((sample.label for sample in samples), languages, strict=True))
    assert len(both) == len(counts) * len(LANGUAGES)
    assert max(both.values()) - min(both.values()) <= 1


@EVERY_WORLD
@pytest.mark.parametrize("style", prompts.STYLES)
def test_every_style_can_be_asked_in_every_language(made, task, style):
    samples, labels, _ = read_samples(made(task), style)
    for sample, record in zip(samples, _records(made(task)), strict=True):
        assert "{" not in sample.prompt
        forms, fields = questions.question_of({**record, "language": "en"})
        english = prompts.render(forms.get(style, forms["statement"]), dict(fields), labels)
        assert (sample.prompt == english) == (record["language"] == "en")
        if style == "instruction":
            assert ", ".join(prompts.label_words(label) for label in labels) in sample.prompt
        if style == "dataset":
            assert sample.prompt == record["prompt"]


@EVERY_WORLD
def test_a_run_is_planned_from_it_as_it_is(made, task, work):
    planned = plan_run(PlanRequest(made(task), models.resolve("fake"), limit=8), work)
    # The default style is the instruction, as all records have the names that it needs.
    assert "\n" in planned.first_prompt and "[" in planned.first_prompt


@EVERY_WORLD
def test_names_are_those_of_one_shape_each(task):
    for _, scene in _scenes(task):
        for _, found in _named(scene):
            assert len(found) == 1
    assert task in ("color", "counting") or len(dict(_named(scene))) >= 2


@EVERY_WORLD
def test_boxes_are_drawn_close_around_the_shapes(task):
    for _, scene in _scenes(task, n=32):
        named = {part: shape for part, (shape,) in _named(scene)}
        for part, shape in named.items():
            assert scene.record[f"{part}_box"] == bounding_box(shape)
        for shape in scene.shapes:
            y, x = np.nonzero(np.asarray(draw_scene(Scene((shape,)), (448, 448))))
            seen = np.array([x.min(), y.min(), x.max() + 1, y.max() + 1])
            slack = (seen - bounding_box(shape)) * [1, 1, -1, -1]
            assert (slack >= 0).all() and (slack <= 1).all(), (shape, seen, bounding_box(shape))
            assert min(bounding_box(shape)) >= 0 and max(bounding_box(shape)) <= 448


@EVERY_WORLD
def test_a_shape_is_covered_only_where_that_is_the_cue(task):
    for _, scene in _scenes(task, n=48):
        together = np.asarray(draw_scene(scene, (448, 448)))
        named = [shape for _, (shape,) in _named(scene)]
        for shape in scene.shapes:
            alone = np.asarray(draw_scene(Scene((shape,)), (448, 448)))
            if task != "depth" or shape not in named:
                assert (together[alone > 0] == alone[alone > 0]).all()


@EVERY_WORLD
def test_clutter_lies_behind_and_no_record_knows_of_it(made, task):
    bare = _config(task, languages=LANGUAGES)
    world = WORLDS.load(task)(bare)
    for i, record in enumerate(_records(made(task))[:12]):
        label = next(record[key] for key in ("label", "relation", "color_label") if key in record)
        scene = world.scene(label, np.random.default_rng([bare.seed, i]))
        assert scene.record.items() <= record.items()
        clean = np.asarray(draw_scene(scene, bare.image_size).convert("RGB"))
        with Image.open(made(task) / "images" / record["image_filename"]) as image:
            cluttered = np.asarray(image.convert("RGB"))
        differs = (clean != cluttered).any(axis=2)
        assert differs.any() and (clean[differs] == BACKGROUND).all()
        assert set(map(tuple, cluttered[differs].tolist())) <= set(PALE)


@pytest.mark.parametrize("task", sorted(set(WORLDS.names()) - {"color", "counting"}))
def test_the_number_of_distractors_is_the_one_asked_for(task):
    n_named = {"between": 3, "inside": 3}.get(task, 2)
    most = 8 - n_named
    seen = Counter(len(scene.shapes) for _, scene in _scenes(task, distractors=(1, most)))
    assert set(seen) == set(range(n_named + 1, 9))
    assert {len(s.shapes) for _, s in _scenes(task, n=20, distractors=(0, 0))} == {n_named}


@EVERY_WORLD
@pytest.mark.parametrize("image_size", [(300, 300), (640, 320)])
def test_there_is_room_in_pictures_of_other_sizes(task, image_size):
    for _, scene in _scenes(task, n=12, image_size=image_size):
        for shape in scene.shapes:
            left, top, right, bottom = bounding_box(shape)
            assert left >= 0 and top >= 0 and right <= image_size[0] and bottom <= image_size[1]


def test_words_stand_in_several_sizes_and_say_nothing_of_any_task():
    config = _config("size", words=40)
    marks = [m for i in range(20) for m in clutter_marks(config, np.random.default_rng(i))]
    assert len({mark.height for mark in marks}) >= 3 and {m.text for m in marks} == set(WORDS)
    said = {*COLORS, *SHAPES, *LANGUAGES}
    for task in WORLDS.names():
        for label in WORLDS.load(task)(_config(task)).labels:
            said |= set(prompts.label_words(label).split())
    assert not said & set(WORDS)


def test_a_picture_is_a_png_with_a_small_palette(made):
    with Image.open(made("depth") / "images/depth_000000.png") as image:
        assert image.mode == "P" and len(image.palette.colors) <= 16
        assert image.format == "PNG" and "transparency" not in image.info
