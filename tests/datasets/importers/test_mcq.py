"""Multiple-choice questions: counts of SpatialMQA, records of other benchmarks, and a whole run."""

import base64
import csv
import json
from collections import Counter
from io import BytesIO

import numpy as np
import pytest
from helpers.paths import ROOT
from helpers.real import real
from PIL import Image, ImageOps

from vsp.datasets import IMPORTERS
from vsp.datasets.importers.import_request import ImportRequest
from vsp.datasets.importers.pipeline import import_dataset
from vsp.errors import ConfigError, DatasetError

IMPORTER = IMPORTERS.load("mcq")
ANSWERS = ("right of", "left of", "in front of", "behind", "on/above", "below")
PARTS = {"train": "train", "dev": "val", "test": "test"}
Q = {"image": "a.jpg", "question": "Where is the cup?", "options": ["left", "right"]}


def _pictures(*parts):
    files = [(PARTS.get(part, ""), real(f"spatialmqa/{part}.jsonl")) for part in parts]
    return list(IMPORTER.read(files, {}))


@pytest.mark.parametrize(
    ("part", "rows", "images", "first_person", "answers"),
    [
        ("train", 3780, 3603, 597, (1040, 980, 565, 529, 353, 313)),
        ("dev", 536, 532, 74, (148, 139, 80, 75, 50, 44)),
        ("test", 1076, 1066, 178, (296, 279, 161, 151, 100, 89)),
        ("examples", 8, 8, 5, (1, 2, 0, 3, 2, 0)),
    ],
)
def test_the_counts_of_spatialmqa_are_those_that_were_measured(
    part, rows, images, first_person, answers
):
    pictures = _pictures(part)
    read = [relation for picture in pictures for relation in picture.relations]
    assert (len(read), len({picture.image for picture in pictures})) == (rows, images)
    counts = Counter(relation.predicate for relation in read)
    assert tuple(counts[answer] for answer in ANSWERS) == answers and counts.total() == rows
    assert sum(relation.prompt.startswith("If you are ") for relation in read) == first_person
    assert all(relation.predicate in relation.options for relation in read)
    assert not any(relation.unusable for relation in read)
    asked = [(p.image, r.prompt.splitlines()[0]) for p in pictures for r in p.relations]
    assert len(set(asked)) == rows  # no question stands twice for one image


def test_the_option_sets_of_spatialmqa_are_those_that_were_measured():
    short = {"left of": "l", "right of": "r", "in front of": "f", "behind": "b", "on/above": "a",
             "below": "u"}  # fmt: skip
    counts = Counter(
        "".join(sorted(short[text] for text in relation.options))
        for picture in _pictures("train")
        for relation in picture.relations
    )
    assert counts == {
        "bflr": 2336, "abflru": 508, "alru": 488, "lr": 328, "au": 114, "bf": 3, "abfu": 3,
    }  # fmt: skip


def _import(folder, rows, name="out", source="mcq", **options):
    path = folder / f"{name}.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    request = ImportRequest(source, [str(path)], folder / name, **options)
    return import_dataset(request, ROOT)


def _records(imported):
    return json.loads((imported.folder / "metadata.json").read_text())


def test_spatialmqa_shares_images_between_splits_and_is_refused_until_the_user_decides(tmp_path):
    files = [str(real(f"spatialmqa/{part}.jsonl")) for part in PARTS]
    with pytest.raises(DatasetError, match="--resplit makes new splits by image") as caught:
        import_dataset(ImportRequest("mcq", files, tmp_path / "out"), ROOT)
    assert list(caught.value.details) == [
        "44 of the 532 images of val are also in train",
        "81 of the 1,066 images of test are also in train",
        "15 of the 1,066 images of test are also in val",
    ]
    dropped = ImportRequest("mcq", files, tmp_path / "out", drop=["shared-image"])
    parts = import_dataset(dropped, ROOT).funnel["parts"]
    assert {name: part["out"]["rows"] for name, part in parts.items()} == {
        "train": 3640, "val": 521, "test": 1076,
    }  # fmt: skip


def _png(shade, size=12):
    pixels = np.random.default_rng(shade).integers(0, 256, (size, size, 3), np.uint8)
    file = BytesIO()
    Image.fromarray(pixels).save(file, format="PNG")
    return base64.b64encode(file.getvalue()).decode()


