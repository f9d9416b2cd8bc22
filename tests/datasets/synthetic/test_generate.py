import hashlib
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from helpers.paths import ROOT
from PIL import Image

from vsp.datasets import WORLDS
from vsp.datasets.synthetic.generate import (
    balanced_labels,
    generate,
    read_config,
    stratified_splits,
)
from vsp.datasets.synthetic.shapes import COLORS
from vsp.errors import ConfigError, DatasetError

CONFIG = "task: {task}\nn_samples: 150\nseed: 3\noutput: {name}\nsplits: {name}-splits\n"


def _config(work: Path, task: str = "spatial", name: str = "out", extra: str = ""):
    path = work / f"{name}.yaml"
    path.write_text(CONFIG.format(task=task, name=name) + extra)
    return read_config(path)


def _digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "dataset.json"  # contains the name of the folder
    }


@pytest.mark.parametrize("task", WORLDS.names())
def test_the_bytes_are_the_same_for_any_number_of_workers(work, task):
    for n_jobs, name in ((1, "one"), (2, "two")):
        generate(_config(work, task, name).model_copy(update={"n_samples": 50}), n_jobs)
    assert _digests(work / "one") == _digests(work / "two")
    assert len(set(_digests(work / "one").values())) == 51  # no two files are equal


def test_records_have_the_fields_of_their_task(work):
    generate(_config(work, "spatial", "s"), n_jobs=1)
    generate(_config(work, "color", "c"), n_jobs=1)
    record = json.loads((work / "s/metadata.json").read_text())[0]
    assert set(record) == {
        "image_id", "image_filename", "subject_shape", "subject_color", "reference_shape",
        "reference_color", "subject_box", "reference_box", "relation", "prompt", "split",
    }  # fmt: skip
    record = json.loads((work / "c/metadata.json").read_text())[0]
    assert set(record) == {
        "image_id", "image_filename", "shape_type", "color_label", "prompt", "split",
    }  # fmt: skip
    assert record["prompt"] == f"The color of the {record['shape_type']} is"
    assert (work / "c/images" / record["image_filename"]).exists()


@pytest.mark.parametrize(
    ("task", "digest"),
    [("spatial", "c3fdcfb42a16778c"), ("color", "b2ab7b17baf666d4")],
)
def test_the_first_two_tasks_give_the_pictures_they_always_gave(work, task, digest):
    """The digest is that of pictures made before newer options existed."""
    generate(_config(work, task, "out"), n_jobs=1)
    pixels = hashlib.sha256()
    for path in sorted((work / "out/images").iterdir()):
        with Image.open(path) as image:
            pixels.update(image.convert("RGB").tobytes())
    assert pixels.hexdigest()[:16] == digest
    later = {"clutter", "words", "languages", "distractors"}
    assert not later & json.loads((work / "out/dataset.json").read_text()).keys()


def test_splits_hold_a_fifth_of_each_label_and_agree_with_the_records(work):
    generate(_config(work), n_jobs=1)
    records = json.loads((work / "out/metadata.json").read_text())
    for split, share in (("train", 0.8), ("val", 0.2)):
        ids = json.loads((work / f"out-splits/spatial/{split}.json").read_text())
        assert ids == [r["image_id"] for r in records if r["split"] == split]
        counts = Counter(r["relation"] for r in records if r["split"] == split)
        assert all(abs(count - 150 / 4 * share) <= 1 for count in counts.values())


def test_labels_are_balanced_and_shuffled():
    labels = balanced_labels(["a", "b", "c"], 100, seed=1)
    assert sorted(Counter(labels).values()) == [33, 33, 34]
    assert labels != balanced_labels(["a", "b", "c"], 100, seed=2) != sorted(labels)


def test_a_split_never_depends_on_the_order_of_labels_alone():
    labels = ["a"] * 50 + ["b"] * 50
    splits = stratified_splits(labels, 0.2, seed=0)
    assert splits.count("val") == 20 and splits[:50].count("val") == 10
    assert splits != stratified_splits(labels, 0.2, seed=1)


def test_the_same_dataset_is_left_alone_and_another_is_refused(work):
    config = _config(work)
    assert generate(config, n_jobs=1) is True
    before = {path: path.stat().st_mtime_ns for path in (work / "out/images").iterdir()}
    assert generate(config, n_jobs=1) is False
    assert before == {path: path.stat().st_mtime_ns for path in (work / "out/images").iterdir()}
    with pytest.raises(DatasetError, match="out: holds another dataset"):
        generate(config.model_copy(update={"seed": 4}), n_jobs=1)


