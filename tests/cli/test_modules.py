"""The command line with states of the vision tower and the projector, on the small model."""

import json

import numpy as np

from vsp.choices import STORED_POSITIONS, position_words


def test_a_curve_begins_where_the_picture_does(vsp, spatial):
    plan = ["plan", "--model", "small", "--dataset", str(spatial), "--run", "m", "--limit", "40"]
    assert vsp(*plan, "--modules", "vision,tower").returncode == 2
    planned = vsp(*plan, "--positions", "image", "--modules", "projector,vision", "--shards", "1")
    assert planned.returncode == 0, planned.stderr
    assert "[4, 128, 128] for each of: vision-image" in planned.stdout
    assert "[1, 128, 128] for each of: projector-image" in planned.stdout
    assert vsp("extract", "--run", "m").returncode == 0
    tower = np.load("scratch/m/states-vision-image.npy")[:, :40]
    projected = np.load("scratch/m/states-projector-image.npy")[:, :40]
    assert np.isfinite(tower).all() and (np.ptp(tower, axis=1).max(axis=1) > 0).all()
    # At the image, the decoder's layer 0 is the projector's output.
    assert (projected[0] == np.load("scratch/m/states-image.npy")[0, :40]).all()
    quick = [
        "--grid",
        "0.01",
        "1",
        "--permutations",
        "0",
        "--controls",
        "0",
        "--no-curve",
        "--no-random",
        "--no-words",
    ]
    for position in ("vision-image", "projector-image"):
        probed = vsp("probe", "--run", "m", "--position", position, "--n-jobs", "1", *quick)
        assert probed.returncode == 0, probed.stderr
    shown = vsp("report", "--run", "m", "--position", "vision-image")
    assert "vision tower, mean over the image" in shown.stdout
    compared = vsp("compare", "m", "--positions", "projector-image,vision-image", "--json")
    assert compared.returncode == 0, compared.stderr
    assert len(json.loads(compared.stdout)[0]["layers"]) == 1
    refused = vsp("probe", "--run", "m", "--position", "vision-subject-box")
    assert "it has last, image, vision-image, projector-image" in refused.stderr


def test_every_position_has_words():
    words = [position_words(position) for position in STORED_POSITIONS]
    assert len(set(words)) == len(words) and not set(words) & set(STORED_POSITIONS)


def test_a_family_without_positions_of_its_tower_refuses_them_at_the_plan(vsp, spatial, tmp_path):
    from helpers.tiny_vlms import write_llava_next

    folder = write_llava_next(tmp_path / "next")
    plan = ["plan", "--model", "auto", "--checkpoint", str(folder), "--dataset", str(spatial)]
    refused = vsp(*plan, "--modules", "vision")
    assert refused.returncode == 1 and refused.stderr.count("\n") <= 2
    assert "not recorded for model type 'llava_next'" in refused.stderr
