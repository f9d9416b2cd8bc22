"""Rows about images that are copies of each other, from the plan to the scores of a probe."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from vsp import models
from vsp.datasets.apply_variant import VariantRequest, apply_variant
from vsp.errors import DatasetError
from vsp.evaluation.probe_run import probe_run
from vsp.evaluation.probe_settings import ProbeSettings
from vsp.extraction.extract import extract
from vsp.extraction.plan import PlanRequest, plan_run
from vsp.reporting.probe_report import equal_states_lines

SETTINGS = ProbeSettings(
    permutations=0, controls=0, curve=False, random=False, repeats=1, strengths=(0.01, 1.0)
)


@pytest.fixture
def write_world(tmp_path):
    """Noise pictures, twice each under two names, with random labels."""

    def write(name, copy=lambda picture: picture, splits=None, n=90):
        folder, rng = tmp_path / name, np.random.default_rng(0)
        (folder / "images").mkdir(parents=True)
        records = []
        for i in range(n):
            picture = Image.fromarray(rng.integers(0, 256, (64, 64, 3), np.uint8))
            label = "ab"[rng.integers(2)]
            for place, shown in enumerate((picture, copy(picture))):
                file = f"{i}{'xy'[place]}.png"
                shown.save(folder / "images" / file)
                record = {"id": file, "image_filename": file, "label": label, "prompt": "?"}
                records.append(record | ({"split": splits[place]} if splits else {}))
        (folder / "metadata.json").write_text(json.dumps(records))
        return folder

    return write


def _half(picture):
    return picture.resize((48, 48), Image.Resampling.BICUBIC)


def _plan(folder, work, **changes):
    return plan_run(PlanRequest(folder, models.resolve("fake"), **changes), work)


def _groups(run):
    return [sample.group for sample in run.manifest.rows()]


def _accuracy_of_pixels(run):
    """The share of rows whose label is that of the nearest picture in other groups; the summary of a
    probe is returned too.

    Pictures are compared in 8 × 8 cells.
    """
    samples = list(run.manifest.rows())
    group, label = (np.array([getattr(s, name) for s in samples]) for name in ("group", "label"))
    cells = [Image.open(s.image).resize((8, 8), Image.Resampling.BILINEAR) for s in samples]
    pixels = np.stack([np.asarray(cell, float).ravel() for cell in cells])
    distance = ((pixels[:, None] - pixels) ** 2).sum(axis=2)
    distance[group[:, None] == group] = np.inf
    return float((label[distance.argmin(axis=1)] == label).mean())


@pytest.mark.parametrize(
    ("name", "copy", "kind"),
    [("equal", lambda picture: picture, "equal files 90"), ("resized", _half, "near copies 90")],
)
def test_copies_are_one_group_so_that_pictures_do_not_tell_random_labels(
    write_world, work, name, copy, kind
):
    folder = write_world(name, copy)
    planned = _plan(folder, work)
    groups = _groups(planned.run)
    assert groups[::2] == groups[1::2] and len(set(groups)) == 90
    assert planned.notes[0] == (
        f"90 images are copies of other images ({kind}; for example 0x.png and 0y.png); their rows "
        "are in one group"
    )
    assert 0.35 < _accuracy_of_pixels(planned.run) < 0.65
    kept = _plan(folder, work, keep_copies=True)
    assert _groups(kept.run) == [
        sample.image.rpartition("/")[2] for sample in kept.run.manifest.rows()
    ]
    assert "--keep-copies leaves their rows in the groups of the dataset" in kept.notes[0]
    assert _accuracy_of_pixels(kept.run) > 0.95


def test_copies_in_several_splits_are_refused_unless_they_are_kept(write_world, work):
    folder = write_world("own", splits=("train", "test"), n=25)
    with pytest.raises(DatasetError) as error:
        _plan(folder, work)
    message = str(error.value)
    assert message.startswith(
        "25 pictures are in several splits under different names, for example 0x.png (train) and "
        "0y.png (test), so test rows leak into training; "
    )
    assert "--keep-copies" in message and "\n" not in message
    assert len(error.value.details) == 21 and error.value.details[-1] == "… and 5 more"
    (note, *_) = _plan(folder, work, keep_copies=True).notes
    assert "25 pictures are in several splits under different names" in note


def test_groups_of_the_dataset_are_joined_and_never_split(write_world, work):
    folder = write_world("grouped", n=20)
    records = json.loads((folder / "metadata.json").read_text())
    for i, record in enumerate(records):
        record["group"] = (
            f"g{(i + 1) // 2 % 20}"  # a picture's copy is in the group of the next one
        )
    (folder / "metadata.json").write_text(json.dumps(records))
    assert set(_groups(_plan(folder, work).run)) == {"g0"}


def test_a_control_without_pictures_keeps_the_groups_of_its_original(spatial, work):
    apply_variant(VariantRequest(spatial, "blank", work / "blank"), 1)
    planned = _plan(work / "blank", work)
    assert not [note for note in planned.notes if "copies" in note]
    assert len(set(_groups(planned.run))) == 96
    # The same control with a file for each row.
    records = json.loads((work / "blank/metadata.json").read_text())
    for i, record in enumerate(records):
        shutil.copy(
            work / "blank/images" / record["image_filename"], work / f"blank/images/{i}.png"
        )
        record["image_filename"] = f"{i}.png"
    (work / "blank/metadata.json").write_text(json.dumps(records))
    planned = _plan(work / "blank", work)
    assert planned.notes[0] == (
        "all 96 images show the same picture, as in a control; rows keep the groups of the dataset"
    )
    assert len(set(_groups(planned.run))) == 96


def _probed(folder, work, **changes):
    run = _plan(folder, work, **changes).run
    extract(run, run.shards)
    return probe_run(run, SETTINGS, 1).summary()


def test_a_probe_warns_of_test_rows_with_the_states_of_training_rows(write_world, work):
    folder = write_world("probed", splits=("train", "test"), n=30)
    summary = _probed(folder, work, keep_copies=True)
    assert summary["equal_states"] == summary["rows"]["test"] == 30
    (line,) = equal_states_lines(summary)
    assert line.startswith("30 of 30 test rows have the same states and label as a training row")


def test_a_probe_does_not_warn_of_harmless_equal_states(write_world, spatial, work):
    joined = _probed(write_world("joined", n=20), work)
    assert joined["equal_states"] == 0 and equal_states_lines(joined) == []
    apply_variant(VariantRequest(spatial, "blank", work / "blank"), 1)
    assert _probed(work / "blank", work)["equal_states"] == 0
