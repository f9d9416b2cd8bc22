"""COMFORT: each frame's label follows from where the camera, the addressee and the front are."""

import json
import math
import re

import pytest
from PIL import Image

from vsp.datasets.importers.import_request import ImportRequest
from vsp.datasets.importers.pipeline import import_dataset
from vsp.errors import ConfigError, DatasetError

START = {
    "behind": 180,
    "infrontof": 0,
    "totheleft": 90,
    "totheright": 270,
}  # of its path, in degrees


def _scenes(root, dataset="comfort_car_ref_facing_left", step=30, **changes):
    for relation in START:
        folder = root / dataset / relation / "default"
        folder.mkdir(parents=True)
        angles = range(-180, 181, step)
        config = {
            "variation": "default", "relation": relation, "path_type": "rotate",
            "ref_shape": "HorseL", "ref_color": "unknown", "var_shape": "Basketball",
            "var_color": "unknown", "addressee": True, "addressee_shape": "Sophia",
            "mapping": {f"{i}.png": angle for i, angle in enumerate(angles)},
        }  # fmt: skip
        (folder / "config.json").write_text(json.dumps({**config, **changes}))
        for i, angle in enumerate(angles):
            color = (angle % 256, START[relation] % 256, i)
            Image.new("RGB", (8, 8), color).save(folder / f"{i}.png")
        Image.new("RGB", (16, 16)).save(folder / "composite_image.png")
    return root


def _import(root, **options):
    out = root.parent / "out"
    request = ImportRequest("comfort", [str(root)], out, options=options)
    imported = import_dataset(request, root.parent)
    return imported, json.loads((out / "metadata.json").read_text())


# The world's axes as the benchmark's generator has them: the camera is on +x and looks at the origin,
# the addressee is on -y and looks at it; seen from the camera, +y is right.
AXES = {
    "camera": {"in_front_of": (1, 0), "behind": (-1, 0), "right_of": (0, 1), "left_of": (0, -1)},
    "addressee": {"in_front_of": (0, -1), "behind": (0, 1), "right_of": (1, 0), "left_of": (-1, 0)},
    # The reference faces left in the picture, to -y: its own left is towards the camera.
    "reference": {"in_front_of": (0, -1), "behind": (0, 1), "left_of": (1, 0), "right_of": (-1, 0)},
}


@pytest.mark.parametrize("frame", AXES)
def test_the_label_is_the_nearest_axis_of_the_frame(tmp_path, frame):
    _, records = _import(_scenes(tmp_path / "comfort"), frame=frame)
    assert len(records) == 4 * 13
    for record in records:
        _, _, relation, _, picture = record["image_filename"].split("/")
        # The generator's path: step i of 13 over 360 degrees, from the relation's start.
        angle = math.radians(START[relation] + 30 * int(picture.removesuffix(".png")))
        x, y = math.cos(angle), math.sin(angle)
        nearest = max(
            AXES[frame], key=lambda label: x * AXES[frame][label][0] + y * AXES[frame][label][1]
        )
        assert record["label"] == nearest, record
    prompts = {record.get("prompt", "")[:40] for record in records}
    viewer = {"camera": "", "addressee": "From the viewpoint of the woman, where is"}
    start = viewer.get(frame, "From the viewpoint of the horse, where is")
    assert prompts == {start[:40]}
    assert {(r["subject"], r["reference"]) for r in records} == {("basketball", "horse")}
    assert {r["group"] for r in records} == {"comfort_car_ref_facing_left/default"}


def test_angles_are_numbers_and_a_horse_that_faces_right_turns_them(tmp_path):
    root = _scenes(tmp_path / "comfort", "comfort_car_ref_facing_right", step=45)
    _, records = _import(root, frame="reference", label="angle")
    # The camera's left is the direction that a horse facing right has behind it.
    angles = {r["image_filename"].split("/", 2)[2]: r["label"] for r in records}
    assert angles["totheleft/default/4.png"] == "180"
    assert angles["infrontof/default/4.png"] == "270"  # away from the camera: its own left
    assert angles["behind/default/4.png"] == "90"
    assert angles["totheright/default/5.png"] == "315"
    assert len(set(angles.values())) == 8


def test_pictures_between_two_labels_are_dropped_and_counted(tmp_path):
    imported, records = _import(_scenes(tmp_path / "comfort", step=45))
    assert len(records) == 4 * 5
    (part,) = imported.funnel["parts"].values()
    assert {s["why"]: s["rows"] for s in part["dropped"] if s["rows"]} == {"between-labels": 16}
    card = json.loads((tmp_path / "out/dataset.json").read_text())
    files = [one["file"] for one in card["annotations"]]
    assert files[0] == "comfort_car_ref_facing_left/behind/default/config.json" and len(files) == 4


@pytest.mark.parametrize(
    ("changes", "options", "message"),
    [
        ({"relation": "above"}, {}, "the relation is 'above'; scenes with behind, infrontof"),
        ({"path_type": "translate"}, {}, "only scenes that rotate are read"),
        ({"angle_range": [1]}, {}, r"angle_range is \[1\]; write \[first, last\]"),
        ({"mapping": []}, {}, r"mapping is a list, not a mapping"),
        ({"mapping": {"../../x.png": 0}}, {}, "has no name like 0.png; correct the mapping"),
        ({"mapping": {"0.png": "x"}}, {}, "angle is 'x', not a finite number"),
        ({"addressee": False}, {"frame": "addressee"}, "has no addressee; use another"),
    ],
)
def test_other_scenes_are_refused(tmp_path, changes, options, message):
    with pytest.raises(DatasetError) as caught:
        _import(_scenes(tmp_path / "comfort", **changes), **options)
    assert re.search(message, "\n".join((str(caught.value), *caught.value.details)))


def test_the_front_of_the_reference_must_be_known(tmp_path):
    root = _scenes(tmp_path / "comfort", "comfort_ball")
    with pytest.raises(DatasetError) as caught:
        _import(root, frame="reference")
    assert "does not say where the reference faces; use --option" in caught.value.details[0]
    with pytest.raises(
        ConfigError, match="option frame=north is not known; use one of camera, add"
    ):
        _import(root, frame="north")


def test_two_folders_with_equal_names_are_refused(tmp_path):
    roots = [str(_scenes(tmp_path / name)) for name in "ab"]
    with pytest.raises(ConfigError, match="give the folder above them to --annotations"):
        import_dataset(ImportRequest("comfort", roots, tmp_path / "out"), tmp_path)
