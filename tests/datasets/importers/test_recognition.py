"""`vsp import FILE` names the importers that would read a file, and shows what it found."""

import json

import numpy as np
import pytest
from helpers.arrow import png, save_to_disk, write_parquet

from vsp.datasets.importers.import_request import ImportRequest
from vsp.datasets.importers.pipeline import import_dataset
from vsp.datasets.importers.recognition import guess
from vsp.errors import DatasetError

GRAPH = {"width": 9, "height": 9, "objects": {"1": {"name": "cup", "relations": []}}}
BENCH = {"image_info": {"file_path": "a.png"}, "text_q": "?", "qa_info": {}, "conversations": []}
FILES = {
    ("gqa",): {"1": GRAPH},
    ("vg",): [{"image_id": 1, "relationships": []}],
    ("vrd",): {"a.jpg": [{"predicate": 1, "subject": {}, "object": {}}]},
    ("vsr",): [{"image": "a", "caption": "The a is on the b.", "relation": "on", "label": 1}],
    ("whatsup",): [[397133, "A photo of a dog to the left of a car", "no"]],
    ("spatialrgpt-bench",): [BENCH],
    ("csv",): [{"image": "a.png", "subj": "a", "obj": "b", "relationship": "left of"}],
    ("csv", "mcq"): [{"image": "a.png", "question": "?", "options": ["a", "b"], "answer": "a"}],
    ("mcq",): [{"image": "a.png", "question": "?", "choices": ["a", "b"], "gt": "a"}],
    ("prompts",): [{"id": 1, "question": "<image>\nUSER: ?", "answer": "left"}],
    (): [{"x": 1}],
}


@pytest.mark.parametrize("sources", FILES)
def test_a_file_is_recognised_by_its_first_record(tmp_path, sources):
    path = tmp_path / "file.json"
    value = FILES[sources]
    for text in (json.dumps(value), json.dumps(value, indent=1)):
        path.write_text(text)
        assert guess(path).sources == sources
    lines = list(guess(path).lines())
    if isinstance(value, list) and isinstance(value[0], dict):
        assert {line.strip().partition(":")[0] for line in lines[1:]} >= value[0].keys()
        path.write_text("\n".join(map(json.dumps, value * 2)))
        assert guess(path).sources == sources
    assert sum(line.startswith("next: ") for line in lines) == len(sources)


def test_tables_and_folders_are_recognised(tmp_path):
    (tmp_path / "a.csv").write_text("img_path;subj;obj;relationship\na.png;a;b;left of\n")
    assert guess(tmp_path / "a.csv").sources == ("csv",)
    (tmp_path / "a.tsv").write_text("index\timage\tquestion\tA\tB\tanswer\n0\tx\t?\tl\tr\tA\n")
    assert guess(tmp_path / "a.tsv").sources == ("tsv",)
    path = write_parquet(tmp_path / "p/a.parquet", {"image": [png()], "label": ["x"]})
    assert guess(path).sources == guess(path.parent).sources == ("parquet",)
    assert guess(path).fields == (("image", ""), ("label", ""))
    saved = save_to_disk(tmp_path / "saved", {"image": [png()], "label": ["x"]})
    assert guess(saved).sources == ("load_from_disk",)
    for name in ("cat", "dog"):
        (tmp_path / "pets" / name).mkdir(parents=True)
        (tmp_path / "pets" / name / "1.png").write_bytes(png())
    assert guess(tmp_path / "pets").sources == ("imagefolder",)
    scene = tmp_path / "comfort_ball/behind/default"
    scene.mkdir(parents=True)
    (scene / "config.json").write_text(
        json.dumps({"relation": "behind", "ref_shape": "x", "mapping": {"0.png": 0}}, indent=1)
    )
    assert guess(scene / "config.json").sources == ("comfort",)
    assert guess(tmp_path / "comfort_ball").sources == ("comfort",)


def test_files_of_states_are_recognised(tmp_path):
    np.savez(tmp_path / "a.npz", representations=np.zeros((1, 2, 3)), labels=np.zeros(1))
    np.savez(tmp_path / "b.npz", other=np.zeros(1))
    (tmp_path / "pt").mkdir()
    (tmp_path / "pt/0.pt").write_bytes(b"PK")
    assert guess(tmp_path / "a.npz").sources == guess(tmp_path / "pt").sources == ("states",)
    assert guess(tmp_path / "b.npz").sources == ()
    assert "next: vsp import states " in list(guess(tmp_path / "pt").lines())[-1]


@pytest.mark.parametrize(
    "data", [b"", b"\0" * 99, b"[", b"{", b"[" * 9999, b"PK\3\4", b"PAR1", b'"\n']
)
def test_any_bytes_give_a_guess_or_one_line(tmp_path, data):
    (tmp_path / "a").write_bytes(data)
    try:
        assert not [source for source in guess(tmp_path / "a").sources if source != "parquet"]
    except DatasetError as error:
        assert "cannot be read as Parquet" in str(error)


def test_a_refused_file_names_the_importer_that_would_read_it(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps(FILES["vg",]))
    with pytest.raises(DatasetError) as caught:
        import_dataset(ImportRequest("vrd", [str(path)], tmp_path / "out"), tmp_path)
    assert caught.value.details[-1] == "a.json seems to be a file for vsp import vg"
    path.write_text(json.dumps([{"image_id": 1, "relationships": 1}]))
    with pytest.raises(DatasetError) as caught:
        import_dataset(ImportRequest("vg", [str(path)], tmp_path / "out"), tmp_path)
    assert not any("seems to be" in line for line in caught.value.details)


def test_the_command_prints_the_guess(vsp, work):
    path = work / "guess.json"
    path.write_text(json.dumps(FILES["mcq",]))
    shown = vsp("import", path)
    assert (
        "mcq would read this" in shown.stdout
        and f"next: vsp import mcq --annotations {path} --images DIR --out" in shown.stdout
    )


@pytest.mark.parametrize("source", ["", "load_from_disk", "imagefolder", "comfort"])
def test_a_folder_that_cannot_be_read_is_one_line(tmp_path, monkeypatch, source):
    def closed(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("pathlib.Path.iterdir", closed)
    with pytest.raises(DatasetError, match=r"cannot be read \(permission denied\); name a folder"):
        if source:
            import_dataset(ImportRequest(source, [str(tmp_path)], tmp_path / "out"), tmp_path)
        else:
            guess(tmp_path)
