"""Images are found in image folders by their paths in the annotations."""

from PIL import Image

from vsp.datasets.importers.image_index import ImageFolders


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
