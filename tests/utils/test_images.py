import hashlib
import os
import struct
import subprocess
import sys
import time
import zlib
from io import BytesIO

import numpy as np
import pytest
from PIL import Image, ImageOps

from vsp.errors import DatasetError
from vsp.utils.images import open_region, open_rgb, upright_size


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


@pytest.mark.parametrize("suffix", ["jpg", "tiff", "png", "webp"])
@pytest.mark.parametrize("orientation", range(10))
def test_every_orientation_in_every_format_is_that_of_pillow(tmp_path, suffix, orientation):
    path, exif = tmp_path / f"a.{suffix}", Image.Exif()
    exif[0x112] = orientation
    _noise(12, 8).save(path, exif=exif)
    with Image.open(path) as image:
        expected = ImageOps.exif_transpose(image).convert("RGB")
    assert open_rgb(path)[0].tobytes() == expected.tobytes()
    assert upright_size(path) == expected.size


def _exif(*entries):
    """EXIF data of (tag, type, count, four bytes of the value)."""
    body = b"".join(struct.pack(">HHI", *entry[:3]) + entry[3] for entry in entries)
    return b"Exif\0\0MM\0*\0\0\0\x08" + struct.pack(">H", len(entries)) + body + bytes(44)


_TURN = (0x112, 3, 1, b"\0\6\0\0")


@pytest.mark.parametrize(
    ("exif", "turned"),
    [
        (_exif(_TURN, (0x10E, 5, 1, b"\0\0\0\x26")), True),  # a description that is a fraction
        (_exif(_TURN, (0x11A, 2, 1, b"x\0\0\0")), True),  # a resolution that is text
        (_exif(_TURN, (0x201, 8, 1, b"\xff\xff\0\0")), True),  # a negative offset
        (_exif(_TURN, (0x8769, 2, 4, b"abc\0")), True),  # a folder of values that is text
        (_exif((0x112, 5, 1, b"\0\0\0\0")), False),
        (_exif((0x112, 2, 2, b"6\0\0\0")), False),
        (b"Exif\0\0XX\0*", False),
        (b"Exif\0\0", False),
    ],
)
def test_odd_exif_values_keep_no_picture_from_being_read(tmp_path, exif, turned):
    path = tmp_path / "a.jpg"
    _noise(12, 8).save(path, exif=exif)
    size = (8, 12) if turned else (12, 8)
    assert open_rgb(path)[0].size == upright_size(path) == size


@pytest.mark.parametrize("exif", [b"XX\0*", b""])
def test_exif_data_that_cannot_be_read_turn_nothing(tmp_path, exif):
    path = tmp_path / "a.png"
    _write_png(path, b"eXIf", exif)
    assert open_rgb(path)[0].size == upright_size(path) == (12, 8)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (b"zTXt", b"workflow\0\0" + zlib.compress(bytes(5 << 20))),
        (b"iTXt", b"workflow\0\1\0\0\0" + zlib.compress(bytes(5 << 20))),
        (b"tEXt", b"workflow\0" + b"a" * (65 << 20)),
    ],
)
def test_a_png_with_much_text_is_read(tmp_path, kind, text):
    _write_png(tmp_path / "a.png", kind, text)
    picture, _ = open_rgb(tmp_path / "a.png")
    assert picture.tobytes() == _noise(12, 8).tobytes()


def _write_png(path, kind, body):
    """Write a PNG with one more chunk behind its header."""
    file = BytesIO()
    _noise(12, 8).save(file, "PNG")
    data, header = file.getvalue(), 33
    chunk = struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    path.write_bytes(data[:header] + chunk + data[header:])