def test_embspatial_with_numbers_from_0_and_pictures_in_base64(tmp_path):
    rows = [
        {"question_id": f"q{i}", "question": f"Which is close? {i}", "image": _png(i % 2),
         "relation": "close", "answer_options": ["cup", "hat", "mat"], "answer": i}
        for i in range(3)
    ]  # fmt: skip
    imported = _import(tmp_path, rows)
    records = {record["id"]: record for record in _records(imported)}
    assert [records[f"q{i}"]["label"] for i in range(3)] == ["cup", "hat", "mat"]
    assert records["q0"]["options"] == ["cup", "hat", "mat"]
    pictures = list((imported.folder / "images" / "embedded").iterdir())
    assert len(pictures) == 2  # q0 and q2 have one picture
    assert {pictures[0].read_bytes(), pictures[1].read_bytes()} == {
        base64.b64decode(_png(i)) for i in range(2)
    }


def test_one_picture_under_two_keys_is_one_picture(tmp_path):
    row = {
        "image": "a.jpg",
        "image_path": "a.jpg",
        "question": "?",
        "options": ["a", "b"],
        "answer": "a",
    }
    assert [one["label"] for one in _records(_import(tmp_path, [row]))] == ["a"]


def test_a_label_may_be_that_of_another_key(tmp_path):
    sentences = ["The cup is left of the plate", "The cup is above the plate"]
    row = {"image": "a.jpg", "question": "How?", "answer_options": sentences, "answer": 0}
    imported = _import(tmp_path, [{**row, "relation": "left"}], options={"label": "relation"})
    (record,) = _records(imported)
    assert (record["label"], record["options"]) == ("left", sentences)
    with pytest.raises(DatasetError, match="line 1 has no relation, which --option label=relation"):
        _import(tmp_path, [row], name="other", options={"label": "relation"})


def test_blink_rows_with_several_images_are_dropped_and_counted_and_their_pictures_not_written(
    tmp_path,
):
    rows = [
        {"idx": f"val_{i}", "question": "Is the cup left?", "choices": ["yes", "no"],
         "answer": "(B)" if i else "(A)", "image_1": {"bytes": _png(i), "path": None},
         "image_2": {"bytes": _png(9), "path": None} if i == 2 else None, "image_3": None}
        for i in range(3)
    ]  # fmt: skip
    rows.append({**rows[0], "idx": "hidden", "answer": "hidden"})
    imported = _import(tmp_path, rows)
    assert [(r["id"], r["label"]) for r in _records(imported)] == [
        ("val_0", "yes"),
        ("val_1", "no"),
    ]
    with (imported.folder / "dropped.csv").open(newline="") as file:
        dropped = [(row["id"], row["reason"], row["place"]) for row in csv.DictReader(file)]
    assert sorted(dropped) == [
        ("hidden", "no-such-option", "line 4"), ("val_2", "several-images", "line 3"),
    ]  # fmt: skip
    assert len(list((imported.folder / "images" / "embedded").iterdir())) == 2


def test_images_of_omnispatial_follow_from_task_and_id(tmp_path):
    row = {"id": "15_1", "question": "Who?", "options": ["he", "she", "it", "we"], "answer": 0,
           "task_type": "Complex_Logic", "sub_task_type": "Geometric_Reasoning"}  # fmt: skip
    other = {**row, "task_type": "Dynamic_Reasoning", "answer": 3}
    path = tmp_path / "data.json"
    path.write_text(json.dumps([row, other]))
    one, two = IMPORTER.read([("", path)], {})
    assert (one.image, one.relations[0].id) == ("Complex_Logic/15.png", "Complex_Logic/15_1")
    assert two.image == "Dynamic_Reasoning/15.png" and two.relations[0].predicate == "we"


def test_splits_groups_hints_and_file_names_are_used(tmp_path, caplog):
    caplog.set_level("INFO")
    row = {**Q, "id": 1, "answer": "A", "split": "Validation", "group": "kitchen", "hint": "Look."}
    (tmp_path / "a.jsonl").write_text(json.dumps({**row, "category": "x"}))
    (tmp_path / "b.jsonl").write_text(json.dumps({**Q, "id": 1, "answer": "B"}))
    files = [("", tmp_path / "a.jsonl"), ("test", tmp_path / "b.jsonl")]
    assert not list(IMPORTER.read_embedded(files, {}))
    assert list(caplog.messages) == [f"{tmp_path / 'a.jsonl'}: keys that are not read: category"]
    one, two = IMPORTER.read(files, {"prompt": "question"})
    assert (one.split, one.group, two.split, two.group) == ("val", "kitchen", "test", "")
    assert (one.relations[0].id, two.relations[0].id) == ("a/1", "b/1")
    assert one.relations[0].prompt == "Look.\nWhere is the cup?"


