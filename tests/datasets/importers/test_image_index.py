"""Images are found in image folders by their paths in the annotations."""

import unicodedata

import pytest
from PIL import Image

from vsp.datasets.importers.image_index import ImageFolders
from vsp.errors import DatasetError

FORMS = ("NFC", "NFD")


@pytest.mark.parametrize("on_disk", FORMS)
@pytest.mark.parametrize("asked", FORMS)
def test_a_name_is_the_same_in_both_unicode_forms(tmp_path, on_disk, asked):
    name = unicodedata.normalize(on_disk, "é/ü.png")
    (tmp_path / name).parent.mkdir()
    for suffix in (".png", ".jpg"):
        Image.new("RGB", (8, 8)).save((tmp_path / name).with_suffix(suffix))
    folders = ImageFolders([tmp_path])
    for image, exact in (("é/ü.png", True), ("É/Ü.PNG".replace("É", "é"), False)):
        file = folders.find(unicodedata.normalize(asked, image))
        assert file.path.is_file() and file.exact == exact
    assert folders.find(unicodedata.normalize(asked, "é/ü.png")).path == tmp_path / name


def test_two_files_whose_names_differ_in_unicode_form_alone_are_refused(tmp_path):
    for form in FORMS:
        Image.new("RGB", (8, 8)).save(tmp_path / unicodedata.normalize(form, "ü.png"))
    with pytest.raises(DatasetError, match=r"two files named 'ü.png'.*; rename one"):
        ImageFolders([tmp_path]).find("ü.png")


def test_names_with_folders_are_looked_for_with_and_without_these(tmp_path):
    for folder in ("x/data/a", "y/a", "y/b"):
        (tmp_path / folder).mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(tmp_path / "x/data/a/1.jpg")
    Image.new("RGB", (8, 8)).save(tmp_path / "y/a/2.jpg")
    folders = ImageFolders([tmp_path / "x", tmp_path / "y", tmp_path / "y" / "a"])
    files = {n: folders.find(f"data/a/{n}.jpg") for n in (1, 2, 3)}
    assert (files[1].name, files[2].name, files[3]) == ("x/data/a/1.jpg", "y/a/2.jpg", None)
    assert folders.find("../../2.jpg").name == "a/2.jpg"
    assert folders.find("") is folders.find("/") is None
    twins = ImageFolders([tmp_path / "x/data/a", tmp_path / "y/a"])
    assert list(twins.links) == ["a", "a-2"] and twins.find("2.jpg").name == "a-2/2.jpg"
