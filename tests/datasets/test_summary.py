"""Counts of a dataset, and the rows chosen for its contact sheet."""

import json
from collections import Counter

import pytest

from vsp.datasets.metadata import read_samples
from vsp.datasets.summary import summarize
from vsp.errors import DatasetError

CUP = {"image_filename": "a.png", "subject": "cup", "reference": "hat", "label": "left_of"}


def test_counts_are_those_of_the_records(spatial):
    found = summarize(spatial, 0, 0).as_json()
    records = json.loads((spatial / "metadata.json").read_text())
    counts = Counter((r["relation"], r["split"]) for r in records)
    assert found["labels"] == {
        label: {split: counts[label, split] for split in ("train", "val")}
        for label in ("left_of", "right_of", "above", "below")
    }
    assert (found["rows"], found["images"], found["groups"]) == (96, 96, 96)
    assert found["rows_per_image"] == {"mean": 1.0, "median": 1, "max": 1}
    assert found["missing_images"] == [] and found["rows_sharing_an_image"] == 0
    for style, prompt in found["prompts"].items():
        assert read_samples(spatial, style)[0][0].prompt == prompt
    assert len(found["prompts"]) == 5


def test_rows_on_the_sheet_are_of_all_labels_alike_and_the_seeds_own(spatial):
    def ids(seed):
        return [row.id for row in summarize(spatial, 10, seed).sheet_rows]

    counts = Counter(row.label for row in summarize(spatial, 10, 0).sheet_rows)
    assert sorted(counts.values()) == [2, 2, 3, 3]
    assert ids(0) == ids(0) != ids(1) and len(set(ids(0))) == 10


def test_a_rare_label_is_on_the_sheet_and_others_take_what_it_leaves(write_dataset):
    rows = [{**CUP, "id": str(i), "label": "rare" if i == 50 else "left_of"} for i in range(100)]
    summary = summarize(write_dataset(rows), 8, 0)
    assert Counter(row.label for row in summary.sheet_rows) == {"left_of": 7, "rare": 1}
    assert len(summarize(summary.dataset, 1000, 0).sheet_rows) == 100


def test_any_row_may_come_to_the_sheet(write_dataset):
    folder = write_dataset([{**CUP, "id": str(i)} for i in range(8)])
    first = Counter(summarize(folder, 1, seed).sheet_rows[0].id for seed in range(400))
    assert len(first) == 8 and min(first.values()) > 25


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label": None}, "record 1 has label None; give it a text"),
        ({"split": "dev"}, "record 1 has split 'dev'; use train, val or test"),
        ({"image_filename": ""}, "record 1 has image_filename ''; give it a text"),
    ],
)
def test_a_record_that_cannot_be_used_is_named(write_dataset, change, message):
    folder = write_dataset([CUP])
    (folder / "metadata.json").write_text(json.dumps([CUP, {**CUP, **change}]))
    with pytest.raises(DatasetError, match=message):
        summarize(folder, 3, 0)