def test_a_label_is_mapped_only_by_a_table_that_the_user_names(tmp_path):
    rows = [{**Q, "image": f"{i}.jpg", "answer": "left"} for i in range(2)]
    assert {r["label"] for r in _records(_import(tmp_path, rows))} == {"left"}
    mapped = _records(_import(tmp_path, rows, "mapped", relations="whatsup"))
    assert {(r["label"], r["predicate"], *r["options"]) for r in mapped} == {
        ("left_of", "left", "left", "right")
    }


@pytest.mark.parametrize(
    ("row", "what"),
    [
        ({**Q}, "line 1 has no answer or gt; its keys are image, question, options"),
        ({**Q, "answer": "A", "gt": 0}, "line 1 has answer and gt, which mean the same; keep one"),
        ({**Q, "answer": 0, "image": None}, "line 1 has no image; give each row one"),
        ({**Q, "answer": 0, "question": " "}, "line 1 has no question; write a text"),
        ({**Q, "answer": 0, "options": "left"}, "line 1 has options 'left', which contain neither"),
        ({**Q, "answer": 0, "split": "x"}, "line 1 has the split 'x'; write train, val or test"),
        ({**Q, "answer": 1}, "none of 1 answers that are numbers is 0"),
        ({**Q, "answer": 0, "question": "x" * 200_000}, "line 1 has a question of 200,000 characters"),
    ],
)  # fmt: skip
def test_a_record_of_another_form_is_refused_with_its_place(tmp_path, row, what):
    path = tmp_path / "own.jsonl"
    path.write_text(json.dumps(row))
    with pytest.raises(DatasetError) as caught:
        list(IMPORTER.read([("", path)], {}))
    assert str(caught.value).startswith(f"{path}: {what}")


def test_where_no_answer_is_an_option_the_error_says_what_to_do(tmp_path):
    with pytest.raises(DatasetError, match="no row is left; say with --option answer=text, letter"):
        _import(tmp_path, [{**Q, "answer": "3rd"}])


def test_unknown_values_of_options_are_refused():
    with pytest.raises(
        ConfigError, match="option answer=index is not known; use one of auto, text"
    ):
        IMPORTER.read([], {"answer": "index"})


def test_the_eight_photographs_of_spatialmqa_run_from_plan_to_probe(vsp, work):
    """The mirrored photographs are added, in the groups of the originals, so that three labels have
    the three groups that three folds need."""
    photographs = real("spatialmqa/images")
    rows = [json.loads(line) for line in real("spatialmqa/examples.jsonl").read_text().splitlines()]
    turned = {"left of": "right of", "right of": "left of"}
    (work / "turned").mkdir()
    for row in list(rows):
        row["group"] = row["image"]
        name = f"turned-{row['image']}"
        ImageOps.mirror(Image.open(photographs / row["image"])).save(work / "turned" / name)
        rows.append({**row, "image": name, "answer": turned.get(row["answer"], row["answer"])})
    (work / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def run(*arguments):
        answer = vsp(*arguments)
        assert answer.returncode == 0, answer.stderr
        return answer

    run("import", "mcq", "--annotations", "rows.jsonl", "--images", photographs, work / "turned",
        "--out", "data/mqa")  # fmt: skip
    plan = run("plan", "--model", "small", "--dataset", "data/mqa", "--run", "mqa")
    assert "answers  up to 6 options, those of each row" in plan.stdout
    run("extract", "--run", "mqa")
    few = vsp("probe", "--run", "mqa")
    assert few.returncode == 1 and "too few for 5 folds; add images" in few.stderr
    run("probe", "--run", "mqa", "--folds", 3, "--drop-label", "on/above", "--no-curve",
        "--permutations", 0, "--controls", 0, "--resamples", 100, "--n-jobs", 1,
        "--grid", 0.01, 1)  # fmt: skip
    (result,) = (work / "results").iterdir()
    assert result.name == "mqa"
    answers = np.load(work / "scratch" / "mqa" / "answers.npy")
    records = json.loads((work / "data/mqa/metadata.json").read_text())
    n_options = (~np.isnan(answers[: len(records)])).sum(axis=1)
    assert n_options.tolist() == [len(record["options"]) for record in records]
