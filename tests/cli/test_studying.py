"""`vsp study` plans the runs of a study file once, and goes on with what is missing."""

from __future__ import annotations

import json
import re
import shutil

import pytest
import yaml

from vsp.storage.run import Run

FAKE = ("--model", "fake", "--option", "n_layers=2", "--dataset", "a", "--name", "s")
SMALL = (*FAKE, "--limit", "24")
THREE = ("s-original", "s-blank", "s-swapped")


@pytest.fixture
def study(vsp, work, spatial):
    """`vsp study` in a folder with the datasets a and b, without a batch system."""
    for name in ("a", "b"):
        shutil.copytree(spatial, work / name)
    (work / "local.yaml").write_text("scheduler: local\n")
    return lambda *words: vsp("study", "--profile", "local.yaml", "--n-jobs", "1", *words)


def _runs(work):
    return sorted(path.parent.name for path in (work / "scratch").glob("*/plan.json"))


def _edit(work, **changes):
    path = work / "studies" / "s.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | changes))


def test_one_command_writes_the_file_makes_the_variants_and_plans_all_runs(study, work):
    answer = study(*SMALL, "--with", "blank,swapped", "--on", "b", "--question", "does it look?")
    assert answer.returncode == 0, answer.stderr
    assert _runs(work) == sorted([*THREE, "s-on-b"])
    assert yaml.safe_load((work / "studies/s.yaml").read_text()) == {
        "question": "does it look?", "model": "fake", "dataset": "a", "with": ["blank", "swapped"],
        "other-datasets": ["b"], "plan": {"option": {"n_layers": 2}, "limit": 24},
    }  # fmt: skip
    plans = {name: Run.open(work / "scratch" / name).plan for name in (*THREE, "s-on-b")}
    assert [one.variants for one in plans.values()] == [(), ("blank",), ("swapped",), ()]
    assert {one.n_samples for one in plans.values()} == {24} and len(plans["s-on-b"].labels) > 1
    assert "next: `vsp study s --profile local.yaml` submits all" in answer.stdout
    assert (work / "data/raw/a-swapped/images").is_symlink()  # the same pictures


def test_the_same_command_and_the_name_of_the_study_plan_nothing_again(study, work):
    words = (*SMALL, "--with", "blank,swapped")
    study(*words)
    before = {name: Run.open(work / "scratch" / name).plan.id for name in THREE}
    again = study(*words)
    assert again.stdout.count("planned already: ") == 3 and "wrote" not in again.stdout
    assert study(*SMALL).returncode == 0  # the controls of the file are the default
    assert "s-blank: 0 of 24 rows are extracted" in study("s", "--dry-run").stdout
    assert {name: Run.open(work / "scratch" / name).plan.id for name in THREE} == before


def test_a_run_that_was_removed_is_planned_again_with_the_same_rows(study, work):
    study(*SMALL, "--with", "blank,swapped")
    manifest = (work / "scratch/s-original/manifest.jsonl").read_bytes()
    for name in THREE[:2]:
        shutil.rmtree(work / "scratch" / name)
    answer = study(*SMALL, "--with", "blank,swapped")
    assert answer.returncode == 0 and answer.stdout.count("planned: ") == 2
    assert (work / "scratch/s-original/manifest.jsonl").read_bytes() == manifest


def test_a_dry_run_writes_nothing(study, work):
    before = sorted(work.rglob("*"))
    answer = study(*SMALL, "--with", "blank,swapped", "--dry-run")
    assert answer.returncode == 0 and [
        line.split(":")[0] for line in answer.stdout.splitlines()
    ] == [*THREE]
    assert sorted(work.rglob("*")) == before


def test_controls_that_the_dataset_or_the_model_does_not_allow_are_left_out_and_said(
    study, vsp, work
):
    (work / "shapes.yaml").write_text(
        "task: color\nn_samples: 24\nseed: 1\noutput: c\nsplits: splits\n"
    )
    vsp("generate", "--config", "shapes.yaml", "--n-jobs", "1")
    answer = study("--model", "fake", "--dataset", "c")
    assert answer.returncode == 0, answer.stderr
    assert re.search(
        r"^left out: swapped: .* does not apply to this dataset", answer.stdout, re.MULTILINE
    )
    assert "left out: untrained: model fake has no untrained weights\n" in answer.stdout
    values = yaml.safe_load((work / "studies/fake-c.yaml").read_text())
    assert values["with"] == ["blank", "mirrored", "names", "shuffled"]
    assert "fake-c-names" in _runs(work)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ((*SMALL, "--with", "untrained"), 1, "with untrained: model fake has no untrained weights; leave it out"),
        ((*SMALL, "--with", "blnk"), 1, "with control 'blnk' is not known; did you mean blank?"),
        ((*SMALL, "--with", "blank,"), 2, "has an empty name"),
        ((*SMALL, "--on", "a"), 1, "other-datasets 'a': is the dataset itself"),
        ((*SMALL, "--name", "../x"), 1, "use letters, digits"),
        (("--model", "fake", "--dataset", "none", "--with", "blank"), 1, "none"),
        (("--model", "nothing", "--dataset", "a"), 1, "model 'nothing' is not known"),
        (("s",), 1, "no such study"),
        ((), 1, "name a study of studies/ to go on with, or a --model to begin one"),
        ((*SMALL, "--submit", "--dry-run"), 2, "not allowed with"),
        ((*SMALL, "--", "--n-jobs", "2"), 1, "--n-jobs after --: write cpus_per_task"),
        ((*SMALL, "--", "--folds", "x"), 2, "argument --folds: 'x' must be an integer"),
        ((*SMALL, "--shards", "2", "--shard-size", "3"), 2, "not allowed with"),
    ],
)  # fmt: skip
def test_a_wrong_study_is_refused_in_one_line_before_anything_is_written(
    study, work, words, code, said
):
    answer = study(*words)
    assert answer.returncode == code and said in answer.stderr.splitlines()[-1]
    assert not (work / "studies").exists() and not (work / "scratch").exists()


