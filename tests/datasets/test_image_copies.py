"""Which images are copies of each other, and which only look alike."""

import io
import json

import numpy as np
import pytest
from helpers.real import real
from PIL import Image, ImageDraw

from vsp.datasets.image_copies import CopyFinder, joined_groups, signature
from vsp.datasets.summary import summarize
from vsp.datasets.synthetic.generate import generate, read_config
from vsp.utils.images import open_rgb

FILTERS = Image.Resampling


def _noise(n, side, seed=0):
    rng = np.random.default_rng(seed)
    return [Image.fromarray(rng.integers(0, 256, (side, side, 3), np.uint8)) for _ in range(n)]


def _find(pictures):
    with CopyFinder() as finder:
        for name, picture in pictures.items():
            finder.add(name, f"file of {name}", signature(picture))
        return finder.find()


def _jpeg(picture, quality):
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=quality)
    return Image.open(file).convert("RGB")


def _resized(picture, factor, resampling):
    size = round(picture.width * factor), round(picture.height * factor)
    return picture.resize(size, resampling)


COPIES = {
    "JPEG 60": lambda picture: _jpeg(picture, 60),
    "JPEG 95": lambda picture: _jpeg(picture, 95),
    "0.4": lambda picture: _resized(picture, 0.4, FILTERS.BICUBIC),
    "0.7": lambda picture: _resized(picture, 0.7, FILTERS.LANCZOS),
    "2": lambda picture: _resized(picture, 2, FILTERS.BILINEAR),
    "brighter": lambda picture: picture.point(lambda value: min(round(1.04 * value), 255)),
}


@pytest.fixture(scope="module")
def worlds(tmp_path_factory):
    """The pictures of three worlds, 90 each, by name."""
    base, pictures = tmp_path_factory.mktemp("worlds"), {}
    for task in ("spatial", "color", "depth"):
        config = base / f"{task}.yaml"
        config.write_text(
            f"task: {task}\nn_samples: 90\nseed: 3\noutput: {base}/{task}\nsplits: {base}/s\n"
        )
        generate(read_config(config), n_jobs=1)
        for path in sorted((base / task / "images").iterdir()):
            pictures[path.name] = open_rgb(path)[0]
    return pictures


def test_no_two_pictures_of_a_synthetic_world_are_copies(worlds):
    assert _find(worlds).n_copies == 0


@pytest.mark.parametrize("kind", ["JPEG 60", "0.4", "2"])
def test_copies_of_pictures_of_a_world_are_found_among_all(worlds, kind):
    chosen = list(worlds)[::30]
    copies = {f"copy of {name}": COPIES[kind](worlds[name]) for name in chosen}
    found = _find({**worlds, **copies})
    assert found.sets() == [[name, f"copy of {name}"] for name in chosen]
    assert (found.n_equal_files, found.n_equal_pixels, found.n_near) == (0, 0, len(chosen))


@pytest.mark.parametrize("kind", COPIES)
def test_copies_of_noise_are_found(kind):
    pictures = {f"{i}": picture for i, picture in enumerate(_noise(30, 112))}
    copies = {f"copy of {name}": COPIES[kind](picture) for name, picture in pictures.items()}
    sets = _find({**pictures, **copies}).sets()
    assert sets == [[name, f"copy of {name}"] for name in pictures]


def test_different_photographs_of_one_scene_are_no_copies_and_their_copies_are():
    paths = sorted(real("whatsup").rglob("*.jpeg"))
    photographs = {path.name: open_rgb(path)[0] for path in paths}
    assert len(photographs) == 12 and _find(photographs).n_copies == 0
    for kind in COPIES.keys() - {"brighter"}:
        copies = {f"copy of {n}": COPIES[kind](picture) for n, picture in photographs.items()}
        sets = _find({**photographs, **copies}).sets()
        assert sets == [[name, f"copy of {name}"] for name in photographs]


@pytest.mark.parametrize("shift", [6, 200])
def test_a_picture_with_a_moved_object_is_no_copy(shift):
    background = _resized(_noise(1, 14)[0], 32, FILTERS.BICUBIC)
    pictures = {}
    for name, x in (("before", 100), ("after", 100 + shift)):
        pictures[name] = background.copy()
        ImageDraw.Draw(pictures[name]).ellipse([x, 200, x + 30, 230], fill="white", outline="black")
    assert _find(pictures).n_copies == 0


def test_a_picture_of_another_shape_or_without_content_is_no_near_copy():
    (noise,) = _noise(1, 112)
    grey = {f"{side}": Image.new("RGB", (side, side), "grey") for side in (50, 60)}
    assert _find({"a": noise, "b": noise.resize((112, 90))}).n_copies == 0
    found = _find({**grey, "noise": noise})
    assert found.n_copies == 0 and not found.shows_one
    assert _find(grey).shows_one


def test_equal_files_and_equal_pixels_are_counted_apart():
    one, other = _noise(2, 40)
    with CopyFinder() as finder:
        for name, file, picture in (
            ("a", "1", one), ("b", "1", one), ("c", "2", one), ("d", "3", other)
        ):  # fmt: skip
            finder.add(f"x/{name}.png", file, signature(picture))
        found = finder.find()
    assert (found.n_equal_files, found.n_equal_pixels, found.n_near) == (1, 1, 0)
    assert found.sentence() == (
        "2 images are copies of other images (equal files 1, equal pixels 1; for example a.png and "
        "b.png)"
    )
    splits = {"x/a.png": {"train"}, "x/b.png": {"train"}, "x/c.png": {"test"}}
    (straddling,) = found.straddling(splits)
    assert straddling.pair() == "a.png (train) and c.png (test)"
    assert found.straddling({name: {""} for name in splits}) == []


def test_groups_are_joined_over_shared_members():
    joined = joined_groups([["a", "b"], ["c", "d"], ["d", "b"], ["e"]])
    assert joined["a"] == joined["b"] == joined["c"] == joined["d"] and "e" not in joined


def test_dataset_show_opens_images_only_with_check(write_dataset):
    names = ["a.png", "b.png", "c.png"]
    folder = write_dataset(
        [
            {"id": name, "image_filename": name, "label": "x", "prompt": "?", "split": split}
            for name, split in zip(names, ("train", "test", "test"), strict=True)
        ]
    )
    (folder / "images/b.png").write_bytes((folder / "images/a.png").read_bytes())
    (folder / "images/c.png").write_bytes(b"no picture")
    assert summarize(folder, 0, 0).as_json()["copies"] is None
    summary = summarize(folder, 0, 0, open_images=True)
    found = summary.as_json()["copies"]
    assert (found["equal_files"], found["in_several_splits"]) == (1, 1)
    # Both readable images show one picture.
    assert json.dumps(found["sets"]) == '[["a.png", "b.png"]]' and len(found["unreadable"]) == 1
    assert any("cannot be read" in note for note in summary.notes())
