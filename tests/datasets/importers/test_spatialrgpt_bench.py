"""SpatialRGPT-Bench: regions of the row's own prompt, masks as files, plain labels."""

import json
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vsp.datasets.importers.import_request import ImportRequest
from vsp.datasets.importers.pipeline import import_dataset
from vsp.datasets.importers.run_lengths import read_run_lengths
from vsp.datasets.metadata import read_samples
from vsp.errors import DatasetError


def _runs(mask):
    flat = mask.T.ravel()
    edges = np.flatnonzero(np.diff(flat)) + 1
    runs = np.diff([0, *edges, flat.size]).tolist()
    return [0, *runs] if flat[0] else runs


def _compressed(runs):
    """COCO's text, written from the description of the format."""
    text = ""
    for index, run in enumerate(runs):
        number = run - runs[index - 2] if index > 2 else run
        while True:
            bits, number = number & 31, number >> 5
            more = number != (-1 if bits & 16 else 0)
            text += chr(48 + bits + 32 * more)
            if not more:
                break
    return text


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 40), st.integers(1, 40))
def test_a_mask_is_the_same_from_counts_and_from_compressed_counts(seed, height, width):
    rng = np.random.default_rng(seed)
    mask = rng.random((height, width)) < rng.random()
    mask[-1, -1] = True
    runs = _runs(mask)
    for counts in (runs, _compressed(runs), _compressed(runs).encode()):
        read = read_run_lengths({"size": [height, width], "counts": counts})
        assert (np.asarray(Image.open(BytesIO(read.png()))) == mask * 255).all()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, r"has the mask None; write \{size, counts\}"),
        ({"size": [4], "counts": [16]}, r"of the size \[4\]; write \[height, width\]"),
        (
            {"size": [1 << 20, 1 << 20], "counts": [1]},
            "1048576 × 1048576 pixels, not 1 to 89,478,485",
        ),
        ({"size": [4, 4], "counts": [3, 4]}, "4 × 4 pixels whose runs cover 7, not 16"),
        ({"size": [4, 4], "counts": [20, -4]}, "write integers ≥ 0"),
        ({"size": [4, 4], "counts": [16]}, "covers none of them; remove the row"),
        ({"size": [4, 4], "counts": "\x01"}, "which COCO does not write"),
        ({"size": [4, 4], "counts": "o"}, "which end too early"),
        ({"size": [4, 4], "counts": "o" * 40}, "which COCO does not write"),
        ({"size": [4, 4], "counts": "0" * (1 << 21)}, "with 2,097,152 counts; at most"),
    ],
)
def test_a_wrong_mask_is_refused(value, message):
    with pytest.raises(DatasetError, match=message):
        read_run_lengths(value)


def _record(answer="No.", category="behind_predicate", kind="qualitative", **fields):
    verb = "is" if category.endswith("choice") else "behind"
    one, other = np.zeros((2, 20, 30), bool)
    one[2:9, 3:12] = other[10:18, 15:29] = True
    return {
        "id": "q0",
        "image_info": {"file_path": "kitti/0.png", "height": 20, "width": 30},
        "text_q": "Is Region [1] behind Region [0]?",
        "conversations": [{"value": f"<image>\nIs <mask> {verb} <mask>?"}, {"value": answer}],
        "qa_info": {"type": kind, "category": category},
        "rle": [
            {"size": [20, 30], "counts": _compressed(_runs(one))},
            {"size": [20, 30], "counts": _runs(other)},
        ],
        "bbox": [[3, 2, 12, 9], [15, 10, 99, 18]],
        **fields,
    }


def _import(folder, records, *, text=None, **options):
    (folder / "photos/kitti").mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (30, 20)).save(folder / "photos/kitti/0.png")
    (folder / "bench.json").write_text(text or json.dumps(records))
    request = ImportRequest(
        "spatialrgpt-bench",
        [str(folder / "bench.json")],
        folder / "out",
        [folder / "photos"],
        options=options,
    )
    imported = import_dataset(request, folder)
    return imported, json.loads((folder / "out/metadata.json").read_text())


def test_masks_become_files_and_the_prompt_names_them_in_its_own_order(tmp_path):
    imported, (record,) = _import(tmp_path, [_record()])
    assert "wrote 2 masks to masks/" in imported.notes
    assert record["prompt"] == "Is <mask> behind <mask>?" and record["label"] == "no"
    assert record["options"] == ["yes", "no"]
    # text_q names region 1 first.
    boxes = [Image.open(tmp_path / "out/masks" / name).getbbox() for name in record["regions"]]
    assert boxes == [(15, 10, 29, 18), (3, 2, 12, 9)]
    (sample,), _, style = read_samples(tmp_path / "out", None, "<mask>")
    assert style == "dataset" and sample.prompt == record["prompt"]
    assert sample.regions == tuple(str(tmp_path / "out/masks" / r) for r in record["regions"])


