import hashlib

import numpy as np
import pytest
from PIL import Image

from vsp.errors import DatasetError
from vsp.images import open_rgb


def test_a_picture_comes_with_the_digest_of_its_file(tmp_path):
    path = tmp_path / "a.png"
    Image.new("RGB", (3, 2), (1, 2, 3)).save(path)
    picture, digest = open_rgb(path)
    assert picture.mode == "RGB" and picture.size == (3, 2)
    assert picture.getpixel((0, 0)) == (1, 2, 3)
    assert digest == hashlib.sha256(path.read_bytes()).hexdigest()


def test_exif_orientation_is_applied(tmp_path):
    pixels = np.zeros((20, 10, 3), np.uint8)
    pixels[:10] = 255  # upper half white
    exif = Image.Exif()
    exif[0x0112] = 3  # turned by 180 degrees
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    turned = np.asarray(open_rgb(tmp_path / "a.png")[0])
    assert turned[-1].min() == 255 and turned[0].max() == 0


@pytest.mark.parametrize("cut", [0, 10, 60, 200])
def test_a_damaged_file_is_named_with_the_reason(tmp_path, cut):
    path = tmp_path / "a b.png"
    pixels = np.random.default_rng(0).integers(0, 256, (30, 30, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(DatasetError, match=r"image '.*a b\.png' cannot be read: .+"):
        open_rgb(path)


def test_a_folder_or_nothing_in_its_place_is_named(tmp_path):
    for path in (tmp_path, tmp_path / "none.png"):
        with pytest.raises(DatasetError, match="cannot be read"):
            open_rgb(path)


def test_a_decompression_bomb_is_refused(tmp_path, monkeypatch):
    Image.new("L", (100, 100)).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(DatasetError, match="decompression bomb"):
        open_rgb(tmp_path / "a.png")
