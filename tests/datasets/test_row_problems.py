"""All rows that cannot be read are reported by one error."""

import json

import pytest

from vsp.datasets import IMPORTERS
from vsp.datasets.apply_variant import VariantRequest, apply_variant
from vsp.datasets.metadata import read_samples
from vsp.datasets.row_problems import row_problems
from vsp.datasets.summary import summarize
from vsp.errors import DatasetError


def _refused(source, *paths, **options):
    with pytest.raises(DatasetError) as caught:
        list(IMPORTERS.load(source).read([("", path) for path in paths], options))
    return str(caught.value), [
        line.replace(f"{paths[0].parent}/", "") for line in caught.value.details
    ]


def test_all_incomplete_lines_of_all_files_are_reported_at_once(tmp_path):
    one, other = tmp_path / "one.csv", tmp_path / "other.csv"
    one.write_text("image,prompt,label\na,?,x\nb,?,\n,?,x\nc,?\nd,?,y\n")
    other.write_text("image,prompt,label,subject_box\na,,x,\nb,?,x,[]\n")
    message, details = _refused("csv", one, other)
    assert message == ("5 rows cannot be used; correct them and run the same command again")
    assert [detail.partition(";")[0] for detail in details] == [
        "one.csv: line 3 has no label",
        "one.csv: line 4 has no image",
        "one.csv: line 5 has 2 cells, the header 3",
        "other.csv: line 2 has no prompt",
        "other.csv: line 3 has subject_box '[]'",
    ]


def test_the_first_twenty_are_listed_and_the_rest_counted(tmp_path):
    path = tmp_path / "own.csv"
    path.write_text("image,prompt,label\n" + "a,?,\n" * 50 + "a,?,x\n")
    message, details = _refused("csv", path)
    assert message.startswith("50 rows") and len(details) == 21
    assert details[19].startswith("own.csv: line 21 has") and details[20] == "… and 30 more"


@pytest.mark.parametrize("source", ["csv", "vsr"])
@pytest.mark.parametrize("row", ['{"image": "a", "label": true}', '{"image": 3}', '{"a": 1}', "{"])
def test_a_problem_of_all_json_rows_is_one_line(tmp_path, source, row):
    path = tmp_path / "train.jsonl"
    path.write_text(f"{row}\n" * 4)
    message, details = _refused(source, path)
    assert message.endswith("(all 4 rows have this problem)") and details == []


def test_a_problem_of_all_rows_is_one_line(tmp_path, write_dataset):
    path = tmp_path / "own.csv"
    path.write_text("image,prompt,label\n" + "a,?,\n" * 50)
    message, details = _refused("csv", path)
    assert details == [] and message == (
        f"{path}: line 2 has no label; a row needs image, prompt, label (all 50 rows have this problem)"
    )
    own = {"image_filename": "a.png", "prompt": "Where?", "label": "x"}
    with pytest.raises(
        DatasetError, match=r"record 0 names no .* \(all 9 rows have this"
    ) as caught:
        read_samples(write_dataset([{**own, "id": str(i)} for i in range(9)]), "question")
    assert caught.value.details == ()


def test_missing_keys_and_damaged_lines_of_json_are_reported_together(tmp_path):
    path = tmp_path / "own.jsonl"
    good = {"image": "a", "prompt": "?", "label": "x"}
    lines = [good, {"image": "a", "prompt": "?", "lable": "x"}, {**good, "label": None}, [1]]
    path.write_text("\n".join(map(json.dumps, lines)) + "\n{\n")
    _, details = _refused("csv", path)
    assert len(details) == 4
    assert details[0].startswith(
        "own.jsonl: line 2 has no key 'label'; its keys are image, prompt, lable; rename 'lable' to"
    )
    assert details[1].startswith("own.jsonl: line 3 has no label")


def test_a_damaged_file_is_the_last_of_the_problems(tmp_path):
    path = tmp_path / "own.csv"
    path.write_text('image,prompt,label\na,?,\nb,"?,x\n')
    _, details = _refused("csv", path)
    assert [detail[:15] for detail in details] == ["own.csv: line 2", "own.csv: line 3"]
    assert "is not CSV" in details[1]


