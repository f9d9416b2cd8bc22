"""Every label of the spatial and colour worlds is checked against the rendered pixels."""

from collections import Counter

import numpy as np
import pytest

from vsp.datasets.synthetic import shapes
from vsp.datasets.synthetic.color import ColorConfig, ColorWorld
from vsp.datasets.synthetic.shapes import BACKGROUND, COLORS, SHAPES, Scene, Shape
from vsp.datasets.synthetic.spatial import SpatialConfig, SpatialWorld

N, N_DRAWN = 400, 150


def _scenes(world, seed=0):
    for i in range(N):
        label = world.labels[i % len(world.labels)]
        yield label, world.scene(label, np.random.default_rng([seed, i]))


def draw(scene, image_size):
    """Pixels [y, x], each a number that stands for its colour."""
    image = shapes.draw_scene(scene, image_size).convert("RGB").convert("RGBA")
    return np.asarray(image).view(np.uint32)[..., 0]


def _number(color):
    """The number of a pixel of this colour."""
    return np.array([*color, 255], np.uint8).view(np.uint32)[0]


def _mask(pixels, color):
    return pixels == _number(COLORS[color])


def _centre(mask):
    """(x, y), the centre of the bounding box of the pixels."""
    y, x = np.nonzero(mask)
    return (x.min() + x.max()) / 2, (y.min() + y.max()) / 2


@pytest.fixture(scope="module")
def spatial_scenes():
    return list(_scenes(SpatialWorld(_config(SpatialConfig, "spatial"))))


@pytest.fixture(scope="module")
def color_scenes():
    return list(_scenes(ColorWorld(_config(ColorConfig, "color"))))


def _config(kind, task):
    return kind(task=task, n_samples=N, seed=0, output="unused")


def test_the_pixels_show_the_relation_and_it_is_not_ambiguous(spatial_scenes):
    for label, scene in spatial_scenes[:N_DRAWN]:
        pixels = draw(scene, (448, 448))
        subject = _mask(pixels, scene.record["subject_color"])
        reference = _mask(pixels, scene.record["reference_color"])
        across, down = np.subtract(_centre(subject), _centre(reference))
        seen = {
            "left_of": across < 0 and abs(across) > abs(down),
            "right_of": across > 0 and abs(across) > abs(down),
            "above": down < 0 and abs(down) > abs(across),
            "below": down > 0 and abs(down) > abs(across),
        }
        assert [name for name, true in seen.items() if true] == [label]
        assert not (subject & reference).any()
        other = ~(subject | reference)
        assert (pixels[other] == _number(BACKGROUND)).all()


def test_spatial_centres_and_sizes_are_within_their_limits(spatial_scenes):
    for label, scene in spatial_scenes:
        first, second = scene.shapes
        apart = (abs(first.x - second.x), abs(first.y - second.y))
        diagnostic, other = apart if label in ("left_of", "right_of") else apart[::-1]
        assert diagnostic >= 80 and other <= 60  # each within 30 of a common line
        for shape in scene.shapes:
            assert 60 <= shape.x <= 388 and 60 <= shape.y <= 388 and 20 <= shape.size <= 40
        assert first.color != second.color


def test_which_shape_is_the_subject_depends_on_nothing_but_chance(spatial_scenes):
    """Drawing order, size, kind and colour do not predict which shape is the subject."""
    drawn_first = [
        scene.shapes[0].color == scene.record["subject_color"] for _, scene in spatial_scenes
    ]
    larger = [
        _subject(scene).size > _reference(scene).size
        for _, scene in spatial_scenes
        if _subject(scene).size != _reference(scene).size
    ]
    for share in (np.mean(drawn_first), np.mean(larger)):
        assert abs(share - 0.5) < 0.1  # 4 standard errors of 400 tosses
    for part in ("subject", "reference"):
        shapes = Counter(scene.record[f"{part}_shape"] for _, scene in spatial_scenes)
        assert set(shapes) == set(SHAPES) and min(shapes.values()) > N / 5 / 2


def _subject(scene):
    return next(s for s in scene.shapes if s.color == scene.record["subject_color"])


def _reference(scene):
    return next(s for s in scene.shapes if s.color == scene.record["reference_color"])


def test_the_named_shape_is_there_once_in_the_labelled_color(color_scenes):
    counts = Counter()
    for label, scene in color_scenes:
        kinds = [shape.kind for shape in scene.shapes]
        assert kinds.count(scene.record["shape_type"]) == 1
        (target,) = [s for s in scene.shapes if s.kind == scene.record["shape_type"]]
        assert target.color == label == scene.record["color_label"]
        assert sum(shape.color == label for shape in scene.shapes) == 1
        counts[len(kinds)] += 1
    assert set(counts) == {1, 2, 3}


def test_no_two_shapes_of_the_color_world_overlap(color_scenes):
    for _, scene in color_scenes[:N_DRAWN]:
        together = draw(scene, (448, 448))
        for shape in scene.shapes:
            alone = _mask(draw(Scene((shape,)), (448, 448)), shape.color)
            assert (together[alone] == _number(COLORS[shape.color])).all()


@pytest.mark.parametrize("kind", SHAPES)
def test_a_shape_fills_its_size_around_its_centre_in_its_own_color(kind):
    pixels = draw(Scene((Shape(kind, "red", 100, 90, 30),)), (200, 200))
    mask = _mask(pixels, "red")
    y, x = np.nonzero(mask)
    assert abs((x.min() + x.max()) / 2 - 100) <= 1 and abs(y.min() - 60) <= 1
    assert 25 <= (x.max() - x.min()) / 2 <= 31
    assert pixels[0, 0] == _number((255, 255, 255))


def test_every_shape_looks_different():
    pictures = [
        draw(Scene((Shape(kind, "red", 100, 90, 30),)), (200, 200)).tobytes() for kind in SHAPES
    ]
    assert len(set(pictures)) == len(SHAPES)
