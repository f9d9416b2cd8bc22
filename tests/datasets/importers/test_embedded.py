"""Pictures in the cells of a table become files of the dataset, each once."""

import base64
import csv
import hashlib
import json
import textwrap
from io import BytesIO, StringIO

import numpy as np
import pytest
from PIL import Image

from vsp.datasets.importers.embedded import decode_picture, picture_cell
from vsp.datasets.importers.import_request import ImportRequest
from vsp.datasets.importers.pipeline import import_dataset
from vsp.errors import DatasetError

FORMATS = {"PNG": "png", "JPEG": "jpg", "GIF": "gif", "WEBP": "webp", "BMP": "bmp", "TIFF": "tif"}


def _picture(seed=0, size=24, kind="PNG"):
    pixels = np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)
    file = BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def _base64(data):
    return base64.b64encode(data).decode()


@pytest.mark.parametrize("kind", FORMATS)
def test_a_picture_is_decoded_in_every_spelling_of_base64(kind):
    data = _picture(kind=kind)
    expected = (f"embedded/{hashlib.sha256(data).hexdigest()}.{FORMATS[kind]}", data)
    text = _base64(data)
    for cell in (
        text,
        text.rstrip("="),
        "\n".join(textwrap.wrap(text, 60)),
        base64.urlsafe_b64encode(data).decode(),
        f"data:image/{kind.lower()};base64,{text}",
        f"DATA:;base64,{text}",
    ):
        assert decode_picture(cell) == expected


@pytest.mark.parametrize(
    "name", ["a.png", "", "Qk", "BM" * 40 + ".png", "iVBORw0KGgo.png", "a" * 200, "/9j/" * 9]
)
def test_a_file_name_is_not_a_picture(name):
    assert decode_picture(name) is None


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("data:image/png;base64,!", r"has an image that is not base64, '!' \(.*\); write it again"),
        ("data:image/svg+xml;base64,PHN2Zz4=", r"has an image in an unknown format, b'<svg>'"),
        ("data:image/svg+xml,<svg/>", r"has the image .*; only data URIs in base64 can be read"),
        (_base64(_picture()) + "?", r"has an image that is not base64"),
        (
            "data:;base64," + "A" * (1 << 24),
            r"has an image of 16,777,229 characters, at most 16,77",
        ),
    ],
)
def test_a_picture_that_cannot_be_decoded_is_refused_in_one_line(cell, message):
    with pytest.raises(DatasetError, match=message) as caught:
        decode_picture(cell)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 200


def _table(kind, rows):
    if kind == "json":
        return json.dumps(rows)
    if kind == "jsonl":
        return "\n".join(map(json.dumps, rows))
    text = StringIO()
    writer = csv.DictWriter(text, rows[0])
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


@pytest.mark.parametrize("kind", ["csv", "json", "jsonl"])
def test_a_table_with_pictures_becomes_a_dataset_with_each_of_them_once(tmp_path, kind):
    small, large = _picture(), _picture(1, 400)  # the large one exceeds Python's limit for a cell
    cells = [_base64(large), _base64(small), f"data:image/png;base64,{_base64(large)}"]
    rows = [{"image": cell, "prompt": f"{i}?", "label": f"l{i}"} for i, cell in enumerate(cells)]
    (tmp_path / "t").write_text(_table(kind, rows))
    imported = import_dataset(
        ImportRequest("csv", [str(tmp_path / "t")], tmp_path / "out", check=False), tmp_path
    )
    assert imported.notes[0] == "wrote 2 pictures of the annotations to images/embedded"
    records = json.loads((tmp_path / "out/metadata.json").read_text())
    found = {
        r["prompt"]: (tmp_path / "out/images" / r["image_filename"]).read_bytes() for r in records
    }
    assert found == {"0?": large, "1?": small, "2?": large}
    assert len({record["group"] for record in records}) == 2
    assert len(list((tmp_path / "out/images/embedded").iterdir())) == 2


def test_pictures_and_names_may_be_mixed(tmp_path):
    (tmp_path / "embedded").mkdir()
    (tmp_path / "embedded/a.png").write_bytes(_picture(2))
    rows = [
        {"image": i, "prompt": "?", "label": "l"} for i in ("a.png", "b.png", _base64(_picture()))
    ]
    (tmp_path / "t").write_text(_table("csv", rows))
    request = ImportRequest("csv", [str(tmp_path / "t")], tmp_path / "out", [tmp_path / "embedded"])
    imported = import_dataset(request, tmp_path)
    assert "1 image in no image folder, first: b.png" in imported.notes
    names = [r["image_filename"] for r in json.loads((tmp_path / "out/metadata.json").read_text())]
    assert names[0] == "embedded-2/a.png" and names[1].startswith("embedded/") and len(names) == 2
    assert all((tmp_path / "out/images" / name).is_file() for name in names)


def test_a_damaged_picture_is_named_by_its_line(tmp_path):
    rows = [{"image": "data:;base64,AAAA", "prompt": "?", "label": "l"}]
    (tmp_path / "t").write_text(_table("csv", rows))
    with pytest.raises(DatasetError, match=r"t: line 2 has an image in an unknown format"):
        import_dataset(ImportRequest("csv", [str(tmp_path / "t")], tmp_path / "out"), tmp_path)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", ["csv", "json", "jsonl"])
def test_cells_of_hugging_face_datasets_are_pictures_or_paths(tmp_path, kind):
    data = _picture()
    cells = [
        {"bytes": _base64(data), "path": "a.png"},
        {"bytes": f"data:image/png;base64,{_base64(data)}", "path": None},
        {"bytes": None, "path": "folder/b.png"},
        {"bytes": _base64(data)},
        {"path": "c.png"},
        {"bytes": "", "path": "d.png"},
    ]
    values = [json.dumps(cell) if kind == "csv" else cell for cell in cells]
    rows = [{"image": cell, "prompt": f"{i}?", "label": "x"} for i, cell in enumerate(values)]
    (tmp_path / "t").write_text(_table(kind, rows))
    imported = import_dataset(
        ImportRequest("csv", [str(tmp_path / "t")], tmp_path / "out"), tmp_path
    )
    records = json.loads((imported.folder / "metadata.json").read_text())
    name = f"embedded/{hashlib.sha256(data).hexdigest()}.png"
    images = {record["prompt"]: record["image_filename"] for record in records}
    assert images == {
        "0?": name, "1?": name, "2?": "folder/b.png", "3?": name, "4?": "c.png", "5?": "d.png",
    }  # fmt: skip
    assert (imported.folder / "images" / name).read_bytes() == data


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        (
            {"bytes": [137, 80], "path": None},
            "has an image with the bytes .137, 80.; write them in base64",
        ),
        ({"bytes": "AAAA"}, "has an image in an unknown format"),
        ({"bytes": "%%%"}, "has an image that is not base64"),
        (
            "{'bytes': b'x', 'path': None}",
            "which is not JSON; write ..bytes.: .BASE64., .path.: null",
        ),
    ],
)
def test_a_mapping_without_a_picture_is_refused_in_one_line(cell, message):
    with pytest.raises(DatasetError, match=message) as caught:
        picture_cell(cell)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("cell", ["a.png", "{odd}.png", "", None, {"a": 1}, 5])
def test_other_cells_are_left_as_they_are(cell):
    assert picture_cell(cell) == cell