CAPTION = {"image": "1.jpg", "caption": "The cat is on the bed.", "relation": "on", "label": 1}
BOX = {"x": 1, "y": 2, "w": 3, "h": 4}
THING = {"names": ["cat"], "bbox": BOX}
SCENE = {"filename": "a.jpg", "objects": [THING, THING], "relationships": []}
RELATED = {"relationship": "on", "objects": [0, 1]}
NODE = {"name": "cat", **BOX, "relations": []}
VG = {"predicate": "on", "subject": {"name": "cat", **BOX}, "object": {"name": "hat", **BOX}}


@pytest.mark.parametrize(
    ("source", "value", "starts"),
    [
        ("vsr", [CAPTION, {**CAPTION, "label": 3}, {"image": "x"}],
         ["line 2 has label 3", "line 3 has no caption"]),
        ("whatsup", [[1, "A cat", "x"], {"image_path": "x"}], ["record 0 ", "record 1 is"]),
        ("vrd", [{**SCENE, "relationships": [{**RELATED, "objects": [0, 7]}, RELATED, 5]},
                 {"filename": "b.jpg"}],
         ["record 0, relationship 0: 7 is", "record 0, relationship 2 ", "record 1 is"]),
        ("gqa", {"1": {"objects": {"a": {**NODE, "relations": [{"name": "on", "object": "b"}]}}},
                 "2": {"objects": {"a": {"name": 5}}}},
         ["image '1', object 'a', relation 0: object 'b' is not", "image '2', object 'a'"]),
        ("vg", [{"image_id": 1, "relationships": [VG, {"predicate": "on"}, {**VG, "object": 7}]},
                {"image_id": 2}],
         ["record 0, relationship 1 has", "record 0, relationship 2: object", "record 1 is"]),
    ],
)  # fmt: skip
def test_every_importer_reports_all_rows_at_once(tmp_path, source, value, starts):
    path = tmp_path / "own.json"
    lines = "\n".join(map(json.dumps, value)) if source == "vsr" else json.dumps(value)
    path.write_text(lines)
    _, details = _refused(source, path, **({"images": "vg"} if source == "whatsup" else {}))
    assert len(details) == len(starts)
    for detail, start in zip(details, starts, strict=True):
        assert detail.startswith(f"own.json: {start}")


def test_one_problem_is_the_error_itself_and_none_raises_nothing():
    with pytest.raises(DatasetError, match=r"^only this$") as caught, row_problems() as problems:
        problems.add(DatasetError("only this"))
    assert caught.value.details == ()
    with row_problems() as problems:
        assert problems.caught(int, "5") == 5


def test_all_invalid_records_of_a_dataset_are_reported_at_once(write_dataset):
    good = {"image_filename": "a.png", "prompt": "Where?", "label": "x"}
    folder = write_dataset([{**good, "id": str(i)} for i in range(5)])
    records = json.loads((folder / "metadata.json").read_text())
    del records[1]["label"]
    records[3]["label"] = 7
    (folder / "metadata.json").write_text(json.dumps(records))
    use = VariantRequest(folder, "blank", folder.parent / "out")
    for read in (lambda: read_samples(folder, None), lambda: summarize(folder, 0, 0),
                 lambda: apply_variant(use, 1)):  # fmt: skip
        with pytest.raises(DatasetError, match="2 rows cannot be used; correct them") as caught:
            read()
        assert [line.partition("record ")[2][:5] for line in caught.value.details] == [
            "1 has",
            "3 has",
        ]
    records = [{**good, "id": one} for one in "abab"]
    (folder / "metadata.json").write_text(json.dumps(records))
    with pytest.raises(DatasetError, match="2 rows cannot be used") as caught:
        read_samples(folder, None)
    assert "record 3 has the id 'b' of record 1; give each" in caught.value.details[1]