def test_boxes_are_cut_to_the_image(tmp_path):
    _, (record,) = _import(tmp_path, [_record()], regions="bbox")
    assert record["regions"] == [[15, 10, 30, 18], [3, 2, 12, 9]]
    assert not (tmp_path / "out/masks").exists()


def test_a_question_without_markers_gets_them_from_its_text(tmp_path):
    record = _record(conversations=[{"value": "Is A behind B?"}, {"value": "Yes, it is."}])
    record["text_q"] = "Is <region2> behind <region1>?"
    _, (made,) = _import(tmp_path, [record], regions="bbox")
    assert made["prompt"] == "Is <mask> behind <mask>?" and made["label"] == "yes"
    assert made["regions"] == [[15, 10, 30, 18], [3, 2, 12, 9]]


def test_answers_without_a_plain_label_are_dropped_and_counted(tmp_path):
    answers = [
        _record(id="a"),
        _record("Yes.", id="a2", text_q="Is Region [0] behind Region [1]?"),
        _record("Region [1] is.", "left_choice", id="b"),
        _record("Region [1], not Region [0].", "left_choice", id="c"),
        _record("6.91 feet", "height_data", "quantitative", id="d"),
        _record("It depends.", id="e"),
        _record("Actually, yes, it is.", id="f"),
    ]
    _, records = _import(tmp_path, answers)
    assert {r["id"]: r["label"] for r in records} == {"a": "no", "a2": "yes", "b": "region 1"}
    dropped = (tmp_path / "out/dropped.csv").read_text().splitlines()[1:]
    assert [line.split(",")[2] + "," + line.split(",")[5] for line in dropped] == [
        "c,no-plain-answer", "d,other-answer", "e,no-plain-answer",
        "f,no-plain-answer",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("said", "label"),
    [
        ("6.91 feet", "2.11"),
        ("They are 1.5 meters apart.", "1.50"),
        ("12 inches", "0.30"),
        ("Around the 2 o'clock direction.", "2 o'clock"),
    ],
)
def test_quantities_are_metres_or_hours(tmp_path, said, label):
    _, (record,) = _import(
        tmp_path, [_record(said, "height_data", "quantitative")], answer="quantitative"
    )
    assert record["label"] == label and "options" not in record


@pytest.mark.parametrize("said", ["1,200.5 feet", "12345678901 m", "3.4.5 m", "5 feet 3 inches"])
def test_a_quantity_that_is_not_one_number_is_no_label(tmp_path, said):
    rows = [_record(said, "height_data", "quantitative", id="a"),
            _record("2 m, I think", "height_data", "quantitative", id="b")]  # fmt: skip
    _, (record,) = _import(tmp_path, rows, answer="quantitative")
    assert (record["id"], record["label"]) == ("b", "2.00")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"rle": [{"size": [20, 30], "counts": [5]}] * 2},
            "record 0 has a mask of 30 × 20 pixels whose",
        ),
        ({"rle": [{"size": [5, 5], "counts": [5, 20]}] * 2}, "5 × 5 pixels, its image 30 × 20"),
        ({"rle": [], "bbox": [[1, 2, 3, 4]]}, "record 0 names region 1, but it has 1 regions"),
        ({"rle": [], "bbox": [[40, 2, 50, 4]] * 2}, "of which nothing is in the image"),
        ({"image_info": {}}, "has image_info {}; write file_path, height and width"),
        ({"qa_info": "import os"}, "has qa_info 'import os', which is not JSON"),
        ({"qa_info": "[" * 100_000}, "which is not JSON"),
        ({"conversations": [{"value": "?"}]}, "not pairs of question and answer"),
    ],
)
def test_wrong_rows_are_refused_with_their_place(tmp_path, change, message):
    with pytest.raises(DatasetError, match=message):
        _import(tmp_path, [_record(**change)])


def test_fields_may_be_text_as_python_writes_it(tmp_path):
    record = _record()
    _, (made,) = _import(tmp_path, [record])
    texts = {key: repr(value) if key != "text_q" else value for key, value in record.items()}
    texts["id"] = "q0"
    (tmp_path / "again").mkdir()
    _, (again,) = _import(tmp_path / "again", [texts])
    assert again == made


def test_a_model_without_regions_refuses_such_a_prompt(tmp_path):
    _import(tmp_path, [_record()])
    with pytest.raises(
        DatasetError, match=r"record 0 has a prompt about regions, which .* use Spat"
    ):
        read_samples(tmp_path / "out", None)