def test_options_beside_the_name_of_a_study_are_refused(study, work):
    study(*SMALL, "--with", "blank")
    for words in (("--limit", "3"), ("--model", "fake"), ("--with", "none"), ("--no-answers",)):
        answer = study("s", *words)
        assert (
            answer.returncode == 1
            and f"{words[0]}: studies/s.yaml has the options"
            in answer.stderr.replace("--answers", "--no-answers")
        )


def test_a_study_of_the_same_name_that_asks_something_else_is_refused(study, work):
    study(*SMALL, "--with", "blank")
    before = (work / "studies/s.yaml").read_text()
    for words, key in (
        (("--with", "none"), "with"),
        (("--with", "blank", "--prompt", "cloze"), "plan"),
        (("--on", "b"), "other-datasets"),
        (("--question", "another"), "question"),
    ):
        answer = study(*SMALL, *words)
        assert answer.returncode == 1 and f"exists and has another `{key}`" in answer.stderr
    assert (work / "studies/s.yaml").read_text() == before and len(_runs(work)) == 2


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"dataset": "b", "with": []}, "its dataset is "),
        ({"plan": {"limit": 24}}, "its model has another checkpoint or other options"),
        ({"plan": {"option": {"n_layers": 2}, "limit": 24, "prompt": "cloze"}}, "its prompt is instruction, not cloze"),
        ({"plan": {"option": {"n_layers": 2}, "limit": 12}}, "was planned with other options"),
    ],
)  # fmt: skip
def test_runs_that_are_not_those_of_a_changed_file_are_refused(study, work, changes, said):
    study(*SMALL, "--with", "blank")
    _edit(work, **changes)
    answer = study("s", "--dry-run")
    assert answer.returncode == 1 and said in answer.stderr
    assert "are not those of this file; remove them (`vsp rm RUN --results`)" in answer.stderr
    assert len(_runs(work)) == 2


def test_a_control_that_is_added_to_the_file_is_planned(study, work):
    study(*SMALL, "--with", "blank")
    _edit(work, **{"with": ["blank", "swapped"], "other-datasets": ["b"]})
    assert "s-on-b: new" in study("s", "--dry-run").stdout
    answer = study(*SMALL, "--on", "b")
    assert answer.returncode == 0, answer.stderr
    assert _runs(work) == sorted([*THREE, "s-on-b"])


def test_a_folder_that_is_another_dataset_is_not_taken_for_the_variant(study, work):
    shutil.copytree(work / "b", work / "data/raw/a-blank")
    answer = study(*SMALL, "--with", "blank")
    assert answer.returncode == 1
    assert (
        "data/raw/a-blank: holds another dataset; remove it, or give a another name"
        in answer.stderr
    )
    assert _runs(work) == []


def test_values_of_the_file_that_a_plan_refuses_name_the_file(study, work):
    study(*SMALL, "--with", "blank")
    _edit(work, plan={"prompt": "--submit"})
    answer = study("s")
    assert answer.returncode == 1
    assert re.search(
        r"^vsp: studies/s.yaml: plan: .*--prompt.*--submit", answer.stderr, re.MULTILINE
    )


def test_a_study_named_like_a_run_is_refused(study, vsp, work):
    vsp("plan", "--model", "fake", "--dataset", "a", "--run", "s", "--limit", "24")
    answer = study(*SMALL)
    assert answer.returncode == 1 and "a run has that name; choose another --name" in answer.stderr


def test_options_are_kept_as_they_were_typed_and_planned_so(study, work):
    words = (
        "--positions",
        "image",
        "--no-answers",
        "--store-dtype",
        "float32",
        "--batch-size",
        "16",
    )
    assert study(*SMALL, "--with", "none", *words).returncode == 0
    values = yaml.safe_load((work / "studies/s.yaml").read_text())["plan"]
    assert values == {
        "option": {"n_layers": 2}, "store-dtype": "float32", "batch-size": 16, "answers": False,
        "positions": "last,image", "limit": 24,
    }  # fmt: skip
    plan = Run.open(work / "scratch/s-original").plan
    assert (plan.positions, plan.answers, plan.dtype) == (("last", "image"), None, "float32")


