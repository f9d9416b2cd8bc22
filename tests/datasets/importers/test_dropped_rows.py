"""`dropped.csv` lists every row that an import drops."""

import csv
import json
import shutil
import subprocess
import sys
from collections import Counter
from io import BytesIO
from itertools import islice

import pytest
from helpers.paths import ROOT
from helpers.real import real
from PIL import Image

from vsp.datasets.importers.annotations import Relation, Thing
from vsp.datasets.importers.dropped_rows import DroppedRows
from vsp.datasets.importers.import_request import ImportRequest
from vsp.datasets.importers.pipeline import import_dataset
from vsp.datasets.relations import read_relations
from vsp.errors import ConfigError, DatasetError

FLAT = "image,subject,object,relation\n"


def _import(folder, text, name="out", **options):
    (folder / "own.csv").write_text(text)
    request = ImportRequest("csv", [str(folder / "own.csv")], folder / name, **options)
    return import_dataset(request, ROOT)


def _dropped(imported):
    with (imported.folder / "dropped.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _photos(folder, *names):
    (folder / "photos").mkdir()
    for name in names:
        Image.new("RGB", (20, 20)).save(folder / "photos" / name)
    return [folder / "photos"]


def test_every_dropped_row_is_listed_with_file_line_id_and_reason(tmp_path):
    photos = _photos(tmp_path, "a.jpg")
    (photos[0] / "b.jpg").write_bytes(b"no picture")
    text = FLAT + (
        "a.jpg,cup,hat,left of\na.jpg,cup,hat,on\na.jpg,cup,cup,above\nb.jpg,cup,hat,above\n"
        "c.jpg,cup,hat,below\na.jpg,cup,hat,left of\n"
    )
    imported = _import(tmp_path, text, images=photos, check=True)
    rows = _dropped(imported)
    assert [(r["place"], r["id"], r["reason"]) for r in rows] == [
        ("line 3", "a.jpg/1", "other-relation"),
        ("line 4", "a.jpg/2", "equal-names"),
        ("line 7", "a.jpg/3", "duplicate"),
        ("line 5", "b.jpg/0", "unreadable-image"),
        ("line 6", "c.jpg/0", "missing-image"),
    ]
    assert {r["file"] for r in rows} == {str(tmp_path / "own.csv")}
    assert "b.jpg' cannot be read: unknown image format" in rows[3]["explanation"]
    assert [r["label"] for r in rows] == ["", "above", "left_of", "above", "below"]
    assert imported.dropped_line() == [
        f"{tmp_path}/out/dropped.csv lists 5 dropped rows: file, place, id and reason"
    ]


@pytest.fixture(scope="module")
def some_of_vrd(tmp_path_factory):
    """Files of 500 images of VRD, and their number of rows."""
    folder, n_rows, files = tmp_path_factory.mktemp("vrd"), 0, []
    for name in ("objects", "predicates"):
        shutil.copy(real(f"vrd/{name}.json"), folder)
    for split, n_images in (("train", 400), ("test", 100)):
        images = json.loads(real(f"vrd/annotations_{split}.json").read_text())
        some = dict(islice(images.items(), n_images))
        n_rows += sum(map(len, some.values()))
        files.append(folder / f"annotations_{split}.json")
        files[-1].write_text(json.dumps(some))
    return list(map(str, files)), n_rows


@pytest.mark.parametrize("options", [{"balance": True}, {"resplit": True}, {}])
def test_the_list_has_the_rows_that_the_funnel_counts(tmp_path, some_of_vrd, options):
    files, n_rows = some_of_vrd
    imported = import_dataset(ImportRequest("vrd", files, tmp_path / "out", **options), ROOT)
    listed = Counter(row["reason"] for row in _dropped(imported))
    counted = Counter()
    for part in imported.funnel["parts"].values():
        counted.update({one["why"]: one["rows"] for one in part["dropped"] if one["rows"]})
    assert listed == counted and listed.total() + imported.n_rows == n_rows > 3000


def test_rows_of_images_in_a_later_split_are_listed_too(tmp_path):
    text = FLAT.replace("\n", ",split\n") + (
        "a.jpg,cup,hat,left of,train\nb.jpg,cup,hat,above,train\na.jpg,cup,cat,below,test\n"
    )
    (row,) = _dropped(_import(tmp_path, text, drop=["shared-image"]))
    assert (row["place"], row["id"], row["reason"]) == (
        "line 2", "train/a.jpg/0", "shared-image"
    )  # fmt: skip


@pytest.mark.parametrize("start", ["=", "+", "-", "@"])
def test_no_cell_of_the_list_or_of_the_table_is_run_by_a_spreadsheet(tmp_path, start):
    text = FLAT.replace("\n", ",id\n") + (
        f"{start}1.jpg,cup,hat,on,{start}cmd|' /C calc'!A0\n2.jpg,{start}SUM(A1),hat,above,2\n"
    )
    imported = _import(tmp_path, text, table=tmp_path / "flat.csv")
    (row,) = _dropped(imported)
    assert row["id"].startswith(f"'{start}cmd") and row["image"] == f"'{start}1.jpg"
    with (tmp_path / "flat.csv").open(newline="") as file:
        (flat,) = csv.DictReader(file)
    assert flat["subj"] == f"'{start}SUM(A1)"


def test_a_misspelt_relation_is_reported_with_its_lines_and_the_nearest_word(tmp_path):
    text = FLAT + "".join(f"{i}.jpg,cup,hat,left of\n{i}.jpg,cat,hat,right off\n" for i in range(7))
    imported = _import(tmp_path, text)
    (note,) = (note for note in imported.notes if "right off" in note)
    assert note == (
        "relation 'right off' of 7 rows is not in the relations 6way (own.csv line 3, own.csv line 5, "
        "own.csv line 7, own.csv line 9, own.csv line 11 and 2 more): write 'right of', or map it with "
        "--relations FILE.yaml"
    )
    assert "write 'right of', or map it" in _dropped(imported)[0]["explanation"]


def test_where_no_row_is_left_the_first_dropped_rows_are_in_the_error(tmp_path):
    with pytest.raises(DatasetError, match="no row is left") as caught:
        _import(tmp_path, FLAT + "a.jpg,cup,hat,right off\n")
    assert caught.value.details[-1] == (
        f"{tmp_path}/own.csv: line 2, image 'a.jpg': relation 'right off' is not in the relations "
        "6way; write 'right of', or map it with --relations"
    )
    assert not (tmp_path / "out").exists()


def test_rows_of_a_label_are_dropped_counted_and_listed(tmp_path):
    text = FLAT + "a.jpg,cup,hat,left of\nb.jpg,cup,hat,above\nc.jpg,cup,hat,behind\n"
    imported = _import(tmp_path, text, drop_labels=["above", "behind"])
    (part,) = imported.funnel["parts"].values()
    assert next(one for one in part["dropped"] if one["why"] == "dropped-label") == {
        "why": "dropped-label", "rows": 2, "labels": {"above": 1, "behind": 1},
    }  # fmt: skip
    assert [row["reason"] for row in _dropped(imported)] == ["dropped-label"] * 2
    with pytest.raises(DatasetError, match="holds another dataset"):
        _import(tmp_path, text, drop_labels=["above"])
    with pytest.raises(ConfigError, match="--drop-label abov: no row has this label; the labels"):
        _import(tmp_path, text, "other", drop_labels=["abov"])


def test_a_label_with_one_group_is_in_the_notes_of_an_import(tmp_path):
    rows = "".join(f"{i}.jpg,cup,hat,{w}\n" for i in range(10) for w in [("above", "below")[i % 2]])
    notes = _import(tmp_path, FLAT + rows + "x.jpg,cup,hat,left of\n").notes
    assert any("label 'left_of' has 1 row in 1 group" in note for note in notes)
    assert any("--drop-label left_of" in note for note in notes)


@pytest.mark.parametrize("options", [{"resplit": True}, {"resplit": True, "test_fraction": 0.5}])
def test_ids_name_no_split_after_new_splits(tmp_path, options):
    rows = "".join(
        f"{i}.jpg,cup,{other},{('above', 'below')[i % 2]},{split}\n"
        for i in range(20)
        for split, other in (("train", "hat"), ("test", "cat"))
    )
    text = FLAT.replace("\n", ",split\n") + rows
    imported = _import(tmp_path, text, **options)
    records = json.loads((imported.folder / "metadata.json").read_text())
    ids = [record["id"] for record in records]
    assert sorted(ids) == sorted(f"{i}.jpg/{k}" for i in range(20) for k in (0, 1))
    kept = _import(tmp_path, text, "kept", keep=["ambiguous-name"], drop=["shared-image"])
    for record in json.loads((kept.folder / "metadata.json").read_text()):
        assert "split" in record or not record["id"].startswith("train/")


def test_an_image_in_two_splits_is_counted_once_in_the_notes(tmp_path):
    text = FLAT.replace("\n", ",split\n") + "".join(
        f"{i}.jpg,cup,{other},above,{split}\n"
        for i in range(3)
        for split, other in (("train", "hat"), ("test", "cat"))
    )
    photos = _photos(tmp_path, "0.jpg", "1.jpg")
    notes = _import(tmp_path, text, images=photos, check=True, resplit=True).notes
    assert "1 image in no image folder, first: 2.jpg" in notes
    assert "opened 2 images with labelled rows" in notes


def test_the_progress_counts_the_rows_that_it_names(tmp_path, capsys):
    text = FLAT + "".join(f"{i % 9}.jpg,cup,hat {i},above\n" for i in range(17))
    _import(tmp_path, text)
    assert "import: 17 rows in" in capsys.readouterr().err


def test_an_empty_image_folder_is_refused_in_one_line(tmp_path):
    (tmp_path / "photos").mkdir()
    with pytest.raises(ConfigError, match="photos: is empty; give the folders with the images"):
        _import(tmp_path, FLAT + "a.jpg,cup,hat,above\n", images=[tmp_path / "photos"])


_MANY = """
import sys
from vsp.datasets.importers.annotations import Relation, Thing
from vsp.datasets.importers.dropped_rows import dropped_rows
from vsp.datasets.relations import read_relations
from pathlib import Path
from vsp.utils.peak_memory import PeakMemory
memory = PeakMemory()
with dropped_rows(Path(sys.argv[1]), read_relations("6way", Path(sys.argv[2]))) as dropped:
    for i in range(100_000):
        dropped.add_unmapped(
            Relation(Thing("a"), "right off", Thing("b"), file="own.csv", where=f"line {i}"),
            f"{i}.jpg/0", f"{i}.jpg",
        )
print(memory.bytes() / 1e6, dropped.notes()[0])
"""


def test_many_dropped_rows_take_little_memory(tmp_path):
    answer = subprocess.run(
        [sys.executable, "-c", _MANY, tmp_path, ROOT], capture_output=True, text=True
    )
    assert answer.returncode == 0, answer.stderr
    megabytes, note = answer.stdout.split(maxsplit=1)
    assert float(megabytes) < 6 and "of 100,000 rows" in note
    assert len((tmp_path / "dropped.csv").read_text().splitlines()) == 100_001


def test_relations_that_may_be_misspelt_are_listed_up_to_a_limit():
    words = ["left off", "rigth of", "abvoe", "belwo", "behnid", "aboe", "belo", "behin", "lef of",
             "righ of", "abov", "bhind"]  # fmt: skip
    file = BytesIO()
    dropped = DroppedRows(file, read_relations("6way-exact", ROOT))
    for word in words:
        dropped.add_unmapped(Relation(Thing("a"), word, Thing("b")), "i", "a.jpg")
    notes = dropped.notes()
    assert len(notes) == 11
    assert notes[-1] == "2 relations more that may be misspelt; see dropped.csv"
