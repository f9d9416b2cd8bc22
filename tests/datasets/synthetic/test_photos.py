"""Photographs behind the shapes of a synthetic world."""

import json
import shutil

import numpy as np
import pytest
from helpers.real import real
from PIL import Image

from vsp.datasets.synthetic.generate import generate, read_config
from vsp.datasets.synthetic.shapes import COLORS
from vsp.errors import ConfigError, DatasetError

CONFIG = "task: {}\nn_samples: 12\nseed: 5\noutput: {}\nsplits: splits\nclutter: 2\n"


@pytest.fixture
def make(work):
    def made(name, photos=None, task="spatial"):
        text = CONFIG.format(task, name) + (
            f"photos: {json.dumps(str(photos))}\n" if photos else ""
        )
        (work / "config.yaml").write_text(text)
        return generate(read_config(work / "config.yaml"), n_jobs=1)

    return made


def _pictures(folder):
    paths = sorted((folder / "images").iterdir())
    return np.stack([np.asarray(Image.open(path).convert("RGB")) for path in paths])


@pytest.fixture
def photos(work):
    folder = work / "photos: mine"
    folder.mkdir()
    for i, size in enumerate([(640, 480), (200, 900)]):
        pixels = np.random.default_rng(i).integers(0, 256, (*size, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
    return folder


@pytest.mark.parametrize("task", ["spatial", "color", "inside"])
def test_shapes_and_records_are_those_of_the_white_world(make, photos, work, task):
    make("white", task=task)
    make("on photos", photos, task)
    white, shown = _pictures(work / "white"), _pictures(work / "on photos")
    background = (white == 255).all(axis=3)
    assert np.array_equal(white[~background], shown[~background])
    assert (shown[background] != 255).any(axis=1).mean() > 0.9
    read = [
        json.loads((work / name / "metadata.json").read_text()) for name in ("white", "on photos")
    ]
    assert read[0] == read[1]
    inks = {tuple(pixel) for pixel in white[~background]}
    assert inks & set(COLORS.values())


def test_the_card_knows_which_photographs_they_were(make, photos, work):
    assert make("a", photos) is True and make("a", photos) is False
    Image.new("RGB", (9, 9)).save(photos / "2.png")
    with pytest.raises(DatasetError, match="holds another dataset"):
        make("a", photos)
    card = json.loads((work / "a" / "dataset.json").read_text())
    assert card["n_photos"] == 2 and len(card["photos_sha256"]) == 64


def test_the_same_photographs_in_another_folder_are_the_same_dataset(make, photos, work):
    make("a", photos)
    shutil.copytree(photos, work / "copy")
    assert make("a", "copy") is False


def test_an_empty_name_is_refused(make, work):
    (work / "config.yaml").write_text(CONFIG.format("spatial", "a") + 'photos: ""\n')
    with pytest.raises(ConfigError, match="photos '': string should have at least 1 character"):
        read_config(work / "config.yaml")


def test_every_photograph_is_used(make, photos, work):
    make("a", photos)
    corners = {tuple(picture[0, 0]) for picture in _pictures(work / "a")}
    assert len(corners) == 2


def test_a_folder_without_photographs_or_with_another_file_is_refused(make, work):
    with pytest.raises(ConfigError, match="nowhere': no files there; name a folder of photographs"):
        make("a", "nowhere")
    (work / "texts").mkdir()
    (work / "texts" / "a.txt").write_text("no picture")
    with pytest.raises(DatasetError, match=r"a\.txt' cannot be read: unknown image format"):
        make("a", work / "texts")
    assert not (work / "a").exists()


def test_real_photographs_are_taken(make, work):
    shutil.copytree(real("spatialmqa/images"), work / "real")
    make("a", work / "real")
    assert _pictures(work / "a").shape == (12, 448, 448, 3)