def _noise(width, height):
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.mark.parametrize("cut", [0, 10, 60, 200])
def test_a_damaged_file_is_named_with_the_reason(tmp_path, cut):
    path = tmp_path / "a b.png"
    pixels = np.random.default_rng(0).integers(0, 256, (30, 30, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(DatasetError, match=r"image '.*a b\.png' cannot be read: .+"):
        open_rgb(path)


def test_a_name_in_another_unicode_form_is_the_reason(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "cafe\u0301.png")
    with pytest.raises(DatasetError, match=r"read: its accents are .*NFD.*; rename the file$"):
        open_rgb(tmp_path / "caf\u00e9.png")
    with pytest.raises(DatasetError, match=r"read: No such file or directory$"):
        open_rgb(tmp_path / "th\u00e9.png")


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
    with pytest.raises(DatasetError, match="it has more than 89,478,485 pixels; scale it down"):
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


def test_unreadable_exif_data_and_lost_transparency_print_nothing(tmp_path):
    """In a process of its own: Pillow warns of both, and pytest sets filters of its own."""
    _noise(12, 8).save(tmp_path / "a.jpg", exif=b"Exif\0\0II*\0\x08\0\0\0\x05\0")
    Image.new("P", (4, 4)).save(tmp_path / "b.png", transparency=bytes(range(200)))
    code = (
        "import sys; from vsp.utils.images import open_rgb\n"
        "for path in sys.argv[1:]: print(open_rgb(path)[0].size)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "a.jpg"), str(tmp_path / "b.png")]
    answer = subprocess.run(command, capture_output=True, text=True)
    assert (answer.stdout, answer.stderr) == ("(12, 8)\n(4, 4)\n", "")


def _flat_png(width, height, color_type=2, n_rows=None):
    """A PNG of zeros, of about a megabyte at most; with `n_rows`, the pixels end after these rows."""

    def chunk(name, data):
        crc = struct.pack(">I", zlib.crc32(name + data))
        return struct.pack(">I", len(data)) + name + data + crc

    row = bytes(1 + width * {2: 3, 6: 4}[color_type])
    packer = zlib.compressobj(1)
    packed = b"".join(packer.compress(row) for _ in range(n_rows or height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 8, color_type, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")
    )


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_picture_of_too_many_pixels_is_refused_before_it_is_decoded(tmp_path):
    (tmp_path / "bomb.png").write_bytes(_flat_png(12_000, 9_000, n_rows=1))
    with pytest.raises(DatasetError, match="12000 × 9000 are more than 89,478,485 pixels; scale"):
        open_rgb(tmp_path / "bomb.png")
    with pytest.raises(DatasetError, match="more than 89,478,485 pixels"):
        upright_size(tmp_path / "bomb.png")
    code = "import sys; from vsp.utils.images import open_rgb; open_rgb(sys.argv[1])"
    command = [sys.executable, "-c", code, str(tmp_path / "bomb.png")]
    said = subprocess.run(command, capture_output=True, text=True).stderr
    assert "DatasetError" in said and "DecompressionBombWarning" not in said


def test_the_largest_picture_takes_less_than_a_gigabyte(tmp_path):
    (tmp_path / "large.png").write_bytes(_flat_png(9_459, 9_459, color_type=6))
    code = (
        "import re, sys; from vsp.utils.images import open_rgb; from pathlib import Path\n"
        "size = open_rgb(sys.argv[1])[0].size; said = Path('/proc/self/status').read_text()\n"
        "print(size, re.search(r'VmHWM:\\s+(\\d+) kB', said)[1])"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "large.png")]
    answer = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    size, _, kilobytes = answer.rpartition(" ")
    assert size == "(9459, 9459)" and int(kilobytes) < 1_000_000


@pytest.mark.parametrize("name", ["pipe", "/dev/zero", "/dev/urandom", "sparse.png"])
@pytest.mark.parametrize("read", [open_rgb, upright_size])
def test_a_picture_that_is_no_regular_file_does_not_hang(tmp_path, name, read):
    os.mkfifo(tmp_path / "pipe")
    with (tmp_path / "sparse.png").open("wb") as file:
        file.truncate(200 * 10**9)
    said = "holds 200 GB" if name == "sparse.png" else "not a regular file"
    with pytest.raises(DatasetError, match=said):
        read(tmp_path / name)


def test_no_other_program_is_started_for_a_picture(tmp_path):
    """Pillow starts Ghostscript for EPS."""
    (tmp_path / "a.png").write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n"
    )
    with pytest.raises(DatasetError, match="unknown image format"):
        open_rgb(tmp_path / "a.png")


_EMPTY_PARTS = {
    "zeros.jpg": b"\xff\xd8\xff\xe0\0\x10JFIF\0\1\1\0\0\1\0\1\0\0" + bytes(20_000_000),
    "chunks.png": _flat_png(8, 8)[:33]
    + (b"\0\0\0\0teSt" + zlib.crc32(b"teSt").to_bytes(4, "big")) * 2_000_000,
    "comment.ppm": b"P6\n#" + b"x" * 20_000_000 + b"\n8 8\n255\n" + bytes(192),
}


@pytest.mark.parametrize("name", _EMPTY_PARTS)
@pytest.mark.parametrize("read", [open_rgb, upright_size])
def test_a_picture_of_empty_parts_takes_bounded_time(tmp_path, name, read):
    (tmp_path / name).write_bytes(_EMPTY_PARTS[name])
    started = time.process_time()
    with pytest.raises(DatasetError, match="it has more than 300,000 parts; save it again"):
        read(tmp_path / name)
    assert time.process_time() - started < 8


def test_a_picture_of_decimal_numbers_is_refused(tmp_path):
    """Pillow takes 40 s for 200 MB of them."""
    (tmp_path / "a.ppm").write_bytes(b"P3\n1 1\n255\n1 2 3\n")
    with pytest.raises(DatasetError, match="PPM of decimal numbers is not read; save it as PNG"):
        open_rgb(tmp_path / "a.ppm")


def test_a_large_picture_of_many_parts_is_read(tmp_path):
    Image.effect_noise((3000, 3000), 90).convert("RGB").save(tmp_path / "a.png", compress_level=1)
    assert open_rgb(tmp_path / "a.png")[0].size == upright_size(tmp_path / "a.png") == (3000, 3000)
