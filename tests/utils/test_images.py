import hashlib

import numpy as np
import pytest
from PIL import Image

from vsp.errors import DatasetError
from vsp.utils.images import open_region, open_rgb


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


def test_the_reason_names_neither_the_path_again_nor_what_lies_in_memory(tmp_path):
    (tmp_path / "a.jpg").write_text("no picture")
    for name, reason in (
        ("a.jpg", "unknown image format, or an empty file"),
        ("b.jpg", "No such file or directory"),
    ):
        with pytest.raises(DatasetError, match=f"^image '[^']+' cannot be read: {reason}$") as why:
            open_rgb(tmp_path / name)
        assert "object at" not in str(why.value)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK"])
def test_every_common_mode_becomes_rgb(tmp_path, mode):
    path = tmp_path / ("a.tiff" if mode == "CMYK" else "a.png")
    Image.new("RGB", (4, 4), (255, 255, 255)).convert(mode).save(path)
    picture, _ = open_rgb(path)
    assert picture.mode == "RGB" and picture.getpixel((0, 0)) == (255, 255, 255)


def test_sixteen_bits_are_scaled_not_cut(tmp_path):
    values = np.array([[0, 256, 32768, 65535]], np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png")
    assert np.asarray(open_rgb(tmp_path / "a.png")[0])[0, :, 0].tolist() == [0, 1, 128, 255]


def test_a_picture_without_a_fixed_range_is_refused(tmp_path):
    Image.fromarray(np.ones((4, 4), np.float32)).save(tmp_path / "a.tiff")
    with pytest.raises(DatasetError, match="mode F has no fixed range"):
        open_rgb(tmp_path / "a.tiff")


def test_of_an_animation_the_first_frame_is_taken(tmp_path):
    frames = [Image.new("RGB", (4, 4), color) for color in ("red", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert open_rgb(tmp_path / "a.gif")[0].getpixel((0, 0)) == (255, 0, 0)


def test_a_decompression_bomb_is_refused(tmp_path, monkeypatch):
    Image.new("L", (100, 100)).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(DatasetError, match="decompression bomb"):
        open_rgb(tmp_path / "a.png")


def test_a_box_is_the_pixels_that_it_touches():
    mask = open_region((1, 2.5, 3, 4), (5, 6))
    assert mask.shape == (6, 5)
    assert np.argwhere(mask).tolist() == [[2, 1], [2, 2], [3, 1], [3, 2]]


@pytest.mark.parametrize("box", [(0, 0, 6, 3), (-1, 0, 2, 2), (2, 0, 2, 3), (0, 3, 2, 1)])
def test_a_box_that_does_not_lie_in_its_image_is_refused(box):
    with pytest.raises(DatasetError, match=r"does not lie in an image of 5 × 6"):
        open_region(box, (5, 6))


def test_a_mask_is_where_its_picture_is_not_black(tmp_path):
    pixels = np.zeros((6, 5), np.uint8)
    pixels[4, 1:3] = 1
    Image.fromarray(pixels).save(tmp_path / "m.png")
    assert (open_region(str(tmp_path / "m.png"), (5, 6)) == (pixels > 0)).all()
    with pytest.raises(DatasetError, match="has 5 × 6 pixels, its image 6 × 5"):
        open_region(str(tmp_path / "m.png"), (6, 5))
