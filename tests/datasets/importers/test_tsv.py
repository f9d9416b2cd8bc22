"""VLMEvalKit's tables: pictures in base64 or in other rows, letters, and invalid rows."""

import base64
import csv
import io
import json
import subprocess
import sys

import numpy as np
import pytest
from helpers.paths import ROOT
from PIL import Image

from vsp.datasets import IMPORTERS
from vsp.datasets.importers.import_request import ImportRequest
from vsp.datasets.importers.pipeline import import_dataset
from vsp.errors import DatasetError

IMPORTER = IMPORTERS.load("tsv")
HEADER = ("index", "image", "question", "hint", "A", "B", "C", "answer", "category", "split")


def _png(seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (9, 9, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="PNG")
    return base64.b64encode(file.getvalue()).decode()


def _table(path, *rows, header=HEADER):
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter="\t", lineterminator="\n")
    writer.writerows([header, *rows])
    path.write_text(text.getvalue())
    return path


def _read(*paths, **options):
    return list(IMPORTER.read([("", path) for path in paths], options))


def test_a_table_is_read_with_its_pictures_hints_and_letters(tmp_path):
    path = _table(
        tmp_path / "own.tsv",
        (0, _png(0), "Where\nis it?", "", "left", "right", "", "B", "relation", "dev"),
        (1, _png(1), "Who?", "Look.", "he", "she", "we", "A", "person", "test"),
        (2, "0", "And now?", "", "left", "right", "", "A", "relation", "dev"),
        (10, _png(0), "What?", "", "cup", "", "hat", "C", "thing", "dev"),
    )
    imported = import_dataset(ImportRequest("tsv", [str(path)], tmp_path / "out"), ROOT)
    records = json.loads((tmp_path / "out/metadata.json").read_text())
    assert [(r["id"], r["label"], r["options"], r["split"]) for r in records] == [
        ("0", "right", ["left", "right"], "val"), ("2", "left", ["left", "right"], "val"),
        ("10", "hat", ["cup", "hat"], "val"), ("1", "he", ["he", "she", "we"], "test"),
    ]  # fmt: skip
    assert records[0]["image_filename"] == records[1]["image_filename"]
    assert records[3]["prompt"].startswith("Look.\nWho?\nOptions:\nhe\nshe\nwe\n")
    assert len(list((tmp_path / "out/images/embedded").iterdir())) == 2
    assert any("wrote 2 pictures of the annotations" in note for note in imported.notes)


def test_columns_that_are_not_read_are_named(tmp_path, caplog):
    caplog.set_level("INFO")
    path = _table(tmp_path / "own.tsv", (0, "a.jpg", "?", "", "x", "y", "", "A", "c", ""))
    list(IMPORTER.read_embedded([("", path)], {}))
    assert caplog.messages == [f"{path}: columns that are not read: category"]


def test_a_reference_may_stand_before_the_row_that_has_the_picture(tmp_path):
    rows = [(i, "7" if i < 7 else _png(i), "?", "", "x", "y", "", "A", "", "") for i in range(9)]
    seven, eight = _read(_table(tmp_path / "own.tsv", *rows))
    assert [r.id for r in seven.relations] == [str(i) for i in range(8)]
    assert [r.id for r in eight.relations] == ["8"] and eight.image != seven.image


@pytest.mark.parametrize("cell", ["['a.jpg', \"b's.jpg\"]", '["a.jpg", "b.jpg"]'])
def test_a_row_with_several_paths_is_unusable_and_a_list_of_one_is_a_path(tmp_path, cell):
    header = ("index", "image_path", "question", "answer", "A", "B")
    rows = [(0, cell, "?", "A", "x", "y"), (1, "['a.jpg']", "??", "B", "x", "y")]
    (picture,) = _read(_table(tmp_path / "own.tsv", *rows, header=header))
    assert picture.image == "a.jpg"
    assert [r.unusable for r in picture.relations] == ["several-images", ""]


