"""Names in annotations never lead out of the image folders, in any importer."""

import base64
import json

import pytest
from helpers.arrow import png, write_parquet

from vsp.datasets.importers.import_request import ImportRequest
from vsp.datasets.importers.pipeline import import_dataset
from vsp.datasets.metadata import read_samples
from vsp.errors import DatasetError

NAMES = [
    "../secret.png", "{root}/secret.png", "photos/../../secret.png", "embedded/../../../secret.png",
    "embedded/../../../../secret.png", "C:\\secret.png", "..\\secret.png",
]  # fmt: skip


def _rows(name):
    """The annotations of one image, as different importers read them."""
    good = base64.b64encode(png(3)).decode()  # so that the folder of embedded pictures exists
    question = {"question": "Where?", "options": ["left", "right"], "answer": "left"}
    bench = {
        "image_info": {"file_path": name, "height": 10, "width": 12},
        "text_q": "Is it?", "qa_info": {}, "conversations": [{"value": "Is it?"}, {"value": "Yes."}],
    }  # fmt: skip
    scene = [{"predicate": "left of", "object": {"name": "b", "x": 1, "y": 1, "w": 1, "h": 1},
              "subject": {"name": "a", "x": 1, "y": 1, "w": 1, "h": 1}}]  # fmt: skip
    return {
        "csv": [{"image": one, "prompt": "?", "label": "x"} for one in (name, good)],
        "mcq": [{"image": one, **question} for one in (name, good)],
        "vsr": {
            "image": name,
            "caption": "The a is left of the b.",
            "relation": "left of",
            "label": 1,
        },
        "whatsup": [{"image_path": f"{name[:-4]}_on_b.png", "caption_options": ["a on b"]}],
        "vg": [{"image_id": name.removesuffix(".jpg"), "relationships": scene}],
        "spatialrgpt-bench": [bench],
    }


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("source", [*_rows(""), "parquet"])
def test_a_name_never_leads_out_of_the_image_folder(tmp_path, source, name):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/other.png").write_bytes(png(1))
    for secret in ("secret.png", "secret.png.jpg", "a_on_b.png"):
        (tmp_path / secret).write_bytes(png(2))
    name = name.format(root=tmp_path)
    path = tmp_path / "a.json"
    if source == "parquet":
        columns = {"image": [{"bytes": None, "path": name}], "prompt": ["?"], "label": ["x"]}
        write_parquet(path, columns)
    else:
        path.write_text(json.dumps(_rows(name)[source]))
    request = ImportRequest(
        source, [str(path)], tmp_path / "out", [tmp_path / "photos"], check=True
    )
    try:
        import_dataset(request, tmp_path)
    except DatasetError as error:  # no row is left, or the name is refused
        assert "opened" not in str(error)
        return
    records = json.loads((tmp_path / "out/metadata.json").read_text())
    assert all(record["image_filename"].startswith("embedded/") for record in records)
    assert all(".." not in record["image_filename"] for record in records)


@pytest.mark.parametrize("source", ["csv", "mcq"])
def test_a_name_with_a_nul_is_refused(tmp_path, source):
    path = tmp_path / "a.json"
    path.write_text(json.dumps(_rows("a\0.png")[source]))
    with pytest.raises(
        DatasetError, match=r"image name 'a\\x00\.png' cannot be the name of a file"
    ):
        import_dataset(ImportRequest(source, [str(path)], tmp_path / "out"), tmp_path)


def test_a_name_outside_of_a_dataset_without_images_is_refused_by_the_plan(tmp_path):
    (tmp_path / "secret.png").write_bytes(png())
    path = tmp_path / "a.json"
    path.write_text(json.dumps([{"image": "../../secret.png", "prompt": "?", "label": "x"}]))
    import_dataset(ImportRequest("csv", [str(path)], tmp_path / "out"), tmp_path)
    with pytest.raises(DatasetError, match=r"secret\.png, outside the dataset"):
        read_samples(tmp_path / "out", None)


def test_a_link_out_of_an_image_folder_is_refused_by_the_plan(tmp_path):
    (tmp_path / "pets").mkdir()
    (tmp_path / "secret.png").write_bytes(png())
    (tmp_path / "pets/l.png").symlink_to(tmp_path / "secret.png")
    row = {"file_name": "l.png", "prompt": "?", "label": "x"}
    (tmp_path / "pets/metadata.jsonl").write_text(json.dumps(row))
    import_dataset(
        ImportRequest("imagefolder", [str(tmp_path / "pets")], tmp_path / "out"), tmp_path
    )
    with pytest.raises(DatasetError, match=r"secret\.png, outside the dataset"):
        read_samples(tmp_path / "out", None)