@pytest.mark.parametrize("card", ["{", "[]", None])
def test_a_folder_that_cannot_say_what_it_is_counts_as_another(work, card):
    config = _config(work)
    (work / "out").mkdir()
    if card is not None:
        (work / "out/dataset.json").write_text(card)
    with pytest.raises(DatasetError, match="out: holds another dataset"):
        generate(config, n_jobs=1)


def test_an_interrupted_generation_leaves_nothing_behind(work):
    config = _config(work).model_copy(update={"image_size": (10, 10)})  # no room for any scene
    with pytest.raises(ValueError):
        generate(config, n_jobs=1)
    assert [path.name for path in work.iterdir()] == ["out.yaml"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("n_samples: 1", "has no `task`; known: between, color, "),
        ("task: weight", "task 'weight' is not known; known: between, color, "),
        (CONFIG.format(task="spatial", name="x") + "relations: [left_of, over]", "relations.1 'over'"),
        (CONFIG.format(task="color", name="x") + "max_shapes: 4", "max_shapes 4: "),
        (CONFIG.format(task="color", name="x") + "min_shapes: 3\nmax_shapes: 2", "^c.yaml: min_shapes 3 is over"),
        (CONFIG.format(task="spatial", name="x") + "prompt_template_index: 3", "prompt_template_index 3"),
        (CONFIG.format(task="spatial", name="x") + "n_sample: 3", "key 'n_sample' is not known; did you mean n_samples"),
        ("task: spatial", "^c.yaml: n_samples: field required$"),
        (CONFIG.format(task="size", name="x") + "distractors: [3, 1]", r"^c.yaml: distractors \[3, 1\]: the least"),
        (CONFIG.format(task="size", name="x") + "distractors: [0, 7]", "distractors.1 7: "),
        (CONFIG.format(task="between", name="x") + "distractors: [0, 6]", "distractors.1 6: "),
        (CONFIG.format(task="counting", name="x") + "total: [6, 8]", r"^c.yaml: total \[6, 8\] is .* max_count, 6$"),
        (CONFIG.format(task="depth", name="x") + "cues: []", "cues "),
        (CONFIG.format(task="size", name="x") + "languages: [en, xx]", "languages.1 'xx'"),
        (CONFIG.format(task="color", name="x") + "clutter: 41", "clutter 41"),
    ],
)  # fmt: skip
def test_a_wrong_configuration_is_refused_with_its_key(work, text, message):
    (work / "c.yaml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_config(Path("c.yaml"))


def test_the_shipped_configurations_ask_for_the_research_projects_datasets():
    spatial = read_config(ROOT / "configs/spatial_dataset.yaml")
    color = read_config(ROOT / "configs/color_dataset.yaml")
    assert (spatial.n_samples, spatial.seed, spatial.output) == (3000, 42, "data/raw/spatial")
    assert (color.n_samples, color.seed, color.output) == (1000, 123, "data/raw/color")
    assert spatial.image_size == color.image_size == (448, 448)
    assert spatial.prompt_template_index == 0 and len(COLORS) == 10


def test_two_commands_that_write_one_folder_at_the_same_time_give_one_dataset(work):
    config = work / "own.yaml"
    config.write_text(
        "task: color\nn_samples: 20\nseed: 1\noutput: data/own\nsplits: data/splits\n"
    )
    command = [sys.executable, "-m", "vsp", "generate", "--config", config, "--n-jobs", "1"]
    both = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    outputs = [process.communicate(timeout=120) for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    assert sorted(stdout.split()[0] for stdout, _ in outputs) == ["already", "wrote"]
    assert not any("Traceback" in stderr for _, stderr in outputs)
    assert [path.name for path in (work / "data").iterdir() if path.name[0] == "."] == []


def test_a_dataset_goes_where_the_command_says(vsp, work):
    (work / "c.yaml").write_text(CONFIG.format(task="spatial", name="out").replace("150", "20"))
    for _ in range(2):
        answer = vsp("generate", "--config", "c.yaml", "--out", "a/b", "--n-jobs", 1)
        assert answer.returncode == 0 and answer.stdout.endswith("20 spatial samples in a/b\n")
    assert answer.stdout.startswith("already there:")
    generate(_config(work).model_copy(update={"n_samples": 20}), n_jobs=1)
    ours, theirs = _digests(work / "a/b"), _digests(work / "out")
    lists = {name: ours.pop(f"splits/spatial/{name}") for name in ("train.json", "val.json")}
    assert ours == theirs and lists == _digests(work / "out-splits/spatial")


def test_another_dataset_in_the_folder_of_out_is_refused(vsp, work, spatial):
    (work / "c.yaml").write_text(CONFIG.format(task="spatial", name="out"))
    answer = vsp("generate", "--config", "c.yaml", "--out", spatial)
    assert answer.returncode == 1 and not (work / "out").exists()
    assert "holds another dataset; remove it, or name another folder with --out" in answer.stderr