def test_a_table_without_option_columns_has_open_questions(tmp_path):
    header = ("index", "image_path", "question", "answer")
    rows = [(0, "a.jpg", "Is it left?", "Yes"), (1, "a.jpg", "Is it right?", "")]
    (picture,) = _read(_table(tmp_path / "own.tsv", *rows, header=header))
    assert [(r.prompt, r.predicate) for r in picture.relations] == [
        ("Is it left?", "Yes"), ("Is it right?", ""),
    ]  # fmt: skip
    assert not any(r.options for r in picture.relations)


def test_an_answer_is_a_letter_even_if_it_is_the_text_of_another_option(tmp_path):
    rows = [(0, "a.jpg", "Which?", "", "B", "A", "C", "B", "", "")]
    (picture,) = _read(_table(tmp_path / "own.tsv", *rows))
    assert picture.relations[0].predicate == "A"


def test_indices_of_several_tables_are_different_ids(tmp_path):
    row = (0, "a.jpg", "?", "", "x", "y", "", "A", "", "")
    paths = [_table(tmp_path / f"{name}.tsv", row) for name in ("one", "two")]
    (picture,) = _read(*paths)
    assert [r.id for r in picture.relations] == ["one/0", "two/0"]


@pytest.mark.parametrize(
    ("row", "what"),
    [
        ((3, "9", "?", "", "x", "y", "", "A", "", ""),
         "line 2 has no image, and no other row has the one that it names"),
        ((3, "", "?", "", "x", "y", "", "A", "", ""), "line 2 has no image, and no other row"),
        ((3, "a.jpg", "", "", "x", "y", "", "A", "", ""), "line 2 has no question; write a text"),
        ((3, "a.jpg", "?", "", "x", "y", "", "A", "", "dance"), "line 2 has the split 'dance'"),
        ((3, "a.jpg", "?", "", "x", "y", "", "A", ""), "line 2 has 9 cells, the header 10"),
        ((3, _png(0)[:-20] + "!" * 20, "?", "", "x", "y", "", "A", "", ""),
         "line 2 has an image that is not base64"),
        ((3, "data:image/png;base64," + "A" * 100, "?", "", "x", "y", "", "A", "", ""),
         "line 2 has an image in an unknown format"),
        ((3, "a.jpg", "q" * 200_000, "", "x", "y", "", "A", "", ""),
         "line 2 has a question of 200,000 characters"),
    ],
)  # fmt: skip
def test_an_invalid_row_is_refused_with_its_line(tmp_path, row, what):
    path = _table(tmp_path / "own.tsv", row)
    with pytest.raises(DatasetError) as caught:
        _read(path)
    assert str(caught.value).startswith(f"{path}: {what}")


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("a,b\n1,2\n", "has no column 'index' and no 'question' and no 'answer' and no 'image'"),
        ("index\timage\timage\tquestion\tanswer\n", "has two columns 'image'; keep one of them"),
        ("index\timage\tquestion\tanswer\n", "contains a header and no rows"),
        ("", "has no column 'index'"),
    ],
)
def test_a_file_that_is_no_such_table_is_refused(tmp_path, text, what):
    path = tmp_path / "own.tsv"
    path.write_text(text)
    with pytest.raises(DatasetError) as caught:
        _read(path)
    assert str(caught.value).startswith(f"{path}: {what}")


_MANY = """
import sys
from pathlib import Path
from vsp.datasets import IMPORTERS
from vsp.utils.peak_memory import PeakMemory
read = IMPORTERS.load("tsv").read
list(read([("", Path(sys.argv[1]))], {}))
memory = PeakMemory()
n = sum(len(picture.relations) for picture in read([("", Path(sys.argv[2]))], {}))
print(n, memory.bytes() / 1e6)
"""


def test_many_rows_take_little_memory(tmp_path):
    def rows(n):
        for i in range(n):
            yield (i, f"{i % (n // 3)}.jpg", f"Where is {i}?", "", "x", "y", "", "A", "", "")

    few, many = (
        _table(tmp_path / "few.tsv", *rows(300)),
        _table(tmp_path / "many.tsv", *rows(20_000)),
    )
    answer = subprocess.run(
        [sys.executable, "-c", _MANY, few, many], capture_output=True, text=True, cwd=ROOT
    )
    assert answer.returncode == 0, answer.stderr
    n, megabytes = answer.stdout.split()
    assert int(n) == 20_000 and float(megabytes) < 25, megabytes
