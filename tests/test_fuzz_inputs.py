"""Damaged pictures and annotation files: a picture, rows, or a one-line error."""

from __future__ import annotations

import csv
import io
import json
import shutil
import time

import pytest
from helpers.fuzzing import (
    DEEP,
    DIGITS,
    JSON,
    Place,
    damaged,
    edited,
    few,
    fuzz,
)
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from vsp.datasets.importers.import_request import ImportRequest
from vsp.datasets.importers.pipeline import import_dataset
from vsp.datasets.metadata import read_samples, records
from vsp.datasets.picture_paths import PicturePaths
from vsp.utils.images import open_rgb, upright_size

# Pictures.

FORMATS = {
    "png": ("RGB", {}), "palette.png": ("P", {}), "grey16.png": ("I;16", {}), "jpg": ("RGB", {}),
    "cmyk.jpg": ("CMYK", {}), "gif": ("P", {}), "webp": ("RGB", {}), "bmp": ("RGB", {}),
    "tiff": ("RGB", {"compression": "tiff_lzw"}), "deflate.tiff": ("RGB", {"compression": "tiff_deflate"}),
    "ppm": ("RGB", {}), "tga": ("RGB", {}), "ico": ("RGBA", {}), "jp2": ("RGB", {}), "avif": ("RGB", {}),
}  # fmt: skip


@pytest.fixture(scope="module", params=FORMATS)
def picture(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("picture") / f"a.{request.param}"
    mode, options = FORMATS[request.param]
    exif = {"exif": _turned()} if path.suffix in (".jpg", ".tiff", ".png", ".webp") else {}
    Image.effect_noise((24, 17), 80).convert(mode).save(path, **options, **exif)
    return Place(path)


def _turned():
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a cup"
    return exif


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow warns of some damage that it survives
@few
@given(data=st.data())
def test_a_damaged_picture_is_a_picture_or_one_line(picture, data):
    body = data.draw(damaged(picture.whole))
    started = time.process_time()
    found = picture.with_body(body, lambda: open_rgb(picture.path))
    picture.with_body(body, lambda: upright_size(picture.path))
    if found is not None:
        assert found[0].mode == "RGB" and min(found[0].size) > 0
    assert time.process_time() - started < 10


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("cut", [0, 1, 2, 10, -1])
def test_a_picture_that_ends_early_is_refused(picture, cut):
    if cut == -1 and picture.path.suffix not in (".png", ".jpg", ".tiff"):
        cut = 10  # the last byte of the others may be left out
    body = picture.whole[: len(picture.whole) // 2] if cut == -1 else picture.whole[:cut]
    assert picture.with_body(body, lambda: open_rgb(picture.path)) is None


# Annotations.

ROW = {
    "id": "r0", "image": "a.png", "subject": "cup", "reference": "plate", "relation": "left of",
    "subject_box": [0, 0, 5, 5], "reference_box": [1, 2, 3, 4],
}  # fmt: skip
TABLE = [{**ROW, "id": f"r{i}", "image": f"{i}.png"} for i in range(4)]
VRD = {
    "a.jpg": [{"predicate": 0, "subject": {"category": 0, "bbox": [0, 5, 0, 5]},
               "object": {"category": 1, "bbox": [5, 9, 5, 9]}}]
}  # fmt: skip
VSR = [
    {"image": f"{i}.jpg", "caption": "The cup is left of the plate.", "label": i % 2,
     "relation": "left of"} for i in range(4)
]  # fmt: skip
WHATSUP = [
    {"image_path": f"data/controlled_images/cup_{side}_of_plate.jpeg",
     "caption_options": [f"A cup to the {side} of a plate", "A cup under a plate"]}
    for side in ("left", "right")
]  # fmt: skip
GRAPH = {
    "7": {"width": 100, "height": 90, "objects": {
        "1": {"name": "cup", "x": 0, "y": 0, "w": 5, "h": 5,
              "relations": [{"name": "to the left of", "object": "2"}]},
        "2": {"name": "plate", "x": 9, "y": 9, "w": 5, "h": 5, "relations": []}}}
}  # fmt: skip

MCQ = [
    {"id": i, "image": f"{i}.jpg", "question": "Where?", "options": ["left", "right"], "answer": i % 2,
     "split": ""} for i in range(4)
]  # fmt: skip
PROMPTS = [
    {"id": i, "question": "<image>\nUSER: Where?\nASSISTANT:", "answer": ["On"]} for i in range(4)
]
TSV = [
    {"index": i, "image": f"{i}.jpg", "question": "Where?", "A": "x", "B": "y", "answer": "A"}
    for i in range(4)
]


def _tsv(rows):
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, rows[0], delimiter="\t")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def _csv(rows):
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, rows[0])
    writer.writeheader()
    writer.writerows(
        {k: json.dumps(v) if isinstance(v, list) else v for k, v in row.items()} for row in rows
    )
    return text.getvalue().encode()


