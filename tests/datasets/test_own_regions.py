"""Regions of a record's own prompt: read for SpatialRGPT, changed by variants, drawn on sheets."""

import json

import numpy as np
import pytest
from PIL import Image

from vsp.datasets.apply_variant import VariantRequest, apply_variant
from vsp.datasets.contact_sheet import SheetRow, draw_sheet
from vsp.datasets.metadata import read_samples
from vsp.errors import DatasetError

BOX, MASK = [1, 2, 5, 9], "m.png"


@pytest.fixture
def folder(write_dataset):
    record = {
        "id": "0", "image_filename": "a.png", "label": "yes", "question": "own",
        "prompt": "Is <mask> behind <mask>?", "regions": [BOX, MASK],
    }  # fmt: skip
    folder = write_dataset(
        [record, {**record, "id": "1", "image_filename": "b.png", "label": "no"}]
    )
    (folder / "masks").mkdir()
    mask = np.zeros((12, 12), np.uint8)
    mask[3:6, 0:4] = 255
    Image.fromarray(mask).save(folder / "masks" / MASK)
    return folder


def _change(folder, **changes):
    path = folder / "metadata.json"
    records = json.loads(path.read_text())
    path.write_text(json.dumps([{**records[0], **changes}, *records[1:]]))


@pytest.mark.parametrize("marker", ["<mask>", "<mask> <depth>"])
@pytest.mark.parametrize("written", ["<mask>", "<mask> <depth>"])
def test_each_marker_has_a_region(folder, marker, written):
    (folder / "depth").mkdir()
    prompt = f"Is {written} behind {written}?"
    (folder / "depth/a.png").write_bytes((folder / "images/a.png").read_bytes())
    for _ in range(2):
        _change(folder, prompt=prompt, depth_filename="a.png")
        records = json.loads((folder / "metadata.json").read_text())
        (folder / "metadata.json").write_text(json.dumps(records[::-1]))
    samples, _, style = read_samples(folder, None, marker)
    assert style == "dataset"
    for sample in samples:
        assert sample.prompt == f"Is {marker} behind {marker}?"
        assert sample.regions == (tuple(BOX), str(folder / "masks" / MASK))
        assert bool(sample.depth) == ("depth" in marker)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"regions": [BOX]}, "has 2 <mask> in its prompt and 1 regions; give each <mask> one"),
        ({"regions": []}, r"has regions \[\]; give it a list of boxes or names of masks"),
        ({"regions": "m.png"}, "has regions 'm.png'; give it a list"),
        ({"regions": [BOX, [1, 2]]}, r"has regions \[1, 2\]; give it \[left, top, right, bottom\]"),
        ({"regions": [BOX, "../../etc/passwd"]}, "which is .*, outside the dataset"),
        ({"regions": [BOX, "/etc/passwd"]}, "which is /etc/passwd, outside the dataset"),
        ({"regions": [BOX, "a\0b"]}, "which contains a NUL"),
    ],
)
def test_wrong_regions_are_refused(folder, changes, message):
    (folder.parent / "etc").mkdir()
    (folder.parent / "etc/passwd").write_text("x")
    _change(folder, **changes)
    with pytest.raises(DatasetError, match=message):
        read_samples(folder, None, "<mask>")


def test_a_link_out_of_the_dataset_is_no_mask(folder, tmp_path):
    (tmp_path / "secret.png").write_bytes((folder / "masks" / MASK).read_bytes())
    (folder / "masks/l.png").symlink_to(tmp_path / "secret.png")
    _change(folder, regions=[BOX, "l.png"])
    with pytest.raises(DatasetError, match=r"secret\.png, outside the dataset"):
        read_samples(folder, None, "<mask>")


def test_a_mirrored_dataset_has_mirrored_regions(folder, tmp_path):
    apply_variant(VariantRequest(folder, "mirrored", tmp_path / "mirrored"), 1)
    records = json.loads((tmp_path / "mirrored/metadata.json").read_text())
    assert records[0]["regions"] == [[12 - 5, 2, 12 - 1, 9], "m.png"]
    assert Image.open(tmp_path / "mirrored/masks/m.png").getbbox() == (8, 3, 12, 6)


def test_shuffled_images_lose_their_regions(folder, tmp_path):
    apply_variant(VariantRequest(folder, "shuffled", tmp_path / "shuffled"), 1)
    records = json.loads((tmp_path / "shuffled/metadata.json").read_text())
    assert all("regions" not in record for record in records)


def test_regions_are_drawn_on_the_sheet(folder, tmp_path):
    record = json.loads((folder / "metadata.json").read_text())[0]
    assert draw_sheet(folder, [SheetRow("0", "yes", record)], tmp_path / "with.png").problems == []
    del record["regions"]
    draw_sheet(folder, [SheetRow("0", "yes", record)], tmp_path / "without.png")
    assert (tmp_path / "with.png").read_bytes() != (tmp_path / "without.png").read_bytes()
