"""Pictures of a dataset lie in its folder or in an image folder that it declares."""

from __future__ import annotations

import json

import pytest
from PIL import Image

from vsp.datasets.apply_variant import VariantRequest, apply_variant
from vsp.datasets.contact_sheet import draw_sheet
from vsp.datasets.metadata import read_samples
from vsp.datasets.picture_paths import PicturePaths
from vsp.datasets.summary import summarize
from vsp.errors import DatasetError

RECORD = {"subject": "cup", "reference": "box", "label": "left_of"}


def _dataset(folder, *names):
    (folder / "images").mkdir(parents=True)
    records = [{**RECORD, "image_filename": name} for name in names]
    (folder / "metadata.json").write_text(json.dumps(records))
    return folder


def _picture(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8)).save(path)


@pytest.fixture
def secret(tmp_path):
    _picture(tmp_path / "secret/a.png")
    return tmp_path / "secret"


@pytest.fixture(
    params=["absolute", "dots", "link to a file", "link to a folder", "images is a link"]
)
def outside(request, tmp_path, secret):
    """A dataset whose picture lies in the folder `secret`."""
    folder, name = tmp_path / "data", "a.png"
    if request.param == "absolute":
        name = str(secret / "a.png")
    elif request.param == "dots":
        name = "../../secret/a.png"
    elif request.param == "link to a folder":
        name = "sub/a.png"
    _dataset(folder, name)
    if request.param == "link to a file":
        (folder / "images/a.png").symlink_to(secret / "a.png")
    elif request.param == "link to a folder":
        (folder / "images/sub").symlink_to(secret)
    elif request.param == "images is a link":
        (folder / "images").rmdir()
        (folder / "images").symlink_to(secret)
    return folder


def test_a_picture_outside_is_refused_by_every_reader(outside, secret, tmp_path):
    said = f"which is {secret / 'a.png'}, outside the dataset; copy it into images/"
    with pytest.raises(DatasetError, match="record 0 has image_filename") as caught:
        read_samples(outside, None)
    assert said in str(caught.value)
    with pytest.raises(DatasetError, match=r"outside the dataset|which is not in images/"):
        apply_variant(VariantRequest(outside, "mirrored", tmp_path / "variant"), 1)
    with pytest.raises(DatasetError, match="a record has image_filename") as caught:
        summarize(outside, 4, 0)
    assert said in str(caught.value)


def test_a_declared_folder_is_accepted(outside, secret):
    (outside / "dataset.json").write_text(json.dumps({"image_folders": [str(secret)]}))
    assert len(read_samples(outside, None)[0]) == 1
    assert summarize(outside, 4, 0).missing == []


def test_a_declared_folder_may_be_relative_to_the_dataset(outside, secret):
    (outside / "dataset.json").write_text(json.dumps({"image_folders": ["../secret"]}))
    assert len(read_samples(outside, None)[0]) == 1
    assert PicturePaths(outside).other_folders == (secret,)
    assert summarize(outside, 4, 0).as_json()["image_folders"] == [str(secret)]


@pytest.mark.parametrize("folders", [[3], "secret", ["/none\0"], {}])
def test_a_declaration_that_is_no_list_of_folders_is_refused(outside, folders):
    (outside / "dataset.json").write_text(json.dumps({"image_folders": folders}))
    with pytest.raises(DatasetError, match=r"dataset.json: image_folders (is no list|has a NUL)"):
        read_samples(outside, None)


def test_a_missing_picture_is_missing_wherever_it_would_be(tmp_path):
    folder = _dataset(tmp_path / "data", "../../none/a.png", "b.png")
    (folder / "images/b.png").symlink_to("/none/b.png")
    assert summarize(folder, 4, 0).missing == ["../../none/a.png", "b.png"]


def test_the_stores_of_git_annex_and_of_a_hub_belong_to_a_dataset(tmp_path):
    repository = tmp_path / "repository"
    annexed = _dataset(repository / "sets/cups", "a.png")
    _picture(repository / ".git/annex/objects/K1/x/x.png")
    (annexed / "images/a.png").symlink_to("../../../.git/annex/objects/K1/x/x.png")
    cached = _dataset(tmp_path / "hub/datasets--cups/snapshots/0123", "a.png")
    _picture(tmp_path / "hub/datasets--cups/blobs/ab.png")
    (cached / "images/a.png").symlink_to("../../../blobs/ab.png")
    for dataset in (annexed, cached):
        assert len(read_samples(dataset, None)[0]) == 1
        assert len(PicturePaths(dataset).other_folders) == 1
    elsewhere = _dataset(tmp_path / "elsewhere", "a.png")
    (elsewhere / "images/a.png").symlink_to(cached / "images/a.png")
    with pytest.raises(DatasetError, match="outside the dataset"):
        read_samples(elsewhere, None)


