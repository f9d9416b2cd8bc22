"""A run is named after what the user typed; a second one says in its name what differs."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest
from helpers import made

from vsp import models
from vsp.config import ModelConfig
from vsp.extraction.plan import PlanRequest, plan_run
from vsp.extraction.run_names import differences, stem_of
from vsp.storage.run import Run


@pytest.fixture
def named(work, spatial):
    """Plan a run of the fake model and return its name: `named(prompt="question")`."""

    def plan(dataset=spatial, **changes):
        options = changes.pop("options", None)
        model = models.resolve("fake", options=options, **changes.pop("model", {}))
        request = PlanRequest(dataset, model, limit=changes.pop("limit", 24), **changes)
        return plan_run(request, work).run.name

    return plan


def test_a_run_is_named_after_the_model_and_the_dataset_as_typed(vsp, work, spatial):
    (work / "configs/models").mkdir(parents=True)
    (work / "configs/models/mine.yaml").write_text("family: fake\n")
    (work / "my.own.yaml").write_text("family: fake\n")
    for typed, name in {"mine": "mine-q", "my.own.yaml": "my.own-q", "fake": "fake-q"}.items():
        (work / "q").exists() or (work / "q").symlink_to(spatial)
        answer = vsp("plan", "--model", typed, "--dataset", "q", "--limit", "24")
        assert answer.stdout.startswith(f"run      {name}, in"), answer


@pytest.mark.parametrize(
    ("typed", "checkpoint", "name"),
    [("auto", "org/SmolVLM-256M", "SmolVLM-256M-d"), ("auto", "/shared/my model/", "my-model-d"),
     ("llava15", "/shared/llava", "llava15-d"), ("configs/x.yaml", "a/b", "x-d"),
     ("auto", None, "auto-d"), ("", None, "auto-d")],
)  # fmt: skip
def test_a_model_without_a_name_of_its_own_has_that_of_its_checkpoint(
    tmp_path, typed, checkpoint, name
):
    model = ModelConfig(family="auto", checkpoint=checkpoint)
    assert stem_of(model, typed, tmp_path / "d") == name


def test_a_second_run_says_in_its_name_what_differs(named):
    assert named() == "fake-spatial"
    assert named(prompt="question") == "fake-spatial-question"
    assert named(positions=("last", "subject")) == "fake-spatial-subject"
    assert named(limit=30) == "fake-spatial-30rows"
    assert named(answers=False, batch_size=4) == "fake-spatial-no-answers-batch4"
    assert named(model={"dtype": "bfloat16"}) == "fake-spatial-bfloat16"
    assert named() == "fake-spatial-2"  # nothing differs
    assert named(prompt="question") == "fake-spatial-question-2"


def test_datasets_of_one_name_are_told_apart_by_their_folders(named, spatial, work):
    names = []
    for folder in ("a", "b"):
        shutil.copytree(spatial, work / folder / "spatial")
        names.append(named(work / folder / "spatial"))
    assert names == ["fake-spatial", "fake-spatial-b"]


def test_each_difference_of_models_has_a_word():
    plan = made.plan()
    of_model = {
        "quantization": ("4bit", "4bit"), "weights": ("random", "untrained"),
        "checkpoint": ("org/other", "other"), "revision": ("0123456789", "revision-0123456"),
        "adapter": ("/x/lora", "lora"), "dtype": ("float32", "float32"),
        "options": ({"crop": 3}, "crop-3"), "template": ("A {instruction}", "template"),
    }  # fmt: skip
    for key, (value, word) in of_model.items():
        other = plan.model_copy(update={"model": plan.model.model_copy(update={key: value})})
        assert differences(other, plan) == [word]
    blank = plan.model_copy(update={"variants": ("blank",), "dataset": "data/raw/b"})
    assert differences(blank, plan) == ["blank"] and differences(plan, blank) == ["original"]
    assert differences(plan, plan) == []


def test_more_than_three_differences_get_a_number(named):
    named()
    assert named(prompt="question", limit=30, batch_size=3, answers=False) == "fake-spatial-2"


def test_the_note_says_why_a_name_is_longer(work, spatial):
    request = PlanRequest(spatial, models.resolve("fake"), limit=24)
    assert not any("named" in note for note in plan_run(request, work).notes)
    (note,) = (
        note for note in plan_run(replace(request, prompt="cloze"), work).notes if "named" in note
    )
    assert (
        note
        == "the run is named fake-spatial-cloze, because fake-spatial exists with other settings"
    )


def test_results_of_other_settings_take_a_name_and_those_of_the_same_give_it_back(named, work):
    plan = Run.open(work / "scratch" / named()).plan
    made.made(work / "results" / "fake-spatial", plan=plan.model_dump(mode="json"))
    shutil.rmtree(work / "scratch" / "fake-spatial")
    assert named(prompt="question") == "fake-spatial-question"
    assert named() == "fake-spatial"


def test_a_folder_that_is_no_run_also_takes_a_name(named, work):
    (work / "scratch" / "fake-spatial").mkdir(parents=True)
    (work / "results" / "fake-spatial-2").mkdir(parents=True)
    assert named() == "fake-spatial-3"