def _lines(rows):
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def _whole(value):
    return json.dumps(value).encode()


# Source → file name, contents, and how the contents are written.
SOURCES = {
    "table as csv": ("csv", "rows.csv", TABLE, _csv),
    "table as lines": ("csv", "rows.jsonl", TABLE, _lines),
    "table as list": ("csv", "rows.json", TABLE, _whole),
    "vrd": ("vrd", "annotations_train.json", VRD, _whole),
    "vsr": ("vsr", "train.jsonl", VSR, _lines),
    "whatsup": ("whatsup", "a_dataset.json", WHATSUP, _whole),
    "gqa": ("gqa", "train_scenes.json", GRAPH, _whole),
    "mcq": ("mcq", "rows.jsonl", MCQ, _lines),
    "prompts": ("prompts", "rows.json", PROMPTS, _whole),
    "tsv": ("tsv", "rows.tsv", TSV, _tsv),
}


@pytest.fixture(scope="module", params=SOURCES)
def annotations(request, tmp_path_factory):
    source, name, rows, encode = SOURCES[request.param]
    folder = tmp_path_factory.mktemp("annotations")
    (folder / "objects.json").write_text('["cup", "plate"]')
    (folder / "predicates.json").write_text('["on the left of"]')
    (folder / name).write_bytes(encode(rows))
    return source, Place(folder / name), rows, encode


fewer = settings(few, max_examples=25)  # for each of the sources


def _imported(source, place, body):
    """The samples of an import from this file; None if it is refused in one line."""
    out = place.path.parent / "out"

    def run():
        options = {"image": "{id}.jpg"} if source == "prompts" else {}
        request = ImportRequest(source, [str(place.path)], out, options=options)
        found = import_dataset(request, out.parent)
        assert found.folder == out
        read_samples(out, None)
        return list(records(out))

    try:
        return place.with_body(body, run)
    finally:
        shutil.rmtree(out, ignore_errors=True)
        assert not [path for path in out.parent.iterdir() if path.name.startswith(".")]


def test_the_whole_annotations_give_rows(annotations):
    source, place, *_ = annotations
    assert _imported(source, place, place.whole)


@fewer
@given(data=st.data())
def test_edited_annotations_are_rows_or_one_line(annotations, data):
    source, place, rows, encode = annotations
    value = data.draw(edited(rows))
    try:
        body = encode(value)
    except (AttributeError, TypeError, IndexError, KeyError, ValueError):
        body = _whole(value)  # no table
    _imported(source, place, body)


@fewer
@given(data=st.data())
def test_damaged_annotations_are_rows_or_one_line(annotations, data):
    source, place, *_ = annotations
    _imported(source, place, data.draw(damaged(place.whole)))


@fewer
@given(body=st.binary(max_size=60) | JSON)
@example(DEEP)
@example(DIGITS)
@example(b"[" + DEEP)
@example(b'{"a": ' + DEEP)
@example(b"\0" * 5000)
@example(b'"' + b"x" * 5000)
def test_anything_else_is_rows_or_one_line(annotations, body):
    source, place, *_ = annotations
    _imported(source, place, body)


# The card of a dataset, which declares image folders.


@fuzz
@given(body=st.binary(max_size=60) | JSON | JSON.map(lambda text: b'{"image_folders": %s}' % text)
       | JSON.map(lambda text: b'{"images": {"a": %s}, "of": %s, "of_card": %s}' % (text, text, text)))  # fmt: skip
@example(DEEP)
@example(b'{"of_metadata_sha256": [], "of_card": {"of_metadata_sha256": {}}}')
def test_whatever_a_card_says_it_allows_no_picture_outside(card, body):
    assume(b'"/"' not in body)  # declares every folder
    paths = PicturePaths(card.path.parent)
    path = "/usr/bin/env"
    assert card.with_body(body, lambda: paths.path("image_filename", path)) is None


@pytest.fixture(scope="module")
def card(tmp_path_factory):
    folder = tmp_path_factory.mktemp("card")
    (folder / "images").mkdir()
    (folder / "masks").symlink_to("/usr")
    (folder / "dataset.json").write_text("{}")
    return Place(folder / "dataset.json")