def test_an_import_finds_photographs_that_were_moved_when_its_link_leads_to_them(tmp_path, secret):
    folder = _dataset(tmp_path / "data", "photos/a.png")
    (folder / "images/photos").symlink_to(tmp_path / "old")
    card = {"images": {"photos": {"folder": str(tmp_path / "old"), "entries": 1}}}
    (folder / "dataset.json").write_text(json.dumps(card))
    (folder / "images/photos").unlink()
    (folder / "images/photos").symlink_to(secret)
    assert len(read_samples(folder, None)[0]) == 1
    assert PicturePaths(folder).other_folders == (secret,)


def test_masks_and_depth_are_held_to_the_same_rule(tmp_path, secret):
    folder = _dataset(tmp_path / "data", "b.png")
    _picture(folder / "images/b.png")
    paths = PicturePaths(folder)
    for key in ("subject_mask", "reference_mask", "depth_filename"):
        with pytest.raises(DatasetError, match=f"has {key} .* outside the dataset"):
            paths.path(key, str(secret / "a.png"))
    record = {**RECORD, "image_filename": "b.png", "subject_mask": str(secret / "a.png")}
    (folder / "metadata.json").write_text(json.dumps([record]))
    rows = summarize(folder, 1, 0).sheet_rows
    problems = draw_sheet(folder, rows, tmp_path / "sheet.png").problems
    assert len(problems) == 1 and "has subject_mask" in problems[0] and "outside" in problems[0]


def test_links_inside_the_dataset_and_dots_are_accepted(tmp_path):
    folder = _dataset(tmp_path / "data", "link.png", "../other/a.png")
    _picture(folder / "other/a.png")
    (folder / "images/link.png").symlink_to("../other/a.png")
    (tmp_path / "linked").symlink_to(folder)
    for dataset in (folder, tmp_path / "linked"):
        samples, _, _ = read_samples(dataset, None)
        assert [sample.image for sample in samples] == [
            str(dataset / "images/link.png"), str(dataset / "other/a.png"),
        ]  # fmt: skip


def test_a_name_with_a_nul_is_one_line(tmp_path):
    folder = _dataset(tmp_path / "data", "a\0.png")
    with pytest.raises(DatasetError, match="contains a NUL; give it a file name"):
        read_samples(folder, None)


@pytest.mark.parametrize("moved", [False, True])
def test_a_variant_of_a_variant_finds_the_pictures_of_its_source(tmp_path, moved):
    data = tmp_path / "data"
    source = _dataset(data / "source", "a.png", "b.png")
    for name in ("a.png", "b.png"):
        _picture(source / "images" / name)
    apply_variant(VariantRequest(source, "swapped", data / "swapped"), 1)
    apply_variant(VariantRequest(data / "swapped", "swapped", data / "twice"), 1)
    if moved:
        data = data.rename(tmp_path / "elsewhere")
    for name in ("swapped", "twice"):
        assert (data / name / "images").is_symlink()
        assert len(read_samples(data / name, None)[0]) == 2


def test_a_variant_of_an_import_finds_the_photographs(tmp_path, secret):
    source = _dataset(tmp_path / "source", "photos/a.png", "photos/b.png")
    _picture(secret / "b.png")
    (source / "images/photos").symlink_to(secret)
    (source / "dataset.json").write_text(json.dumps({"images": {"photos": {}}}))
    apply_variant(VariantRequest(source, "swapped", tmp_path / "swapped"), 1)
    (source / "metadata.json").write_text((source / "metadata.json").read_text() + "\n")
    assert len(read_samples(tmp_path / "swapped", None)[0]) == 2
    assert PicturePaths(tmp_path / "swapped").other_folders == (secret, source)


def test_a_link_of_a_variant_to_a_folder_that_is_no_dataset_is_refused(tmp_path, secret):
    source = _dataset(tmp_path / "source", "a.png", "b.png")
    for name in ("a.png", "b.png"):
        _picture(source / "images" / name)
    apply_variant(VariantRequest(source, "swapped", tmp_path / "swapped"), 1)
    (tmp_path / "swapped/images").unlink()
    (tmp_path / "swapped/images").symlink_to(secret)
    with pytest.raises(DatasetError, match="outside the dataset"):
        read_samples(tmp_path / "swapped", None)