def test_names_and_shuffled_pictures_have_no_positions_that_their_rows_lack(study, work):
    words = (
        "--positions",
        "subject,image",
        "--with",
        "names,shuffled,blank",
        "--prompt",
        "question",
    )
    answer = study(*SMALL, *words)
    assert answer.returncode == 0, answer.stderr
    of = {
        role: Run.open(work / "scratch" / f"s-{role}").plan
        for role in ("names", "shuffled", "blank")
    }
    assert of["names"].positions == ("last", "image") and of["names"].prompt == "dataset"
    assert of["shuffled"].positions == ("last", "subject", "image")
    assert of["blank"].positions == ("last", "subject", "image")
    assert of["blank"].prompt == "question"


def _samples(work, role):
    return [
        (one.id, one.group, one.split) for one in Run.open(work / f"scratch/s-{role}").all_samples()
    ]


def test_variants_share_rows_ids_groups_and_splits_also_with_copies_and_a_limit(study, work):
    """Grey pictures are copies of each other, and two pictures of the original are copies."""
    records = json.loads((work / "a/metadata.json").read_text())
    images = work / "a/images"
    for record, of in zip(
        records[1::2], records[::2], strict=True
    ):  # every second row is about the first
        record["image_filename"] = of["image_filename"]
    first, *_, last = [one for one in records if one["split"] == "train"]
    shutil.copy(images / first["image_filename"], images / last["image_filename"])
    records = [*records[::2], *records[1::2]]  # rows about one image are not neighbours
    (work / "a/metadata.json").write_text(json.dumps(records))
    answer = study(*FAKE, "--limit", "30", "--with", "blank,shuffled,mirrored,swapped,names")
    assert answer.returncode == 0, answer.stderr
    original = _samples(work, "original")
    assert [one[0] for one in original] != [str(one.get("id")) for one in records[:30]]
    for role in ("blank", "shuffled", "mirrored", "swapped", "names"):
        assert _samples(work, role) == original, role


def test_options_of_jobs_are_kept_for_the_next_command_and_refused_where_no_job_is_sent(
    study, vsp, work
):
    said = study(*SMALL, "--with", "none", "--probe-tasks", "3").stdout
    assert re.search(r"next: `vsp study s .*--probe-tasks 3` submits all", said), said
    answer = vsp("study", "s", "--finish", "--probe-tasks", "3")
    assert answer.returncode == 1
    assert "--probe-tasks 3: applies to jobs, and --finish submits none" in answer.stderr


def test_runs_with_the_same_pictures_are_extracted_together(study, work):
    answer = study(*FAKE, "--with", "names,mirrored,blank,swapped,shuffled")
    assert answer.returncode == 0, answer.stderr
    together = {
        name: [one.name for one in Run.open(work / "scratch" / name).plan.together]
        for name in _runs(work)
    }
    pictures, grey = ["s-original", "s-swapped", "s-shuffled"], ["s-blank", "s-names"]
    assert together == {
        **dict.fromkeys(pictures, pictures), **dict.fromkeys(grey, grey), "s-mirrored": [],
    }  # fmt: skip
    assert "note: s-swapped: extracted together with s-original" in answer.stderr


def test_a_control_that_is_added_to_a_planned_study_is_extracted_alone(study, work):
    study(*SMALL, "--with", "blank")
    _edit(work, **{"with": ["blank", "swapped"]})
    answer = study(*SMALL)
    assert answer.returncode == 0
    assert Run.open(work / "scratch/s-swapped").plan.together == ()
    said = "note: s-swapped: extracted alone, not together with s-original: planned before"
    assert said in answer.stderr and "s-blank: extracted" not in answer.stderr


def test_a_lost_run_is_planned_again_as_the_run_that_others_are_extracted_with(study, work):
    study(*SMALL, "--with", "swapped")
    before = Run.open(work / "scratch/s-original").plan
    shutil.rmtree(work / "scratch/s-original")
    answer = study(*SMALL, "--with", "swapped")
    assert "planned again as it was, because s-swapped is extracted with it" in answer.stderr
    again = Run.open(work / "scratch/s-original").plan
    assert (again.id, again.together) == (before.id, before.together)


def test_a_lost_run_of_a_control_that_left_the_file_is_refused_in_one_line(study, work):
    study(*FAKE, "--with", "swapped,shuffled")
    _edit(work, **{"with": ["swapped"]})
    shutil.rmtree(work / "scratch/s-original")
    answer = study("s")
    assert answer.returncode == 1 and "Traceback" not in answer.stderr
    said = " ".join(answer.stderr.split())
    assert (
        "s-original: is lost, and run s-swapped is extracted together with it and with s-shuffled"
        in said
    )
